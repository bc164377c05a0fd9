"""report_health: one line of the log that alerts go by; what it says is what is wrong."""

import json
from typing import Any

import pytest

from tests.harness.answers import done, problem
from tests.harness.client import Load
from tests.harness.platform import Organization, Platform
from tests.harness.stripe_events import Stripe

PATH = "/schedules/report-health"
DAY = 24 * 3600
SCHEDULES = [
    *["sweep_sessions", "expire_holds", "accrue_storage", "measure_storage", "enqueue_outbox"],
    *["expire_grants", "reconcile"],
]
WELL = {
    "sweep_lag_seconds": 0,
    "outbox_age_seconds": 0,
    "stuck_outbox": 0,
    "verify_differences": 0,
    "open_discrepancies": 0,
    "events_to_review": 0,
    "missed_events": 0,
    "lag_seconds": dict.fromkeys(SCHEDULES, 0),
}


class Watch:
    """Calls the schedule, and reads its line."""

    def __init__(
        self, platform: Platform, function: Load, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self._platform, self._capsys = platform, capsys
        self._client = function("report_health")

    def report(self) -> dict[str, Any]:
        self._capsys.readouterr()
        token = self._platform.cloud.invoker_token()
        answered = done(self._client.post(PATH, by=token))
        lines = [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]
        health, request = lines
        assert (health["severity"], health["message"]) == ("INFO", "health")
        assert (request["message"], health["request_id"]) == ("request", request["request_id"])
        assert {name: health[name] for name in WELL} == answered
        return answered


@pytest.fixture
def watch(platform: Platform, function: Load, capsys: pytest.CaptureFixture[str]) -> Watch:
    return Watch(platform, function, capsys)


@pytest.fixture
def customer(platform: Platform) -> Organization:
    customer = platform.organization("pro", usd=100)
    # What new organizations have done is of no interest here.
    platform.run("update billing.outbox set acknowledged_at = billing.now()")
    return customer


def test_where_all_is_well_all_is_zero(watch: Watch, customer: Organization) -> None:
    assert watch.report() == WELL


def test_a_sweep_that_does_not_come_is_told(
    watch: Watch, platform: Platform, function: Load, customer: Organization
) -> None:
    done(function("sessions").post("/v1/sessions", {"tier": "small"}, by=customer.passport), 201)
    platform.advance(301)
    assert 0 <= watch.report()["sweep_lag_seconds"] <= 3
    platform.advance(900)
    report = watch.report()
    assert 900 <= report["sweep_lag_seconds"] <= 904
    assert report["lag_seconds"]["sweep_sessions"] == report["sweep_lag_seconds"]
    cron = function("sweep_sessions")
    done(cron.post("/schedules/sweep-sessions", by=platform.cloud.invoker_token()))
    assert watch.report() == WELL


def test_the_oldest_task_that_is_due_is_told(
    watch: Watch, platform: Platform, customer: Organization
) -> None:
    for seconds, done_at in ((0, None), (50, None), (-3600, "infinity")):
        platform.run(
            "insert into billing.outbox (organization_id, topic, payload, created_at, run_at,"
            " tell_at, acknowledged_at) values (%s, 'stop_session', '{}', billing.now(),"
            " billing.now() + make_interval(secs => %s),"
            " billing.now() + make_interval(secs => 3600 + %s), %s)",
            customer.id,
            seconds,
            seconds,
            done_at,
        )
    platform.run(
        "insert into billing.outbox (organization_id, topic, payload, created_at)"
        " values (%s, 'notification', '{}', '2020-01-01')",
        customer.id,
    )
    assert watch.report()["outbox_age_seconds"] <= 1
    platform.advance(20)
    assert 20 <= watch.report()["outbox_age_seconds"] <= 22
    platform.advance(600)
    report = watch.report()
    assert (report["stuck_outbox"], 620 <= report["outbox_age_seconds"] <= 624) == (1, True)
    platform.advance(60)
    assert watch.report()["stuck_outbox"] == 2
    platform.run("update billing.outbox set acknowledged_at = billing.now()")
    assert watch.report() == WELL


def test_what_verification_and_reconciliation_found_is_told_until_it_agrees(
    watch: Watch, platform: Platform, function: Load, customer: Organization
) -> None:
    def verify() -> None:
        operator_calls = function("reconciliation")
        address = "/v1/reconciliation/verify"
        done(operator_calls.post(address, {"full": True}, by=operator.passport))

    operator = platform.operator()
    platform.run("update billing.outbox set acknowledged_at = billing.now()")
    platform.run(
        "update billing.wallets set debt_micros = 7 where organization_id = %s", customer.id
    )
    platform.run(
        "insert into billing.discrepancies (kind, subject, expected_micros, found_micros)"
        " values ('payment_not_credited', 'pi_1', 1, 0)"
    )
    assert watch.report()["verify_differences"] == 0  # nobody has looked
    verify()
    report = watch.report()
    assert (report["verify_differences"], report["open_discrepancies"]) == (1, 2)
    platform.run(
        "update billing.wallets set debt_micros = 0 where organization_id = %s", customer.id
    )
    verify()
    report = watch.report()
    assert (report["verify_differences"], report["open_discrepancies"]) == (0, 1)


def test_money_to_review_and_notifications_that_never_came_are_told_for_a_day(
    watch: Watch, platform: Platform, function: Load, customer: Organization
) -> None:
    stripe = Stripe(platform, function("credits"), function("stripe_webhook"))
    checkout = stripe.buy(customer)
    event = {
        "id": "evt_review",
        "type": "checkout.session.completed",
        "livemode": False,
        "data": {"object": checkout | {"payment_status": "paid", "currency": "eur"}},
    }
    assert done(stripe.tell(event))["outcome"] == "needs_review"
    platform.run(
        "insert into billing.reconciliations (started_by, replayed) values ('scheduler', 3)"
    )
    report = watch.report()
    assert (report["events_to_review"], report["missed_events"]) == (1, 3)
    platform.advance(DAY)
    report = watch.report()
    assert (report["events_to_review"], report["missed_events"]) == (0, 0)


def test_a_daily_run_that_fails_to_come_is_told(
    watch: Watch, platform: Platform, customer: Organization
) -> None:
    platform.run(
        "insert into billing.reconciliations (started_by, started_at, finished_at)"
        " values ('scheduler', billing.now(), billing.now())"
    )
    platform.advance(DAY - 10)
    assert watch.report()["lag_seconds"]["reconcile"] == 0
    platform.advance(3600)
    assert 3590 <= watch.report()["lag_seconds"]["reconcile"] <= 3594


def test_it_changes_nothing(watch: Watch, platform: Platform, customer: Organization) -> None:
    before = platform.contents()
    watch.report()
    assert platform.contents() == before


def test_without_its_database_it_says_so(
    platform: Platform, function: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    lonely = function("report_health", DATABASE_URL="postgresql://nobody@127.0.0.1:9/nothing")
    problem(lonely.post(PATH, by=platform.cloud.invoker_token()), 503, "unavailable")
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["severity"], line["message"], line["status"]) == ("ERROR", "request", 503)


def test_a_failure_of_the_webhook_is_a_line_that_a_metric_can_count(
    platform: Platform, function: Load, capsys: pytest.CaptureFixture[str]
) -> None:
    webhook = function("stripe_webhook", K_SERVICE="stripe-webhook", K_REVISION="r")
    lonely = function("stripe_webhook", DATABASE_URL="postgresql://nobody@127.0.0.1:9/nothing")
    stripe = Stripe(platform, function("credits"), webhook)
    capsys.readouterr()
    stripe.deliver(b"{}", "t=1,v1=0")
    stripe.tell({})
    Stripe(platform, function("credits"), lonely).tell({"id": "evt_1", "type": "ping"})
    stripe.tell({"id": "evt_1", "type": "ping", "livemode": False})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [(line["message"], line["path"], line["status"]) for line in lines]
    address = "/v1/stripe/webhook"
    assert told == [("request", address, status) for status in (400, 400, 503, 200)]
