"""Limits of features and spend caps: what is recorded never exceeds a hard one."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.money.ledger import DOLLAR, Customer, Ledger, RefusedError, Row
from tests.money.meter import Meter, event

DAY = 24 * 3600


@pytest.fixture
def meter(ledger: Ledger) -> Meter:
    """An operator to whose customers an image costs a cent, with noon of the first of a month."""
    meter = Meter(ledger)
    ledger.pin_clock()
    ledger.move_pinned_clock(12 * 3600 * 10**6)
    ledger.run("call billing.create_usage_months('2026-11-01', 18)")
    meter.rate({"images": "0.01", "seconds": "0", "tokens": "0.0000001"})
    return meter


@pytest.fixture
def customer(meter: Meter) -> Customer:
    customer = meter.ledger.register()
    meter.ledger.run(
        "select billing.credit_wallet(%s, %s, 'promotional', 'promotion', 'promotion', null)",
        customer.id,
        1000 * DOLLAR,
    )
    return customer


@pytest.fixture(autouse=True)
def _counters_are_their_events(ledger: Ledger) -> Iterator[None]:
    yield
    assert ledger.differences() == []


def limit(
    quantity: int, period: str = "day", enforcement: str = "hard", meter: str = "images"
) -> Row:
    return {
        **{"is_granted": True, "meter": meter, "period": period},
        **{"limit_quantity": quantity, "enforcement": enforcement},
    }


def list_feature(meter: Meter, plans: Row, kind: str = "metered", feature: str = "images") -> Row:
    return meter.ledger.call_one(
        "set_feature",
        caller=meter.operator.caller,
        feature_id=feature,
        kind=kind,
        description="Images",
        plans=plans,
    )


def own_terms(meter: Meter, customer: Customer, terms: Row | None, feature: str = "images") -> Row:
    return meter.ledger.call_one(
        "set_entitlement",
        caller=meter.operator.caller,
        organization_id=customer.id,
        feature_id=feature,
        terms=terms,
    )


def cap(
    meter: Meter,
    customer: Customer,
    micros: int,
    period: str = "day",
    passport_id: str | None = None,
    *,
    by: Customer | None = None,
) -> Row:
    return meter.ledger.call_one(
        "set_spend_cap",
        caller=(by or meter.operator).caller,
        organization_id=None if by else customer.id,
        passport_id=passport_id,
        period=period,
        cap_micros=micros,
    )


def check(
    meter: Meter, customer: Customer, quantity: int | None = None, feature: str = "images"
) -> Row:
    return meter.ledger.call_one(
        "check_entitlement",
        caller=customer.caller,
        organization_id=None,
        passport_id=None,
        feature_id=feature,
        quantity=quantity,
    )


def images(customer: Customer, number: int, **said: Any) -> Row:  # noqa: ANN401  any JSON
    return event(customer, quantities={"images": number}, **said)


def reasons(answer: Row) -> dict[int, str | None]:
    return {each["index"]: each["reason"] for each in answer["outcomes"]}


def passport_id(ledger: Ledger, customer: Customer) -> str:
    (found,) = ledger.fetch_one(
        "select id from billing.passports where organization_id = %s", customer.id
    )
    return str(found)


def told(ledger: Ledger, customer: Customer) -> list[tuple[str, str]]:
    return ledger.fetch(
        "select kind, reason from api.notifications where organization_id = %s"
        " and kind like 'limit%%' order by id",
        customer.id,
    )


def test_what_is_not_listed_is_open(meter: Meter, customer: Customer) -> None:
    assert meter.send(images(customer, 1))["accepted"] == 1
    answer = check(meter, customer)
    assert (answer["is_allowed"], answer["reason"], answer["kind"]) == (True, None, None)


@pytest.mark.parametrize("kind", ["boolean", "static", "metered"])
def test_what_is_listed_is_for_those_who_are_granted_it(
    meter: Meter, customer: Customer, kind: str
) -> None:
    other = meter.ledger.register()
    list_feature(meter, {"pro": {"is_granted": True}}, kind)
    own_terms(meter, customer, {"is_granted": True})
    answer = meter.send(images(customer, 1), images(other, 1), event(other, feature="else"))
    assert reasons(answer) == {1: "feature_not_granted"}
    assert check(meter, customer)["is_allowed"]
    assert check(meter, other)["reason"] == "feature_not_granted"
    own_terms(meter, customer, None)
    assert reasons(meter.send(images(customer, 1))) == {0: "feature_not_granted"}


def test_own_terms_may_also_take_away(meter: Meter, customer: Customer) -> None:
    list_feature(meter, {"free": {"is_granted": True}}, "boolean")
    own_terms(meter, customer, {"is_granted": False})
    assert reasons(meter.send(images(customer, 1))) == {0: "feature_not_granted"}


def test_a_static_feature_has_a_value(meter: Meter, customer: Customer) -> None:
    list_feature(meter, {"free": {"is_granted": True, "value": 8192}}, "static")
    assert check(meter, customer)["value"] == 8192
    own_terms(meter, customer, {"is_granted": True, "value": "large"})
    assert check(meter, customer)["value"] == "large"


@pytest.mark.parametrize(
    ("kind", "terms"),
    [
        ("boolean", {"is_granted": True, "value": 1}),
        ("metered", {"is_granted": True, "value": 1}),
        ("boolean", limit(1)),
        ("static", limit(1)),
    ],
)
def test_terms_are_those_of_the_kind(
    meter: Meter, customer: Customer, kind: str, terms: Row
) -> None:
    with pytest.raises(RefusedError, match="terms_not_of_kind"):
        list_feature(meter, {"free": terms}, kind)
    list_feature(meter, {}, kind)
    with pytest.raises(RefusedError, match="terms_not_of_kind"):
        own_terms(meter, customer, terms)


def test_in_order_of_arrival_whatever_still_fits(meter: Meter, customer: Customer) -> None:
    list_feature(meter, {"free": limit(10)})
    sent = [images(customer, number) for number in (4, 7, 5, 2, 1, 0)]
    assert reasons(meter.send(*sent)) == dict.fromkeys((1, 3), "limit_reached")
    assert reasons(meter.send(images(customer, 1))) == {0: "limit_reached"}
    answer = check(meter, customer)
    assert (answer["used"], answer["remaining"], answer["reason"]) == (10, 0, "limit_reached")
    # What the limit is not for.
    assert meter.send(event(customer, quantities={"seconds": 9}))["accepted"] == 1


def test_a_quantity_may_be_asked_for(meter: Meter, customer: Customer) -> None:
    list_feature(meter, {"free": limit(10)})
    meter.send(images(customer, 7))
    assert [check(meter, customer, n)["is_allowed"] for n in (0, 3, 4)] == [True, True, False]
    own_terms(meter, customer, limit(7))
    assert [check(meter, customer, n)["is_allowed"] for n in (None, 0, 1)] == [False, True, False]


@pytest.mark.parametrize("enforcement", ["soft", "none"])
def test_what_is_not_hard_is_recorded(meter: Meter, customer: Customer, enforcement: str) -> None:
    list_feature(meter, {"free": limit(10, enforcement=enforcement)})
    assert meter.send(images(customer, 7), images(customer, 7))["accepted"] == 2
    answer = check(meter, customer, 5)
    assert (answer["is_allowed"], answer["used"], answer["remaining"]) == (True, 14, 0)
    expected = [("limit_reached", "images")] if enforcement == "soft" else []
    assert told(meter.ledger, customer) == expected


def test_each_is_told_once_a_period(meter: Meter, customer: Customer) -> None:
    list_feature(meter, {"free": limit(10, enforcement="soft")})
    for _ in range(12):
        meter.send(images(customer, 1))
    once = [("limit_near", "images"), ("limit_reached", "images")]
    assert told(meter.ledger, customer) == once
    meter.ledger.move_pinned_clock(DAY * 10**6)
    meter.send(images(customer, 8))
    assert told(meter.ledger, customer) == [*once, ("limit_near", "images")]


@pytest.mark.parametrize(
    ("period", "inside", "days"),
    [("day", 11 / 24, 1), ("week", 2, 3), ("month", 30, 31), ("ever", 300, None)],
)
def test_a_period_ends(
    meter: Meter, customer: Customer, period: str, inside: float, days: float | None
) -> None:
    # It begins on a Friday.
    list_feature(meter, {"free": limit(1, period)})
    assert meter.send(images(customer, 1))["accepted"] == 1
    meter.ledger.move_pinned_clock(int(inside * DAY * 10**6))
    assert reasons(meter.send(images(customer, 1))) == {0: "limit_reached"}
    answer = check(meter, customer)
    assert not answer["is_allowed"]
    if days is None:
        assert answer["resets_at"] is None
        return
    resets_at = datetime.fromisoformat(answer["resets_at"])
    assert resets_at == datetime(2027, 1, 1, tzinfo=UTC) + timedelta(days=days)
    meter.ledger.move_pinned_clock(int((days - 0.5 - inside) * DAY * 10**6))
    assert check(meter, customer)["used"] == 0
    assert meter.send(images(customer, 1))["accepted"] == 1


def test_a_limit_counts_what_was_before_it(meter: Meter, customer: Customer) -> None:
    meter.send(images(customer, 7))
    list_feature(meter, {"free": limit(10, "month")})
    assert check(meter, customer)["used"] == 7
    assert reasons(meter.send(images(customer, 4), images(customer, 3))) == {0: "limit_reached"}
    own_terms(meter, customer, limit(12, "month"))
    assert check(meter, customer)["remaining"] == 2
    meter.send(images(customer, 2))
    # The plan's was not counted meanwhile, and begins anew with what the events say.
    own_terms(meter, customer, None)
    assert check(meter, customer)["used"] == 12


def test_another_plan_has_other_limits_and_none_goes_on_where_it_stopped(
    meter: Meter, customer: Customer
) -> None:
    list_feature(meter, {"free": limit(10), "pro": {"is_granted": True}})

    def move(plan: str) -> None:
        meter.ledger.run(
            "update billing.organizations set plan_id = %s where id = %s", plan, customer.id
        )

    meter.send(images(customer, 9))
    move("pro")
    assert meter.send(images(customer, 9))["accepted"] == 1
    move("free")
    assert check(meter, customer)["used"] == 18
    assert reasons(meter.send(images(customer, 1))) == {0: "limit_reached"}


def test_a_limit_said_again_goes_on(meter: Meter, customer: Customer) -> None:
    first = list_feature(meter, {"free": limit(10)})
    meter.send(images(customer, 9))
    assert list_feature(meter, {"free": limit(10)}) == first
    assert meter.ledger.fetch_one("select quantity from billing.usage_counters") == (9,)


def test_requests_are_counted_by_themselves(meter: Meter, customer: Customer) -> None:
    list_feature(meter, {"free": limit(2, meter="requests")})
    assert reasons(meter.send(*(images(customer, 1) for _ in range(3)))) == {2: "limit_reached"}


def test_a_cap_is_for_all_that_usage_costs(meter: Meter, customer: Customer) -> None:
    cap(meter, customer, 100_000)
    sent = [images(customer, number, feature=f"f{number}") for number in (4, 7, 5, 2, 1)]
    assert reasons(meter.send(*sent)) == dict.fromkeys((1, 3), "spend_cap_reached")
    assert check(meter, customer)["reason"] == "spend_cap_reached"
    # What costs nothing is within any cap.
    assert meter.send(event(customer, quantities={"seconds": 9}))["accepted"] == 1
    assert told(meter.ledger, customer) == [("limit_reached", "organization")]


def test_a_passports_cap_is_its_own(meter: Meter, customer: Customer) -> None:
    mine = passport_id(meter.ledger, customer)
    cap(meter, customer, 50_000, passport_id=mine)
    sent = [
        images(customer, 5, passport_id=mine),
        images(customer, 1, passport_id=mine),
        images(customer, 9),
    ]
    assert reasons(meter.send(*sent)) == {1: "spend_cap_reached"}
    assert check(meter, customer)["reason"] == "spend_cap_reached"
    asked = meter.ledger.call_one(
        "check_entitlement",
        caller=meter.operator.caller,
        organization_id=customer.id,
        passport_id=None,
        feature_id="images",
        quantity=None,
    )
    assert asked["is_allowed"]
    with pytest.raises(RefusedError, match="passport_not_found"):
        cap(meter, meter.ledger.register(), 1, passport_id=mine)


def test_no_event_evades_a_passports_cap_under_a_name_that_is_not_its_organizations(
    meter: Meter, customer: Customer
) -> None:
    ledger = meter.ledger
    mine, foreign = (passport_id(ledger, each) for each in (customer, ledger.register()))
    cap(meter, customer, 50_000, passport_id=mine)
    sent = [
        images(customer, 1, passport_id=foreign),
        images(customer, 1, passport_id=str(uuid4())),
        images(customer, 1, passport_id=mine),
        images(customer, 1),
    ]
    answer = meter.send(*sent)
    assert reasons(answer) == dict.fromkeys((0, 1), "passport_not_found")
    assert answer["accepted"] == 2
    # One that is revoked is the organization's still: its calls may be told of later.
    ledger.run("update billing.passports set revoked_at = now() where id = %s", mine)
    assert reasons(meter.send(images(customer, 9, passport_id=mine))) == {0: "spend_cap_reached"}
    assert meter.send(images(customer, 1, passport_id=mine))["accepted"] == 1
    assert ledger.differences(customer.id) == []


def test_of_two_caps_the_lower_counts_and_a_customer_changes_only_their_own(
    meter: Meter, customer: Customer
) -> None:
    given_cap = cap(meter, customer, 50_000)
    own = cap(meter, customer, 90_000, by=customer)
    assert reasons(meter.send(images(customer, 6))) == {0: "spend_cap_reached"}
    own = cap(meter, customer, 20_000, by=customer)
    assert reasons(meter.send(images(customer, 3))) == {0: "spend_cap_reached"}

    def end(cap_id: str) -> None:
        meter.ledger.call(
            "delete_spend_cap", caller=customer.caller, organization_id=None, cap_id=cap_id
        )

    with pytest.raises(RefusedError, match="spend_cap_not_found"):
        end(given_cap["id"])
    end(own["id"])
    listed = meter.ledger.call("list_spend_caps", caller=customer.caller, organization_id=None)
    assert [each["cap"]["id"] for each in listed] == [given_cap["id"]]
    assert meter.send(images(customer, 5))["accepted"] == 1


def test_what_waits_for_a_review_counts_as_nothing(meter: Meter, customer: Customer) -> None:
    list_feature(meter, {"free": limit(10)})
    cap(meter, customer, 100_000)
    unknown = images(customer, 9, provider_id="nobody", model="m")
    assert reasons(meter.send(unknown)) == {0: "unknown_model"}
    assert check(meter, customer)["used"] == 0
    ((event_id,),) = meter.ledger.fetch("select id from billing.usage_events")
    # As it is charged by whoever reviewed it.
    meter.ledger.run(
        "update billing.usage_events set review = null, cost_usd = 0, price_usd = 0,"
        " usage_rate_id = (select min(id::text)::uuid from billing.usage_rates) where id = %s",
        event_id,
    )
    meter.ledger.run(
        "select billing.count_usage(array[%s]::uuid[], array[%s]::uuid[])", customer.id, event_id
    )
    assert check(meter, customer)["used"] == 9


def test_money_and_limits_together(meter: Meter, ledger: Ledger) -> None:
    customer = ledger.register()
    list_feature(meter, {"free": limit(400)})
    # $5: 500 images. One that is refused for one reason takes nothing of the other.
    sent = [
        images(customer, 300),
        images(customer, 101),
        images(customer, 201, feature="else"),
        images(customer, 100),
        images(customer, 100, feature="else"),
    ]
    assert reasons(meter.send(*sent)) == {1: "limit_reached", 2: "insufficient_credits"}
    assert check(meter, customer, feature="else")["reason"] == "insufficient_credits"


def test_all_or_none_counts_nothing(meter: Meter, customer: Customer) -> None:
    list_feature(meter, {"free": limit(10)})
    with pytest.raises(RefusedError, match="batch_rejected"):
        meter.send(images(customer, 9), images(customer, 9), is_whole=True)
    assert check(meter, customer)["used"] == 0


def test_what_comes_twice_counts_once(meter: Meter, customer: Customer) -> None:
    list_feature(meter, {"free": limit(10)})
    sent = images(customer, 6)
    meter.send(sent, sent)
    meter.send(sent)
    assert check(meter, customer)["used"] == 6


def test_many_batches_at_once_never_exceed_a_limit(meter: Meter, ledger: Ledger) -> None:
    customers = [ledger.register() for _ in range(4)]
    list_feature(meter, {"free": limit(50)})
    cap(meter, customers[0], 300_000)
    jobs: list[Callable[[Ledger], Row]] = [
        partial(
            lambda own, batch: meter.send(*batch, ledger=own),
            batch=[images(each, number % 3 + 1) for each in customers for _ in range(5)],
        )
        for number in range(12)
    ]
    for answer in ledger.race(jobs, threads=6):
        assert not isinstance(answer, RefusedError), answer
    used = dict(
        ledger.fetch(
            "select organization_id::text, sum((quantities ->> 'images')::integer)"
            " from billing.usage_events group by 1"
        )
    )
    # An event takes three at most: what is left may be too little for those that come last.
    for each in customers:
        most = 30 if each is customers[0] else 50
        assert most - 3 < used[each.id] <= most


class Model:
    """What a customer may use, written down as simply as it can be."""

    def __init__(self, day: int, month: int, cap_cents: int) -> None:
        self.limits = {"day": day, "month": month, "cap": cap_cents}
        self.used = dict.fromkeys(self.limits, 0)

    def take(self, feature: str, number: int) -> str | None:
        takes = {feature: number, "cap": number}
        for each, quantity in takes.items():
            if quantity > 0 and self.used[each] + quantity > self.limits[each]:
                return "spend_cap_reached" if each == "cap" else "limit_reached"
        for each, quantity in takes.items():
            self.used[each] += quantity
        return None


_BATCHES = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 13, 40]),
        st.lists(st.tuples(st.sampled_from(["day", "month"]), st.integers(0, 9)), max_size=8),
    ),
    max_size=8,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(0, 20), st.integers(0, 40), st.integers(0, 60), _BATCHES)
def test_batches_and_days_as_in_the_model(
    meter: Meter,
    day: int,
    month: int,
    cap_cents: int,
    batches: list[tuple[int, list[tuple[str, int]]]],
) -> None:
    customer = meter.ledger.register()
    list_feature(meter, {"free": limit(day)}, feature="day")
    list_feature(meter, {"free": limit(month, "month")}, feature="month")
    cap(meter, customer, cap_cents * 10_000, "month")
    model = Model(day, month, cap_cents)
    at = _now(meter)
    for days, batch in batches:
        meter.ledger.move_pinned_clock(days * DAY * 10**6)
        before, at = at, at + timedelta(days=days)
        if at.date() != before.date():
            model.used["day"] = 0
        if (at.year, at.month) != (before.year, before.month):
            model.used |= {"month": 0, "cap": 0}
        answer = meter.send(*(images(customer, n, feature=feature) for feature, n in batch))
        expected = {i: model.take(*each) for i, each in enumerate(batch)}
        assert reasons(answer) == {i: reason for i, reason in expected.items() if reason}
        for feature in ("day", "month"):
            assert check(meter, customer, feature=feature)["used"] == model.used[feature]
    (spent,) = meter.ledger.call("list_spend_caps", caller=customer.caller, organization_id=None)
    assert spent["spent_micros"] == model.used["cap"] * 10_000
    # So that the next example's months are there.
    meter.ledger.move_pinned_clock(-int((at - START).total_seconds() * 10**6))


START = datetime(2027, 1, 1, 12, tzinfo=UTC)


def _now(meter: Meter) -> datetime:
    (at,) = meter.ledger.fetch_one("select billing.now()")
    assert isinstance(at, datetime)
    return at


def test_amounts_are_exact(meter: Meter, customer: Customer) -> None:
    cap(meter, customer, 1)
    answer = meter.send(*(event(customer, quantities={"tokens": 3}) for _ in range(4)))
    assert reasons(answer) == {3: "spend_cap_reached"}
    ((counted,),) = meter.ledger.fetch("select quantity from billing.usage_counters")
    assert counted == Decimal("0.0000009")
