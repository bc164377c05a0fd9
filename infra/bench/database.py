"""Calls to the database: sweeps beside other calls, and charges on one hot wallet."""

from collections.abc import Callable
from statistics import median
from threading import Event, Thread
from time import perf_counter
from typing import Any

import psycopg

from infra.bench.report import Line
from infra.bench.stage import PASSPORTS, Stage, passport_hash

_CLIENTS = 8
_SECONDS = 1.0
_ROUNDS = 7
_SWEEPERS = 2  # as many as the function runs
_CHUNK = 1_000

# One running session for each organization: the hardest case, no two share a wallet. Half of its
# window is over, so every one is due, and nobody's money is short.
_SESSIONS = """
with holds as (
    insert into billing.holds
        (organization_id, id, kind, amount_micros, captured_until, expires_at, is_final, due_at)
    select
        organization_id, billing.uuidv7(), 'session', 4167, now() - interval '301 s',
        now() + interval '299 s', false, now() - interval '1 s'
    from billing.wallets
    where not exists (
        select from billing.holds as h where h.organization_id = wallets.organization_id
    )
    returning organization_id, id
), wallets as (
    update billing.wallets as w set held_micros = w.held_micros + 4167
    from holds where holds.organization_id = w.organization_id
)
insert into billing.sessions (
    organization_id, id, tier, price_id, hourly_price_micros, window_seconds, started_at,
    last_heartbeat_at, started_by
)
select
    h.organization_id, h.id, 'small', p.id, p.price_micros, 600, now() - interval '301 s', now(),
    'bench'
from holds as h
cross join billing.prices as p
where p.plan_id = 'pro' and p.sku = 'session.small'
"""

# The same work for both: one function call, one transaction.
_HOT = """
create schema bench;
create table bench.counters (id integer primary key, value bigint not null);
create table bench.log (id bigint generated always as identity primary key, value bigint not null);
insert into bench.counters values (1, 0);
create function bench.bare() returns void language plpgsql as $$
begin
    update bench.counters set value = value + 1 where id = 1;
    insert into bench.log (value) values (1);
end $$;
create function bench.charge(p_organization_id uuid) returns void language plpgsql as $$
begin
    perform billing.debit_wallet(
        row(p_organization_id, 1, 0, 'revenue_sessions', 'session', null)::billing.debit,
        billing.now()
    );
end $$;
"""


def measure_hot_wallet(stage: Stage) -> list[Line]:
    """Charge one wallet from eight clients; do a bare `update + insert` on one row likewise."""
    with psycopg.connect(stage.owner_url, autocommit=True) as connection:
        connection.execute(_HOT)
        row = connection.execute(
            "select organization_id from billing.wallets order by 1 desc limit 1"
        ).fetchone()
        assert row is not None  # noqa: S101  the stage is populated
    # In turns: what else the machine does in the meantime slows both.
    rounds = [
        (
            _calls_per_second(stage, "select bench.bare()", []),
            _calls_per_second(stage, "select bench.charge(%s)", [row[0]]),
        )
        for _ in range(_ROUNDS)
    ]
    bare, charge = (median(values) for values in zip(*rounds, strict=True))
    ratio = median(charge / bare for bare, charge in rounds)
    return [
        Line("bare update + insert on one row", bare, "calls/s"),
        Line("charge on one hot wallet", charge, "calls/s"),
        Line("  of the bare transaction", ratio, "×", 0.70),
    ]


def measure_sweep(stage: Stage) -> list[Line]:
    """Sweep a hundred thousand sessions while others read their balance."""
    with psycopg.connect(stage.owner_url, autocommit=True) as connection:
        connection.execute(_SESSIONS)
        connection.execute("vacuum analyze")
    swept: list[int] = []
    latencies: list[float] = []
    done = Event()

    def sweep(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        more = True
        while more:
            row = connection.execute("select * from api.sweep_sessions(%s)", [_CHUNK]).fetchone()
            assert row is not None  # noqa: S101  it answers one row
            count, _, more = row
            swept.append(count)

    def read(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        number = 0
        caller = "select * from api.get_wallet(jsonb_build_object('passport_hash', %s::text))"
        while not done.wait(0.005):
            number = (number + 1) % PASSPORTS
            began = perf_counter()
            connection.execute(caller, [passport_hash(number)])
            latencies.append(perf_counter() - began)

    reader = _start(stage, read)
    began = perf_counter()
    for sweeper in [_start(stage, sweep) for _ in range(_SWEEPERS)]:
        sweeper.join()
    seconds = perf_counter() - began
    done.set()
    reader.join()
    p99 = sorted(latencies)[int(len(latencies) * 0.99)] * 1000
    return [
        Line("sweep of running sessions, charged", sum(swept) / seconds, "sessions/s", 50_000),
        Line("  number of sessions", sum(swept), ""),
        Line("  other calls' p99 meanwhile", p99, "ms", 20, at_most=True),
    ]


def _start(stage: Stage, work: Callable[[psycopg.Connection[tuple[Any, ...]]], None]) -> Thread:
    def run() -> None:
        with psycopg.connect(stage.owner_url, autocommit=True, prepare_threshold=None) as own:
            work(own)

    thread = Thread(target=run)
    thread.start()
    return thread


def _calls_per_second(stage: Stage, call: str, arguments: list[object]) -> float:
    counts: list[int] = []
    deadline = perf_counter() + _SECONDS

    def work(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        count = 0
        while perf_counter() < deadline:
            connection.execute(call.encode(), arguments)
            count += 1
        counts.append(count)

    for client in [_start(stage, work) for _ in range(_CLIENTS)]:
        client.join()
    return sum(counts) / _SECONDS
