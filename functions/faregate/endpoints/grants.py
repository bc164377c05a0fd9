"""Credit grants: the lots of money in a wallet, and those that an operator gives."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Response
from pydantic import AwareDatetime, Field

from faregate.backends.database import Database
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.contract import (
    WHOLE,
    Cursor,
    CustomerId,
    IdempotencyKey,
    Limit,
    Moment,
    Note,
    Page,
    customer_refuses,
    mark_replayed,
    page,
    writes,
)
from faregate.function import Answer, Body, new_router, use
from faregate.money import PositiveAmount, Usd

router = new_router("grants")
backends = (Database, UserTokens)

Status = Literal["scheduled", "active", "used_up", "expired"]


class CreateGrantRequest(Body):
    """Promotional credits for a customer, who reads the note. A lower priority is spent first.

    Without effective_at they are money at once, without expires_at they stay.
    """

    organization_id: UUID
    amount: PositiveAmount
    note: Note
    priority: Annotated[int, Field(strict=True, ge=0, le=32_767), WHOLE] = 100
    effective_at: Moment | None = None
    expires_at: Moment | None = None


class Grant(Answer):
    """A lot of money in a wallet: what remains of it, since when and until when."""

    id: UUID
    organization_id: UUID
    category: Literal["promotional", "paid"]
    status: Status
    priority: int
    amount: Usd = Field(validation_alias="amount_micros")
    remaining: Usd = Field(validation_alias="remaining_micros")
    payment_id: UUID | None
    top_up_id: UUID | None
    note: str | None
    effective_at: AwareDatetime
    expires_at: AwareDatetime | None


@router.get("/v1/grants", responses=customer_refuses())
async def list_grants(
    caller: Customer,
    customer_id: CustomerId = None,
    status: Status | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[Grant]:
    """List credit grants, newest first. Needs `read`."""
    rows = await database.call(
        "list_grants",
        caller=caller,
        organization_id=customer_id,
        status=status,
        limit=limit + 1,
        cursor=cursor,
    )
    return page(Grant, rows, limit)


@router.post(
    "/v1/grants",
    status_code=201,
    responses=writes(
        *["organization_not_found", "organization_closed"],
        *["expiry_in_the_past", "amount_out_of_bounds"],
    ),
)
async def create_grant(
    request: CreateGrantRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Grant:
    """Give a customer promotional credits, now or later, for good or for a time. Needs `admin`."""
    row = await database.call_one(
        "create_grant",
        caller=caller,
        organization_id=request.organization_id,
        amount_micros=request.amount,
        note=request.note,
        priority=request.priority,
        effective_at=request.effective_at,
        expires_at=request.expires_at,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return Grant.model_validate(row["credit_grant"])
