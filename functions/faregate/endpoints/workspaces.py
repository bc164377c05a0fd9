"""Workspaces: make, list, look into, rename and delete them."""

from uuid import UUID

from fastapi import Response
from pydantic import AwareDatetime

from faregate.backends.database import Database
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.contract import (
    Cursor,
    IdempotencyKey,
    Limit,
    Name,
    Page,
    customer_refuses,
    mark_replayed,
    page,
    writes,
)
from faregate.function import Answer, Body, new_router, use

router = new_router("workspaces")
backends = (Database, UserTokens)


class CreateWorkspaceRequest(Body):
    """A workspace to be."""

    name: Name


class UpdateWorkspaceRequest(Body):
    """Its name from now on."""

    name: Name


class Workspace(Answer):
    """What spaces, storage and sessions are attached to."""

    id: UUID
    name: str
    created_at: AwareDatetime


class WorkspaceContents(Workspace):
    """A workspace, the storage and spaces attached to it, and how many sessions run in it."""

    storage_ids: list[UUID]
    spaces: list[str]
    running_sessions: int


@router.post(
    "/v1/workspaces",
    status_code=201,
    responses=writes("workspace_limit_reached", "organization_closed"),
)
async def create_workspace(
    request: CreateWorkspaceRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Workspace:
    """Make a workspace. Needs `write`."""
    row = await database.call_one(
        "create_workspace", caller=caller, name=request.name, idempotency_key=idempotency_key
    )
    mark_replayed(response, replayed=row["replayed"])
    return Workspace.model_validate(row["workspace"])


@router.get("/v1/workspaces", responses=customer_refuses())
async def list_workspaces(
    caller: Customer,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[Workspace]:
    """List workspaces, newest first. Needs `read`."""
    rows = await database.call("list_workspaces", caller=caller, limit=limit + 1, cursor=cursor)
    return page(Workspace, rows, limit)


@router.get("/v1/workspaces/{workspace_id}", responses=customer_refuses("workspace_not_found"))
async def get_workspace(
    workspace_id: UUID, caller: Customer, database: Database = use(Database)
) -> WorkspaceContents:
    """Tell what is attached to a workspace and how many sessions run in it. Needs `read`."""
    row = await database.call_one("get_workspace", caller=caller, workspace_id=workspace_id)
    return WorkspaceContents.model_validate(row["workspace"] | row)


@router.patch(
    "/v1/workspaces/{workspace_id}",
    responses=customer_refuses("workspace_not_found", "body_too_large", "unsupported_media_type"),
)
async def update_workspace(
    workspace_id: UUID,
    request: UpdateWorkspaceRequest,
    caller: Customer,
    database: Database = use(Database),
) -> Workspace:
    """Give a workspace another name. Needs `write`."""
    row = await database.call_one(
        "update_workspace", caller=caller, workspace_id=workspace_id, name=request.name
    )
    return Workspace.model_validate(row)


@router.delete(
    "/v1/workspaces/{workspace_id}",
    status_code=204,
    responses=customer_refuses("workspace_not_found", "workspace_in_use"),
)
async def delete_workspace(
    workspace_id: UUID, caller: Customer, database: Database = use(Database)
) -> Response:
    """Delete a workspace to which nothing is attached and in which nothing runs. Needs `write`."""
    await database.call("delete_workspace", caller=caller, workspace_id=workspace_id)
    return Response(status_code=204)
