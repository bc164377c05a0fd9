"""Authorizations: whatever happens at once, each ends once, and nobody spends what they lack."""

from collections import Counter
from collections.abc import Callable
from decimal import ROUND_CEILING, Decimal
from functools import partial
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.money.ledger import DOLLAR, REGISTRATION_BONUS, Customer, Ledger, RefusedError, Row
from tests.money.meter import Meter, event

_keys = count()


@pytest.fixture
def meter(ledger: Ledger) -> Meter:
    return Meter(ledger)


@pytest.fixture
def customer(ledger: Ledger, meter: Meter) -> Customer:
    customer = ledger.register()
    meter.rate({"images": "0.1"}, organization_id=customer.id)
    return customer


def _authorize(meter: Meter, customer: Customer, images: float, own: Ledger | None = None) -> Row:
    usage: dict[str, Any] = {
        **{"organization_id": customer.id, "feature": "draw"},
        "quantities": {"images": images},
    }
    answer: Row = (own or meter.ledger).call_one(
        "authorize_usage",
        caller=meter.operator.caller,
        usage=usage,
        expires_in_seconds=600,
        idempotency_key=f"authorize-{next(_keys)}",
    )["usage_authorization"]
    return answer


def _capture(meter: Meter, asked: Row, images: float, own: Ledger | None = None) -> Row:
    answer: Row = (own or meter.ledger).call_one(
        "capture_usage",
        caller=meter.operator.caller,
        organization_id=asked["organization_id"],
        authorization_id=asked["id"],
        usage={"quantities": {"images": images}},
        idempotency_key=f"capture-{next(_keys)}",
    )["usage_authorization"]
    return answer


def _capture_reason(meter: Meter, asked: Row, images: float, **said: Any) -> str:  # noqa: ANN401  any JSON
    """Have a capture be refused; give why."""
    with pytest.raises(RefusedError, match="usage_refused") as refused:
        meter.ledger.call_one(
            "capture_usage",
            caller=meter.operator.caller,
            organization_id=asked["organization_id"],
            authorization_id=asked["id"],
            usage={"quantities": {"images": images}} | said,
            idempotency_key=f"capture-{next(_keys)}",
        )
    return str(refused.value.detail["reason"])


def _release(meter: Meter, asked: Row, own: Ledger | None = None) -> Row:
    answer: Row = (own or meter.ledger).call_one(
        "release_usage",
        caller=meter.operator.caller,
        organization_id=asked["organization_id"],
        authorization_id=asked["id"],
        idempotency_key=f"release-{next(_keys)}",
    )["usage_authorization"]
    return answer


def _race(meter: Meter, jobs: list[Callable[[Ledger], object]]) -> Counter[str]:
    results = meter.ledger.race(jobs, threads=len(jobs))
    return Counter(r.code if isinstance(r, RefusedError) else "done" for r in results)


def _used(ledger: Ledger, customer: Customer) -> int:
    (number,) = ledger.fetch_one(
        "select count(*) from billing.usage_events where organization_id = %s", customer.id
    )
    return int(number)


def test_a_call_is_captured_once(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    for turn in range(1, 4):
        asked = _authorize(meter, customer, 5)
        ended = _race(meter, [partial(_capture_by, meter, asked)] * 6)
        assert ended == {"done": 1, "hold_closed": 5}
        assert _used(ledger, customer) == turn
    assert ledger.wallet(customer)["settled_micros"] == REGISTRATION_BONUS - 900_000


def _capture_by(meter: Meter, asked: Row, own: Ledger) -> Row:
    return _capture(meter, asked, 3, own)


def test_capture_release_and_expiry_at_once_end_it_once(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    for turn in range(6):
        asked = _authorize(meter, customer, 5)
        used = _used(ledger, customer)
        if turn % 2:
            ledger.run(
                "update billing.holds set expires_at = billing.now() + interval '2 ms',"
                " due_at = billing.now() + interval '2 ms' where id = %s",
                asked["id"],
            )
        jobs: list[Callable[[Ledger], object]] = [
            partial(_capture_by, meter, asked),
            partial(lambda own, asked: _release(meter, asked, own), asked=asked),
            lambda own: own.call_one("expire_holds", limit=10),
        ]
        ended = _race(meter, [*jobs, *jobs])
        assert ended["done"] - 2 <= 1
        ledger.advance(601)
        ledger.call_one("expire_holds", limit=10)
        (status,) = ledger.fetch_one("select status from api.holds where id = %s", asked["id"])
        assert _used(ledger, customer) - used == (1 if status == "captured" else 0)
        assert ledger.wallet(customer)["held_micros"] == 0
        assert ledger.differences(customer.id) == []


def test_calls_at_once_hold_no_more_than_there_is(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    def spend(own: Ledger) -> None:
        asked = _authorize(meter, customer, 10, own)
        _capture(meter, asked, 10, own)

    ended = _race(meter, [spend] * 10)
    assert ended == {"done": 5, "insufficient_credits": 5}
    assert ledger.wallet(customer)["settled_micros"] == 0
    assert ledger.wallet(customer)["debt_micros"] == 0


@pytest.mark.parametrize("images", [10**12, 10**15, 10**24])
def test_what_no_ledger_can_hold_is_not_captured(
    meter: Meter, customer: Customer, ledger: Ledger, images: int
) -> None:
    meter.rate({"images": "1000.000001"}, organization_id=customer.id, feature="draw")
    asked = _authorize(meter, customer, 0)
    assert _capture_reason(meter, asked, images) == "debt_too_large"
    # Nothing was given back or recorded: what was really used can be said.
    assert Decimal(_capture(meter, asked, 1)["price_usd"]) == Decimal("1000.000001")
    owed = 1_000_000_001 - REGISTRATION_BONUS
    assert ledger.wallet(customer)["debt_micros"] == owed
    assert ledger.differences(customer.id) == []


def test_the_largest_debt_is_owed_and_no_more(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    meter.rate({"images": "1"}, organization_id=customer.id, feature="draw")
    first, second = (_authorize(meter, customer, 0) for _ in range(2))
    assert _capture_reason(meter, first, 10**9 + 6) == "debt_too_large"
    _capture(meter, first, 10**9 + 5)
    assert ledger.wallet(customer)["debt_micros"] == 10**15
    assert _capture_reason(meter, second, 1) == "debt_too_large"
    assert ledger.differences(customer.id) == []


def test_a_capture_is_of_a_time_that_an_event_may_be_of(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    ledger.pin_clock()
    meter.rate({"images": "0.2"}, organization_id=customer.id, effective_at="2026-12-20T00:00:00Z")
    asked = _authorize(meter, customer, 5)
    late, soon = "2026-11-26T23:59:59Z", "2027-01-01T00:05:01Z"
    assert _capture_reason(meter, asked, 5, occurred_at=late) == "too_late"
    assert _capture_reason(meter, asked, 5, occurred_at=soon) == "in_the_future"
    answer = ledger.call_one(
        "capture_usage",
        caller=meter.operator.caller,
        organization_id=customer.id,
        authorization_id=asked["id"],
        usage={"occurred_at": "2026-11-27T00:00:00Z"},
        idempotency_key="capture",
    )
    # At the price of its own time.
    assert Decimal(answer["usage_authorization"]["price_usd"]) == Decimal("0.5")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["authorize", "capture", "release", "use"]),
        st.integers(0, 9),
        st.decimals("0", "30", places=1),
    ),
    max_size=14,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_whoever_keeps_to_what_was_held_never_owes(
    ledger: Ledger, steps: list[tuple[str, int, Decimal]]
) -> None:
    meter, customer = Meter(ledger), ledger.register()
    unit = Decimal("0.1000003")
    meter.rate({"images": str(unit)}, organization_id=customer.id)
    held: list[tuple[Row, int, Decimal]] = []
    spent = Decimal(0)
    for act, place, images in steps:
        free = REGISTRATION_BONUS - int(spent * DOLLAR) - sum(micros for _, micros, _ in held)
        if act == "authorize":
            micros = int((images * unit * DOLLAR).to_integral_value(ROUND_CEILING))
            if micros > free:
                with pytest.raises(RefusedError, match="insufficient_credits"):
                    _authorize(meter, customer, float(images))
            else:
                asked = _authorize(meter, customer, float(images))
                assert asked["held_micros"] == micros
                held.append((asked, micros, images))
        elif act == "use":
            accepted = meter.send(event(customer, quantities={"images": float(images)}))["accepted"]
            spent += images * unit * accepted
        elif held:
            asked, _, most = held.pop(place % len(held))
            if act == "release":
                _release(meter, asked)
            else:
                really = min(images, most)
                assert Decimal(_capture(meter, asked, float(really))["price_usd"]) == really * unit
                spent += really * unit
        wallet = ledger.wallet(customer)
        assert wallet["debt_micros"] == 0
        assert wallet["settled_micros"] == REGISTRATION_BONUS - int(spent * DOLLAR)
        assert wallet["held_micros"] == sum(micros for _, micros, _ in held)
    assert ledger.differences(customer.id) == []
