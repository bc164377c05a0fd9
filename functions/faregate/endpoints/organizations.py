"""Organizations and their members. For people: no passport opens these addresses."""

from typing import Annotated
from uuid import UUID

from fastapi import Body as JsonBody
from fastapi import Response
from pydantic import AwareDatetime, Field

from faregate.backends.database import Database, Row
from faregate.backends.tokens import UserTokens
from faregate.caller import User
from faregate.contract import (
    Cursor,
    Email,
    IdempotencyKey,
    Limit,
    Name,
    Organization,
    Page,
    Role,
    Wallet,
    mark_replayed,
    page,
)
from faregate.document import refuses
from faregate.function import Answer, Body, new_router, use

router = new_router("organizations")
backends = (Database, UserTokens)

_USER = ["invalid_request", "unauthenticated", "invalid_token", "user_required", "unavailable"]
_MEMBER = [*_USER, "organization_not_found"]
_MANAGER = [*_MEMBER, "organization_closed", "role_required"]
_BODY = ["body_too_large", "unsupported_media_type"]


class CreateOrganizationRequest(Body):
    """An organization to be."""

    name: Name


class UpdateOrganizationRequest(Body):
    """What changes; the rest stays."""

    name: Name | None = None
    billing_email: Email | None = None


class CloseOrganizationRequest(Body):
    """Whether paid credits that are left are given up, and storage with all that is in it."""

    forfeit_balance: Annotated[bool, Field(strict=True)] = False
    delete_storage: Annotated[bool, Field(strict=True)] = False


class SetMemberRoleRequest(Body):
    """What a member is from now on."""

    role: Role


class OwnOrganization(Organization):
    """An organization and your role in it."""

    role: Role


class NewOrganization(Answer):
    """A new organization and its wallet."""

    organization: Organization
    wallet: Wallet


class Member(Answer):
    """A user in an organization."""

    user_id: UUID
    email: str | None
    role: Role
    created_at: AwareDatetime


def _with_role(row: Row) -> Row:
    organization: Row = row["organization"]
    return organization | {"role": row["role"]}


@router.post(
    "/v1/organizations",
    status_code=201,
    responses=refuses(
        *_USER,
        *_BODY,
        *["email_not_verified", "debt_outstanding"],
        *["organization_limit_reached", "idempotency_conflict"],
    ),
)
async def create_organization(
    request: CreateOrganizationRequest,
    user: User,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> NewOrganization:
    """Make another organization, on the free plan: you are its owner."""
    row = await database.call_one(
        "create_organization", user_id=user, name=request.name, idempotency_key=idempotency_key
    )
    mark_replayed(response, replayed=row["replayed"])
    return NewOrganization.model_validate(row["registration"])


@router.get("/v1/organizations", responses=refuses(*_USER))
async def list_organizations(
    user: User, limit: Limit = 50, cursor: Cursor = None, database: Database = use(Database)
) -> Page[OwnOrganization]:
    """List the organizations that you belong to, newest first, and your role in each."""
    rows = await database.call("list_organizations", user_id=user, limit=limit + 1, cursor=cursor)
    return page(OwnOrganization, [_with_role(row) for row in rows], limit)


@router.get("/v1/organizations/{organization_id}", responses=refuses(*_MEMBER))
async def get_organization(
    organization_id: UUID, user: User, database: Database = use(Database)
) -> OwnOrganization:
    """Give an organization that you belong to."""
    row = await database.call_one("get_organization", user_id=user, organization_id=organization_id)
    return OwnOrganization.model_validate(_with_role(row))


@router.patch("/v1/organizations/{organization_id}", responses=refuses(*_MANAGER, *_BODY))
async def update_organization(
    organization_id: UUID,
    user: User,
    request: UpdateOrganizationRequest = JsonBody(default_factory=UpdateOrganizationRequest),
    database: Database = use(Database),
) -> OwnOrganization:
    """Change an organization's name or the address for its bills. For owners and admins."""
    row = await database.call_one(
        "update_organization",
        user_id=user,
        organization_id=organization_id,
        name=request.name,
        billing_email=request.billing_email,
    )
    return OwnOrganization.model_validate(_with_role(row))


@router.post(
    "/v1/organizations/{organization_id}/close",
    responses=refuses(
        *_MANAGER,
        *_BODY,
        *["operators_own", "storage_left", "holds_open", "debt_outstanding"],
        *["top_up_under_way", "balance_left"],
        "idempotency_conflict",
    ),
)
async def close_organization(
    organization_id: UUID,
    user: User,
    idempotency_key: IdempotencyKey,
    response: Response,
    request: CloseOrganizationRequest = JsonBody(default_factory=CloseOrganizationRequest),
    database: Database = use(Database),
) -> Organization:
    """Close an organization for good: what runs is stopped and charged. For owners."""
    row = await database.call_one(
        "close_organization",
        user_id=user,
        organization_id=organization_id,
        forfeit_balance=request.forfeit_balance,
        delete_storage=request.delete_storage,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return Organization.model_validate(row["organization"])


@router.get("/v1/organizations/{organization_id}/members", responses=refuses(*_MEMBER))
async def list_members(
    organization_id: UUID,
    user: User,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[Member]:
    """List an organization's members, in the order of their ids."""
    rows = await database.call(
        "list_members",
        user_id=user,
        organization_id=organization_id,
        limit=limit + 1,
        cursor=cursor,
    )
    return page(Member, rows, limit, "user_id")


@router.put(
    "/v1/organizations/{organization_id}/members/{user_id}",
    responses=refuses(*_MANAGER, *_BODY, "member_not_found", "last_owner"),
)
async def set_member_role(
    organization_id: UUID,
    user_id: UUID,
    request: SetMemberRoleRequest,
    user: User,
    database: Database = use(Database),
) -> Member:
    """Give a member another role. Owners decide about everybody, admins about all but owners.

    With a lower role end the member's passports that may do more.
    """
    row = await database.call_one(
        "set_member_role",
        user_id=user,
        organization_id=organization_id,
        member_id=user_id,
        role=request.role,
    )
    return Member.model_validate(row)


@router.delete(
    "/v1/organizations/{organization_id}/members/{user_id}",
    status_code=204,
    responses=refuses(*_MANAGER, "member_not_found", "last_owner"),
)
async def remove_member(
    organization_id: UUID, user_id: UUID, user: User, database: Database = use(Database)
) -> Response:
    """Remove a member, or leave: all their passports end. Sessions go on."""
    await database.call(
        "remove_member", user_id=user, organization_id=organization_id, member_id=user_id
    )
    return Response(status_code=204)
