"""Reports on usage: events folded into days, and a month of them analysed.

The events came evenly in the last thirty days, from a thousand customers who use ten of forty
models each: 300,000 days of something. Ten million events make no more of them, and it is these
that a report reads; so one million is folded, which takes a tenth of the time.
"""

import json
from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import Any

import psycopg

from infra.bench.report import Line
from infra.bench.stage import PASSPORTS, Stage, passport_hash

EVENTS = 1_000_000
_CUSTOMERS = 1_000
_CHUNK_EVENTS = 20_000  # as the schedule folds
_ROUNDS = 9

_MONTHS = """
call billing.create_usage_months(((now() - interval '31 days') at time zone 'UTC')::date, 2)
"""
_EVENTS = """
with customers as materialized (
    select array_agg(organization_id) as ids
    from (select organization_id from billing.wallets order by 1 limit %(customers)s) as w
)
insert into billing.usage_events (
    organization_id, id, source, event_id, occurred_at, feature, provider_id, model, quantities,
    cost_usd, price_usd
)
select
    c.ids[1 + i %% %(customers)s],
    overlay(
        billing.first_id_of(m.at)::text placing '7' || substr(gen_random_uuid()::text, 16) from 15
    )::uuid,
    'gateway-eu', i::text, m.at, 'chat', 'acme',
    'model-' || (i %% %(customers)s + i / %(customers)s %% 10) %% 40,
    '{"input_tokens": 1000, "cache_read_tokens": 100, "output_tokens": 200}',
    0.0046, 0.00575
from generate_series(%(first)s::bigint, %(last)s) as i
cross join customers as c
cross join lateral (
    select now() - interval '30 days' + i * (interval '30 days' / %(events)s) as at
) as m
"""
_REPORT = b"select to_jsonb(r) from api.analyze_usage(%s, null, %s, %s::date, %s::date, %s) as r"


def measure(stage: Stage, events: int = EVENTS) -> list[Line]:
    """Fold, then report."""
    with psycopg.connect(stage.owner_url, autocommit=True, prepare_threshold=None) as connection:
        _populate(connection, events)
        folded, seconds = _fold(connection)
        connection.execute("vacuum analyze billing.usage_days")
        one, everybody = (_report(connection, is_all=is_all) for is_all in (False, True))
        each = _report(connection, is_all=True, by=["organization"])
    return [
        Line("events folded into days", folded / seconds, "events/s"),
        Line("a customer's month by day and model", one, "ms", 300, at_most=True),
        Line("all customers' month by day and model", everybody, "ms", 300, at_most=True),
        Line("all customers' month by organization", each, "ms", 300, at_most=True),
    ]


def _populate(connection: psycopg.Connection[Any], events: int) -> None:
    connection.execute(_MONTHS)
    for first in range(0, events, 500_000):
        connection.execute(
            _EVENTS,
            {
                "customers": _CUSTOMERS,
                "events": events,
                "first": first,
                "last": min(first + 500_000, events) - 1,
            },
        )
    connection.execute("vacuum analyze billing.usage_events")


def _fold(connection: psycopg.Connection[Any]) -> tuple[int, float]:
    """Give how many events were folded, and in how many seconds."""
    connection.execute("select api.start_folding()")
    began, total, more = perf_counter(), 0, True
    while more:
        folded, more = connection.execute(
            "select folded, more from api.fold_usage(%s)", [_CHUNK_EVENTS]
        ).fetchone() or (0, False)
        total += folded
    return total, perf_counter() - began


def _report(
    connection: psycopg.Connection[Any], *, is_all: bool, by: Sequence[str] = ("day", "model")
) -> float:
    """Give the time of a report in milliseconds. The first makes the plans."""
    caller = json.dumps({"passport_hash": passport_hash(PASSPORTS - 1 if is_all else 0)})
    period = connection.execute("select current_date - 31, current_date + 1").fetchone() or ()
    times = []
    for _ in range(_ROUNDS):
        began = perf_counter()
        (answer,) = connection.execute(_REPORT, [caller, is_all, *period, list(by)]).fetchone() or (
            None,
        )
        times.append(perf_counter() - began)
        assert answer and len(answer["groups"]) >= 300, answer  # noqa: S101  or something else was measured
    return median(times[1:]) * 1000
