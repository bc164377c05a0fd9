"""Passports: make, list, rotate and revoke API keys."""

from typing import Annotated
from uuid import UUID

from fastapi import Body as JsonBody
from fastapi import Response
from pydantic import Field

from faregate.backends.database import Database
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer, new_key
from faregate.contract import (
    WHOLE,
    Cursor,
    IdempotencyKey,
    IssuedPassport,
    Limit,
    Moment,
    Name,
    Page,
    Passport,
    Permission,
    customer_refuses,
    issued,
    mark_replayed,
    page,
    writes,
)
from faregate.function import Body, new_router, use

router = new_router("passports")
backends = (Database, UserTokens)

WEEK_SECONDS = 7 * 24 * 3600


class CreatePassportRequest(Body):
    """A passport to be. It cannot have a permission or a lifetime that its issuer lacks."""

    name: Name
    permissions: Annotated[list[Permission], Field(min_length=1, max_length=4)]
    expires_at: Moment | None = None


class RotatePassportRequest(Body):
    """How long the old key lives on, in seconds, at most a week; 0 ends it now."""

    overlap_seconds: Annotated[int, Field(strict=True, ge=0, le=WEEK_SECONDS), WHOLE] = 0


@router.post(
    "/v1/passports",
    status_code=201,
    responses=writes(
        *["expiry_in_the_past", "passport_exceeds_issuer"],
        *["passport_limit_reached", "organization_closed"],
    ),
)
async def create_passport(
    request: CreatePassportRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> IssuedPassport:
    """Make a passport. Its key is in this answer and nowhere else. Needs `write`."""
    key = new_key()
    row = await database.call_one(
        "create_passport",
        caller=caller,
        name=request.name,
        permissions=list(request.permissions),
        expires_at=request.expires_at,
        key_hash=key.hash,
        key_prefix=key.prefix,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return issued(row["passport"], key.key, replayed=row["replayed"])


@router.get("/v1/passports", responses=customer_refuses())
async def list_passports(
    caller: Customer,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[Passport]:
    """List the organization's passports, newest first. Needs `read`."""
    rows = await database.call("list_passports", caller=caller, limit=limit + 1, cursor=cursor)
    return page(Passport, rows, limit)


@router.post(
    "/v1/passports/{passport_id}/rotate",
    status_code=201,
    responses=writes(
        *["passport_not_found", "passport_exceeds_issuer"],
        *["passport_limit_reached", "organization_closed"],
    ),
)
async def rotate_passport(
    passport_id: UUID,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    request: RotatePassportRequest = JsonBody(default_factory=RotatePassportRequest),
    database: Database = use(Database),
) -> IssuedPassport:
    """Replace a passport by one with the same name and rights. Needs `write` and all it grants."""
    key = new_key()
    row = await database.call_one(
        "rotate_passport",
        caller=caller,
        passport_id=passport_id,
        overlap_seconds=request.overlap_seconds,
        key_hash=key.hash,
        key_prefix=key.prefix,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return issued(row["passport"], key.key, replayed=row["replayed"])


@router.post(
    "/v1/passports/{passport_id}/revoke",
    responses=customer_refuses(
        "passport_not_found", "passport_exceeds_issuer", "idempotency_conflict"
    ),
)
async def revoke_passport(
    passport_id: UUID,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Passport:
    """End a passport now: the next call with it is refused. Needs `write` and all it grants."""
    row = await database.call_one(
        "revoke_passport", caller=caller, passport_id=passport_id, idempotency_key=idempotency_key
    )
    mark_replayed(response, replayed=row["replayed"])
    return Passport.model_validate(row["passport"])
