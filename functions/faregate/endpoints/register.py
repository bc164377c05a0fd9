"""Registration: a verified person, or an operator for a customer, gets an organization."""

import asyncio
from typing import Annotated

from fastapi import Body as JsonBody
from fastapi import Response
from pydantic import Field

from faregate.backends.database import Database, Row
from faregate.backends.tasks import Tasks
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer, User, new_key
from faregate.contract import (
    Email,
    IdempotencyKey,
    IssuedPassport,
    Name,
    Organization,
    PlanId,
    Wallet,
    issued,
    mark_replayed,
    writes,
)
from faregate.document import refuses
from faregate.function import Answer, Body, new_router, use
from faregate.outbox import tell

router = new_router("register")
backends = (Database, UserTokens, Tasks)


class RegisterRequest(Body):
    """What a person chooses for themselves: a name."""

    organization_name: Name | None = None


class RegisterCustomerRequest(Body):
    """What an operator chooses for a customer, who claims the organization by registering.

    invite: the customer is told by e-mail, and may as well accept the invitation.
    """

    email: Email
    plan: PlanId
    organization_name: Name | None = None
    invite: Annotated[bool, Field(strict=True)] = False


class Registration(Answer):
    """A new organization, its first passport and its wallet."""

    organization: Organization
    passport: IssuedPassport
    wallet: Wallet


def _registration(row: Row, key: str, response: Response) -> Registration:
    mark_replayed(response, replayed=row["replayed"])
    registration = row["registration"]
    return Registration(
        organization=Organization.model_validate(registration["organization"]),
        passport=issued(registration["passport"], key, replayed=row["replayed"]),
        wallet=Wallet.model_validate(registration["wallet"]),
    )


async def _tell(database: Database, tasks: Tasks) -> None:
    """Have what comes with a registration made at once, and not within a minute."""
    topics = ("provision_identity", "provision_storage")
    await asyncio.gather(*(tell(database, tasks, topic) for topic in topics))


@router.post(
    "/v1/register",
    status_code=201,
    responses=refuses(
        *["invalid_request", "unauthenticated", "invalid_token", "user_required"],
        "email_not_verified",
        *["already_registered", "idempotency_conflict", "body_too_large"],
        *["unsupported_media_type", "unavailable"],
    ),
)
async def register(
    user: User,
    idempotency_key: IdempotencyKey,
    response: Response,
    request: RegisterRequest = JsonBody(default_factory=RegisterRequest),
    database: Database = use(Database),
    tasks: Tasks = use(Tasks),
) -> Registration:
    """Register yourself: a user with a verified e-mail address becomes an organization's owner."""
    key = new_key()
    row = await database.call_one(
        "register",
        user_id=user,
        organization_name=request.organization_name,
        key_hash=key.hash,
        key_prefix=key.prefix,
        idempotency_key=idempotency_key,
    )
    await _tell(database, tasks)
    return _registration(row, key.key, response)


@router.post(
    "/v1/register/customers",
    status_code=201,
    responses=writes("plan_unknown", "already_registered"),
)
async def register_customer(
    request: RegisterCustomerRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
    tasks: Tasks = use(Tasks),
) -> Registration:
    """Register a customer of any plan by e-mail. Needs `admin`."""
    key = new_key()
    row = await database.call_one(
        "register_customer",
        caller=caller,
        email=request.email,
        plan_id=request.plan,
        organization_name=request.organization_name,
        is_invited=request.invite,
        key_hash=key.hash,
        key_prefix=key.prefix,
        idempotency_key=idempotency_key,
    )
    await _tell(database, tasks)
    return _registration(row, key.key, response)
