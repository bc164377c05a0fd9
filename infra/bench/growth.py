"""What a session of an hour leaves in the database: `python -m infra.bench.growth`."""

import psycopg
from psycopg.types.json import Jsonb

from infra.bench.report import Line
from infra.bench.stage import passport_hash, populate
from infra.local import template
from infra.local.progress import run

_SESSIONS = 2_000
_MINUTES = 60
_SIZE = """
select
    (select sum(pg_total_relation_size(c.oid)) from pg_class as c
     where c.relnamespace = 'billing'::regnamespace and c.relkind in ('r', 'm', 'p')),
    (select count(*) from billing.transfers)
"""
_START = """
select (session).id from api.start_session(%s, 'small', null, null, null, null, null, %s)
"""


def measure() -> list[Line]:
    """Run sessions for an hour of the sandbox's clock, swept each minute, and stop them."""
    with (
        template.cluster(),
        template.clone() as database,
        psycopg.connect(database.owner_url, autocommit=True) as owner,
    ):
        populate(owner, _SESSIONS, _SESSIONS)
        before, transfers_before = _size(owner)
        sessions = [
            (caller, _start(owner, caller, f"start-{number:08d}"))
            for number in range(_SESSIONS)
            for caller in [Jsonb({"passport_hash": passport_hash(number)})]
        ]
        for _ in range(_MINUTES):
            owner.execute("update billing.clock_offset set seconds = seconds + 60")
            while _sweep(owner):
                pass
        for number, (caller, session_id) in enumerate(sessions):
            owner.execute(
                "select from api.stop_session(%s, %s, 'stopped', %s)",
                [caller, session_id, f"stop-{number:08d}"],
            )
        owner.execute("vacuum")
        after, transfers_after = _size(owner)
    return [
        Line(
            "transfers of a session of an hour",
            (transfers_after - transfers_before) / _SESSIONS,
            "",
        ),
        Line("bytes of a session of an hour", (after - before) / _SESSIONS, "bytes"),
    ]


def _start(owner: psycopg.Connection, caller: Jsonb, key: str) -> object:
    started = owner.execute(_START, [caller, key]).fetchone()
    assert started  # noqa: S101  it answers a row or raises
    return started[0]


def _sweep(owner: psycopg.Connection) -> bool:
    swept = owner.execute("select more from api.sweep_sessions(1000)").fetchone()
    return bool(swept and swept[0])


def _size(owner: psycopg.Connection) -> tuple[int, int]:
    size, transfers = owner.execute(_SIZE).fetchone() or (0, 0)
    return int(size), int(transfers)


def main() -> None:
    """Print what was measured."""
    for line in measure():
        line.print()


if __name__ == "__main__":
    run(main)
