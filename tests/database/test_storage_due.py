"""Accrual and lists read what they answer, not all the storage there was and will be."""

from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
import pytest

from infra.local.template import Database

Connection = psycopg.Connection[tuple[Any, ...]]
DUE = 20

# Ten organizations with what they had, have and must be charged for now. It all costs nothing, so
# that no wallet has to be filled.
_CUSTOMERS = """
select billing.create_organization('Acme', 'admin', n || '@example.com', billing.now())
from generate_series(1, 10) as n
"""
_STORAGE = """
with made as (
    select w.organization_id, billing.uuidv7() as id
    from billing.wallets as w, generate_series(1, %(count)s / 10)
), holds as (
    insert into billing.holds (
        organization_id, id, kind, amount_micros, captured_until, expires_at, is_final, due_at
    )
    select m.organization_id, m.id, 'storage', 0, billing.now(), billing.now(), false, %(due_at)s
    from made as m
), storage as (
    insert into billing.storage (
        organization_id, id, kind, region_id, status, size_gb, created_by, ready_at
    )
    select m.organization_id, m.id, 'bucket', 'europe-west4', %(status)s, 1, 'operator',
        billing.now()
    from made as m
)
insert into billing.storage_periods (
    organization_id, storage_id, starts_at, ends_at, billed_gb, price_id, gb_month_price_micros
)
select m.organization_id, m.id, billing.now(),
    case when %(status)s = 'deleted' then billing.now() end, 1, p.id, 0
from made as m, billing.prices as p
where p.plan_id = 'admin' and p.sku = 'storage.bucket'
"""
_READ = """
select sum(seq_scan), sum(idx_tup_fetch)
from pg_stat_xact_user_tables
where schemaname = 'billing' and relname in ('holds', 'storage', 'storage_periods')
"""
_LIST = """
select count(*) from api.list_storage(
    jsonb_build_object('passport_hash', %s::text), null, null, null, 50, null
)
"""


@pytest.fixture
def owner(database: Database) -> Iterator[Connection]:
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        # Foreign keys between parts of one statement are checked when it ends.
        owner.execute(_CUSTOMERS)
        for count, status, due_at in (
            (30_000, "deleted", None),
            (5_000, "ready", "2900-01-01"),
            (DUE, "ready", "2020-01-01"),
        ):
            owner.execute(_STORAGE, {"count": count, "status": status, "due_at": due_at})
        owner.execute("analyze billing.holds, billing.storage, billing.storage_periods")
        yield owner


def _read(owner: Connection) -> tuple[int, int]:
    ((scans, rows),) = owner.execute(_READ).fetchall()
    return int(scans), int(rows)


def _expect_few(owner: Connection, query: LiteralString, *values: object, found: int) -> None:
    with owner.transaction():
        scans, rows = _read(owner)
        assert owner.execute(query, values).fetchall() == [(found,)]
        scans_after, rows_after = _read(owner)
    assert scans_after == scans
    # From the sixth time on Postgres may plan for any argument.
    assert rows_after - rows <= 40 * max(found, 1)


def test_accrual_reads_what_is_due(owner: Connection) -> None:
    for done in (DUE, *[0] * 7):
        _expect_few(owner, "select r.accrued from api.accrue_storage(100) as r", found=done)


def test_a_page_reads_a_page(owner: Connection) -> None:
    owner.execute(
        "insert into billing.passports"
        " (organization_id, name, permissions, key_hash, key_prefix, created_by)"
        " select w.organization_id, 'test', '{read}', sha256('key'), 'fg_live_test', 'operator'"
        " from billing.wallets as w limit 1"
    )
    key_hash = owner.execute("select encode(sha256('key'), 'hex')").fetchall()[0][0]
    for _ in range(8):
        _expect_few(owner, _LIST, key_hash, found=50)
