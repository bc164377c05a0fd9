"""Backfills of usage: all of one counts or nothing of it does, and it can be taken back."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.money.ledger import (
    DOLLAR,
    REGISTRATION_BONUS,
    Customer,
    Ledger,
    RefusedError,
    Row,
    new_key,
)
from tests.money.meter import Meter, event

STARTS_AT = datetime.now(UTC) - timedelta(days=60)
ENDS_AT = datetime.now(UTC) - timedelta(days=1)
THEN = (datetime.now(UTC) - timedelta(days=20)).isoformat()


@pytest.fixture
def meter(ledger: Ledger) -> Meter:
    return Meter(ledger)


@pytest.fixture
def customer(ledger: Ledger, meter: Meter) -> Customer:
    """A customer to whom an image costs a dollar."""
    customer = ledger.register()
    meter.rate({"images": "1"}, organization_id=customer.id)
    return customer


def _open(meter: Meter, customer: Customer, *, replaces: bool = False) -> str:
    answer = meter.ledger.call_one(
        "open_backfill",
        caller=meter.operator.caller,
        organization_id=customer.id,
        starts_at=STARTS_AT,
        ends_at=ENDS_AT,
        replaces_existing=replaces,
        idempotency_key=new_key(),
    )
    return str(answer["backfill"]["id"])


def _stage(meter: Meter, backfill: str, *events: Row) -> Row:
    numbered = [
        {"index": index} | {key: each[key] for key in each if key != "organization_id"}
        for index, each in enumerate(events)
    ]
    return meter.ledger.call_one(
        "stage_backfill_events",
        caller=meter.operator.caller,
        id=backfill,
        batch={"events": numbered},
    )


def _do(meter: Meter, verb: str, backfill: str, ledger: Ledger | None = None) -> Row:
    call = {"close": "close_backfill", "revert": "revert_backfill"}[verb]
    return (ledger or meter.ledger).call_one(call, caller=meter.operator.caller, id=backfill)


def _past(customer: Customer, images: int = 1, **said: Any) -> Row:  # noqa: ANN401  any JSON
    return event(customer, occurred_at=THEN, quantities={"images": images}, **said)


def _settled(ledger: Ledger, customer: Customer) -> int:
    return int(ledger.wallet(customer)["settled_micros"])


def _counts(answer: Row) -> dict[str, int]:
    names = ("staged", "recorded", "amended", "unchanged", "voided", "rejected")
    return {name: answer[name] for name in names if answer[name]}


def test_what_is_staged_counts_when_it_is_closed(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    backfill = _open(meter, customer)
    old = event(customer, occurred_at=(STARTS_AT + timedelta(hours=1)).isoformat())
    answer = _stage(meter, backfill, old, _past(customer, 2))
    assert (answer["accepted"], answer["outcomes"]) == (2, [])
    assert _settled(ledger, customer) == REGISTRATION_BONUS
    assert ledger.fetch("select from billing.usage_events") == []
    closed = _do(meter, "close", backfill)
    assert (closed["status"], _counts(closed)) == ("closed", {"staged": 2, "recorded": 2})
    assert _settled(ledger, customer) == 2 * DOLLAR
    assert _do(meter, "close", backfill) == closed
    assert _settled(ledger, customer) == 2 * DOLLAR
    with pytest.raises(RefusedError, match="backfill_closed"):
        _stage(meter, backfill, _past(customer))


def test_what_cannot_be_staged(meter: Meter, customer: Customer) -> None:
    backfill = _open(meter, customer)
    first = _past(customer)
    early, late = (
        event(customer, occurred_at=at.isoformat())
        for at in (STARTS_AT - timedelta(seconds=1), ENDS_AT)
    )
    answer = _stage(meter, backfill, first, first, first | {"feature": "chat"}, early, late)
    assert (answer["accepted"], answer["duplicates"], answer["rejected"]) == (1, 1, 3)
    assert [(each["index"], each["reason"]) for each in answer["outcomes"]] == [
        (1, None),
        (2, "event_conflict"),
        (3, "outside_backfill"),
        (4, "outside_backfill"),
    ]
    assert _stage(meter, backfill, first)["duplicates"] == 1


def test_known_events_are_amended_and_others_replaced(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    ledger.credit(customer, 10 * DOLLAR)
    before = _settled(ledger, customer)
    same, more, gone, later, other = (_past(customer) for _ in range(5))
    later["occurred_at"] = ENDS_AT.isoformat()
    meter.send(same, more, gone, later, other)
    assert _settled(ledger, customer) == before - 5 * DOLLAR
    backfill = _open(meter, customer, replaces=True)
    _stage(
        meter,
        backfill,
        same,
        more | {"quantities": {"images": 2}},
        _past(customer),
        other | {"feature": "chat", "quantities": {"images": 3}},
    )
    closed = _do(meter, "close", backfill)
    assert _counts(closed) == {
        **{"staged": 4, "recorded": 1, "amended": 1, "unchanged": 1},
        **{"voided": 1, "rejected": 1},
    }
    # 1 of the same, 2 of more, a new one, and those that are not touched: later and other.
    assert _settled(ledger, customer) == before - 6 * DOLLAR
    rejections = ledger.call("list_backfill_rejections", caller=meter.operator.caller, id=backfill)
    assert [each["reason"] for each in rejections] == ["correction_mismatch"]


def test_short_of_money_nothing_is_recorded(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    backfill = _open(meter, customer)
    _stage(meter, backfill, _past(customer, 4), _past(customer, 4))
    with pytest.raises(RefusedError, match="insufficient_credits") as refused:
        _do(meter, "close", backfill)
    assert refused.value.detail == {
        "required_micros": 8 * DOLLAR,
        "available_micros": 5 * DOLLAR,
    }
    assert ledger.fetch("select from billing.usage_keys") == []
    ledger.run(
        "insert into billing.usage_policies (organization_id, allow_debt_micros)"
        " values (%s, 3000000)",
        customer.id,
    )
    assert _do(meter, "close", backfill)["recorded"] == 2
    assert ledger.wallet(customer)["debt_micros"] == 3 * DOLLAR


def test_an_open_one_is_dropped(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    backfill = _open(meter, customer)
    _stage(meter, backfill, _past(customer))
    reverted = _do(meter, "revert", backfill)
    assert reverted["status"] == "reverted"
    assert _do(meter, "revert", backfill) == reverted
    assert ledger.fetch("select from billing.backfill_events") == []
    with pytest.raises(RefusedError, match="backfill_closed"):
        _do(meter, "close", backfill)


def test_a_closed_one_is_taken_back(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    known, gone, again = (_past(customer) for _ in range(3))
    meter.send(known, gone, again)
    before = ledger.fetch("select id, remaining_micros from billing.grants order by id")
    backfill = _open(meter, customer, replaces=True)
    fresh, strange = _past(customer), _past(customer)
    strange["quantities"] = {"unheard_of": 1}
    changed = [
        known | {"quantities": {"images": 2}},
        again | {"quantities": {"images": 2}},
    ]
    _stage(meter, backfill, fresh, strange, *changed)
    assert _counts(_do(meter, "close", backfill)) == {
        **{"staged": 4, "recorded": 2, "amended": 2, "voided": 1},
    }
    assert _settled(ledger, customer) == 0
    final = {
        "organization_id": customer.id,
        **{"source": "desk", "event_id": "final", "quantities": {"images": 1}},
        **{"corrects_source": again["source"], "corrects_event_id": again["event_id"]},
    }
    meter.send(corrections=[final])
    _do(meter, "revert", backfill)
    assert before == ledger.fetch("select id, remaining_micros from billing.grants order by id")
    sums = ledger.fetch(
        "select s.quantities, s.counted from billing.usage_events as e"
        " cross join lateral billing.sum_up_usage(e.organization_id, e.id) as s"
        " where e.corrects_id is null order by e.id"
    )
    assert sorted(map(str, sums)) == sorted(map(str, [({"images": 1}, 1)] * 3 + [({}, 0)] * 2))
    reviews = ledger.call("list_usage_reviews", caller=meter.operator.caller, limit=10, cursor=None)
    assert reviews == []


def test_taking_back_what_was_voided_must_be_paid(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    meter.send(_past(customer, 3))
    backfill = _open(meter, customer, replaces=True)
    _do(meter, "close", backfill)
    meter.send(event(customer, quantities={"images": 4}))
    with pytest.raises(RefusedError, match="insufficient_credits") as refused:
        _do(meter, "revert", backfill)
    assert refused.value.detail == {
        "required_micros": 3 * DOLLAR,
        "available_micros": DOLLAR,
    }
    ledger.credit(customer, 10 * DOLLAR)
    before = _settled(ledger, customer)
    _do(meter, "revert", backfill)
    assert _settled(ledger, customer) == before - 3 * DOLLAR


def test_closing_beside_ingest_and_corrections(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    ledger.credit(customer, 100 * DOLLAR)
    before = _settled(ledger, customer)
    shared = [_past(customer) for _ in range(20)]
    backfill = _open(meter, customer, replaces=True)
    changed = [each | {"quantities": {"images": 2}} for each in shared]
    _stage(meter, backfill, *changed)
    jobs: list[Callable[[Ledger], Row]] = [
        lambda own: _do(meter, "close", backfill, own),
        lambda own: meter.send(*shared, ledger=own),
        lambda own: meter.send(*reversed(shared), ledger=own),
        lambda own: _do(meter, "close", backfill, own),
    ]
    results = ledger.race(jobs, threads=4)
    assert [each for each in results if isinstance(each, RefusedError)] == []
    (images,) = ledger.fetch_one(
        "select sum((quantities ->> 'images')::integer) from billing.usage_events"
    )
    assert images == 40
    assert _settled(ledger, customer) == before - 40 * DOLLAR


@pytest.mark.parametrize("number", [1500])
def test_a_large_one_is_closed_in_chunks(
    meter: Meter, customer: Customer, ledger: Ledger, number: int
) -> None:
    meter.rate(
        {"images": "0.001"},
        organization_id=customer.id,
        effective_at="2026-01-03T00:00:00Z",
    )
    backfill = _open(meter, customer)
    events = [_past(customer) for _ in range(number)]
    for first in range(0, number, 1000):
        _stage(meter, backfill, *events[first : first + 1000])
    closed = _do(meter, "close", backfill)
    assert _counts(closed) == {"staged": number, "recorded": number}
    assert _settled(ledger, customer) == 5 * DOLLAR - number * 1000
    _do(meter, "revert", backfill)
    assert _settled(ledger, customer) == 5 * DOLLAR


def test_there_is_an_end_to_a_backfill(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    backfill = _open(meter, customer)
    ledger.run("update billing.backfills set staged = 1999")
    with pytest.raises(RefusedError, match="backfill_too_large"):
        _stage(meter, backfill, _past(customer), _past(customer))
    assert _stage(meter, backfill, _past(customer))["accepted"] == 1


def test_backfills_are_for_operators(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    backfill = _open(meter, customer)
    for verb in ("close", "revert"):
        with pytest.raises(RefusedError, match="permission_denied"):
            _do(Meter(ledger, customer), verb, backfill)
    with pytest.raises(RefusedError, match="backfill_not_found"):
        _do(meter, "close", customer.id)
