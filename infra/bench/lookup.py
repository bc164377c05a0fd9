"""The function entitlements with one address more: the caller's row, looked up by primary key."""

from typing import Any
from uuid import UUID

from faregate.backends.database import Database
from faregate.caller import Customer
from faregate.endpoints.entitlements import router
from faregate.function import Answer, entry_point, use


class Looked(Answer):
    """What is looked up."""

    id: UUID
    plan_id: str


@router.get("/v1/entitlements/lookup/bare")
async def look_up(caller: Customer, database: Database = use(Database)) -> Looked:
    """Look a row up by its key."""
    return Looked.model_validate(await database.call_one("bench_lookup", caller=caller))


entitlements: Any = entry_point("entitlements")
