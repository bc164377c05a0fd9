"""A sweep of many running sessions, beside other calls."""

from collections.abc import Callable
from threading import Event, Thread
from time import perf_counter
from typing import Any, LiteralString

import psycopg

from infra.bench.report import Line
from infra.bench.stage import PASSPORTS, Stage, passport_hash

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


def measure(stage: Stage) -> list[Line]:
    """Sweep a hundred thousand sessions while others read their balance."""
    with psycopg.connect(stage.owner_url, autocommit=True) as connection:
        connection.execute(_SESSIONS)
        connection.execute("vacuum analyze")
    swept, seconds, p99 = drain(stage, "select swept, more from api.sweep_sessions(%s)", _CHUNK)
    return [
        Line("sweep of running sessions, charged", swept / seconds, "sessions/s", 50_000),
        Line("  number of sessions", swept, ""),
        Line("  other calls' p99 meanwhile", p99, "ms", 20, at_most=True),
    ]


def drain(stage: Stage, query: LiteralString, chunk: int) -> tuple[int, float, float]:
    """Call what a cron calls until nothing is due, while others read their balance.

    Tells how much was done, in how many seconds, and the others' p99 in milliseconds.
    """
    counts: list[int] = []
    latencies: list[float] = []
    done = Event()

    def work(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        more = True
        while more:
            row = connection.execute(query, [chunk]).fetchone()
            assert row is not None  # noqa: S101  it answers one row
            count, more = row
            counts.append(count)

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
    for worker in [_start(stage, work) for _ in range(_SWEEPERS)]:
        worker.join()
    seconds = perf_counter() - began
    done.set()
    reader.join()
    p99 = sorted(latencies)[int(len(latencies) * 0.99)] * 1000
    return sum(counts), seconds, p99


def _start(stage: Stage, work: Callable[[psycopg.Connection[tuple[Any, ...]]], None]) -> Thread:
    def run() -> None:
        with psycopg.connect(stage.owner_url, autocommit=True, prepare_threshold=None) as own:
            work(own)

    thread = Thread(target=run)
    thread.start()
    return thread
