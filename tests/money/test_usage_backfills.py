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
    waits = _past(customer) | {"quantities": {"unheard_of": 1}}
    later["occurred_at"] = ENDS_AT.isoformat()
    meter.send(same, more, gone, later, other, waits)
    assert _settled(ledger, customer) == before - 5 * DOLLAR
    backfill = _open(meter, customer, replaces=True)
    _stage(
        meter,
        backfill,
        same,
        more | {"quantities": {"images": 2}},
        _past(customer),
        other | {"feature": "chat", "quantities": {"images": 3}},
        waits | {"feature": "chat"},
    )
    closed = _do(meter, "close", backfill)
    assert _counts(closed) == {
        **{"staged": 5, "recorded": 1, "amended": 2, "unchanged": 1},
        **{"voided": 1, "rejected": 1},
    }
    # 1 of the same, 2 of more, a new one, 3 of the other, and the later one, which is not touched.
    assert _settled(ledger, customer) == before - 8 * DOLLAR
    rejections = ledger.call("list_backfill_rejections", caller=meter.operator.caller, id=backfill)
    assert [each["reason"] for each in rejections] == ["event_in_review"]


def _days(ledger: Ledger, customer: Customer) -> set[tuple[Any, ...]]:
    """What reports say was used: day, feature, model, passport, number, quantities."""
    rows = ledger.fetch(
        "select day::text, feature, model, passport_id::text, events,"
        " (select jsonb_object_agg(q.key, q.value)::text from jsonb_each(quantities) as q"
        " where q.value <> '0') from api.usage_days"
        " where organization_id = %s and (events <> 0 or price_usd <> 0)",
        customer.id,
    )
    return set(rows)


def _passport_id(ledger: Ledger, customer: Customer) -> str:
    (found,) = ledger.fetch_one(
        "select id::text from billing.passports where organization_id = %s", customer.id
    )
    return str(found)


_ALL_WORDS: list[Row] = [
    {"feature": "chat"},
    {"occurred_at": (datetime.now(UTC) - timedelta(days=25)).isoformat()},
    {"provider_id": "acme", "model": "m"},
    {"passport_id": ...},
    {"quantities": {"images": 1, "requests": 3}},
    {"feature": "chat", "quantities": {"images": 2}},
]


@pytest.mark.parametrize("words", _ALL_WORDS)
def test_a_backfill_that_says_other_words_amends(
    meter: Meter, customer: Customer, ledger: Ledger, words: Row
) -> None:
    meter.cost("m", {"images": "0.5"})
    if "passport_id" in words:
        words = {"passport_id": _passport_id(ledger, customer)}
    ledger.call_one(
        "set_spend_cap",
        caller=meter.operator.caller,
        organization_id=customer.id,
        passport_id=None,
        period="ever",
        cap_micros=DOLLAR * DOLLAR,
    )
    told = _past(customer)
    meter.send(told)
    first = _days(ledger, customer)
    backfill = _open(meter, customer)
    _stage(meter, backfill, told | words)
    assert _counts(_do(meter, "close", backfill)) == {"staged": 1, "amended": 1}
    # As it is for somebody who was told so at once.
    truth = ledger.register()
    meter.rate({"images": "1"}, organization_id=truth.id)
    theirs = {"passport_id": _passport_id(ledger, truth)} if "passport_id" in words else {}
    meter.send(told | words | theirs | {"organization_id": truth.id})

    def plain(rows: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
        return {(*row[:3], row[3] is None, *row[4:]) for row in rows}

    second = _days(ledger, customer)
    assert plain(second) == plain(_days(ledger, truth)) != plain(first)
    assert _settled(ledger, customer) == _settled(ledger, truth)
    # Said once more, nothing changes.
    again = _open(meter, customer)
    _stage(meter, again, told | words)
    assert _counts(_do(meter, "close", again)) == {"staged": 1, "unchanged": 1}
    assert ledger.differences(customer.id) == []
    _do(meter, "revert", backfill)
    assert _days(ledger, customer) == first
    assert _settled(ledger, customer) == REGISTRATION_BONUS - DOLLAR
    assert ledger.differences(customer.id) == []


def test_corrections_go_by_the_words_of_the_last_statement(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    told = _past(customer)
    meter.send(told)
    moved = told | {"occurred_at": (STARTS_AT + timedelta(days=1)).isoformat(), "feature": "chat"}
    backfill = _open(meter, customer)
    _stage(meter, backfill, moved)
    assert _do(meter, "close", backfill)["amended"] == 1
    named = {"corrects_source": told["source"], "corrects_event_id": told["event_id"]}
    more = {"organization_id": customer.id, "source": "desk", "quantities": {"images": 2}} | named
    old = more | {"event_id": "old", "feature": told["feature"]}
    new = more | {"event_id": "new", "feature": "chat"}
    answer = meter.send(corrections=[old, new])
    assert [(each["index"], each["reason"]) for each in answer["outcomes"]] == [
        (0, "correction_mismatch")
    ]
    ((day, *rest),) = _days(ledger, customer)
    assert (day, rest) == (moved["occurred_at"][:10], ["chat", None, None, 1, '{"images": 2}'])
    # It was corrected again since: that stands.
    _do(meter, "revert", backfill)
    assert _days(ledger, customer) == {(day, *rest)}
    # Whoever replaces a time replaces what it is said to be of.
    for since, voided in (((THEN, ENDS_AT.isoformat()), 0), ((STARTS_AT.isoformat(), THEN), 1)):
        opened = meter.ledger.call_one(
            "open_backfill",
            caller=meter.operator.caller,
            organization_id=customer.id,
            starts_at=since[0],
            ends_at=since[1],
            replaces_existing=True,
            idempotency_key=new_key(),
        )
        assert _do(meter, "close", opened["backfill"]["id"])["voided"] == voided
    assert _settled(ledger, customer) == REGISTRATION_BONUS
    assert ledger.differences(customer.id) == []


def test_other_words_that_cannot_be_are_rejected(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    sent = [_past(customer) for _ in range(2)]
    meter.send(*sent)
    foreign: Row = {"passport_id": "01936f00-0000-7000-8000-000000000000"}
    backfill = _open(meter, customer)
    strange = {"provider_id": "acme", "model": "unheard of"}
    _stage(meter, backfill, sent[0] | foreign, sent[1] | strange, _past(customer, **foreign))
    assert _counts(_do(meter, "close", backfill)) == {"staged": 3, "rejected": 3}
    rejections = ledger.call("list_backfill_rejections", caller=meter.operator.caller, id=backfill)
    assert sorted(each["reason"] for each in rejections) == [
        *["passport_not_found", "passport_not_found", "unknown_model"]
    ]
    assert ledger.differences(customer.id) == []


def test_what_no_ledger_can_hold_is_not_backfilled(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    told = _past(customer)
    meter.send(told)
    backfill = _open(meter, customer)
    _stage(meter, backfill, _past(customer), _past(customer, 10**20))
    assert _counts(_do(meter, "close", backfill)) == {"staged": 2, "recorded": 1, "rejected": 1}
    rejections = ledger.call("list_backfill_rejections", caller=meter.operator.caller, id=backfill)
    assert [each["reason"] for each in rejections] == ["debt_too_large"]
    amending = _open(meter, customer)
    _stage(meter, amending, told | {"quantities": {"images": 10**20}})
    with pytest.raises(RefusedError, match="insufficient_credits"):
        _do(meter, "close", amending)
    assert ledger.differences(customer.id) == []


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
