"""Holds: an operator reserves a customer's money, captures what was used, gives the rest back."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Response
from pydantic import AwareDatetime, Field

from faregate.backends.database import Database, Row
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.contract import (
    WHOLE,
    Cursor,
    CustomerId,
    IdempotencyKey,
    Limit,
    Note,
    Page,
    customer_refuses,
    mark_replayed,
    page,
    writes,
)
from faregate.function import Answer, Body, new_router, use
from faregate.money import GivenAmount, PositiveAmount, Usd

router = new_router("holds")
backends = (Database, UserTokens)

WEEK_SECONDS = 7 * 24 * 3600
ExpiresInSeconds = Annotated[int, Field(strict=True, ge=1, le=WEEK_SECONDS), WHOLE]
Status = Literal["open", "captured", "released", "expired"]


class OpenHoldRequest(Body):
    """How much of whose money to reserve, for how long and what for."""

    organization_id: UUID
    amount: PositiveAmount
    expires_in_seconds: ExpiresInSeconds
    description: Note | None = None


class CaptureHoldRequest(Body):
    """How much to take. final: give the rest back."""

    organization_id: UUID
    amount: PositiveAmount
    final: Annotated[bool, Field(strict=True)] = True


class ReleaseHoldRequest(Body):
    """Whose hold it is."""

    organization_id: UUID


class RenewHoldRequest(Body):
    """How much more to reserve, "0" for as much; for how long from now on, never shortened."""

    organization_id: UUID
    amount: GivenAmount
    expires_in_seconds: ExpiresInSeconds


class Hold(Answer):
    """Money that is reserved: amount − captured is held. Once closed, amount is what was captured.

    kind: `usage`, or `session` or `storage` for what a running session or rented storage holds,
    under its id.
    """

    id: UUID
    organization_id: UUID
    kind: Literal["session", "usage", "storage"]
    status: Status
    amount: Usd = Field(validation_alias="amount_micros")
    captured: Usd = Field(validation_alias="captured_micros")
    held: Usd = Field(validation_alias="held_micros")
    description: str | None
    expires_at: AwareDatetime


def _answer(row: Row, response: Response) -> Hold:
    mark_replayed(response, replayed=row["replayed"])
    return Hold.model_validate(row["hold"])


@router.post(
    "/v1/holds",
    status_code=201,
    responses=writes(
        *["insufficient_credits", "debt_outstanding"],
        *["organization_not_found", "organization_closed"],
    ),
)
async def open_hold(
    request: OpenHoldRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Hold:
    """Reserve a customer's money: nobody else spends it until it expires. Needs `admin`."""
    row = await database.call_one(
        "open_hold",
        caller=caller,
        organization_id=request.organization_id,
        amount_micros=request.amount,
        expires_in_seconds=request.expires_in_seconds,
        description=request.description,
        idempotency_key=idempotency_key,
    )
    return _answer(row, response)


@router.post(
    "/v1/holds/{hold_id}/capture",
    responses=writes(
        "hold_not_found", "hold_closed", "capture_exceeds_hold", "hold_of_authorization"
    ),
)
async def capture_hold(
    hold_id: UUID,
    request: CaptureHoldRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Hold:
    """Charge part or all of what a hold keeps. Needs `admin`."""
    row = await database.call_one(
        "capture_hold",
        caller=caller,
        organization_id=request.organization_id,
        hold_id=hold_id,
        amount_micros=request.amount,
        is_final=request.final,
        idempotency_key=idempotency_key,
    )
    return _answer(row, response)


@router.post("/v1/holds/{hold_id}/release", responses=writes("hold_not_found", "hold_closed"))
async def release_hold(
    hold_id: UUID,
    request: ReleaseHoldRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Hold:
    """Give back what a hold keeps. Needs `admin`."""
    row = await database.call_one(
        "release_hold",
        caller=caller,
        organization_id=request.organization_id,
        hold_id=hold_id,
        idempotency_key=idempotency_key,
    )
    return _answer(row, response)


@router.post(
    "/v1/holds/{hold_id}/renew",
    responses=writes("hold_not_found", "hold_closed", "insufficient_credits", "debt_outstanding"),
)
async def renew_hold(
    hold_id: UUID,
    request: RenewHoldRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Hold:
    """Keep a hold for longer, with more in it or as much. Needs `admin`."""
    row = await database.call_one(
        "renew_hold",
        caller=caller,
        organization_id=request.organization_id,
        hold_id=hold_id,
        amount_micros=request.amount,
        expires_in_seconds=request.expires_in_seconds,
        idempotency_key=idempotency_key,
    )
    return _answer(row, response)


@router.get("/v1/holds", responses=customer_refuses())
async def list_holds(
    caller: Customer,
    customer_id: CustomerId = None,
    status: Status | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[Hold]:
    """List holds, newest first, those of sessions among them. Needs `read`."""
    rows = await database.call(
        "list_holds",
        caller=caller,
        organization_id=customer_id,
        status=status,
        limit=limit + 1,
        cursor=cursor,
    )
    return page(Hold, rows, limit)


@router.get("/v1/holds/{hold_id}", responses=customer_refuses("hold_not_found"))
async def get_hold(
    hold_id: UUID,
    caller: Customer,
    customer_id: CustomerId = None,
    database: Database = use(Database),
) -> Hold:
    """Tell what became of a hold. Needs `read`."""
    return Hold.model_validate(
        await database.call_one(
            "get_hold", caller=caller, organization_id=customer_id, hold_id=hold_id
        )
    )
