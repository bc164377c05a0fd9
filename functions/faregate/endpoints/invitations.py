"""Invitations: members and owners to be, asked by e-mail."""

from hashlib import sha256
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Response
from pydantic import AwareDatetime, StringConstraints

from faregate.backends.database import Database
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer, User
from faregate.contract import (
    Cursor,
    Email,
    IdempotencyKey,
    Limit,
    Page,
    Role,
    mark_replayed,
    page,
)
from faregate.document import refuses
from faregate.function import Answer, Body, new_router, use

router = new_router("invitations")
backends = (Database, UserTokens)

_INVITER_REFUSALS = (
    *("invalid_request", "unauthenticated", "invalid_passport", "invalid_token"),
    *("permission_denied", "role_required", "organization_not_found", "organization_closed"),
)


class InviteRequest(Body):
    """Who is invited, and what they will be."""

    email: Email
    role: Role


class AcceptInvitationRequest(Body):
    """What the link of the mail carries as `invitation`."""

    token: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")]


class Invitation(Answer):
    """Who was invited, and what became of it. failure: why the mail cannot be sent."""

    id: UUID
    organization_id: UUID
    email: str
    role: Role
    status: Literal["pending", "sent", "accepted", "revoked", "expired", "failed"]
    failure: str | None
    invited_by: str
    created_at: AwareDatetime
    expires_at: AwareDatetime
    accepted_at: AwareDatetime | None


class Membership(Answer):
    """What a user is in an organization."""

    organization_id: UUID
    user_id: UUID
    email: str
    role: Role
    created_at: AwareDatetime


@router.post(
    "/v1/organizations/{organization_id}/invitations",
    status_code=201,
    responses=refuses(
        *_INVITER_REFUSALS,
        *["already_member", "invitation_limit_reached", "idempotency_conflict"],
        *["body_too_large", "unsupported_media_type", "unavailable"],
    ),
)
async def invite(
    organization_id: UUID,
    request: InviteRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Invitation:
    """Invite somebody by e-mail. Again, it replaces the invitation that their address has open.

    For owners in person, for admins in person but not owners to be, for operators by passport. The
    mail goes out within a minute.
    """
    row = await database.call_one(
        "create_invitation",
        caller=caller,
        organization_id=organization_id,
        email=request.email,
        role=request.role,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return Invitation.model_validate(row["invitation"])


@router.get(
    "/v1/organizations/{organization_id}/invitations",
    responses=refuses(*_INVITER_REFUSALS, "unavailable"),
)
async def list_invitations(
    organization_id: UUID,
    caller: Customer,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[Invitation]:
    """List an organization's invitations, newest first. For whoever may invite."""
    rows = await database.call(
        "list_invitations",
        caller=caller,
        organization_id=organization_id,
        limit=limit + 1,
        cursor=cursor,
    )
    return page(Invitation, rows, limit)


@router.post(
    "/v1/organizations/{organization_id}/invitations/{invitation_id}/revoke",
    responses=refuses(
        *_INVITER_REFUSALS,
        *["invitation_not_found", "invitation_closed", "idempotency_conflict", "unavailable"],
    ),
)
async def revoke_invitation(
    organization_id: UUID,
    invitation_id: UUID,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Invitation:
    """Withdraw an invitation. For whoever may invite."""
    row = await database.call_one(
        "revoke_invitation",
        caller=caller,
        organization_id=organization_id,
        invitation_id=invitation_id,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return Invitation.model_validate(row["invitation"])


@router.post(
    "/v1/invitations/accept",
    responses=refuses(
        *["invalid_request", "unauthenticated", "invalid_token", "user_required"],
        "email_not_verified",
        *["invitation_not_found", "already_member", "idempotency_conflict", "body_too_large"],
        *["unsupported_media_type", "unavailable"],
    ),
)
async def accept_invitation(
    request: AcceptInvitationRequest,
    user: User,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Membership:
    """Join the organization that you were invited to, with the address that was invited."""
    row = await database.call_one(
        "accept_invitation",
        user_id=user,
        token_hash=sha256(request.token.encode()).hexdigest(),
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return Membership.model_validate(row["member"])
