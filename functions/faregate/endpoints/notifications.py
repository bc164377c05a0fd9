"""Notifications: what an organization should know."""

from uuid import UUID

from pydantic import AwareDatetime, Field

from faregate.backends.database import Database
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.contract import Cursor, Limit, Page, customer_refuses, page
from faregate.function import Answer, new_router, use
from faregate.money import Usd

router = new_router("notifications")
backends = (Database, UserTokens)


class Notification(Answer):
    """What happened and why; the amount, the top-up and the storage it is about, if any.

    Of `organization_frozen`, the amount is the debt. until: when the next step follows.
    """

    id: UUID
    kind: str
    reason: str | None
    amount: Usd | None = Field(validation_alias="amount_micros")
    top_up_id: UUID | None
    storage_id: UUID | None
    until: AwareDatetime | None
    created_at: AwareDatetime


@router.get("/v1/notifications", responses=customer_refuses())
async def list_notifications(
    caller: Customer,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[Notification]:
    """List what there is to know, newest first. Needs `read`."""
    rows = await database.call("list_notifications", caller=caller, limit=limit + 1, cursor=cursor)
    return page(Notification, rows, limit)
