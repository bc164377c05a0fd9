"""Grants: which money is spent first, when it comes and when it goes."""

from collections.abc import Callable
from functools import partial

import pytest

from tests.money.desk import Desk
from tests.money.ledger import (
    DOLLAR,
    REGISTRATION_BONUS,
    Ledger,
    RefusedError,
    Row,
    checkout_event,
)
from tests.money.test_reversals import refund

_HOUR = 3600
_DAY = 24 * _HOUR
_BILLION_DOLLARS = 10**9 * DOLLAR


def _start(ledger: Ledger, limit: int = 100) -> Row:
    return ledger.call_one("start_grants", limit=limit)


def _expire(ledger: Ledger, limit: int = 100) -> Row:
    return ledger.call_one("expire_grants", limit=limit)


def _balance(ledger: Ledger, desk: Desk) -> tuple[int, int]:
    wallet = ledger.wallet(desk.customer)
    return wallet["settled_micros"], wallet["held_micros"]


def _grant(ledger: Ledger, desk: Desk, grant: Row) -> Row:
    (found,) = [each for each in desk.grants(ledger) if each["id"] == grant["id"]]
    return found


def test_what_is_spent_first_and_where_it_came_from(ledger: Ledger, desk: Desk) -> None:
    five = 5 * DOLLAR
    ledger.credit(desk.customer, 100 * DOLLAR)  # brings a bonus of five
    (bonus, paid, paid_bonus) = sorted(desk.grants(ledger), key=lambda g: g["id"])
    if paid["category"] == "promotional":
        paid, paid_bonus = paid_bonus, paid
    last = desk.give(ledger, five, priority=200, expires_in=_HOUR)
    late = desk.give(ledger, five, expires_in=2 * _DAY)
    soon = desk.give(ledger, five, expires_in=_DAY)
    gift = desk.give(ledger, five)
    first = desk.give(ledger, five, priority=10)
    desk.give(ledger, five, priority=0, effective_in=_DAY)  # not money yet
    for _ in range(ledger.wallet(desk.customer)["settled_micros"] // five):
        desk.spend(ledger, five)
    drawn = ledger.fetch(
        "select d.grant_id::text, sum(d.amount_micros)::bigint"
        " from billing.draws as d where d.organization_id = %s"
        " group by 1 order by min(d.sequence)",
        desk.customer.id,
    )
    expected = [first, soon, late, bonus, paid_bonus, gift, paid, last]
    assert drawn == [(grant["id"], grant["amount_micros"]) for grant in expected]
    assert [each["note"] for each in (first, soon, late, gift, last)] == ["for a test"] * 5
    assert paid["payment_id"] == paid_bonus["payment_id"] is not None
    reasons = ledger.fetch(
        "select t.reason::text from billing.transfers as t"
        " where t.organization_id = %s and t.credit_account = 'wallet' and t.grant_id = %s",
        desk.customer.id,
        bonus["id"],
    )
    assert reasons == [("registration_bonus",)]
    assert _balance(ledger, desk) == (0, 0)


def test_a_future_grant_is_not_money_before_its_time(ledger: Ledger, desk: Desk) -> None:
    grant = desk.give(ledger, 3 * DOLLAR, effective_in=_HOUR, expires_in=2 * _HOUR)
    assert (grant["status"], grant["remaining_micros"]) == ("scheduled", 0)
    ledger.advance(_HOUR - 10)
    assert _start(ledger) == {"started": 0, "more": False}
    assert _balance(ledger, desk) == (REGISTRATION_BONUS, 0)
    with pytest.raises(RefusedError, match="insufficient_credits"):
        desk.open(ledger, REGISTRATION_BONUS + 1)
    ledger.advance(11)
    assert _start(ledger) == {"started": 1, "more": False}
    assert _start(ledger) == {"started": 0, "more": False}
    assert _balance(ledger, desk) == (REGISTRATION_BONUS + 3 * DOLLAR, 0)
    desk.spend(ledger, 2 * DOLLAR)
    found = _grant(ledger, desk, grant)
    assert (found["status"], found["remaining_micros"]) == ("active", DOLLAR)
    ledger.advance(_HOUR)
    assert _expire(ledger) == {"expired": 1, "more": False}
    assert _balance(ledger, desk) == (REGISTRATION_BONUS, 0)


def test_a_grant_that_came_and_went_unseen_leaves_nothing(ledger: Ledger, desk: Desk) -> None:
    grant = desk.give(ledger, DOLLAR, effective_in=_HOUR, expires_in=2 * _HOUR)
    ledger.advance(3 * _HOUR)
    assert _start(ledger)["started"] == _expire(ledger)["expired"] == 1
    assert _grant(ledger, desk, grant)["status"] == "expired"
    assert _balance(ledger, desk) == (REGISTRATION_BONUS, 0)


@pytest.mark.parametrize(
    ("effective_in", "expires_in"),
    [(None, 0), (None, -1), (60, 60), (60, 30), (-60, -30)],
)
def test_a_grant_that_would_never_be_money_is_refused(
    ledger: Ledger, desk: Desk, effective_in: int | None, expires_in: int
) -> None:
    with pytest.raises(RefusedError, match="expiry_in_the_past"):
        desk.give(ledger, DOLLAR, effective_in=effective_in, expires_in=expires_in)
    assert len(desk.grants(ledger)) == 1


def test_a_hold_keeps_what_it_was_promised_and_then_it_goes(ledger: Ledger, desk: Desk) -> None:
    other = Desk(desk.operator, ledger.register())
    grant = desk.give(ledger, 3 * DOLLAR, expires_in=60)
    hold = desk.open(ledger, 7 * DOLLAR)  # all but a dollar
    ledger.advance(61)
    assert _expire(ledger) == {"expired": 1, "more": False}
    assert _balance(ledger, desk) == (7 * DOLLAR, 7 * DOLLAR)
    assert _expire(ledger) == {"expired": 0, "more": False}
    found = _grant(ledger, desk, grant)
    assert (found["status"], found["remaining_micros"]) == ("expired", 2 * DOLLAR)
    with pytest.raises(RefusedError, match="insufficient_credits"):
        desk.open(ledger, 1)

    desk.capture(ledger, hold, DOLLAR, is_final=False)
    assert _grant(ledger, desk, grant)["remaining_micros"] == DOLLAR
    desk.release(ledger, hold)
    assert _expire(ledger) == {"expired": 1, "more": False}
    found = _grant(ledger, desk, grant)
    assert (found["status"], found["remaining_micros"]) == ("expired", 0)
    assert _balance(ledger, desk) == _balance(ledger, other) == (REGISTRATION_BONUS, 0)
    with pytest.raises(RefusedError, match="insufficient_credits"):
        desk.open(ledger, REGISTRATION_BONUS + 1)
    went = ledger.fetch(
        "select organization_id::text, amount_micros, grant_id::text from billing.transfers"
        " where credit_account = 'expired' and reason = 'expiry' order by sequence"
    )
    assert went == [(desk.customer.id, DOLLAR, grant["id"])] * 2


def test_expired_money_runs_no_session(ledger: Ledger, desk: Desk) -> None:
    desk.spend(ledger, REGISTRATION_BONUS)
    desk.give(ledger, DOLLAR, expires_in=60)
    ledger.advance(61)
    _expire(ledger)
    with pytest.raises(RefusedError, match="insufficient_credits"):
        ledger.start(desk.customer)


def test_expired_money_is_not_held_before_the_cron_came(ledger: Ledger, desk: Desk) -> None:
    desk.give(ledger, 2 * DOLLAR, expires_in=60)
    kept = desk.give(ledger, 3 * DOLLAR, expires_in=_HOUR)
    ledger.advance(61)
    with pytest.raises(RefusedError, match="insufficient_credits") as refusal:
        desk.open(ledger, REGISTRATION_BONUS + 3 * DOLLAR + 1)
    assert refusal.value.detail["available_micros"] == REGISTRATION_BONUS + 3 * DOLLAR
    desk.open(ledger, REGISTRATION_BONUS + 2 * DOLLAR)
    assert _balance(ledger, desk) == (8 * DOLLAR, 7 * DOLLAR)
    ledger.advance(_HOUR)
    with pytest.raises(RefusedError, match="insufficient_credits"):
        ledger.start(desk.customer)
    assert _expire(ledger) == {"expired": 1, "more": False}
    assert _grant(ledger, desk, kept)["remaining_micros"] == 2 * DOLLAR
    assert ledger.differences() == []


def test_a_running_session_ends_where_the_expiry_left_it(ledger: Ledger, desk: Desk) -> None:
    desk.spend(ledger, REGISTRATION_BONUS)
    ledger.set_price("free", "small", 36 * DOLLAR)  # a cent a second
    desk.give(ledger, 20 * DOLLAR, expires_in=60)
    session = ledger.start(desk.customer)["session"]["id"]
    ledger.advance(61)
    _expire(ledger)
    assert _balance(ledger, desk) == (6 * DOLLAR, 6 * DOLLAR)  # the first window
    ledger.advance(600)
    ledger.sweep()
    ended = ledger.session(desk.customer, session)
    assert (ended["close_reason"], ended["charged_micros"]) == ("exhausted", 6 * DOLLAR)
    assert _balance(ledger, desk) == (0, 0)


def test_many_grants_of_one_wallet_expire_in_few_calls(ledger: Ledger, desk: Desk) -> None:
    for _ in range(4):
        desk.give(ledger, DOLLAR, expires_in=60)
    desk.open(ledger, REGISTRATION_BONUS + DOLLAR)
    ledger.advance(61)
    # What the two earliest leave nothing for is not due any more.
    assert _expire(ledger, 2) == {"expired": 3, "more": True}
    assert _expire(ledger, 2) == {"expired": 0, "more": False}
    wallet = REGISTRATION_BONUS + DOLLAR
    assert _balance(ledger, desk) == (wallet, wallet)


def test_what_no_wallet_carries_waits_and_keeps_nobody_waiting(ledger: Ledger, desk: Desk) -> None:
    half = _BILLION_DOLLARS // 2
    for _ in range(2):
        desk.give(ledger, half, effective_in=60)
    other = Desk(desk.operator, ledger.register())
    other.give(ledger, DOLLAR, effective_in=60)
    ledger.advance(61)
    _start(ledger)
    _start(ledger)
    assert _balance(ledger, other) == (REGISTRATION_BONUS + DOLLAR, 0)
    assert _balance(ledger, desk) == (REGISTRATION_BONUS + half, 0)
    desk.spend(ledger, REGISTRATION_BONUS)
    assert _start(ledger)["started"] == 1
    assert _balance(ledger, desk) == (_BILLION_DOLLARS, 0)
    with pytest.raises(RefusedError, match="amount_out_of_bounds"):
        desk.give(ledger, 1)


def _freeze(ledger: Ledger, desk: Desk) -> None:
    """Let a customer spend all, and the provider give ten dollars back."""
    top_up = ledger.ask_top_up(desk.customer, 10 * DOLLAR)["top_up"]
    ledger.deliver(checkout_event(top_up))
    desk.spend(ledger, REGISTRATION_BONUS + 10 * DOLLAR)
    ledger.deliver(refund(top_up, 1, 10 * DOLLAR))
    assert ledger.wallet(desk.customer)["debt_micros"] == 10 * DOLLAR


@pytest.mark.parametrize("effective_in", [None, 60], ids=["now", "later"])
def test_a_grant_repays_a_debt_first(ledger: Ledger, desk: Desk, effective_in: int | None) -> None:
    _freeze(ledger, desk)
    states = []
    for dollars in (4, 10):
        grant = desk.give(ledger, dollars * DOLLAR, effective_in=effective_in)
        ledger.advance(61)
        _start(ledger)
        wallet = ledger.wallet(desk.customer)
        found = _grant(ledger, desk, grant)
        states.append(
            (wallet["debt_micros"] // DOLLAR, wallet["settled_micros"] // DOLLAR, found["status"])
        )
    assert states == [(6, 0, "used_up"), (0, 4, "active")]
    desk.spend(ledger, 4 * DOLLAR)


def test_one_key_is_one_grant(ledger: Ledger, desk: Desk) -> None:
    give = partial(Desk.give, desk, micros=DOLLAR, idempotency_key="only-once")
    grants = ledger.race([give] * 20)
    assert len({grant["id"] for grant in grants if not isinstance(grant, RefusedError)}) == 1
    assert _balance(ledger, desk) == (REGISTRATION_BONUS + DOLLAR, 0)
    with pytest.raises(RefusedError, match="idempotency_conflict"):
        desk.give(ledger, DOLLAR + 1, idempotency_key="only-once")


def test_crons_beside_each_other_do_everything_once(ledger: Ledger, desk: Desk) -> None:
    desks = [Desk(desk.operator, ledger.register()) for _ in range(10)]
    for each in desks:
        each.give(ledger, DOLLAR, effective_in=60)
        each.give(ledger, 2 * DOLLAR, expires_in=60)
    ledger.advance(61)
    jobs: list[Callable[[Ledger], Row]] = []
    jobs += [lambda own: _start(own, 3), lambda own: _expire(own, 3)] * 40
    runs = [run for run in ledger.race(jobs, threads=8) if not isinstance(run, RefusedError)]
    assert len(runs) == 80
    assert sum(run.get("started", 0) for run in runs) == len(desks)
    assert sum(run.get("expired", 0) for run in runs) == len(desks)
    assert {_balance(ledger, each) for each in desks} == {(REGISTRATION_BONUS + DOLLAR, 0)}


def test_an_expiry_beside_those_who_spend_takes_only_the_rest(ledger: Ledger, desk: Desk) -> None:
    desks = [Desk(desk.operator, ledger.register()) for _ in range(8)]
    for each in desks:
        each.give(ledger, 3 * DOLLAR, expires_in=60)
    ledger.advance(61)
    jobs: list[Callable[[Ledger], object]] = []
    for each in desks:
        jobs += [partial(Desk.spend, each, micros=DOLLAR)] * 10
        jobs += [lambda own: _expire(own, 2)] * 3
    results = ledger.race(jobs, threads=12)
    refused = [each.code for each in results if isinstance(each, RefusedError)]
    assert set(refused) == {"insufficient_credits"}
    expired, spent = ledger.fetch_one(
        "select sum(amount_micros) filter (where reason = 'expiry')::bigint,"
        " sum(amount_micros) filter (where reason = 'capture')::bigint from billing.transfers"
    )
    assert spent == (80 - len(refused)) * DOLLAR
    _expire(ledger)
    left = sum(_balance(ledger, each)[0] for each in desks)
    (late,) = ledger.fetch_one(
        "select sum(amount_micros)::bigint from billing.transfers where reason = 'expiry'"
    )
    assert (expired or 0) <= late
    assert left + spent + late == len(desks) * 8 * DOLLAR
