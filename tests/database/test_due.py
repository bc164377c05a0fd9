"""What runs each minute reads what is due, not what was or will be."""

from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
import pytest

from infra.local.template import Database

Connection = psycopg.Connection[tuple[Any, ...]]
OLD = 30_000
LATER = 5_000
DUE = 20

# A few wallets with a long past, much to come, and little that is due.
_CUSTOMERS = """
select billing.create_organization('Acme', 'free', n || '@example.com', billing.now())
from generate_series(1, 10) as n
"""
_MONEY = "update billing.wallets set settled_micros = 1000000, held_micros = 10000"
_GRANTS = """
insert into billing.grants (
    organization_id, category, amount_micros, remaining_micros, effective_at, expires_at, sequence
)
select w.organization_id, 'promotional', 10, %(remaining)s, %(effective_at)s, %(expires_at)s,
    %(sequence)s
from billing.wallets as w, generate_series(1, %(count)s / 10)
"""
_HOLDS = """
insert into billing.holds (
    organization_id, id, kind, amount_micros, captured_micros, expires_at, is_final, due_at
)
select w.organization_id, billing.uuidv7(), 'usage', 10, %(captured)s, %(expires_at)s, true,
    %(due_at)s
from billing.wallets as w, generate_series(1, %(count)s / 10)
"""
_OUTBOX = """
insert into billing.outbox (organization_id, topic, payload, tell_at, acknowledged_at)
select w.organization_id, 'stop_session', '{}', %(tell_at)s, %(acknowledged_at)s
from billing.wallets as w, generate_series(1, %(count)s / 10)
"""
_READ = """
select sum(seq_scan), sum(idx_tup_fetch)
from pg_stat_xact_user_tables
where schemaname = 'billing' and relname in ('grants', 'holds', 'outbox')
"""
_PAST, _FUTURE = "2020-01-01", "2900-01-01"


@pytest.fixture
def owner(database: Database) -> Iterator[Connection]:
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute(_CUSTOMERS)
        owner.execute(_MONEY)
        for count, remaining, effective_at, expires_at, sequence in (
            (OLD, 0, _PAST, _PAST, 1),
            (LATER, 10, _PAST, _FUTURE, 1),
            (LATER, 0, _FUTURE, None, None),
            (DUE, 10, _PAST, _PAST, 1),
            (DUE, 0, _PAST, None, None),
        ):
            owner.execute(
                _GRANTS,
                {
                    "count": count,
                    "remaining": remaining,
                    "effective_at": effective_at,
                    "expires_at": expires_at,
                    "sequence": sequence,
                },
            )
        for count, captured, due_at in ((OLD, 10, None), (LATER, 0, _FUTURE), (DUE, 0, _PAST)):
            owner.execute(
                _HOLDS,
                {
                    "count": count,
                    "captured": captured,
                    "expires_at": due_at or _PAST,
                    "due_at": due_at,
                },
            )
        for count, tell_at, acknowledged_at in (
            (OLD, _PAST, _PAST),
            (LATER, _FUTURE, None),
            (DUE, _PAST, None),
        ):
            owner.execute(
                _OUTBOX, {"count": count, "tell_at": tell_at, "acknowledged_at": acknowledged_at}
            )
        owner.execute("analyze billing.grants, billing.holds, billing.outbox, billing.wallets")
        yield owner


def _read(owner: Connection) -> tuple[int, int]:
    """Tell how often this connection read a table from end to end, and how many rows by index."""
    ((scans, rows),) = owner.execute(_READ).fetchall()
    return int(scans), int(rows)


@pytest.mark.parametrize(
    "query",
    [
        "select r.started from api.start_grants(100) as r",
        "select r.expired from api.expire_grants(100) as r",
        "select r.expired from api.expire_holds(100) as r",
        "select api.mark_enqueued(array_agg(r.organization_id), array_agg(r.id))"
        " from api.list_outbox('stop_session', 100) as r",
    ],
)
def test_a_run_reads_what_is_due(owner: Connection, query: LiteralString) -> None:
    # From the sixth time on Postgres may plan for any limit.
    for done in (DUE, *[0] * 7):
        with owner.transaction():
            scans, rows = _read(owner)
            assert owner.execute(query).fetchall() == [(done,)]
            scans_after, rows_after = _read(owner)
        assert scans_after == scans
        assert rows_after - rows <= 20 * done
