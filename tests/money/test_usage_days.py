"""Usage by day: however events come and whenever they are folded, a report is the sum of them."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import product
from threading import Event, Thread
from typing import Any, LiteralString

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from tests.money.ledger import Customer, Ledger, Row, open_ledger
from tests.money.meter import Meter, event

_PERIOD = {"from": date(2026, 10, 1), "to": date(2027, 1, 1)}
_GROUPS = ("organization", "day", "feature", "model", "passport")
_PASSPORTS = (None, "00000000-0000-7000-8000-000000000001", "00000000-0000-7000-8000-000000000002")

# All there is, summed up by Postgres in the plainest way.
_RAW: LiteralString = """
select
    case when 'organization' = any(%(by)s) then organization_id::text end as organization_id,
    case when 'day' = any(%(by)s) then (occurred_at at time zone 'UTC')::date::text end as day,
    case when 'feature' = any(%(by)s) then feature end as feature,
    case when 'model' = any(%(by)s) then provider_id end as provider_id,
    case when 'model' = any(%(by)s) then model end as model,
    case when 'passport' = any(%(by)s) then passport_id::text end as passport_id,
    sum(counted) as events,
    sum(price_usd) as price, sum(cost_usd) as cost,
    sum((quantities -> 'images')::numeric) as images,
    sum((quantities -> 'seconds')::numeric) as seconds
from billing.usage_events
where review is null and (%(one)s::uuid is null or organization_id = %(one)s)
group by 1, 2, 3, 4, 5, 6
"""


@pytest.fixture
def meter(ledger: Ledger) -> Meter:
    meter = Meter(ledger)
    meter.cost("m", {"images": "0.001", "seconds": "0.0000001"})
    meter.rate({"images": "0.0100001", "seconds": "0.03"})
    return meter


def _fold(ledger: Ledger, back: timedelta = timedelta(0), limit: int = 1000) -> None:
    """Fold what came up to so long ago, without the ten seconds of caution."""
    ledger.run(
        "update billing.usage_folds set complete_until = greatest(complete_until,"
        " date_trunc('milliseconds', billing.now() - %s) + interval '1 millisecond')",
        back,
    )
    ledger.run("select pg_sleep(0.002)")  # Nothing comes any more in that millisecond.
    while ledger.call_one("fold_usage", limit=limit)["more"]:
        pass


def _report(ledger: Ledger, meter: Meter, one: Customer | None, by: list[str]) -> set[Any]:
    rows = ledger.call_one(
        "analyze_usage",
        caller=meter.operator.caller,
        organization_id=one and one.id,
        is_all=one is None,
        **_PERIOD,
        group_by=by,
    )["groups"]
    return {
        (
            *(row[name] for name in ("organization_id", "day", "feature", "provider_id", "model")),
            *(row["passport_id"], row["events"]),
            *(Decimal(row[name]) for name in ("price_usd", "cost_usd", "margin_usd")),
            *(Decimal(str(row["quantities"].get(name, 0))) for name in ("images", "seconds")),
        )
        for row in rows
    }


def _raw(ledger: Ledger, one: Customer | None, by: list[str]) -> set[Any]:
    with ledger.owner.cursor() as cursor:
        rows = cursor.execute(_RAW, {"by": by, "one": one and one.id}).fetchall()
    return {
        (*row[:7], price, cost, price - cost, images or 0, seconds or 0)
        for row in rows
        for price, cost, images, seconds in [row[7:]]
    }


def _agree(ledger: Ledger, meter: Meter, customers: list[Customer]) -> None:
    groups = [
        [name for name, is_in in zip(_GROUPS, which, strict=True) if is_in]
        for which in product([False, True], repeat=len(_GROUPS))
    ]
    for by in groups:
        assert _report(ledger, meter, None, by) == _raw(ledger, None, by), by
    for customer in customers:
        for by in ([], ["day"], list(_GROUPS)):
            assert _report(ledger, meter, customer, by) == _raw(ledger, customer, by), by
    assert ledger.differences() == []


def _insert(ledger: Ledger, customer: Customer, sign: int, said: Row) -> None:
    """Write a difference as a correction does: perhaps less than nothing."""
    ledger.run(
        "insert into billing.usage_events (organization_id, id, source, event_id, occurred_at,"
        " feature, quantities, cost_usd, price_usd, usage_rate_id, corrects_id, counted)"
        " select %s, overlay(billing.first_id_of(billing.begin_usage())::text"
        " placing '7001' || substr(gen_random_uuid()::text, 19) from 15)::uuid,"
        " 'gateway', gen_random_uuid(), %s, %s, %s, 0, 0, billing.uuidv7(), billing.uuidv7(), %s",
        customer.id,
        said["occurred_at"],
        said["feature"],
        Jsonb({meter: sign * number for meter, number in said["quantities"].items()}),
        sign,
    )


def _add_passports(ledger: Ledger, customer: Customer) -> None:
    ledger.run(
        "insert into billing.passports"
        " (organization_id, id, name, permissions, key_hash, key_prefix, created_by)"
        " select %s, p.id, 'One more', array['read'], sha256(gen_random_uuid()::text::bytea),"
        " 'fg_live_test', 'operator'"
        " from unnest(%s::uuid[]) as p (id)",
        customer.id,
        list(_PASSPORTS[1:]),
    )


_EVENTS = st.fixed_dictionaries(
    {
        "who": st.integers(0, 2),
        "days_ago": st.integers(0, 34),
        "feature": st.sampled_from(["images", "chat"]),
        "quantities": st.dictionaries(
            st.sampled_from(["images", "seconds"]), st.integers(1, 9), min_size=1
        ),
        "is_known": st.booleans(),
        "passport_id": st.sampled_from(_PASSPORTS),
        "sign": st.sampled_from([1, 1, 1, -1]),
    }
)
_STEPS = st.lists(
    st.one_of(
        st.lists(_EVENTS, min_size=1, max_size=5),
        st.tuples(st.sampled_from([0, 1, 5]), st.sampled_from([1, 3, 1000])),
    ),
    min_size=1,
    max_size=8,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=_STEPS)
def test_a_report_is_the_sum_of_all_events(
    ledger: Ledger, meter: Meter, steps: list[list[Row] | tuple[int, int]]
) -> None:
    customers = [ledger.register() for _ in range(3)]
    for customer in customers:
        _add_passports(ledger, customer)
    now = datetime.now(UTC)
    for step in steps:
        if isinstance(step, tuple):
            _fold(ledger, timedelta(milliseconds=step[0]), step[1])
            continue
        for drawn in step:
            customer = customers[drawn["who"]]
            said = {
                "occurred_at": (now - timedelta(days=drawn["days_ago"])).isoformat(),
                "feature": drawn["feature"],
                "quantities": drawn["quantities"],
            }
            if drawn["sign"] < 0:
                _insert(ledger, customer, -1, said)
                continue
            if drawn["is_known"]:
                said |= {"provider_id": "acme", "model": "m"}
            if drawn["passport_id"]:
                said["passport_id"] = drawn["passport_id"]
            meter.send(event(customer, **said))
    _agree(ledger, meter, customers)
    _fold(ledger)
    _agree(ledger, meter, customers)


def test_what_waited_for_a_person_counts_when_it_is_charged(ledger: Ledger, meter: Meter) -> None:
    customer = ledger.register()
    unheard_of = {"quantities": {"unheard_of": 1}, "provider_id": "acme", "model": "unheard of"}
    meter.send(event(customer), event(customer, **unheard_of), event(customer, **unheard_of))
    charge: LiteralString = (
        "update billing.usage_events set review = null, price_usd = 0, cost_usd = 0"
        " where id = (select id from billing.usage_events where review is not null"
        " order by id limit 1)"
    )
    _fold(ledger, timedelta(minutes=1))
    ledger.run(charge)
    _agree(ledger, meter, [customer])
    _fold(ledger)
    _agree(ledger, meter, [customer])
    ledger.run(charge)
    _agree(ledger, meter, [customer])
    assert ledger.fetch("select sum(events) from billing.usage_days") == [(9,)]  # and of all


def test_folding_beside_ingests_loses_nothing_and_counts_nothing_twice(
    ledger: Ledger, meter: Meter
) -> None:
    customers = [ledger.register() for _ in range(4)]
    is_over, failures = Event(), list[BaseException]()

    def guarded(work: Callable[[Ledger], None]) -> Thread:
        def run() -> None:
            try:
                with open_ledger(ledger.database) as mine:
                    work(mine)
            except BaseException as error:  # noqa: BLE001  told below
                failures.append(error)

        return Thread(target=run)

    def ingest(number: int, mine: Ledger) -> None:
        for _ in range(15):
            meter.send(*(event(customers[number]) for _ in range(20)), ledger=mine)

    def fold(mine: Ledger) -> None:
        # By the very function, but for the ten seconds.
        while not is_over.is_set():
            mine.run(
                "update billing.usage_folds set complete_until ="
                " billing.usage_is_complete_until() + interval '10 seconds'"
            )
            while mine.call_one("fold_usage", limit=37)["more"]:
                pass

    def look(mine: Ledger) -> None:
        seen = 0
        while not is_over.is_set():
            report = _report(mine, meter, None, [])
            events = next((row[6] for row in report), 0)
            assert events >= seen
            seen = events

    ingests = [guarded(partial(ingest, number)) for number in range(4)]
    others = [guarded(fold), guarded(fold), guarded(look)]
    for thread in (*ingests, *others):
        thread.start()
    for thread in ingests:
        thread.join()
    is_over.set()
    for thread in others:
        thread.join()
    assert failures == []
    _agree(ledger, meter, customers)
    (folded,) = ledger.fetch_one(
        "select sum(events) from billing.usage_days where organization_id = billing.zeros()"
    )
    assert folded > 0
    _fold(ledger)
    _agree(ledger, meter, customers)


def test_what_is_not_committed_is_waited_for(ledger: Ledger) -> None:
    with open_ledger(ledger.database) as other, other.owner.transaction():
        other.run("select billing.begin_usage()")
        (waited,) = ledger.fetch_one("select billing.usage_is_complete_until()::text")
        assert waited == "-infinity"
    before = datetime.now(UTC)
    (complete_until,) = ledger.fetch_one("select billing.usage_is_complete_until()")
    assert complete_until > before - timedelta(seconds=10.1)


def test_whoever_inserts_events_takes_their_ids_under_the_lock(ledger: Ledger) -> None:
    found = ledger.fetch(
        "select oid::regprocedure::text from pg_proc"
        " where prosrc ~ 'insert into billing.usage_events ' and prosrc !~ 'begin_usage'"
    )
    assert found == []


def test_a_fold_does_not_begin_before_another_is_over(ledger: Ledger) -> None:
    _fold(ledger)
    before = ledger.fetch("select * from billing.usage_folds")
    ledger.call("start_folding")
    assert ledger.fetch("select * from billing.usage_folds") == before
