"""Automatic top-ups: one crossing of the threshold is one charge, whatever is lost or repeated."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness import stripe_events
from tests.harness.answers import done, problem
from tests.harness.auto_top_ups import AutoTopUps
from tests.harness.client import Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform
from tests.harness.stripe_account import Auditor

PAID = {"status": "paid"}
BEFORE, AFTER = (10_000_000, 0), (30_000_000, 0)
DAY = 24 * 3600


@pytest.fixture
def parts(platform: Platform, function: Load) -> AutoTopUps:
    return AutoTopUps(platform, function)


# Of the next month: what follows has weeks of it before it.
_TO_THE_5TH = """
update billing.clock_offset set seconds = extract(
    epoch from date_trunc('month', now(), 'UTC') + interval '1 month 4 days' - now()
)
"""


def _expect_one_charge(parts: AutoTopUps, organization: Organization) -> None:
    (charge,) = parts.charges(organization)
    assert charge["amount_received"] == 2000
    assert parts.platform.wallet(organization) == AFTER
    assert parts.platform.value("select count(*) from billing.payments") == 2


def test_a_session_drains_the_balance_and_the_card_fills_it(
    parts: AutoTopUps, function: Load, platform: Platform
) -> None:
    organization = platform.organization()
    parts.save_card(organization)
    done(parts.set(organization, threshold="2.50"))
    sessions, sweeper = function("sessions"), function("sweep_sessions")
    path, token = "/v1/sessions", platform.cloud.invoker_token()
    session = done(sessions.post(path, {"tier": "small"}, by=organization.passport), 201)
    assert parts.start() == 0
    platform.advance(301 * 3600)
    done(sweeper.post("/schedules/sweep-sessions", by=platform.cloud.invoker_token()))
    task = parts.begin(organization)
    assert done(parts.work(task)) == PAID
    (charge,) = parts.charges(organization)
    assert charge["amount_received"] == 2000
    assert parts.tell("payment_intent.succeeded", of=charge["id"]) == ["already_credited"]
    balance = done(parts.shop.get("/v1/credits", by=organization.passport))
    assert 22 < float(balance["available"]) < 22.5
    assert done(sessions.get(f"{path}/{session['id']}", by=organization.passport))["status"] == (
        "running"
    )
    assert parts.start() == 0
    done(sweeper.post("/schedules/sweep-sessions", by=token))


def test_a_top_up_says_that_it_was_automatic(parts: AutoTopUps) -> None:
    organization = parts.ready(amount="100.00", threshold="20", monthly_cap="100")
    done(parts.work(parts.begin(organization)))
    path = "/v1/credits/top-ups"
    automatic, bought = done(parts.shop.get(path, by=organization.passport))["data"]
    assert (automatic["kind"], automatic["status"], automatic["bonus"]) == (
        *("automatic", "paid"),
        "5.000000",
    )
    assert (automatic["checkout_url"], bought["kind"]) == (None, "checkout")
    assert parts.platform.wallet(organization) == (115_000_000, 0)


def test_a_task_that_is_repeated_is_one_charge(parts: AutoTopUps) -> None:
    organization = parts.ready()
    task = parts.begin(organization)
    assert [done(parts.work(task)) for _ in range(3)] == [PAID] * 3
    _expect_one_charge(parts, organization)


def test_a_task_that_is_delivered_many_times_at_once_is_one_charge(parts: AutoTopUps) -> None:
    organization = parts.ready()
    task = parts.begin(organization)
    with ThreadPoolExecutor(6) as threads:
        assert [done(each) for each in threads.map(parts.work, [task] * 6)] == [PAID] * 6
    _expect_one_charge(parts, organization)


def _lose_the_answer(parts: AutoTopUps, task: dict[str, str]) -> None:
    """Charge the card, and break before anybody learns of it."""
    door = "on function api.finish_charge"
    parts.platform.alter(f"revoke execute {door} from faregate_functions, service_role")
    problem(parts.work(task), 500, "internal")
    parts.platform.alter(f"grant execute {door} to faregate_functions, service_role")


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(0, id="at once"),
        pytest.param(19 * 3600, id="while Stripe knows the key"),
        pytest.param(21 * 3600, id="when it may have forgotten"),
        pytest.param(2 * DAY, id="when it has"),
    ],
)
def test_an_answer_that_was_lost_is_found_again(parts: AutoTopUps, seconds: int) -> None:
    organization = parts.ready()
    task = parts.begin(organization)
    _lose_the_answer(parts, task)
    assert parts.platform.wallet(organization) == BEFORE
    parts.platform.advance(seconds)
    assert parts.start() == 0
    assert [done(parts.work(task)) for _ in range(2)] == [PAID] * 2
    _expect_one_charge(parts, organization)


def test_the_webhook_may_come_first(parts: AutoTopUps) -> None:
    organization = parts.ready()
    task = parts.begin(organization)
    _lose_the_answer(parts, task)
    (charge,) = parts.charges(organization)
    told = parts.tell("payment_intent.created", "payment_intent.succeeded", of=charge["id"])
    assert told == ["awaiting_payment", "credited"]
    assert done(parts.work(task)) == PAID
    _expect_one_charge(parts, organization)


def test_a_reconciliation_credits_what_nobody_told_of(parts: AutoTopUps, function: Load) -> None:
    organization = parts.ready()
    task = parts.begin(organization)
    _lose_the_answer(parts, task)
    auditor = Auditor(parts.platform, function)
    assert auditor.replay() > 0
    _expect_one_charge(parts, organization)
    assert auditor.replay() == 0
    assert auditor.discrepancies() == []
    assert done(parts.work(task)) == PAID
    _expect_one_charge(parts, organization)


def test_the_webhook_beside_the_task_credits_once(parts: AutoTopUps) -> None:
    organization = parts.ready()
    task = parts.begin(organization)
    _lose_the_answer(parts, task)
    (charge,) = parts.charges(organization)
    with ThreadPoolExecutor(2) as threads:
        worked = threads.submit(parts.work, task)
        told = threads.submit(parts.tell, "payment_intent.succeeded", of=charge["id"])
        assert done(worked.result()) == PAID
        assert told.result()[0] in ("credited", "already_credited")
    _expect_one_charge(parts, organization)


def test_a_provider_out_of_reach_is_asked_again(parts: AutoTopUps, function: Load) -> None:
    organization = parts.ready()
    task = parts.begin(organization)
    lonely = function("charge_top_up", STRIPE_API_URL="http://127.0.0.1:9")
    refused = function("charge_top_up", STRIPE_SECRET_KEY="sk_test_wrong")
    for worker in (lonely, refused):
        problem(parts.work(task, worker), 503, "unavailable")
    assert parts.state(organization) == ("active", None)
    assert done(parts.work(task)) == PAID
    _expect_one_charge(parts, organization)


@pytest.mark.parametrize("days", [1, 4])
def test_what_nobody_knows_waits_for_a_person(parts: AutoTopUps, function: Load, days: int) -> None:
    organization = parts.ready()
    task = parts.begin(organization)
    lonely = function("charge_top_up", STRIPE_API_URL="http://127.0.0.1:9")
    problem(parts.work(task, lonely), 503, "unavailable")
    parts.platform.advance(days * DAY)
    # After three days not even Stripe is asked.
    worker = lonely if days > 3 else None
    assert done(parts.work(task, worker)) == {"status": "needs_review"}
    assert parts.state(organization) == ("paused", "needs_review")
    assert parts.charges(organization) == []
    assert parts.start() == 0
    assert len(parts.notifications(organization)["data"]) == 1


@pytest.mark.parametrize(
    ("behaviour", "more", "reason"),
    [
        ("decline", {}, "card_declined"),
        ("decline", {"decline_code": "insufficient_funds"}, "insufficient_funds"),
        ("decline", {"decline_code": "stolen_card"}, "card_declined"),
        ("authentication_required", {}, "authentication_required"),
    ],
)
@pytest.mark.parametrize("first", ["task", "webhook"])
def test_a_declined_card_pauses_and_is_told(
    parts: AutoTopUps, behaviour: str, more: dict[str, str], reason: str, first: str
) -> None:
    organization = parts.platform.organization()
    card = parts.save_card(organization)
    done(parts.set(organization))
    parts.behave(card, behaviour, **more)
    task = parts.begin(organization)
    if first == "webhook":
        _lose_the_answer(parts, task)
    else:
        assert done(parts.work(task)) == {"status": "failed"}
    (failed,) = (
        found
        for found in parts.platform.cloud.remembered("payment_intent")
        if found["metadata"].get("top_up_id") == task["top_up_id"]
    )
    assert parts.tell("payment_intent.payment_failed", of=failed["id"]) == ["payment_failed"]
    assert done(parts.work(task)) == {"status": "failed"}

    assert parts.state(organization) == ("paused", reason)
    (told,) = parts.notifications(organization)["data"]
    assert told | {"id": "", "created_at": ""} == {
        "id": "",
        "kind": "auto_top_up_paused",
        "reason": reason,
        "amount": "20.000000",
        "top_up_id": task["top_up_id"],
        "storage_id": None,
        "until": None,
        "created_at": "",
    }
    parts.platform.advance(2 * 3600)
    assert parts.start() == 0
    assert parts.platform.wallet(organization) == BEFORE

    parts.behave(card, "succeed")
    assert done(parts.set(organization))["status"] == "active"
    assert done(parts.work(parts.begin(organization))) == PAID
    _expect_one_charge(parts, organization)


def test_a_card_that_was_detached_pauses_too(parts: AutoTopUps) -> None:
    organization = parts.platform.organization()
    card = parts.save_card(organization)
    done(parts.set(organization))
    parts.detach(card)
    assert done(parts.work(parts.begin(organization))) == {"status": "failed"}
    assert parts.state(organization) == ("paused", "card_unusable")
    assert parts.charges(organization) == []


def test_cool_off_and_cap_are_kept(parts: AutoTopUps) -> None:
    organization = parts.ready(cool_off_seconds=600, monthly_cap="59.99")
    parts.platform.run(_TO_THE_5TH)
    assert done(parts.work(parts.begin(organization))) == PAID
    parts.spend(organization)
    parts.platform.advance(590)
    assert parts.start() == 0
    parts.platform.advance(20)
    assert done(parts.work(parts.begin(organization))) == PAID
    parts.spend(organization)
    parts.platform.advance(3600)
    assert parts.start() == 0, "40 of 59.99 are used up"
    done(parts.set(organization, monthly_cap="60.00"))
    assert done(parts.work(parts.begin(organization))) == PAID
    parts.spend(organization)
    parts.platform.advance(3 * DAY)
    assert parts.start() == 0
    row = done(parts.settings.get("/v1/credits/auto-top-up", by=organization.passport))
    assert row["charged_this_month"] == "60.000000"
    parts.platform.advance(31 * DAY)
    assert done(parts.work(parts.begin(organization))) == PAID
    assert len(parts.charges(organization)) == 4


def test_that_the_cap_stopped_it_is_told_once_a_month(parts: AutoTopUps) -> None:
    organization = parts.ready(cool_off_seconds=60, monthly_cap="20.00")

    def look() -> tuple[bool, int]:
        row = done(parts.settings.get("/v1/credits/auto-top-up", by=organization.passport))
        return row["is_capped"], len(parts.notifications(organization)["data"])

    parts.platform.run(_TO_THE_5TH)
    assert look() == (False, 0)
    done(parts.work(parts.begin(organization)))
    parts.platform.advance(61)
    assert parts.start() == 0
    assert look() == (True, 0), "the balance is enough"
    parts.spend(organization)
    for _ in range(3):
        with ThreadPoolExecutor(2) as threads:
            started = [threads.submit(parts.start) for _ in range(2)]
        assert [each.result() for each in started] == [0, 0]
        parts.platform.advance(DAY)
    assert look() == (True, 1)
    assert parts.platform.fetch(
        "select payload from billing.outbox where topic = 'notification'"
    ) == [
        (
            {
                "kind": "auto_top_up_capped",
                "amount_micros": 20_000_000,
                "monthly_cap_micros": 20_000_000,
            },
        )
    ]
    parts.platform.advance(31 * DAY)
    assert look() == (False, 1)
    done(parts.work(parts.begin(organization)))
    parts.spend(organization)
    parts.platform.advance(61)
    assert parts.start() == 0
    assert look() == (True, 2)


def test_settings_that_are_made_anew_know_of_the_last_charge(parts: AutoTopUps) -> None:
    organization = parts.ready()
    done(parts.work(parts.begin(organization)))
    parts.spend(organization)
    parts.settings.request("DELETE", "/v1/credits/auto-top-up", by=organization.passport)
    done(parts.set(organization))
    assert parts.start() == 0
    parts.platform.advance(3601)
    assert parts.start() == 1


def test_the_next_crossing_is_the_next_charge(parts: AutoTopUps, function: Load) -> None:
    organization = parts.ready(threshold="12.00", cool_off_seconds=60)
    done(parts.work(parts.begin(organization)))
    parts.platform.advance(61)
    assert parts.start() == 0
    sessions = function("sessions")
    for _ in range(2):
        done(sessions.post("/v1/sessions", {"tier": "gpu"}, by=organization.passport), 201)
    parts.platform.advance(80 * 3600)
    sweeper, token = function("sweep_sessions"), parts.platform.cloud.invoker_token()
    done(sweeper.post("/schedules/sweep-sessions", by=token))
    assert done(parts.work(parts.begin(organization))) == PAID
    assert len(parts.charges(organization)) == 2


def test_two_crons_at_once_begin_each_top_up_once(parts: AutoTopUps) -> None:
    organizations = [parts.ready() for _ in range(8)]
    with ThreadPoolExecutor(6) as threads:
        started = [each.result() for each in [threads.submit(parts.start) for _ in range(6)]]
    assert sum(started) == 8
    assert [len(parts.tasks(each)) for each in organizations] == [1] * 8
    assert parts.platform.value(
        "select count(*) from billing.top_ups where kind = 'automatic'"
    ) == len(organizations)


def test_of_two_top_ups_at_a_time_the_database_knows_one(parts: AutoTopUps) -> None:
    organization = parts.ready()
    parts.begin(organization)
    parts.platform.run("update billing.auto_top_ups set last_top_up_at = null")
    assert parts.start() == 0


def test_before_it_is_charged_a_top_up_may_become_unwanted(parts: AutoTopUps) -> None:
    deleted, filled, paused = parts.ready(), parts.ready(), parts.ready()
    assert parts.start() == 3
    parts.settings.request("DELETE", "/v1/credits/auto-top-up", by=deleted.passport)
    parts.platform.give(filled.id, 10**9)
    parts.platform.run(
        "update billing.auto_top_ups set status = 'paused', paused_reason = 'test'"
        " where organization_id = %s",
        paused.id,
    )
    for organization in (deleted, filled, paused):
        (task,) = parts.tasks(organization)
        assert [done(parts.work(task)) for _ in range(2)] == [{"status": "expired"}] * 2
        assert parts.charges(organization) == []


def test_money_that_went_back_is_not_charged_for(parts: AutoTopUps) -> None:
    organization = parts.ready(cool_off_seconds=60)
    done(parts.work(parts.begin(organization)))
    (charge,) = parts.charges(organization)
    parts.control("_disputes", payment_intent=charge["id"])
    assert parts.tell("charge.dispute.created", of=charge["id"]) == ["dispute_recorded"]
    assert parts.platform.wallet(organization)[0] < 20_000_000
    assert parts.state(organization) == ("paused", "money_returned")
    parts.platform.advance(3600)
    assert parts.start() == 0
    (told,) = parts.notifications(organization)["data"]
    assert (told["reason"], told["amount"], told["top_up_id"]) == ("money_returned", None, None)
    done(parts.set(organization))
    parts.platform.advance(3600)
    assert parts.start() == 1


def test_a_freeze_is_told_with_its_debt(parts: AutoTopUps, function: Load) -> None:
    organization = parts.platform.organization()
    payment = parts.save_card(organization)
    holds, operator = function("holds"), parts.platform.operator().passport
    spent = {"organization_id": organization.id, "amount": "4"}
    hold = done(holds.post("/v1/holds", spent | {"expires_in_seconds": 60}, by=operator), 201)
    done(holds.post(f"/v1/holds/{hold['id']}/capture", spent, by=operator))
    parts.control("_disputes", payment_intent=payment["id"])
    parts.tell("charge.dispute.created", of=payment["id"])
    (told,) = parts.notifications(organization)["data"]
    assert (told["kind"], told["amount"]) == ("organization_frozen", "4.000000")
    assert (told["reason"], told["top_up_id"]) == (None, None)


def test_who_owes_is_not_charged(parts: AutoTopUps) -> None:
    parts.ready()
    parts.platform.run("update billing.wallets set debt_micros = 1")
    assert parts.start() == 0
    parts.platform.run("update billing.wallets set debt_micros = 0")
    assert parts.start() == 1


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        pytest.param({"customer": "cus_of_somebody_else"}, "unknown_top_up", id="another customer"),
        pytest.param({"customer": None}, "unknown_top_up", id="no customer"),
        pytest.param({"metadata": {}}, "unknown_type", id="no metadata"),
        pytest.param({"metadata": "text"}, "unknown_type", id="metadata that is text"),
        pytest.param({"id": None}, "unknown_top_up", id="no payment"),
        pytest.param({"currency": "eur"}, "needs_review", id="euro"),
        pytest.param({"amount_received": 0}, "needs_review", id="nothing"),
        pytest.param({"amount_received": "lots"}, "needs_review", id="a word"),
        pytest.param({"status": None}, "awaiting_payment", id="no status"),
        pytest.param({"status": "canceled"}, "payment_failed", id="canceled"),
        pytest.param({"amount_received": 1000}, "credited", id="another amount"),
    ],
)
def test_a_payment_is_what_the_provider_says(
    parts: AutoTopUps, changes: dict[str, object], outcome: str
) -> None:
    organization = parts.ready()
    _lose_the_answer(parts, parts.begin(organization))
    (charge,) = parts.charges(organization)
    told = stripe_events.event("payment_intent.succeeded", charge | changes)
    assert done(parts.stripe.tell(told))["outcome"] == outcome
    credited = 10_000_000 if outcome == "credited" else 0
    assert parts.platform.wallet(organization) == (10_000_000 + credited, 0)
    stopped = {"needs_review": "needs_review", "payment_failed": "canceled"}
    expected = ("paused", stopped[outcome]) if outcome in stopped else ("active", None)
    assert parts.state(organization) == expected
    if outcome != "credited":
        # The truth, once it is told, counts.
        assert parts.tell("payment_intent.succeeded", of=charge["id"]) == ["credited"]
        _expect_one_charge(parts, organization)


def test_a_second_payment_for_a_top_up_is_seen(parts: AutoTopUps) -> None:
    organization = parts.ready()
    done(parts.work(parts.begin(organization)))
    (charge,) = parts.charges(organization)
    told = stripe_events.event("payment_intent.succeeded", charge | {"id": "pi_second"})
    assert done(parts.stripe.tell(told))["outcome"] == "needs_review"
    _expect_one_charge(parts, organization)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"top_up_id": ABSENT}, id="absent top-up"),
        pytest.param({"organization_id": ABSENT}, id="foreign top-up"),
        pytest.param({"top_up_id": "checkout"}, id="a checkout's top-up"),
    ],
)
def test_only_automatic_top_ups_are_charged(parts: AutoTopUps, changes: dict[str, str]) -> None:
    organization = parts.ready()
    task = parts.begin(organization) | changes
    if task["top_up_id"] == "checkout":
        query = "select id::text from billing.top_ups where kind = 'checkout'"
        task["top_up_id"] = parts.platform.value(query)
    before = parts.platform.contents()
    problem(parts.work(task), 404, "top_up_not_found")
    assert parts.platform.contents() == before


@pytest.mark.parametrize(
    "task",
    [{}, {"top_up_id": "x"}, {"top_up_id": None}, {"amount": "5.00"}, {"organization_id": 7}],
    ids=str,
)
def test_a_task_is_what_the_contract_says(parts: AutoTopUps, task: dict[str, str]) -> None:
    honest = {"organization_id": ABSENT, "top_up_id": ABSENT}
    problem(parts.work(honest | task if task else {}), 400, "invalid_request")
