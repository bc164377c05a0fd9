"""The health line is found by index, however much there was and will be."""

from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
import pytest

from infra.local.template import Database

Connection = psycopg.Connection[tuple[Any, ...]]
OLD, LATER, DUE = 20_000, 2_000, 10

_PARAMETERS = {"old": OLD, "later": LATER, "due": DUE}
# Of everything much that is over, some that is to come, and little that is due.
_FURNISH: tuple[LiteralString, ...] = (
    "select billing.create_organization('Acme', 'admin', n || '@example.com', billing.now())"
    " from generate_series(1, 10) as n",
    "update billing.wallets set settled_micros = 1000000, held_micros = 10000",
    "delete from billing.outbox",
    """
    create temporary table rows as
    select w.organization_id, billing.uuidv7() as id, n,
        case when n <= %(old)s / 10 then 'old' when n <= (%(old)s + %(later)s) / 10 then 'later'
            else 'due' end as state
    from billing.wallets as w, generate_series(1, (%(old)s + %(later)s + %(due)s) / 10) as n
    """,
    """
    insert into billing.holds (organization_id, id, kind, amount_micros, captured_micros,
        captured_until, expires_at, is_final, due_at)
    select r.organization_id, case k when 'storage' then r.id else gen_random_uuid() end,
        k::billing.hold_kind, 0, 0, billing.now(),
        billing.now(), k = 'usage',
        case r.state when 'later' then timestamptz '2900-01-01' when 'due' then '2020-01-01' end
    from rows as r, unnest(array['session', 'usage', 'storage']) as k
    """,
    """
    insert into billing.storage (organization_id, id, kind, region_id, status, size_gb,
        created_by, ready_at, measured_at)
    select r.organization_id, r.id, 'bucket', 'europe-west4',
        case r.state when 'old' then 'deleted' else 'ready' end::billing.storage_status, 1,
        'operator', '2020-01-01',
        case r.state when 'due' then timestamptz '2020-01-01' else billing.now() end
    from rows as r
    """,
    """
    insert into billing.outbox (organization_id, topic, payload, run_at, tell_at, created_at,
        acknowledged_at)
    select r.organization_id, 'stop_session', '{}', m.at, m.at, m.at,
        case r.state when 'old' then billing.now() end
    from rows as r, lateral (
        select case r.state when 'later' then timestamptz '2900-01-01' else '2020-01-01' end as at
    ) as m
    """,
    """
    insert into billing.grants (organization_id, category, amount_micros, remaining_micros,
        effective_at, expires_at, sequence)
    select r.organization_id, 'promotional', 10, case r.state when 'old' then 0 else 10 end,
        '2020-01-01',
        case r.state when 'later' then timestamptz '2900-01-01' else '2020-01-01' end, 1
    from rows as r
    """,
    """
    insert into billing.grants (organization_id, category, amount_micros, remaining_micros,
        effective_at)
    select r.organization_id, 'promotional', 10, 0,
        case r.state when 'later' then timestamptz '2900-01-01' else '2020-01-01' end
    from rows as r where r.state <> 'old'
    """,
    """
    insert into billing.discrepancies (kind, organization_id, subject, ledger_rule, resolved_at)
    select 'ledger', r.organization_id, r.id::text, 'rule',
        case when r.state <> 'due' then billing.now() end
    from rows as r
    """,
    """
    insert into billing.payment_events (provider, id, type, payload, outcome, received_at)
    select 'stripe', r.id::text, 'payment_intent.succeeded', '{}',
        case when r.state = 'old' then 'credited' else 'needs_review' end::billing.payment_outcome,
        case when r.state = 'later' then timestamptz '2020-01-01' else billing.now() end
    from rows as r
    """,
    "analyze",
)
_TABLES = ["holds", "storage", "outbox", "grants", "discrepancies", "payment_events"]
_READ = """
select relname, seq_scan, coalesce(idx_tup_fetch, 0)
from pg_stat_xact_user_tables
where schemaname = 'billing' and relname = any(%s)
order by relname
"""


@pytest.fixture
def owner(database: Database) -> Iterator[Connection]:
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        for statement in _FURNISH:
            owner.execute(statement, _PARAMETERS)
        yield owner


def _read(owner: Connection) -> dict[str, tuple[int, int]]:
    """Tell of each table how often it was read from end to end, and how many rows by index."""
    found = owner.execute(_READ, [_TABLES]).fetchall()
    return {str(name): (int(scans), int(rows)) for name, scans, rows in found}


def test_the_report_reads_what_is_open(owner: Connection) -> None:
    # From the sixth time on Postgres may plan for any moment.
    for _ in range(8):
        with owner.transaction():
            before = _read(owner)
            ((report,),) = owner.execute(
                "select to_jsonb(r) from api.report_health() as r"
            ).fetchall()
            after = _read(owner)
        for table in _TABLES:
            assert after[table][0] == before[table][0], f"{table} was read from end to end"
            rows = after[table][1] - before[table][1]
            # Of buckets all that are there are looked at: measured when, no index says.
            assert rows <= (LATER + DUE if table == "storage" else 6 * DUE), table
    assert (report["verify_differences"], report["open_discrepancies"]) == (DUE, DUE)
    assert report["stuck_outbox"] == DUE
    assert report["events_to_review"] == DUE
    assert all(lag > 0 for name, lag in report["lag_seconds"].items() if name != "reconcile")
    assert report["outbox_age_seconds"] > 0
