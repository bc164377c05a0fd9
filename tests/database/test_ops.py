"""What operators see: numbers checked by hand, and by adding up the ledger another way."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from infra.local.template import Database
from tests.harness.answers import done
from tests.harness.auto_top_ups import AutoTopUps
from tests.harness.client import Load
from tests.harness.invitations import Invitations
from tests.harness.platform import Platform
from tests.harness.postgrest import Rest
from tests.money.desk import Desk
from tests.money.ledger import DOLLAR, Customer, Ledger, Row, checkout_event, open_ledger
from tests.money.news import reversal_event
from tests.money.purse import Reversal
from tests.money.storage import Storage

START = datetime(2027, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def ledger(database: Database) -> Iterator[Ledger]:
    """Give a ledger whose clock stands still; it starts on the first of January."""
    with open_ledger(database) as ledger:
        ledger.pin_clock()
        yield ledger
        assert ledger.differences() == []


def _pass(ledger: Ledger, time: timedelta) -> None:
    ledger.move_pinned_clock(time // timedelta(microseconds=1))


def _desk(ledger: Ledger, customer: Customer) -> Desk:
    return Desk(ledger.create_operator(), customer)


def _rows(ledger: Ledger, query: LiteralString) -> list[Row]:
    columns = ledger.owner.execute(query).description or ()
    names = [column.name for column in columns]
    return [dict(zip(names, row, strict=True)) for row in ledger.fetch(query)]


def test_revenue_is_what_was_charged_by_day_and_kind(ledger: Ledger) -> None:
    ledger.set_price("free", "small", DOLLAR)
    one, other = ledger.register(), ledger.register()
    session = ledger.start(one)["session"]["id"]
    _pass(ledger, HOUR)
    ledger.stop(one, session)
    _desk(ledger, other).spend(ledger, 2 * DOLLAR)
    # The last moment of the day, and the first of the next.
    _pass(ledger, 23 * HOUR - timedelta(microseconds=1))
    _desk(ledger, other).spend(ledger, 1)
    _pass(ledger, timedelta(microseconds=1))
    _desk(ledger, other).spend(ledger, 10)
    _desk(ledger, one).spend(ledger, 20)
    first, second = START.date(), (START + DAY).date()
    assert ledger.fetch("select * from ops.revenue_by_day") == [
        (second, "usage", 2, 30, Decimal("0.000030")),
        (first, "sessions", 1, DOLLAR, Decimal("1.000000")),
        (first, "usage", 2, 2 * DOLLAR + 1, Decimal("2.000001")),
    ]
    assert ledger.fetch_one(
        "select (select sum(amount_micros) from ops.revenue_by_day) = sum(amount_micros)"
        " from billing.transfers where credit_account::text ~ '^revenue'"
    ) == (True,)


def test_every_account_of_revenue_has_a_kind(ledger: Ledger) -> None:
    assert (
        ledger.fetch(
            "select a from unnest(enum_range(null::billing.account)) as a"
            " where (ops.revenue_kind(a) is not null) <> starts_with(a::text, 'revenue')"
        )
        == []
    )


def _dispute(ledger: Ledger, top_up: Row, *, is_won: bool) -> None:
    dispute = Reversal(
        "dp_1",
        "dispute",
        100 * DOLLAR,
        version=int(is_won),
        is_undone=is_won,
        fees=0 if is_won else 15 * DOLLAR,
    )
    assert ledger.deliver(reversal_event(top_up["id"], dispute))["outcome"] == "dispute_recorded"


def test_the_margin_is_what_is_left_of_the_money_that_came(ledger: Ledger) -> None:
    customer = ledger.register()
    desk = _desk(ledger, customer)
    top_up = ledger.ask_top_up(customer, 100 * DOLLAR)["top_up"]
    ledger.deliver(checkout_event(top_up))
    desk.spend(ledger, 3 * DOLLAR)  # of the registration bonus alone
    desk.spend(ledger, 10 * DOLLAR)  # 2 of it, 5 of the top-up's bonus, 3 that were paid
    _pass(ledger, DAY)
    desk.spend(ledger, 90 * DOLLAR)  # paid: 7 are left
    _pass(ledger, DAY)
    _dispute(ledger, top_up, is_won=False)  # of the bonus, too: a debt of 93 + 5
    _pass(ledger, DAY)
    desk.give(ledger, 50 * DOLLAR)  # repays as much of it
    _pass(ledger, DAY)
    _dispute(ledger, top_up, is_won=True)  # 48 of it are the rest of the debt, 52 come back
    assert ledger.fetch(
        "select day, revenue_usd, promotional_usd, provider_fees_usd, margin_usd"
        " from ops.margin_by_day"
    ) == [
        ((START + day * DAY).date(), *map(Decimal, numbers))
        for day, *numbers in (
            (4, 0, 0, -15, 15),
            (3, 0, 50, 0, -50),
            (2, 0, -5, 15, -10),
            (1, 90, 0, 0, 90),
            (0, 13, 10, 0, 3),
        )
    ]
    _check_margin(ledger)
    assert ledger.fetch_one("select sum(margin_usd) from ops.margin_by_day") == (48,)


def _check_margin(ledger: Ledger) -> None:
    """All days together: the money at the provider and owed to us, less the paid money left."""
    ((margin, expected),) = ledger.fetch("""
        select
            (select coalesce(sum(margin_micros), 0) from ops.margin_by_day),
            (
                select coalesce(
                    sum(amount_micros - refunded_micros - disputed_micros - fee_micros), 0
                )
                from billing.payments
            )
            + (select sum(debt_micros) from billing.wallets)
            - (
                select coalesce(sum(remaining_micros), 0)
                from billing.grants where category = 'paid'
            )
    """)
    assert margin == expected
    for row in _rows(ledger, "select * from ops.margin_by_day"):
        for name in ("revenue", "promotional", "provider_fees", "margin"):
            assert row[f"{name}_usd"] == Decimal(row[f"{name}_micros"]) / DOLLAR
        assert row["margin_micros"] == (
            row["revenue_micros"] - row["promotional_micros"] - row["provider_fees_micros"]
        )
    assert (
        ledger.fetch(
            "select day, sum(amount_micros) from ops.revenue_by_day group by day"
            " except select day, revenue_micros from ops.margin_by_day"
        )
        == []
    )


@pytest.mark.parametrize("spent", [0, 4, 30, 107, 110])
def test_the_margin_adds_up_while_money_is_away(ledger: Ledger, spent: int) -> None:
    customer, other = ledger.register(), ledger.register()
    top_up = ledger.ask_top_up(customer, 100 * DOLLAR)["top_up"]
    ledger.deliver(checkout_event(top_up))
    if spent:
        _desk(ledger, customer).spend(ledger, spent * DOLLAR)
    refund = Reversal("re_1", "refund", 33 * DOLLAR + 330_000)
    ledger.deliver(reversal_event(top_up["id"], refund))
    _check_margin(ledger)
    _desk(ledger, customer).give(ledger, DOLLAR // 3, expires_in=60)
    _desk(ledger, other).give(ledger, DOLLAR, expires_in=60)
    _pass(ledger, HOUR)
    ledger.call_one("expire_grants", limit=10)
    _check_margin(ledger)
    refund.version, refund.is_undone = 1, True
    ledger.deliver(reversal_event(top_up["id"], refund))
    _check_margin(ledger)


def test_organizations_are_seen_at_a_glance(ledger: Ledger) -> None:
    customer = ledger.register()
    operator = ledger.create_operator()
    waiting = ledger.register_customer(operator, "late@example.com", "enterprise")
    ledger.credit(customer, 10 * DOLLAR)
    _pass(ledger, HOUR)
    ledger.start(customer)  # holds ten minutes at 0.025 an hour
    _pass(ledger, HOUR)
    rows = {
        str(row["organization_id"]): row for row in _rows(ledger, "select * from ops.organizations")
    }
    assert len(rows) == 3
    (email,) = ledger.fetch_one("select email from auth.users where id = %s", customer.user_id)
    row = rows[customer.id]
    seen = {name: row[name] for name in ("name", "plan", "owner_emails", "closed_at")}
    assert seen == {"name": "Acme", "plan": "pro", "owner_emails": email, "closed_at": None}
    amounts = {name: value for name, value in row.items() if name.endswith("_micros")}
    assert amounts == {
        "available_micros": 15 * DOLLAR - 4167,
        "held_micros": 4167,
        "debt_micros": 0,
        "paid_micros": 10 * DOLLAR,
        "returned_micros": 0,
    }
    assert (row["held_usd"], row["paid_usd"]) == (Decimal("0.004167"), Decimal("10.000000"))
    assert (row["running_sessions"], row["last_active_at"]) == (1, START + HOUR)
    row = rows[waiting.id]
    seen = {name: row[name] for name in ("plan", "owner_emails", "claimed_at", "billing_email")}
    assert seen == {
        "plan": "enterprise",
        "owner_emails": None,
        "claimed_at": None,
        "billing_email": "late@example.com",
    }
    assert (row["available_micros"], row["running_sessions"]) == (0, 0)


def test_money_that_went_back_and_what_is_owed_are_told(ledger: Ledger) -> None:
    customer = ledger.register()
    top_up = ledger.ask_top_up(customer, 10 * DOLLAR)["top_up"]
    ledger.deliver(checkout_event(top_up))
    _desk(ledger, customer).spend(ledger, 12 * DOLLAR)
    ledger.deliver(reversal_event(top_up["id"], Reversal("re_1", "refund", 8 * DOLLAR)))
    assert ledger.fetch(
        "select paid_usd, returned_usd, debt_usd, available_usd from ops.organizations"
        " where organization_id = %s",
        customer.id,
    ) == [(10, 8, 5, 0)]


def test_a_wallet_that_runs_dry_within_a_day_is_told_with_the_moment(ledger: Ledger) -> None:
    ledger.set_price("free", "small", DOLLAR // 5)
    slow, fast = ledger.register(), ledger.register()
    ledger.start(slow)  # 5 dollars last 25 hours
    for _ in range(5):
        ledger.start(fast)
    query: LiteralString = (
        "select organization_id::text, running_sessions, hourly_usd, left_usd, dry_at, auto_top_up"
        " from ops.wallets_running_dry"
    )
    assert ledger.fetch(query) == [(fast.id, 5, 1, 5, START + 5 * HOUR, "none")]
    # Charged or not, the moment is the same.
    _pass(ledger, HOUR)
    assert ledger.fetch(query) == [(fast.id, 5, 1, 4, START + 5 * HOUR, "none")]
    assert ledger.sweep()["swept"] == 6
    assert ledger.fetch(query) == [(fast.id, 5, 1, 4, START + 5 * HOUR, "none")]
    _pass(ledger, timedelta(seconds=1))
    rows = ledger.fetch(query)
    assert [row[0] for row in rows] == [fast.id, slow.id]
    # What is promised to others is not theirs.
    _desk(ledger, fast).open(ledger, DOLLAR, 100_000)
    ((_, _, _, _, dry_at, _), _) = ledger.fetch(query)
    assert abs(dry_at - START - 4 * HOUR) < timedelta(seconds=1)
    # It is what happens.
    while ledger.fetch_one("select billing.now() < %s", dry_at + HOUR)[0]:
        ledger.sweep()
        _pass(ledger, timedelta(minutes=1))
    ended = ledger.fetch("select ended_at from billing.sessions where ended_at is not null")
    assert len(ended) == 5
    assert all(abs(ended_at - dry_at) < timedelta(seconds=5) for (ended_at,) in ended)
    assert [row[0] for row in ledger.fetch(query)] == [slow.id]


def test_what_the_queue_was_not_told_or_did_not_do_is_stuck(ledger: Ledger) -> None:
    customer = ledger.register()
    session = ledger.start(customer, max_seconds=600)["session"]["id"]
    query: LiteralString = (
        "select topic::text, problem, payload ->> 'session_id', late_seconds from ops.stuck_outbox"
    )
    _pass(ledger, timedelta(minutes=2))
    assert ledger.fetch(query) == []
    _pass(ledger, timedelta(seconds=1))
    assert ledger.fetch(query) == [("stop_session", "not enqueued", session, 121 - 600)]
    (waiting,) = ledger.call("list_outbox", topic="stop_session", limit=10)
    _note(ledger, waiting)
    assert ledger.fetch(query) == []
    _pass(ledger, timedelta(minutes=18))
    assert ledger.fetch(query) == [("stop_session", "not done", session, 481 + 120)]
    # An hour after its time it is to be told again, under another name.
    _pass(ledger, timedelta(seconds=2998))
    assert ledger.call("list_outbox", topic="stop_session", limit=10) == []
    _pass(ledger, timedelta(seconds=1))
    (again,) = ledger.call("list_outbox", topic="stop_session", limit=10)
    assert again == waiting | {"name": waiting["name"] + "-1"}
    _pass(ledger, timedelta(seconds=121))
    assert ledger.fetch(query)[0][1] == "not enqueued"
    _note(ledger, again)
    assert ledger.fetch("select problem, enqueues from ops.stuck_outbox") == [("not done", 2)]
    ledger.call_one("sweep_session", **waiting["payload"])
    assert ledger.fetch(query) == []
    assert ledger.fetch_one("select close_reason from billing.sessions") == ("expired",)


def _note(ledger: Ledger, row: Row) -> None:
    ledger.call("mark_enqueued", organization_ids=[row["organization_id"]], ids=[row["id"]])


def test_what_fails_again_and_again_is_told_with_the_reason(ledger: Ledger) -> None:
    customer = ledger.register()
    bucket = Storage(ledger, customer).ask(10)
    (task_id,) = ledger.fetch_one("select task_id from billing.storage")
    ledger.run("update billing.outbox set attempts = 3, failure = 'quota'")
    _pass(ledger, timedelta(minutes=11))
    assert ledger.fetch(
        "select name, topic::text, problem, attempts, failure from ops.stuck_outbox"
    ) == [("Acme", "provision_storage", "not enqueued", 3, "quota")]
    (row,) = _rows(ledger, "select * from ops.storage")
    assert (str(row["id"]), row["organization"], row["provider"]) == (bucket, "Acme", "gcs")
    assert (row["task_id"], row["task_attempts"], row["task_failure"]) == (task_id, 3, "quota")
    assert (row["status"], row["is_task_done"], row["is_absent"]) == ("requested", False, True)


def test_what_storage_costs_the_operator_is_told_by_day(ledger: Ledger) -> None:
    customer = ledger.register()
    ledger.credit(customer, 1000 * DOLLAR)
    storage = Storage(ledger, customer)
    bucket = storage.rent(73)
    share = storage.ask(1024, "filestore")
    _pass(ledger, 12 * HOUR)
    storage.start(share)
    storage.grow(bucket, 146)
    _pass(ledger, 24 * HOUR)
    storage.end(share)  # the cloud has it for six hours more
    _pass(ledger, 6 * HOUR)
    ledger.run("update billing.storage set deleted_at = billing.now() where id = %s", share)
    _pass(ledger, 30 * HOUR)
    query: LiteralString = (
        "select day, kind::text, round(730 * gb_months)::int, is_upper_bound, cost_micros"
        " from ops.storage_cost_by_day order by kind, day"
    )
    first, second, third = (START.date() + day * DAY for day in range(3))
    buckets: list[tuple[object, ...]] = [
        (first, "bucket", (73 + 146) * 12, True, 72_000),
        (second, "bucket", 146 * 24, True, 96_000),
        (third, "bucket", 146 * 24, True, 96_000),
    ]
    shares: list[tuple[object, ...]] = [
        (first, "filestore", 1024 * 12, False, None),
        (second, "filestore", 1024 * 18, False, None),
    ]
    assert ledger.fetch(query) == buckets + shares
    ledger.run(
        "insert into billing.provider_costs values ('filestore', 'us-central1', %s, 730000)",
        START + DAY,
    )
    shares[1] = (second, "filestore", 1024 * 18, False, 1024 * 18 * 1000)
    assert ledger.fetch(query) == buckets + shares


def test_a_notification_is_never_stuck(ledger: Ledger) -> None:
    customer = ledger.register()
    top_up = ledger.ask_top_up(customer, 10 * DOLLAR)["top_up"]
    ledger.deliver(checkout_event(top_up))
    _desk(ledger, customer).spend(ledger, 12 * DOLLAR)
    ledger.deliver(reversal_event(top_up["id"], Reversal("re_1", "refund", 8 * DOLLAR)))
    _pass(ledger, DAY)
    assert ledger.fetch_one("select count(*) from billing.outbox") == (1,)
    assert ledger.fetch("select * from ops.stuck_outbox") == []


def test_discrepancies_stay_until_they_agree(ledger: Ledger) -> None:
    customer = ledger.register()
    assert ledger.fetch("select * from ops.open_discrepancies") == []
    ledger.run("update billing.wallets set debt_micros = 7")
    run = ledger.call_one(
        "start_scheduled_reconciliation", window_start=START - 3 * DAY, window_end=START
    )
    ledger.call("verify_next", reconciliation_id=run["id"], after=None, is_full=True)
    _pass(ledger, HOUR)
    assert ledger.fetch(
        "select kind::text, organization_id::text, name, ledger_rule, expected_micros, found_usd,"
        " difference_micros, difference_usd, age_seconds from ops.open_discrepancies"
    ) == [
        (
            *("ledger", customer.id, "Acme", "wallet debt = its transfers", 0),
            *(Decimal("0.000007"), 7, Decimal("0.000007"), 3600),
        )
    ]
    ledger.run("update billing.wallets set debt_micros = 0")
    ledger.call("verify_next", reconciliation_id=run["id"], after=None, is_full=True)
    assert ledger.fetch("select * from ops.open_discrepancies") == []


def test_a_run_that_broke_off_is_told_and_which_one_made_up_for_it(ledger: Ledger) -> None:
    def start(days: int) -> Any:  # noqa: ANN401  an id
        at = START + days * DAY
        return ledger.call_one(
            "start_scheduled_reconciliation", window_start=at - 3 * DAY, window_end=at
        )["id"]

    query: LiteralString = (
        "select id::text, verified, age_seconds, followed_at from ops.unfinished_reconciliations"
    )
    broken = start(0)
    _pass(ledger, DAY)
    assert ledger.fetch(query) == [(broken, 0, 86400, None)]
    next_ = start(1)
    assert [row[0] for row in ledger.fetch(query)] == [next_, broken]
    ledger.call("finish_reconciliation", reconciliation_id=next_)
    assert ledger.fetch(query) == [(broken, 0, 86400, START + DAY)]


def test_money_in_another_currency_is_to_review(ledger: Ledger) -> None:
    customer = ledger.register()
    top_up = ledger.ask_top_up(customer, 25 * DOLLAR)["top_up"]
    assert ledger.deliver(checkout_event(top_up, currency="eur"))["outcome"] == "needs_review"
    _pass(ledger, HOUR)
    query: LiteralString = (
        "select organization_id::text, name, type, provider_payment_id, provider_amount,"
        " is_credited, age_seconds from ops.payments_to_review"
    )
    told = (customer.id, "Acme", "checkout.session.completed", f"pi_{top_up['id']}", "2500 eur")
    assert ledger.fetch(query) == [(*told, False, 3600)]
    ledger.deliver(checkout_event(top_up))
    assert ledger.fetch(query) == [(*told, True, 3600)]


def test_cron_functions_that_are_behind_are_told(ledger: Ledger) -> None:
    customer = ledger.register()
    desk = _desk(ledger, customer)
    query: LiteralString = "select schedule, waiting, lag_seconds from ops.schedule_lag"
    idle = [
        *[("sweep_sessions", 0, None), ("expire_holds", 0, None), ("accrue_storage", 0, None)],
        *[("measure_storage", 0, None), ("enqueue_outbox", 0, None), ("expire_grants", 0, None)],
        *[("expire_grants", 0, None), ("reconcile", 0, None)],
    ]
    assert ledger.fetch(query) == idle
    ledger.start(customer)
    Storage(ledger, customer).rent(1)
    ledger.run("update billing.outbox set acknowledged_at = billing.now()")
    desk.open(ledger, DOLLAR, 600)
    desk.give(ledger, DOLLAR, expires_in=1200)
    desk.give(ledger, DOLLAR, effective_in=900)
    run = ledger.call_one(
        "start_scheduled_reconciliation", window_start=START - 3 * DAY, window_end=START
    )
    ledger.call("finish_reconciliation", reconciliation_id=run["id"])
    assert ledger.fetch(query) == idle
    _pass(ledger, DAY)
    assert ledger.fetch(query) == [
        *[("sweep_sessions", 1, 86400 - 300), ("expire_holds", 1, 86400 - 600)],
        *[("accrue_storage", 1, 43200), ("measure_storage", 1, 0), ("enqueue_outbox", 0, None)],
        *[("expire_grants", 1, 86400 - 1200), ("expire_grants", 1, 86400 - 900)],
        ("reconcile", 1, 0),
    ]
    ledger.sweep()
    for function in ("expire_holds", "start_grants", "expire_grants", "accrue_storage"):
        ledger.call_one(function, limit=10)
    ledger.run("update billing.storage set measured_at = billing.now()")
    run = ledger.call_one(
        "start_scheduled_reconciliation", window_start=START - 2 * DAY, window_end=START + DAY
    )
    ledger.call("finish_reconciliation", reconciliation_id=run["id"])
    assert ledger.fetch(query) == idle


def test_an_invitation_that_is_not_mailed_is_stuck(platform: Platform, function: Load) -> None:
    parts = Invitations(platform, function)
    invitation = done(parts.ask(parts.new_address(), "member"), 201)
    assert parts.strike() == 1
    stuck: LiteralString = (
        "select topic::text, problem, payload ->> 'invitation_id' from ops.stuck_outbox"
        " where topic not in ('provision_identity', 'provision_storage')"
    )
    platform.advance(590)
    assert platform.fetch(stuck) == []
    platform.advance(20)
    assert platform.fetch(stuck) == [("send_invitation", "not done", invitation["id"])]
    done(parts.work(parts.tasks()[-1]))
    assert platform.fetch(stuck) == []


def test_automatic_top_ups_that_are_stuck_or_paused_are_told(
    platform: Platform, function: Load
) -> None:
    play = AutoTopUps(platform, function)
    customer = play.ready()
    paused: LiteralString = (
        "select organization_id::text, paused_reason, threshold_usd, amount_usd, available_usd"
        " from ops.paused_auto_top_ups"
    )
    stuck: LiteralString = (
        "select topic::text, problem, payload ->> 'top_up_id' from ops.stuck_outbox"
        " where topic not in ('provision_identity', 'provision_storage')"
    )
    task = play.begin(customer)
    platform.advance(599)
    assert platform.fetch(stuck) == []
    platform.advance(2)
    assert platform.fetch(stuck) == [("charge_top_up", "not done", task["top_up_id"])]
    assert platform.fetch(paused) == []
    (card,) = {
        found["payment_method"]: found
        for found in platform.cloud.remembered("payment_intent")
        if found["metadata"].get("organization_id") == customer.id
    }.values()
    play.behave(card, "decline")
    play.work(task)
    assert platform.fetch(stuck) == []
    assert platform.fetch(paused) == [(customer.id, "card_declined", 20, 20, 10)]


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ("status = 'active'", "active"),
        ("status = 'paused', paused_reason = 'card_declined'", "paused"),
        ("monthly_cap_micros = amount_micros", "capped"),
    ],
)
def test_a_wallet_that_runs_dry_tells_whether_its_card_is_charged(
    platform: Platform, function: Load, change: LiteralString, state: str
) -> None:
    play = AutoTopUps(platform, function)
    customer = play.ready()
    play.work(play.begin(customer))
    play.spend(customer, 30_000_000 - 100_000)
    done = function("sessions").post("/v1/sessions", {"tier": "small"}, by=customer.passport)
    assert done.status_code == 201
    platform.run(f"update billing.auto_top_ups set {change}")
    assert platform.fetch("select auto_top_up from ops.wallets_running_dry") == [(state,)]


def _views(owner: psycopg.Connection[tuple[Any, ...]]) -> list[str]:
    found = owner.execute(
        "select relname from pg_class where relnamespace = 'ops'::regnamespace and relkind = 'v'"
    )
    views = [str(name) for (name,) in found]
    assert len(views) >= 10
    return views


@pytest.mark.parametrize(
    "role",
    [
        *["anon", "authenticated", "service_role", "authenticator"],
        *["faregate_functions", "faregate_reader"],
    ],
)
def test_nobody_but_the_owner_looks(unchanged: Database, role: str) -> None:
    with psycopg.connect(unchanged.owner_url, autocommit=True) as owner:
        views = _views(owner)
        for view in views:
            owner.execute(sql.SQL("select * from ops.{}").format(sql.Identifier(view)))
        if role == "faregate_functions":
            # Its owner does not become it.
            asker = psycopg.connect(unchanged.functions_url, autocommit=True)
        else:
            owner.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
            asker = owner
        for view in views:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                asker.execute(sql.SQL("select from ops.{}").format(sql.Identifier(view)))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            asker.execute("select ops.usd(1)")
        asker.close()


def test_the_rest_api_does_not_serve_them(platform: Platform, rest: Rest) -> None:
    key = platform.cloud.layout.secrets.secret_key
    for view in _views(platform.owner):
        answer = rest.request("GET", view, key=key, headers={"Accept-Profile": "ops"})
        assert (answer.status_code, answer.json()["code"]) == (406, "PGRST106")
        assert rest.request("GET", view, key=key).status_code in (403, 404)
