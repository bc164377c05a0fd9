"""Holds of usage: captured, released, renewed, expired; whatever happens at once, they end once."""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

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

Job = Callable[[Ledger], object]


def _expire(ledger: Ledger, limit: int = 100) -> Row:
    return ledger.call_one("expire_holds", limit=limit)


def _balance(ledger: Ledger, desk: Desk) -> tuple[int, int]:
    wallet = ledger.wallet(desk.customer)
    return wallet["settled_micros"], wallet["held_micros"]


def _state(hold: Row) -> tuple[str, int, int, int]:
    return (
        hold["status"],
        hold["amount_micros"],
        hold["captured_micros"],
        hold["held_micros"],
    )


def _codes(results: Sequence[object]) -> Counter[str]:
    return Counter(r.code if isinstance(r, RefusedError) else "done" for r in results)


def test_a_hold_is_nobody_elses_money(ledger: Ledger, desk: Desk) -> None:
    hold = desk.open(ledger, 4 * DOLLAR, description="a training run")
    assert _state(hold) == ("open", 4 * DOLLAR, 0, 4 * DOLLAR)
    assert (hold["kind"], hold["description"]) == ("usage", "a training run")
    assert _balance(ledger, desk) == (REGISTRATION_BONUS, 4 * DOLLAR)
    with pytest.raises(RefusedError, match="insufficient_credits") as refusal:
        desk.open(ledger, DOLLAR + 1)
    assert refusal.value.detail == {"required_micros": DOLLAR + 1, "available_micros": DOLLAR}
    desk.open(ledger, DOLLAR)
    assert _balance(ledger, desk) == (REGISTRATION_BONUS, REGISTRATION_BONUS)


def test_a_hold_is_captured_in_parts(ledger: Ledger, desk: Desk) -> None:
    hold = desk.open(ledger, 4 * DOLLAR)
    part = desk.capture(ledger, hold, DOLLAR, is_final=False)
    assert _state(part) == ("open", 4 * DOLLAR, DOLLAR, 3 * DOLLAR)
    assert _balance(ledger, desk) == (4 * DOLLAR, 3 * DOLLAR)
    last = desk.capture(ledger, hold, 2 * DOLLAR, is_final=True)
    assert _state(last) == ("captured", 3 * DOLLAR, 3 * DOLLAR, 0)
    assert _balance(ledger, desk) == (2 * DOLLAR, 0)
    captures = ledger.fetch(
        "select amount_micros, credit_account::text, reason::text from billing.transfers"
        " where organization_id = %s and hold_id = %s order by sequence",
        desk.customer.id,
        hold["id"],
    )
    assert captures == [
        (DOLLAR, "revenue_usage", "capture"),
        (2 * DOLLAR, "revenue_usage", "capture"),
    ]


def test_a_hold_that_is_captured_to_the_last_closes(ledger: Ledger, desk: Desk) -> None:
    hold = desk.open(ledger, 2 * DOLLAR)
    desk.capture(ledger, hold, 1, is_final=False)
    end = desk.capture(ledger, hold, 2 * DOLLAR - 1, is_final=False)
    assert _state(end) == ("captured", 2 * DOLLAR, 2 * DOLLAR, 0)


def test_more_than_a_hold_keeps_is_refused_and_changes_nothing(ledger: Ledger, desk: Desk) -> None:
    hold = desk.open(ledger, 2 * DOLLAR)
    desk.capture(ledger, hold, DOLLAR, is_final=False)
    before = desk.hold(ledger, hold), _balance(ledger, desk)
    for micros in (DOLLAR + 1, 2**63 - 1):
        with pytest.raises(RefusedError, match="capture_exceeds_hold") as refusal:
            desk.capture(ledger, hold, micros, is_final=True)
        assert refusal.value.detail == {"held_micros": DOLLAR}
    assert (desk.hold(ledger, hold), _balance(ledger, desk)) == before


def test_a_release_gives_back_what_was_not_captured(ledger: Ledger, desk: Desk) -> None:
    untouched, used = desk.open(ledger, DOLLAR), desk.open(ledger, 2 * DOLLAR)
    desk.capture(ledger, used, DOLLAR, is_final=False)
    assert _state(desk.release(ledger, untouched)) == ("released", 0, 0, 0)
    assert _state(desk.release(ledger, used)) == ("captured", DOLLAR, DOLLAR, 0)
    assert _balance(ledger, desk) == (4 * DOLLAR, 0)


def test_a_renewal_raises_and_extends(ledger: Ledger, desk: Desk) -> None:
    hold = desk.open(ledger, 2 * DOLLAR, seconds=60)
    ledger.advance(50)
    raised = desk.renew(ledger, hold, DOLLAR, 600)
    assert _state(raised) == ("open", 3 * DOLLAR, 0, 3 * DOLLAR)
    assert raised["expires_at"] > hold["expires_at"]
    desk.capture(ledger, hold, DOLLAR, is_final=False)
    desk.renew(ledger, hold, 0, 600)
    ledger.advance(599)
    assert _expire(ledger)["expired"] == 0
    assert _balance(ledger, desk) == (4 * DOLLAR, 2 * DOLLAR)
    before = desk.hold(ledger, hold)
    with pytest.raises(RefusedError, match="insufficient_credits"):
        desk.renew(ledger, hold, 2 * DOLLAR + 1, 600)
    assert desk.hold(ledger, hold) == before
    ledger.advance(2)
    assert _expire(ledger) == {"expired": 1, "more": False}
    assert _balance(ledger, desk) == (4 * DOLLAR, 0)


def test_a_renewal_never_shortens(ledger: Ledger, desk: Desk) -> None:
    hold = desk.open(ledger, DOLLAR, seconds=600)
    renewed = desk.renew(ledger, hold, DOLLAR, 60)
    assert renewed["expires_at"] == hold["expires_at"]
    ledger.advance(590)
    assert _expire(ledger)["expired"] == 0
    assert _state(desk.release(ledger, hold)) == ("released", 0, 0, 0)


def test_a_leaked_hold_frees_itself(ledger: Ledger, desk: Desk) -> None:
    untouched = desk.open(ledger, DOLLAR, seconds=60)
    used = desk.open(ledger, 2 * DOLLAR, seconds=60)
    kept = desk.open(ledger, 2 * DOLLAR, seconds=600)
    desk.capture(ledger, used, DOLLAR, is_final=False)
    ledger.advance(61)
    assert _balance(ledger, desk) == (4 * DOLLAR, 4 * DOLLAR)
    assert _expire(ledger, 1) == {"expired": 1, "more": True}
    assert _expire(ledger, 2) == {"expired": 1, "more": False}
    assert _balance(ledger, desk) == (4 * DOLLAR, 2 * DOLLAR)
    assert [_state(desk.hold(ledger, hold)) for hold in (untouched, used, kept)] == [
        ("expired", 0, 0, 0),
        ("captured", DOLLAR, DOLLAR, 0),
        ("open", 2 * DOLLAR, 0, 2 * DOLLAR),
    ]


_ACTS: dict[str, Callable[[Desk, Ledger, Row], Row]] = {
    "capture": lambda desk, ledger, hold: desk.capture(ledger, hold, 1, is_final=True),
    "part": lambda desk, ledger, hold: desk.capture(ledger, hold, 1, is_final=False),
    "release": lambda desk, ledger, hold: desk.release(ledger, hold),
    "renew": lambda desk, ledger, hold: desk.renew(ledger, hold, 0, 600),
}


@pytest.mark.parametrize("act", _ACTS)
@pytest.mark.parametrize("cron", [False, True], ids=["before the cron", "after the cron"])
def test_what_has_expired_is_closed(ledger: Ledger, desk: Desk, act: str, *, cron: bool) -> None:
    hold = desk.open(ledger, DOLLAR, seconds=60)
    ledger.advance(61)
    if cron:
        _expire(ledger)
    assert desk.hold(ledger, hold)["status"] == "expired"
    with pytest.raises(RefusedError, match="hold_closed") as refusal:
        _ACTS[act](desk, ledger, hold)
    assert refusal.value.detail == {"hold_status": "expired"}
    _expire(ledger)
    assert _balance(ledger, desk) == (REGISTRATION_BONUS, 0)


@pytest.mark.parametrize("act", _ACTS)
@pytest.mark.parametrize("end", ["capture", "release"])
def test_closed_is_closed(ledger: Ledger, desk: Desk, end: str, act: str) -> None:
    hold = desk.open(ledger, DOLLAR)
    closed = _ACTS[end](desk, ledger, hold)
    before = _balance(ledger, desk)
    with pytest.raises(RefusedError, match="hold_closed") as refusal:
        _ACTS[act](desk, ledger, hold)
    assert refusal.value.detail == {"hold_status": f"{end.removesuffix('e')}ed"}
    assert desk.hold(ledger, hold) == closed
    assert _balance(ledger, desk) == before


@pytest.mark.parametrize("act", _ACTS)
def test_a_hold_of_others_or_of_a_session_is_not_there(
    ledger: Ledger, desk: Desk, act: str
) -> None:
    other = Desk(desk.operator, ledger.register())
    session = ledger.start(desk.customer)["session"]
    for stranger, hold in ((other, desk.open(ledger, DOLLAR)), (desk, session)):
        with pytest.raises(RefusedError, match="hold_not_found"):
            _ACTS[act](stranger, ledger, hold)


def test_what_a_frozen_organization_gets_back_repays_its_debt(ledger: Ledger, desk: Desk) -> None:
    top_up = ledger.ask_top_up(desk.customer, 10 * DOLLAR)["top_up"]
    ledger.deliver(checkout_event(top_up))
    ends = [
        ("release", desk.open(ledger, 4 * DOLLAR)),
        ("capture", desk.open(ledger, 4 * DOLLAR)),
        ("expire", desk.open(ledger, 4 * DOLLAR, seconds=60)),
    ]
    desk.spend(ledger, 3 * DOLLAR)
    ledger.deliver(refund(top_up, 1, 10 * DOLLAR))
    debts = [ledger.wallet(desk.customer)["debt_micros"]]
    assert debts == [10 * DOLLAR]
    with pytest.raises(RefusedError, match="debt_outstanding"):
        desk.renew(ledger, ends[0][1], 0, 600)
    ledger.advance(61)
    for end, hold in ends:
        if end == "release":
            desk.release(ledger, hold)
        elif end == "capture":
            desk.capture(ledger, hold, DOLLAR, is_final=True)
        else:
            _expire(ledger)
        debts.append(ledger.wallet(desk.customer)["debt_micros"])
    assert debts == [10 * DOLLAR, 6 * DOLLAR, 3 * DOLLAR, 0]
    assert _balance(ledger, desk) == (DOLLAR, 0)
    desk.spend(ledger, DOLLAR)


# At once. Every hold must end exactly once, and whoever comes second is told.


@pytest.mark.parametrize("is_final", [True, False], ids=["final", "in parts"])
def test_captures_at_once_never_take_more_than_the_hold(
    ledger: Ledger, desk: Desk, *, is_final: bool
) -> None:
    hold = desk.open(ledger, 3 * DOLLAR)
    capture = partial(Desk.capture, desk, hold=hold, micros=DOLLAR, is_final=is_final)
    codes = _codes(ledger.race([capture] * 40))
    done = 1 if is_final else 3
    assert codes == {"done": done, "hold_closed": 40 - done}
    assert _balance(ledger, desk) == (REGISTRATION_BONUS - done * DOLLAR, 0)
    assert desk.hold(ledger, hold)["status"] == "captured"


def test_a_capture_with_one_key_takes_once(ledger: Ledger, desk: Desk) -> None:
    hold = desk.open(ledger, 3 * DOLLAR)
    capture = partial(
        Desk.capture,
        desk,
        hold=hold,
        micros=DOLLAR,
        is_final=False,
        idempotency_key="only-once",
    )
    results = ledger.race([capture] * 40)
    assert _codes(results) == {"done": 40}
    assert all(result == results[0] for result in results)
    assert _balance(ledger, desk) == (REGISTRATION_BONUS - DOLLAR, 2 * DOLLAR)


def test_a_capture_beside_a_release_is_one_or_the_other(ledger: Ledger, desk: Desk) -> None:
    holds = [desk.open(ledger, 10_000) for _ in range(60)]
    jobs: list[Job] = []
    for hold in holds:
        jobs.append(partial(Desk.capture, desk, hold=hold, micros=10_000, is_final=True))
        jobs.append(partial(Desk.release, desk, hold=hold))
    Random(7).shuffle(jobs)
    assert _codes(ledger.race(jobs, threads=12)) == {"done": 60, "hold_closed": 60}
    states = Counter(desk.hold(ledger, hold)["status"] for hold in holds)
    assert set(states) == {"captured", "released"}
    assert _balance(ledger, desk) == (REGISTRATION_BONUS - states["captured"] * 10_000, 0)


def test_a_capture_beside_the_cron_is_one_or_the_other(ledger: Ledger, desk: Desk) -> None:
    # The clock passes the expiry in the middle of the race.
    holds = [desk.open(ledger, 10_000, seconds=60) for _ in range(60)]
    jobs: list[Job] = []
    for number, hold in enumerate(holds):
        jobs.append(partial(Desk.capture, desk, hold=hold, micros=10_000, is_final=True))
        jobs += [partial(_expire, limit=3)] * 2
        if number == len(holds) // 2:
            jobs.append(lambda own: own.advance(61))
    results = ledger.race(jobs, threads=12)
    assert set(_codes(results)) <= {"done", "hold_closed"}
    _expire(ledger)
    states = Counter(desk.hold(ledger, hold)["status"] for hold in holds)
    assert set(states) <= {"captured", "expired"}
    assert _balance(ledger, desk) == (REGISTRATION_BONUS - states["captured"] * 10_000, 0)


def test_whatever_happens_at_once_the_wallet_covers_its_holds(ledger: Ledger, desk: Desk) -> None:
    customers = [Desk(desk.operator, ledger.register()) for _ in range(3)]
    random = Random(11)

    def live(own: Ledger) -> None:
        """Open a hold, and do to it what comes to mind until it is closed."""
        mine = random.choice(customers)
        hold = mine.open(own, random.randint(1, 2 * DOLLAR), seconds=random.choice([1, 60]))
        while True:
            act = random.choice(list(_ACTS))
            _ACTS[act](mine, own, hold)
            if act in ("capture", "release"):
                return

    jobs: list[Job] = []
    for number in range(150):
        jobs.append(live)
        jobs.append(partial(_expire, limit=2))
        if number % 30 == 0:
            jobs.append(lambda own: own.advance(2))
    codes = _codes(ledger.race(jobs, threads=12))
    assert set(codes) <= {"done", "hold_closed", "insufficient_credits", "capture_exceeds_hold"}
    ledger.advance(601)
    while _expire(ledger)["more"]:
        pass
    assert [_balance(ledger, each)[1] for each in customers] == [0, 0, 0]
