"""Usage: whatever comes in whatever order, each event is charged once and no fraction is lost."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from functools import partial
from threading import Barrier
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.money.ledger import DOLLAR, REGISTRATION_BONUS, Customer, Ledger, RefusedError, Row
from tests.money.meter import Meter, event

MICRO = Decimal("0.000001")


@pytest.fixture
def meter(ledger: Ledger) -> Meter:
    return Meter(ledger)


@pytest.fixture
def customer(ledger: Ledger) -> Customer:
    return ledger.register()


def _charged(ledger: Ledger, customer: Customer) -> int:
    (micros,) = ledger.fetch_one(
        "select coalesce(sum(amount_micros), 0)::bigint from billing.transfers"
        " where organization_id = %s and reason = 'usage'",
        customer.id,
    )
    return int(micros)


def _remainder(ledger: Ledger, customer: Customer) -> Decimal:
    (usd,) = ledger.fetch_one(
        "select usage_remainder_usd from billing.wallets where organization_id = %s", customer.id
    )
    assert isinstance(usd, Decimal)
    return usd


def _reasons(answer: Row) -> dict[int, tuple[str, str | None]]:
    return {each["index"]: (each["status"], each["reason"]) for each in answer["outcomes"]}


def _prices(ledger: Ledger, customer: Customer) -> list[Decimal | None]:
    found = ledger.fetch(
        "select price_usd from billing.usage_events where organization_id = %s order by id",
        customer.id,
    )
    return [price for (price,) in found]


def test_a_batch_debits_a_wallet_once(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    answer = meter.use(customer, "0.01", 100)
    assert (answer["accepted"], answer["duplicates"], answer["rejected"]) == (100, 0, 0)
    transfers = ledger.fetch(
        "select sequence, debit_account::text, credit_account::text, amount_micros"
        " from billing.transfers where organization_id = %s and reason = 'usage'",
        customer.id,
    )
    assert transfers == [(2, "wallet", "revenue_usage", DOLLAR)]
    ((sequences,),) = ledger.fetch(
        "select array_agg(distinct sequence) from billing.usage_events where organization_id = %s",
        customer.id,
    )
    assert sequences == [2]


def test_events_are_in_the_order_of_their_arrival(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    meter.rate({"images": "0"}, organization_id=customer.id)
    sent = [event(customer) for _ in range(50)]
    meter.send(*sent)
    found = ledger.fetch("select event_id from billing.usage_events order by id")
    assert [name for (name,) in found] == [each["event_id"] for each in sent]


AMOUNTS = st.decimals("0", "0.00002", places=13)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=st.lists(st.lists(AMOUNTS, min_size=1, max_size=8), min_size=1, max_size=6))
def test_the_remainder_never_drifts(ledger: Ledger, batches: list[list[Decimal]]) -> None:
    meter, customer = Meter(ledger), ledger.register()
    meter.rate({"units": "0.0000000000001"}, organization_id=customer.id)
    due = Decimal(0)
    for batch in batches:
        meter.send(*(event(customer, quantities={"units": int(a.scaleb(13))}) for a in batch))
        due += sum(batch)
        whole = due.quantize(MICRO, ROUND_FLOOR)
        assert _charged(ledger, customer) == int(whole * DOLLAR)
        assert _remainder(ledger, customer) == due - whole


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    prices=st.lists(st.integers(0, 30), min_size=1, max_size=12),
    available=st.integers(0, 100),
    debt=st.sampled_from([0, 0, 7, 40]),
)
def test_short_money_pays_for_what_fits_in_order(
    ledger: Ledger, prices: list[int], available: int, debt: int
) -> None:
    meter, customer = Meter(ledger), ledger.register()
    meter.rate({"dimes": "0.1"}, organization_id=customer.id)
    if available < 50:
        ledger.capture(customer, REGISTRATION_BONUS - available * 100_000)
    else:
        available = 50
    ledger.run(
        "insert into billing.usage_policies (organization_id, allow_debt_micros) values (%s, %s)",
        customer.id,
        debt * 100_000,
    )
    answer = meter.send(*(event(customer, quantities={"dimes": price}) for price in prices))
    left, rejected = available + debt, {}
    for index, price in enumerate(prices):
        if price <= left:
            left -= price
        else:
            rejected[index] = ("rejected", "insufficient_credits")
    assert _reasons(answer) == rejected
    wallet = ledger.wallet(customer)
    spent = available + debt - left
    assert wallet["settled_micros"] == max(available - spent, 0) * 100_000
    assert wallet["debt_micros"] == max(spent - available, 0) * 100_000


def test_who_is_in_debt_uses_nothing_but_what_is_free(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    meter.rate({"images": "1", "gifts": "0"}, organization_id=customer.id)
    ledger.run(
        "insert into billing.usage_policies (organization_id, feature, allow_debt_micros)"
        " values (%s, 'training', 10000000)",
        customer.id,
    )
    meter.send(*(event(customer, feature="training") for _ in range(7)))
    assert ledger.wallet(customer)["debt_micros"] == 2 * DOLLAR
    answer = meter.send(
        event(customer),
        event(customer, quantities={"gifts": 1}),
        *(event(customer, feature="training") for _ in range(9)),
    )
    assert _reasons(answer) == {
        0: ("rejected", "debt_outstanding"),
        10: ("rejected", "debt_outstanding"),
    }
    assert ledger.wallet(customer)["debt_micros"] == 10 * DOLLAR


def test_money_that_has_expired_pays_for_nothing(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    meter.rate({"images": "1"}, organization_id=customer.id)
    ledger.run(
        "update billing.grants set expires_at = billing.now() + interval '1 minute'"
        " where organization_id = %s",
        customer.id,
    )
    ledger.run(
        "update billing.wallets set next_expiry_at = billing.now() + interval '1 minute'"
        " where organization_id = %s",
        customer.id,
    )
    ledger.advance(61)
    assert _reasons(meter.send(event(customer))) == {0: ("rejected", "insufficient_credits")}


def test_held_money_is_nobody_elses(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    meter.rate({"images": "1"}, organization_id=customer.id)
    ledger.open_hold(customer, 4 * DOLLAR)
    answer = meter.send(event(customer), event(customer))
    assert _reasons(answer) == {1: ("rejected", "insufficient_credits")}


def test_a_key_is_taken_once_ever(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    meter.rate({"images": "1"}, organization_id=customer.id)
    first = event(customer)
    assert meter.send(first)["accepted"] == 1
    changed = first | {"quantities": {"images": 2}}
    old = event(customer, occurred_at=(datetime.now(UTC) - timedelta(days=34)).isoformat())
    assert meter.send(old)["accepted"] == 1
    ledger.advance(3 * 24 * 3600)
    assert _reasons(meter.send(first, changed, old)) == {
        0: ("duplicate", None),
        1: ("rejected", "event_conflict"),
        2: ("duplicate", None),
    }
    assert _charged(ledger, customer) == 2 * DOLLAR


def test_a_key_that_a_batch_has_twice_is_taken_once(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    meter.rate({"images": "2"}, organization_id=customer.id)
    first, dear = event(customer), event(customer, quantities={"images": 9})
    answer = meter.send(first, dear, first, first | {"feature": "other"}, dear, first)
    assert _reasons(answer) == {
        1: ("rejected", "insufficient_credits"),
        2: ("duplicate", None),
        3: ("rejected", "event_conflict"),
        4: ("rejected", "insufficient_credits"),
        5: ("duplicate", None),
    }
    assert (answer["accepted"], answer["duplicates"], answer["rejected"]) == (1, 2, 3)
    assert _charged(ledger, customer) == 2 * DOLLAR


def test_what_was_rejected_may_come_again(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    meter.rate({"images": "6"}, organization_id=customer.id)
    first = event(customer)
    assert _reasons(meter.send(first)) == {0: ("rejected", "insufficient_credits")}
    ledger.credit(customer, 10 * DOLLAR)
    assert meter.send(first)["accepted"] == 1


def test_all_or_none(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    meter.rate({"images": "2"}, organization_id=customer.id)
    events = [event(customer) for _ in range(3)]
    with pytest.raises(RefusedError) as refused:
        meter.send(*events, is_whole=True)
    assert refused.value.code == "batch_rejected"
    assert refused.value.detail == {"rejected": [{"index": 2, "reason": "insufficient_credits"}]}
    assert ledger.fetch("select from billing.usage_keys") == []
    assert ledger.wallet(customer)["settled_micros"] == REGISTRATION_BONUS
    assert meter.send(*events[:2], is_whole=True)["accepted"] == 2
    # Repeated, it finds nothing to reject.
    assert meter.send(*events[:2], is_whole=True)["duplicates"] == 2


@pytest.mark.parametrize(
    ("shift", "reason"),
    [
        (timedelta(days=-34, hours=-23), None),
        (timedelta(days=-35, minutes=-1), "too_late"),
        (timedelta(minutes=4), None),
        (timedelta(minutes=6), "in_the_future"),
    ],
)
def test_an_event_is_of_about_now(
    meter: Meter, customer: Customer, shift: timedelta, reason: str | None
) -> None:
    meter.rate({"images": "1"}, organization_id=customer.id)
    occurred_at = (datetime.now(UTC) + shift).isoformat()
    answer = meter.send(event(customer, occurred_at=occurred_at))
    assert _reasons(answer) == ({0: ("rejected", reason)} if reason else {})


def test_an_event_costs_what_it_cost_then(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    now = datetime.now(UTC)
    meter.cost("m", {"input_tokens": "0.01"})
    meter.cost("m", {"input_tokens": "0.02"}, (now - timedelta(days=3)).isoformat())
    meter.rate({}, organization_id=customer.id, markup=2)
    meter.rate(
        {},
        organization_id=customer.id,
        markup=10,
        effective_at=(now - timedelta(days=1)).isoformat(),
    )
    said: dict[str, Any] = {"provider_id": "acme", "model": "M", "quantities": {"input_tokens": 1}}
    meter.send(
        *(
            event(customer, occurred_at=(now - timedelta(days=days)).isoformat(), **said)
            for days in (5, 2, 0)
        )
    )
    assert _prices(ledger, customer) == [Decimal("0.02"), Decimal("0.04"), Decimal("0.2")]
    frozen = ledger.fetch(
        "select p.effective_at < %s, r.markup::integer from billing.usage_events as e"
        " inner join billing.provider_prices as p on p.id = e.provider_price_id"
        " inner join billing.usage_rates as r on r.id = e.usage_rate_id order by e.id",
        now - timedelta(days=4),
    )
    assert frozen == [(True, 2), (False, 2), (False, 10)]


def test_the_closest_rate_counts(meter: Meter, ledger: Ledger) -> None:
    customer, other = ledger.register(), ledger.register()
    meter.cost("m", {"requests": "0.01"})
    meter.rate({}, markup=3)
    meter.rate({}, markup=4, plan_id="free", feature="chat")
    meter.rate({}, markup=5, plan_id="free", provider_id="acme", model_id="m")
    meter.rate({}, markup=6, organization_id=other.id, feature="chat")
    said: dict[str, Any] = {"provider_id": "acme", "model": "m", "quantities": {"seconds": 0}}
    for each in (customer, other):
        for feature in ("chat", "else"):
            meter.send(event(each, feature=feature, **said | {"quantities": {}}))
    assert _prices(ledger, customer) == [Decimal("0.05"), Decimal("0.05")]
    assert _prices(ledger, other) == [Decimal("0.06"), Decimal("0.05")]


def test_parts_and_tiers_cost_what_the_provider_says(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    ledger.run("insert into billing.providers values ('acme')")
    ledger.run("insert into billing.provider_models values ('acme', 'm', 0, '{}', '^m(-|$)')")
    ledger.run(
        "select billing.add_provider_price('acme', 'm', '2000-01-01', 'test', %s::jsonb)",
        '{"-1": {"input_tokens": "0.001", "cache_read_tokens": "0.0001", "requests": "0.5"},'
        ' "100": {"input_tokens": "0.002", "cache_read_tokens": "0.0002", "requests": "0.5"}}',
    )
    meter.rate({}, organization_id=customer.id, markup=1)
    said = {"provider_id": "acme", "model": "M-2026"}
    for quantities in (
        {"input_tokens": 100, "cache_read_tokens": 40},
        {"input_tokens": 101, "cache_read_tokens": 40},
        {"input_tokens": 100, "cache_read_tokens": 40, "cache_text_read_tokens": 40, "requests": 3},
    ):
        meter.send(event(customer, quantities=quantities, **said))
    assert _prices(ledger, customer) == [Decimal("0.564"), Decimal("0.630"), Decimal("1.564")]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"provider_id": "acme", "model": "nobody's"}, "unknown_model"),
        ({"provider_id": "nobody", "model": "m"}, "unknown_model"),
        ({"provider_id": "acme", "model": "m", "quantities": {"images": 1}}, "cost_unknown"),
        ({"provider_id": "acme", "model": "m", "quantities": {"input_tokens": 1}}, "below_cost"),
        ({"quantities": {"unheard_of": 1}}, "rate_unknown"),
    ],
)
def test_what_cannot_be_rated_is_recorded_and_not_charged(
    meter: Meter, customer: Customer, ledger: Ledger, said: dict[str, Any], reason: str
) -> None:
    meter.cost("m", {"input_tokens": "1"})
    meter.rate({"images": "0.1", "input_tokens": "0.5"}, organization_id=customer.id)
    first = event(customer, **said)
    answer = meter.send(first, event(customer))
    assert _reasons(answer) == {0: ("accepted", reason)}
    assert answer["accepted"] == 2
    assert _charged(ledger, customer) == 100_000
    (review,) = ledger.call(
        "list_usage_reviews", caller=meter.operator.caller, limit=10, cursor=None
    )
    assert (review["event_id"], review["review"]) == (first["event_id"], reason)
    assert _reasons(meter.send(first)) == {0: ("duplicate", None)}


def test_a_markup_on_nothing_is_no_price(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    meter.rate({}, organization_id=customer.id, markup=2)
    assert _reasons(meter.send(event(customer))) == {0: ("accepted", "rate_unknown")}
    meter.rate({"images": "0.1"})
    meter.send(event(customer))
    assert _charged(ledger, customer) == 100_000


def test_below_cost_where_a_rate_says_so(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    meter.cost("m", {"input_tokens": "1"})
    meter.rate({"input_tokens": "0.5"}, organization_id=customer.id, may_be_below_cost=True)
    meter.send(event(customer, provider_id="acme", model="m", quantities={"input_tokens": 1}))
    assert _prices(ledger, customer) == [Decimal("0.5")]


def test_whose_events_are_nobodys(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    closed = ledger.register()
    ledger.run(
        "update billing.organizations set closed_at = billing.now() where id = %s", closed.id
    )
    absent = "01936f00-0000-7000-8000-000000000000"
    meter.rate({"images": "1"})
    answer = meter.send(event(closed), event(absent), event(customer))
    assert _reasons(answer) == {
        0: ("rejected", "organization_closed"),
        1: ("rejected", "organization_not_found"),
    }
    with pytest.raises(RefusedError, match="permission_denied"):
        Meter(ledger, customer).send(event(customer))


def _race(meter: Meter, batches: list[list[Row]]) -> list[Row]:
    jobs: list[Callable[[Ledger], Row]] = [
        partial(lambda own, batch: meter.send(*batch, ledger=own), batch=batch) for batch in batches
    ]
    results = meter.ledger.race(jobs, threads=len(jobs))
    answers = [each for each in results if not isinstance(each, RefusedError)]
    assert len(answers) == len(batches)
    return answers


def test_the_same_batch_many_times_at_once_counts_once(meter: Meter, ledger: Ledger) -> None:
    customers = [ledger.register() for _ in range(10)]
    meter.rate({"images": "0.001"})
    for _ in range(4):
        batch = [event(customers[number % 10]) for number in range(200)]
        answers = _race(meter, [batch] * 6)
        assert sorted(each["accepted"] for each in answers) == [0] * 5 + [200]
        assert sum(each["duplicates"] for each in answers) == 1000
    assert {_charged(ledger, each) for each in customers} == {80_000}


def test_batches_in_opposite_orders_never_wait_for_each_other(meter: Meter, ledger: Ledger) -> None:
    customers = [ledger.register() for _ in range(40)]
    meter.rate({"images": "0.001"})
    for _ in range(5):
        batches = [
            [event(each) for each in (customers if number % 2 else reversed(customers))]
            for number in range(8)
        ]
        assert {each["accepted"] for each in _race(meter, batches)} == {40}
    assert {_charged(ledger, each) for each in customers} == {40_000}


def test_many_batches_at_once_never_overspend(meter: Meter, ledger: Ledger) -> None:
    customer = ledger.register()
    meter.rate({"images": "0.3"}, organization_id=customer.id)
    answers = _race(meter, [[event(customer) for _ in range(5)] for _ in range(12)])
    assert sum(each["accepted"] for each in answers) == 16
    assert ledger.wallet(customer)["settled_micros"] == 200_000


def test_usage_beside_sessions_keeps_the_books(meter: Meter, ledger: Ledger) -> None:
    customers = [ledger.register() for _ in range(10)]
    meter.rate({"images": "0.01"})
    for each in customers:
        ledger.start(each)
    ledger.advance(400)
    barrier = Barrier(2)

    def sweep() -> None:
        barrier.wait()
        ledger.race([lambda own: own.sweep(3)] * 8, threads=4)

    with ThreadPoolExecutor(1) as pool:
        swept = pool.submit(sweep)
        barrier.wait()
        _race(meter, [[event(each) for each in customers] for _ in range(4)])
        swept.result()
    assert {_charged(ledger, each) for each in customers} == {40_000}


@pytest.mark.parametrize("number", [1, 2, 1000])
def test_batches_of_any_size(meter: Meter, ledger: Ledger, number: int) -> None:
    customers = [ledger.register() for _ in range(min(number, 50))]
    meter.rate({"images": "0.001"})
    bad = event("01936f00-0000-7000-8000-000000000000")
    events = [event(customers[n % len(customers)]) for n in range(number - 1)]
    answer = meter.send(*events, bad)
    assert (answer["accepted"], answer["rejected"]) == (number - 1, 1)
    again = meter.send(*events, bad)
    assert (again["accepted"], again["duplicates"], again["rejected"]) == (0, number - 1, 1)


def test_more_than_any_wallet_holds_is_refused_alone(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    meter.rate({"images": "10"}, organization_id=customer.id)
    other = ledger.register()
    meter.rate({"images": "0.01"}, organization_id=other.id)
    answer = meter.send(event(customer, quantities={"images": 10**12}), event(other))
    assert answer["accepted"] == 1
    assert _reasons(answer) == {0: ("rejected", "insufficient_credits")}


def test_an_empty_batch_is_nothing(meter: Meter) -> None:
    assert meter.send() == {"accepted": 0, "duplicates": 0, "rejected": 0, "outcomes": []}
