"""Corrections of usage: what was charged is always what the events come to now."""

from collections.abc import Callable
from decimal import ROUND_FLOOR, Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.money.ledger import DOLLAR, REGISTRATION_BONUS, Customer, Ledger, RefusedError, Row
from tests.money.meter import Meter, event
from tests.money.test_limits import cap

MICRO = Decimal("0.000001")


@pytest.fixture
def meter(ledger: Ledger) -> Meter:
    return Meter(ledger)


@pytest.fixture
def customer(ledger: Ledger, meter: Meter) -> Customer:
    """A customer to whom an image costs a dollar."""
    customer = ledger.register()
    meter.rate({"images": "1"}, organization_id=customer.id)
    return customer


def correction(of: Row, quantities: dict[str, Any] | None, **said: Any) -> Row:  # noqa: ANN401  any JSON
    """Write a correction as the function usage does; without quantities it voids the event."""
    return {
        "organization_id": of["organization_id"],
        "source": "desk",
        "event_id": f"about {of['event_id']}",
        "corrects_source": of["source"],
        "corrects_event_id": of["event_id"],
        "quantities": quantities,
    } | said


def _correct(meter: Meter, *corrections: Row) -> Row:
    return meter.send(corrections=corrections)


def _race(ledger: Ledger, jobs: list[Callable[[Ledger], Row]]) -> list[Row]:
    results = ledger.race(jobs, threads=len(jobs))
    answers = [each for each in results if not isinstance(each, RefusedError)]
    assert len(answers) == len(jobs)
    return answers


def _reasons(answer: Row) -> dict[int, tuple[str, str | None]]:
    return {each["index"]: (each["status"], each["reason"]) for each in answer["outcomes"]}


def _charged(ledger: Ledger, customer: Customer) -> Decimal:
    """Give what was charged less what was given back, and what is left of a µ$."""
    (usd,) = ledger.fetch_one(
        "select coalesce(sum(case reason when 'usage' then t.amount_micros"
        " else -t.amount_micros end), 0) * 0.000001 + w.usage_remainder_usd"
        " from billing.wallets as w left join billing.transfers as t"
        " on t.organization_id = w.organization_id and t.reason in ('usage', 'usage_refund')"
        " where w.organization_id = %s group by w.organization_id",
        customer.id,
    )
    return Decimal(usd)


def _rows(ledger: Ledger, customer: Customer) -> list[tuple[Any, ...]]:
    return ledger.fetch(
        "select quantities, price_usd, counted from billing.usage_events"
        " where organization_id = %s order by id",
        customer.id,
    )


def test_an_amendment_moves_the_difference(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    first = event(customer, quantities={"images": 3})
    meter.send(first)
    assert ledger.wallet(customer)["settled_micros"] == 2 * DOLLAR
    assert _correct(meter, correction(first, {"images": 1}))["accepted"] == 1
    assert ledger.wallet(customer)["settled_micros"] == 4 * DOLLAR
    again = correction(first, {"images": 2}, event_id="again")
    _correct(meter, again)
    assert ledger.wallet(customer)["settled_micros"] == 3 * DOLLAR
    assert _rows(ledger, customer) == [
        ({"images": 3}, 3, 1),
        ({"images": -2}, -2, 0),
        ({"images": 1}, 1, 0),
    ]


def test_a_void_gives_all_back_into_the_grants_that_paid(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    ledger.credit(customer, 10 * DOLLAR)
    before = ledger.fetch(
        "select id, remaining_micros from billing.grants where organization_id = %s order by id",
        customer.id,
    )
    first = event(customer, quantities={"images": 7})
    meter.send(first)
    assert _correct(meter, correction(first, None))["accepted"] == 1
    assert before == ledger.fetch(
        "select id, remaining_micros from billing.grants where organization_id = %s order by id",
        customer.id,
    )
    assert _rows(ledger, customer) == [({"images": 7}, 7, 1), ({"images": -7}, -7, -1)]
    voided = _correct(meter, correction(first, {"images": 1}, event_id="more"))
    assert _reasons(voided) == {0: ("rejected", "event_voided")}


def test_a_correction_is_made_once(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    first = event(customer, quantities={"images": 3})
    meter.send(first)
    once = correction(first, {"images": 1})
    answer = _correct(meter, once, once, once | {"quantities": {"images": 2}}, once)
    assert answer["accepted"] == 1
    assert _reasons(answer) == {
        1: ("duplicate", None),
        2: ("rejected", "event_conflict"),
        3: ("duplicate", None),
    }
    assert _reasons(
        _correct(
            meter, correction(first, None, **{name: first[name] for name in ("source", "event_id")})
        )
    ) == {0: ("rejected", "event_conflict")}


def test_a_correction_reads_the_rows_of_its_event_alone(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    meter.rate(
        {"images": "0.001"}, organization_id=customer.id, effective_at="2026-01-03T00:00:00Z"
    )
    cap(meter, customer, 100 * DOLLAR)
    first, *_ = sent = [event(customer) for _ in range(1000)]
    meter.send(*sent)
    with ledger.functions.transaction():
        _correct(meter, correction(first, {"images": 3}), correction(first, None, event_id="void"))
        (read,) = ledger.functions.execute(
            "select sum(seq_tup_read + idx_tup_fetch) from pg_stat_xact_user_tables"
            " where relname like 'usage_events_%'"
        )
    assert read[0] < 50


def test_an_event_and_its_correction_in_one_batch(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    first = event(customer, quantities={"images": 3})
    answer = meter.send(first, corrections=[correction(first, {"images": 1})])
    assert (answer["accepted"], answer["outcomes"]) == (2, [])
    assert _charged(ledger, customer) == 1


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"corrects_event_id": "nobody's"}, "event_not_found"),
        ({"corrects_source": "desk", "corrects_event_id": "known"}, "event_not_found"),
        ({"organization_id": "01936f00-0000-7000-8000-000000000000"}, "organization_not_found"),
        ({"feature": "chat"}, "correction_mismatch"),
        ({"provider_id": "acme", "model": "m"}, "correction_mismatch"),
        ({"occurred_at": "2026-01-03T00:00:00Z"}, "correction_mismatch"),
        ({"passport_id": "01936f00-0000-7000-8000-000000000000"}, "correction_mismatch"),
        ({"quantities": {"images": 6}}, "insufficient_credits"),
        ({"quantities": {"images": 10**20}}, "insufficient_credits"),
        ({"quantities": {"unheard_of": 1}}, "rate_unknown"),
        ({"feature": "images", "quantities": {"images": 5}}, None),
    ],
)
def test_what_cannot_be_corrected(
    meter: Meter, customer: Customer, ledger: Ledger, said: dict[str, Any], reason: str | None
) -> None:
    first = event(customer)
    meter.send(first)
    _correct(meter, correction(first, {"images": 1}, event_id="known"))
    answer = _correct(meter, correction(first, {"images": 2}) | said)
    assert _reasons(answer) == ({0: ("rejected", reason)} if reason else {})
    assert _charged(ledger, customer) == (1 if reason else 5)


def test_what_waits_for_a_person_is_not_corrected(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    first = event(customer, quantities={"unheard_of": 1})
    meter.send(first)
    answer = _correct(meter, correction(first, {"images": 1}))
    assert _reasons(answer) == {0: ("rejected", "event_in_review")}


def test_of_a_closed_organization_nothing_is_corrected(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    first = event(customer)
    meter.send(first)
    ledger.run(
        "update billing.organizations set closed_at = billing.now() where id = %s", customer.id
    )
    answer = _correct(meter, correction(first, None))
    assert _reasons(answer) == {0: ("rejected", "organization_closed")}


def test_money_that_comes_back_repays_a_debt_first(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    ledger.run(
        "insert into billing.usage_policies (organization_id, allow_debt_micros)"
        " values (%s, 3000000)",
        customer.id,
    )
    first, second = (
        event(customer, quantities={"images": 4}),
        event(customer, quantities={"images": 4}),
    )
    meter.send(first)
    meter.send(second)
    assert ledger.wallet(customer)["debt_micros"] == 3 * DOLLAR
    _correct(meter, correction(first, None))
    wallet = ledger.wallet(customer)
    assert (wallet["debt_micros"], wallet["settled_micros"]) == (0, DOLLAR)
    # A debt that another grant repaid comes back as money.
    _correct(meter, correction(second, None))
    assert ledger.wallet(customer)["settled_micros"] == REGISTRATION_BONUS


def test_money_for_a_debt_that_was_repaid_comes_back(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    ledger.run(
        "insert into billing.usage_policies (organization_id, allow_debt_micros)"
        " values (%s, 9000000)",
        customer.id,
    )
    first = event(customer, quantities={"images": 8})
    meter.send(first)
    ledger.credit(customer, 10 * DOLLAR)
    assert ledger.wallet(customer)["settled_micros"] == 7 * DOLLAR
    _correct(meter, correction(first, None))
    assert ledger.wallet(customer)["settled_micros"] == 15 * DOLLAR


def test_what_comes_back_expires_as_it_would_have(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    first = event(customer, quantities={"images": 5})
    meter.send(first)
    for table, column in (("grants", "expires_at"), ("wallets", "next_expiry_at")):
        ledger.owner.execute(
            f"update billing.{table} set {column} = billing.now() + interval '1 minute'"
            " where organization_id = %s".encode(),
            [customer.id],
        )
    ledger.advance(61)
    _correct(meter, correction(first, None))
    (expired,) = ledger.fetch_one("select count(*) from billing.grants where remaining_micros > 0")
    assert expired == 1
    ledger.call("expire_grants", limit=10)
    assert ledger.wallet(customer)["settled_micros"] == 0


def test_what_tiers_and_limits_count_is_corrected(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    ledger.run(
        "insert into billing.spend_caps (organization_id, period, cap_micros, is_operators, set_by)"
        " values (%s, 'month', 1000000, false, %s)",
        customer.id,
        f"user:{customer.user_id}",
    )
    tiers = [{"up_to": "10", "unit_price": "0.1"}, {"unit_price": "0.05"}]
    meter.rate(
        {"photos": {"kind": "graduated", "tiers": tiers}, "requests": "0.01"},
        organization_id=customer.id,
        may_be_below_cost=True,
        feature="photos",
    )
    first, second = (event(customer, feature="photos", quantities={"photos": 8}) for _ in range(2))
    refused = meter.send(first, event(customer), event(customer, quantities={"images": 2}))
    assert _reasons(refused) == dict.fromkeys((1, 2), ("rejected", "spend_cap_reached"))
    ledger.run("update billing.spend_caps set cap_micros = 1400000")
    meter.send(second)
    assert _charged(ledger, customer) == Decimal("1.32")
    _correct(meter, correction(first, {"photos": 2}))
    assert _charged(ledger, customer) == Decimal("1.02")
    _correct(meter, correction(second, None))
    assert _charged(ledger, customer) == Decimal("0.21")
    assert meter.send(event(customer))["accepted"] == 1
    # What was consumed is consumed.
    assert _correct(meter, correction(first, {"photos": 20}, event_id="more"))["accepted"] == 1
    assert _charged(ledger, customer) == Decimal("2.51")


PRICE = Decimal("0.0000000000007")
_STEP = st.tuples(
    st.sampled_from(["event", "amend", "amend", "void"]),
    st.integers(0, 5),
    st.integers(0, 9_000_000_000),
)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=st.lists(st.lists(_STEP, min_size=1, max_size=6), min_size=1, max_size=6))
def test_what_was_charged_is_what_events_come_to(
    ledger: Ledger, batches: list[list[tuple[str, int, int]]]
) -> None:
    meter, customer = Meter(ledger), ledger.register()
    meter.rate({"units": str(PRICE)}, organization_id=customer.id)
    now: dict[int, int | None] = {}
    sent: dict[int, Row] = {}
    number = 0
    for batch in batches:
        events: list[Row] = []
        corrections: list[tuple[Row, int, int | None]] = []
        for kind, which, units in batch:
            number += 1
            if kind == "event" or which not in sent:
                key = len(sent)
                sent[key] = event(customer, quantities={"units": units})
                now[key] = units
                events.append(sent[key])
            else:
                quantities = None if kind == "void" else {"units": units}
                named = correction(sent[which], quantities, event_id=f"{number}")
                corrections.append((named, which, units if quantities else None))
        answer = meter.send(*events, corrections=[each for each, _, _ in corrections])
        expected = {}
        for index, (_, which, units_now) in enumerate(corrections, start=len(events)):
            if now[which] is None:
                expected[index] = ("rejected", "event_voided")
            else:
                now[which] = units_now
        assert _reasons(answer) == expected
        due = sum(((units or 0) * PRICE for units in now.values()), Decimal(0))
        assert _charged(ledger, customer) == due
        settled = ledger.wallet(customer)["settled_micros"]
        assert settled == REGISTRATION_BONUS - int(due.quantize(MICRO, ROUND_FLOOR) * DOLLAR)
    assert ledger.differences(customer.id) == []


def test_corrections_of_one_event_at_once(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    for _ in range(5):
        first = event(customer, quantities={"images": 2})
        meter.send(first)
        jobs: list[Callable[[Ledger], Row]] = [
            partial(
                lambda own, each: meter.send(corrections=[each], ledger=own),
                each=correction(first, None, event_id=f"{first['event_id']} {n}"),
            )
            for n in range(6)
        ]
        answers = _race(ledger, jobs)
        assert sorted(each["accepted"] for each in answers) == [0] * 5 + [1]
    assert ledger.wallet(customer)["settled_micros"] == REGISTRATION_BONUS


# Reviews.


def _review(meter: Meter, customer: Customer, **said: Any) -> str:  # noqa: ANN401  any JSON
    first = event(customer, quantities={"minutes": 2}, **said)
    meter.send(first)
    (review_id,) = meter.ledger.fetch_one(
        "select id from billing.usage_events where event_id = %s", first["event_id"]
    )
    return str(review_id)


def _charge(meter: Meter, customer: Customer, review_id: str, micros: int | None = None) -> Row:
    return meter.ledger.call_one(
        "charge_usage_review",
        caller=meter.operator.caller,
        organization_id=customer.id,
        id=review_id,
        price_micros=micros,
    )


def _dismiss(meter: Meter, customer: Customer, review_id: str) -> Row:
    return meter.ledger.call_one(
        "dismiss_usage_review",
        caller=meter.operator.caller,
        organization_id=customer.id,
        id=review_id,
    )


def test_a_review_is_charged_once_there_is_a_rate(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    review_id = _review(meter, customer)
    with pytest.raises(RefusedError, match="usage_not_ratable") as refused:
        _charge(meter, customer, review_id)
    assert refused.value.detail == {"reason": "rate_unknown"}
    meter.rate({"minutes": "0.5"}, organization_id=customer.id, effective_at="2026-01-03T00:00:00Z")
    answer = _charge(meter, customer, review_id)
    assert (answer["price_usd"], answer["priced_by"]) == ("1.000000", None)
    assert _charge(meter, customer, review_id) == answer
    assert _charged(ledger, customer) == 1
    with pytest.raises(RefusedError, match="review_closed"):
        _charge(meter, customer, review_id, 3)
    with pytest.raises(RefusedError, match="review_closed"):
        _dismiss(meter, customer, review_id)


def test_a_review_is_charged_at_a_price_that_is_named(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    review_id = _review(meter, customer)
    with pytest.raises(RefusedError, match="insufficient_credits") as refused:
        _charge(meter, customer, review_id, REGISTRATION_BONUS + 1)
    assert refused.value.detail == {
        "required_micros": REGISTRATION_BONUS + 1,
        "available_micros": REGISTRATION_BONUS,
    }
    answer = _charge(meter, customer, review_id, 2 * DOLLAR)
    assert answer["priced_by"].startswith("passport:")
    assert _charge(meter, customer, review_id, 2 * DOLLAR) == answer
    with pytest.raises(RefusedError, match="review_closed"):
        _charge(meter, customer, review_id)
    assert ledger.wallet(customer)["settled_micros"] == 3 * DOLLAR
    (action,) = ledger.fetch_one(
        "select action from billing.audit_log where subject_id = %s", review_id
    )
    assert action == "charge_usage_review"
    (name,) = ledger.fetch_one("select event_id from billing.usage_events")
    first = event(customer, event_id=name)
    amended = _correct(meter, correction(first, {"images": 1}))
    assert _reasons(amended) == {0: ("rejected", "price_was_named")}
    assert _correct(meter, correction(first, None))["accepted"] == 1
    assert ledger.wallet(customer)["settled_micros"] == REGISTRATION_BONUS


def test_a_review_that_is_dismissed_is_never_charged(
    meter: Meter, customer: Customer, ledger: Ledger
) -> None:
    review_id = _review(meter, customer, provider_id="nobody", model="m")
    answer = _dismiss(meter, customer, review_id)
    assert (answer["price_usd"], answer["cost_usd"]) == ("0.000000", None)
    assert _dismiss(meter, customer, review_id) == answer
    for micros in (None, 1):
        with pytest.raises(RefusedError, match="review_closed"):
            _charge(meter, customer, review_id, micros)
    reviews = ledger.call("list_usage_reviews", caller=meter.operator.caller, limit=10, cursor=None)
    assert reviews == []
    assert _charged(ledger, customer) == 0


def test_a_review_is_charged_once_by_many(meter: Meter, customer: Customer, ledger: Ledger) -> None:
    review_id = _review(meter, customer)
    jobs: list[Callable[[Ledger], Row]] = [
        lambda own: _charge(Meter(own, meter.operator), customer, review_id, DOLLAR)
    ] * 6
    _race(ledger, jobs)
    assert ledger.wallet(customer)["settled_micros"] == 4 * DOLLAR
