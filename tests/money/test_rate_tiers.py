"""Tiers and packages: whatever comes in whatever batches, the sum is the price of the total."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.money.ledger import DOLLAR, REGISTRATION_BONUS, Customer, Ledger, RefusedError, Row
from tests.money.meter import Meter, event

Price = dict[str, Any]
QUIET = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def meter(ledger: Ledger) -> Meter:
    return Meter(ledger)


@pytest.fixture
def customer(ledger: Ledger) -> Customer:
    return ledger.register()


def price_of(price: Price, number: Decimal) -> Decimal:
    """Say what so many cost, as a person would reckon."""
    if price["kind"] == "package":
        packages = Decimal(number / price["size"]).to_integral_value(ROUND_CEILING)
        return packages * Decimal(price["price"])
    whole = Decimal(0)
    above = Decimal(0)
    for tier in price["tiers"]:
        up_to = Decimal("inf") if tier["up_to"] is None else Decimal(tier["up_to"])
        unit = Decimal(tier["unit_price"])
        if price["kind"] == "volume":
            if above < number <= up_to:
                return unit * number
        elif number > above:
            whole += unit * (min(number, up_to) - above)
        above = up_to
    return whole


UNITS = st.decimals("0", "0.01", places=6).map(str)


@st.composite
def _tiers(draw: st.DrawFn, kind: str) -> Price:
    ends = sorted(draw(st.sets(st.integers(1, 60), max_size=4)))
    units = draw(st.lists(UNITS, min_size=len(ends) + 1, max_size=len(ends) + 1))
    tiers = zip([*ends, None], units, strict=True)
    return {"kind": kind, "tiers": [{"up_to": end, "unit_price": unit} for end, unit in tiers]}


PRICES = st.one_of(
    _tiers("graduated"),
    _tiers("volume"),
    st.builds(
        lambda size, price: {"kind": "package", "size": size, "price": price},
        st.integers(1, 30),
        UNITS,
    ),
)
BATCHES = st.lists(
    st.lists(st.decimals("0", "30", places=2).map(float), min_size=1, max_size=6),
    min_size=1,
    max_size=4,
)


def _rate(meter: Meter, customer: Customer, prices: Price, **said: object) -> None:
    meter.rate(prices, organization_id=customer.id, may_be_below_cost=True, **said)


def _sum(ledger: Ledger, customer: Customer) -> Decimal:
    (usd,) = ledger.fetch_one(
        "select coalesce(sum(price_usd), 0) from billing.usage_events where organization_id = %s",
        customer.id,
    )
    assert isinstance(usd, Decimal)
    return usd


@QUIET
@given(price=PRICES, batches=BATCHES)
def test_the_sum_is_the_price_of_the_total(
    ledger: Ledger, price: Price, batches: list[list[float]]
) -> None:
    meter, customer = Meter(ledger), ledger.register()
    _rate(meter, customer, {"units": price, "images": "0.001"})
    total = Decimal(0)
    for batch in batches:
        sent = [event(customer, quantities={"units": n, "images": 2}) for n in batch]
        # Those that are there already take no place.
        answer = meter.send(*sent[:1])
        assert answer["accepted"] == 1
        answer = meter.send(*sent, sent[-1])
        assert (answer["accepted"], answer["rejected"]) == (len(batch) - 1, 0)
        total += sum(Decimal(str(n)) for n in batch)
        images = sum(map(len, batches[: batches.index(batch) + 1])) * Decimal("0.002")
        if batches.count(batch) == 1:
            assert _sum(ledger, customer) == price_of(price, total) + images
    images = sum(map(len, batches)) * Decimal("0.002")
    assert _sum(ledger, customer) == price_of(price, total) + images
    assert ledger.differences(customer.id) == []


def test_a_larger_volume_gives_back(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    tiers = [{"up_to": 10, "unit_price": "0.3"}, {"up_to": None, "unit_price": "0.1"}]
    _rate(meter, customer, {"images": {"kind": "volume", "tiers": tiers}})
    meter.send(event(customer, quantities={"images": 10}))
    assert ledger.wallet(customer)["settled_micros"] == 2 * DOLLAR
    meter.send(event(customer, quantities={"images": 2}))
    found = ledger.fetch("select price_usd from billing.usage_events order by id")
    assert [price for (price,) in found] == [Decimal(3), Decimal("-1.8")]
    assert ledger.wallet(customer)["settled_micros"] == 3_800_000
    assert ledger.differences(customer.id) == []


@QUIET
@given(
    price=PRICES,
    numbers=st.lists(st.integers(0, 30), min_size=1, max_size=6),
    changes=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 30)), max_size=6),
)
def test_corrections_keep_to_the_price_of_the_total(
    ledger: Ledger, price: Price, numbers: list[int], changes: list[tuple[int, int]]
) -> None:
    meter, customer = Meter(ledger), ledger.register()
    _rate(meter, customer, {"units": price, "images": "0.001"})
    sent = [event(customer, quantities={"units": n, "images": 1}) for n in numbers]
    meter.send(*sent)
    now = list(numbers)
    for place, number in changes:
        original = sent[place % len(sent)]
        changed = {"units": number, "images": 1}
        correction = event(customer, quantities=changed, feature=original["feature"]) | {
            "index": 0,
            "corrects_source": original["source"],
            "corrects_event_id": original["event_id"],
        }
        answer = ledger.call_one(
            "ingest_usage",
            caller=meter.operator.caller,
            batch={"events": [], "corrections": [correction]},
            is_whole=True,
        )
        assert answer["accepted"] == 1
        now[place % len(sent)] = number
        whole = price_of(price, Decimal(sum(now))) + len(numbers) * Decimal("0.001")
        assert _sum(ledger, customer) == whole
    assert ledger.differences(customer.id) == []


def test_each_event_costs_what_it_adds(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    tiers = [{"up_to": 3, "unit_price": "0.1"}, {"up_to": None, "unit_price": "0.01"}]
    _rate(meter, customer, {"images": {"kind": "graduated", "tiers": tiers}})
    meter.send(*(event(customer, quantities={"images": 2}) for _ in range(3)))
    found = ledger.fetch("select price_usd from billing.usage_events order by id")
    assert [price for (price,) in found] == [Decimal(p) for p in ("0.2", "0.11", "0.02")]


def test_an_event_is_a_request_of_a_package(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    _rate(
        meter, customer, {"requests": {"kind": "package", "size": 10, "price": "1"}, "images": "0"}
    )
    meter.send(*(event(customer) for _ in range(10)))
    assert _sum(ledger, customer) == 1
    meter.send(event(customer, quantities={"requests": 11}))
    assert _sum(ledger, customer) == 3


def test_each_month_rate_and_customer_begins_anew(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    package = {"kind": "package", "size": 100, "price": "0.5"}
    other = ledger.register()
    meter.rate({"images": package}, may_be_below_cost=True)
    meter.rate({"images": package}, feature="drawing", may_be_below_cost=True)
    month_ago = datetime.now(UTC) - timedelta(days=33)
    sent = [
        event(customer),
        event(customer),
        event(customer, feature="drawing"),
        event(other),
        event(customer, occurred_at=month_ago.isoformat()),
    ]
    meter.send(*sent)
    assert _sum(ledger, customer) == Decimal("1.5")
    assert _sum(ledger, other) == Decimal("0.5")
    assert ledger.fetch("select count(*), sum(quantity) from billing.rate_totals") == [(4, 5)]


def test_a_markup_comes_on_top(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    meter.cost("m", {"input_tokens": "0.001"})
    _rate(meter, customer, {"requests": {"kind": "package", "size": 5, "price": "1"}}, markup=2)
    said: Row = {"provider_id": "acme", "model": "m", "quantities": {"input_tokens": 100}}
    meter.send(event(customer, **said), event(customer, **said))
    assert _sum(ledger, customer) == Decimal("1.4")


@QUIET
@given(
    numbers=st.lists(st.integers(1, 20), min_size=1, max_size=10),
    package=st.booleans(),
    available=st.integers(1, 49),
)
def test_what_short_money_rejects_takes_no_place(
    ledger: Ledger, numbers: list[int], package: bool, available: int
) -> None:
    meter, customer = Meter(ledger), ledger.register()
    ledger.capture(customer, REGISTRATION_BONUS - available * 100_000)
    price: Price = {"kind": "package", "size": 10, "price": "1"}
    if not package:
        tiers = [{"up_to": 15, "unit_price": "0.1"}, {"up_to": None, "unit_price": "0.2"}]
        price = {"kind": "graduated", "tiers": tiers}
    _rate(meter, customer, {"units": price})
    meter.send(*(event(customer, quantities={"units": n}) for n in numbers))
    total = 0
    for number in numbers:
        if price_of(price, Decimal(total + number)) > Decimal(available) / 10:
            break
        total += number
    assert _sum(ledger, customer) == price_of(price, Decimal(total))
    assert ledger.differences(customer.id) == []


def test_all_or_none_counts_none(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    _rate(meter, customer, {"images": {"kind": "package", "size": 1, "price": "2"}})
    with pytest.raises(RefusedError, match="batch_rejected"):
        meter.send(*(event(customer) for _ in range(3)), is_whole=True)
    assert ledger.fetch("select from billing.rate_totals") == []


def test_batches_at_once_count_one_after_the_other(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    tiers = [{"up_to": 100, "unit_price": "0.01"}, {"up_to": None, "unit_price": "0.001"}]
    price: Price = {"kind": "graduated", "tiers": tiers}
    _rate(meter, customer, {"images": price})
    batches = [[event(customer, quantities={"images": 7}) for _ in range(5)] for _ in range(8)]
    jobs: list[Callable[[Ledger], Row]] = [
        partial(lambda own, batch: meter.send(*batch, ledger=own), batch=batch) for batch in batches
    ]
    assert all(each["accepted"] == 5 for each in ledger.race(jobs, threads=8))  # type: ignore[index]
    assert _sum(ledger, customer) == price_of(price, Decimal(280))
    assert ledger.wallet(customer)["settled_micros"] == REGISTRATION_BONUS - 1_180_000


@pytest.mark.parametrize(
    ("prices", "said", "code"),
    [
        ({"images": {"kind": "package", "size": 1, "price": "1"}}, {}, "below_cost_not_meant"),
        ({}, {"markup": "0.99"}, "below_cost_not_meant"),
        (
            {
                "input_tokens": {"kind": "package", "size": 1, "price": "1"},
                "cache_read_tokens": "0.1",
            },
            {"may_be_below_cost": True},
            "tiers_overlap",
        ),
        (
            {
                "input_tokens": "0.1",
                "cache_read_tokens": {"kind": "package", "size": 1, "price": "1"},
            },
            {"may_be_below_cost": True},
            "tiers_overlap",
        ),
    ],
)
def test_what_is_no_rate(meter: Meter, prices: Price, said: Row, code: str) -> None:
    with pytest.raises(Exception, match=code):
        meter.rate(prices, **said)


def test_an_ended_rate_makes_room_for_the_next_closest(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    now = datetime.now(UTC)
    meter.rate({"images": "0.3"})
    meter.rate({"images": "0.1"}, organization_id=customer.id)
    ended, again = now - timedelta(hours=3), now - timedelta(hours=1)
    for at, prices in ((ended, {}), (again, {"images": "0.2"})):
        meter.rate(
            prices, organization_id=customer.id, is_end=not prices, effective_at=at.isoformat()
        )
    for hours in (4, 2, 0):
        at = now - timedelta(hours=hours)
        meter.send(event(customer, occurred_at=at.isoformat()))
    found = ledger.fetch("select price_usd from billing.usage_events order by id")
    assert [price for (price,) in found] == [Decimal(p) for p in ("0.1", "0.3", "0.2")]
    assert ledger.wallet(customer)["settled_micros"] == 4.4 * DOLLAR
