"""Storage of tests in which nothing provisions it: the owner of the database does."""

from typing import Any

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]

_OPEN = """
select billing.open_storage(
    %(organization_id)s, %(kind)s, r.id, %(size_gb)s, null, null, null, null, %(included_gb)s,
    'operator'
)
from billing.regions as r
where r.kind = %(kind)s and r.is_default
"""
_MAKE = """
update billing.storage
set is_absent = false, applied_access = 'write', applied_size_gb = size_gb
where organization_id = %s and id = %s
"""
_START = "select billing.start_storage(%s, %s)"
_ACKNOWLEDGE = "select billing.acknowledge(organization_id, task_id) from billing.storage"


def open_storage(
    owner: Connection,
    organization_id: str,
    *,
    kind: str = "bucket",
    size_gb: int = 10,
    included_gb: int = 0,
) -> str:
    """Rent storage in the default region. Gives its id."""
    arguments = {
        "organization_id": organization_id,
        "kind": kind,
        "size_gb": size_gb,
        "included_gb": included_gb,
    }
    ((storage_id,),) = owner.execute(_OPEN, arguments).fetchall()
    return str(storage_id)


def make_ready(owner: Connection, organization_id: str, storage_id: str) -> None:
    """Let the cloud have it, as if it had been provisioned."""
    owner.execute(_MAKE, [organization_id, storage_id])
    owner.execute(_START, [organization_id, storage_id])
    owner.execute(_ACKNOWLEDGE)
