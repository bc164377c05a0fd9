"""The accrual of much rented storage, beside other calls."""

from typing import LiteralString

import psycopg

from faregate.chunks import CHUNK_ROWS
from infra.bench.report import Line
from infra.bench.stage import Stage
from infra.bench.sweep import drain

_NUMBER = 10_000

# A bucket of 100 GB for each of so many organizations. Half of its window is over, so every one is
# due, and nobody's money is short.
_STORAGE: LiteralString = """
with chosen as (
    select organization_id, billing.uuidv7() as id
    from billing.wallets
    where settled_micros - held_micros > 1000000
    limit %s
), wallets as (
    update billing.wallets as w set held_micros = w.held_micros + 65753
    from chosen as c where c.organization_id = w.organization_id
), holds as (
    insert into billing.holds
        (organization_id, id, kind, amount_micros, captured_until, expires_at, is_final, due_at)
    select
        organization_id, id, 'storage', 65753, now() - interval '43201 s',
        now() + interval '43199 s', false, now() - interval '1 s'
    from chosen
), storage as (
    insert into billing.storage (
        organization_id, id, kind, region_id, status, size_gb, created_by, ready_at, is_absent
    )
    select
        organization_id, id, 'bucket', 'us-central1', 'ready', 100, 'bench',
        now() - interval '43201 s', false
    from chosen
)
insert into billing.storage_periods (
    organization_id, storage_id, starts_at, billed_gb, price_id, gb_month_price_micros
)
select c.organization_id, c.id, now() - interval '43201 s', 100, p.id, p.price_micros
from chosen as c
cross join billing.prices as p
where p.plan_id = 'pro' and p.sku = 'storage.bucket'
"""


def measure(stage: Stage) -> list[Line]:
    """Accrue ten thousand storage resources while others read their balance."""
    with psycopg.connect(stage.owner_url, autocommit=True) as connection:
        connection.execute(_STORAGE, [_NUMBER])
        connection.execute("vacuum analyze")
    accrued, seconds, p99 = drain(
        stage, "select accrued, more from api.accrue_storage(%s)", CHUNK_ROWS
    )
    return [
        Line("accrual of rented storage, charged", accrued / seconds, "resources/s", 1_000),
        Line("  number of storage resources", accrued, ""),
        Line("  other calls' p99 meanwhile", p99, "ms", 20, at_most=True),
    ]
