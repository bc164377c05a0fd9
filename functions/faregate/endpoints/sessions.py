"""Sessions: estimate, start, heartbeat, watch and stop."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Body as JsonBody
from fastapi import Query, Response
from pydantic import AwareDatetime, Field, StringConstraints

from faregate.backends.database import Database
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.contract import (
    WHOLE,
    Cursor,
    IdempotencyKey,
    Limit,
    Name,
    Page,
    Tier,
    customer_refuses,
    mark_replayed,
    page,
    writes,
)
from faregate.function import Answer, Body, new_router, use
from faregate.money import Usd

router = new_router("sessions")
backends = (Database, UserTokens)

MONTH_SECONDS = 31 * 24 * 3600
MaxSeconds = Annotated[int, Field(strict=True, ge=60, le=MONTH_SECONDS), WHOLE]
PresetId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,30}$")]
TimeoutSeconds = Annotated[int, Field(strict=True, ge=30, le=3600), WHOLE]


class StartSessionRequest(Body):
    """A session to be, of a tier or a preset.

    max_seconds ends it, a preset's at the latest with its minutes; heartbeat_timeout_seconds closes
    a silent one.
    """

    tier: Tier | None = None
    preset: PresetId | None = None
    name: Name | None = None
    workspace_id: UUID | None = None
    max_seconds: MaxSeconds | None = None
    heartbeat_timeout_seconds: TimeoutSeconds | None = None


class StopSessionRequest(Body):
    """Why it ends: `failed` when the resource broke. Charged to this moment either way."""

    reason: Literal["stopped", "failed"] = "stopped"


class Preset(Answer):
    """A session by name: what it and what it needs cost on the caller's plan.

    The session for all its minutes, the storage for a month, the space once. is_allowed: whether
    the plan includes its tier and storage.
    """

    id: str
    title: str
    tier: Tier
    minutes: int
    hourly_price: Usd | None = Field(validation_alias="hourly_price_micros")
    cost: Usd | None = Field(validation_alias="cost_micros")
    storage_kind: Literal["bucket", "filestore"] | None
    storage_gb: int | None
    storage_month_cost: Usd | None = Field(validation_alias="storage_month_cost_micros")
    space: str | None
    space_price: Usd | None = Field(validation_alias="space_price_micros")
    is_allowed: bool


class Presets(Answer):
    """All presets there are."""

    data: list[Preset]


class SessionEstimate(Answer):
    """What a session costs, what must be available to start it, how long the balance lasts.

    Of a preset, storage and space are told where they are not there yet, and are part of required.
    """

    tier: Tier
    seconds: int
    hourly_price: Usd = Field(validation_alias="hourly_price_micros")
    cost: Usd = Field(validation_alias="cost_micros")
    preset: str | None
    storage_kind: Literal["bucket", "filestore"] | None
    storage_gb: int | None
    storage_month_cost: Usd | None = Field(validation_alias="storage_month_cost_micros")
    storage_required: Usd | None = Field(validation_alias="storage_required_micros")
    space: str | None
    space_price: Usd | None = Field(validation_alias="space_price_micros")
    required: Usd = Field(validation_alias="required_micros")
    available: Usd = Field(validation_alias="available_micros")
    affordable_seconds: int | None


class Session(Answer):
    """A session with its cost as of now. is_last_window: it ends at paid_until."""

    id: UUID
    name: str | None
    workspace_id: UUID | None
    preset: str | None
    tier: Tier
    status: Literal["running", "closed"]
    close_reason: Literal["stopped", "exhausted", "lost", "expired", "failed", "frozen"] | None
    hourly_price: Usd = Field(validation_alias="hourly_price_micros")
    cost: Usd = Field(validation_alias="cost_micros")
    charged: Usd = Field(validation_alias="charged_micros")
    held: Usd = Field(validation_alias="held_micros")
    started_at: AwareDatetime
    paid_until: AwareDatetime
    is_last_window: bool
    expires_at: AwareDatetime | None
    heartbeat_timeout_seconds: int | None
    last_heartbeat_at: AwareDatetime
    ended_at: AwareDatetime | None


@router.get("/v1/sessions/presets", responses=customer_refuses())
async def list_presets(caller: Customer, database: Database = use(Database)) -> Presets:
    """List what sessions can be started by name, with the caller's prices. Needs `read`."""
    return Presets.model_validate({"data": await database.call("list_presets", caller=caller)})


@router.get(
    "/v1/sessions/estimate",
    responses=customer_refuses(
        *["tier_or_preset", "preset_exceeded", "region_not_offered", "size_not_allowed"],
        *["tier_not_allowed", "storage_not_allowed", "preset_not_found"],
    ),
)
async def estimate_session(
    caller: Customer,
    tier: Tier | None = None,
    preset: Annotated[PresetId | None, Query()] = None,
    workspace_id: UUID | None = None,
    seconds: Annotated[int | None, Query(ge=1, le=MONTH_SECONDS)] = None,
    database: Database = use(Database),
) -> SessionEstimate:
    """Tell what a preset, or so many seconds of a tier, would cost now. Needs `read`."""
    row = await database.call_one(
        "estimate_session",
        caller=caller,
        tier=tier,
        preset=preset,
        workspace_id=workspace_id,
        seconds=seconds,
    )
    return SessionEstimate.model_validate(row)


@router.post(
    "/v1/sessions",
    status_code=201,
    responses=writes(
        *["tier_or_preset", "preset_exceeded", "insufficient_credits", "tier_not_allowed"],
        *["workspace_not_found", "preset_not_found", "organization_closed", "preset_incomplete"],
    ),
)
async def start_session(
    request: StartSessionRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Session:
    """Start a session: its first window is held, then charged to the second. Needs `write`."""
    row = await database.call_one(
        "start_session",
        caller=caller,
        tier=request.tier,
        preset=request.preset,
        name=request.name,
        workspace_id=request.workspace_id,
        max_seconds=request.max_seconds,
        heartbeat_timeout_seconds=request.heartbeat_timeout_seconds,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return Session.model_validate(row["session"])


@router.get("/v1/sessions", responses=customer_refuses())
async def list_sessions(
    caller: Customer,
    status: Literal["running", "closed"] | None = None,
    workspace_id: UUID | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[Session]:
    """List sessions, newest first. Needs `read`."""
    rows = await database.call(
        "list_sessions",
        caller=caller,
        status=status,
        workspace_id=workspace_id,
        limit=limit + 1,
        cursor=cursor,
    )
    return page(Session, rows, limit)


@router.get("/v1/sessions/{session_id}", responses=customer_refuses("session_not_found"))
async def get_session(
    session_id: UUID, caller: Customer, database: Database = use(Database)
) -> Session:
    """Tell a session's state and its cost as of now. Needs `read`."""
    return Session.model_validate(
        await database.call_one("get_session", caller=caller, session_id=session_id)
    )


@router.post(
    "/v1/sessions/{session_id}/heartbeat",
    responses=customer_refuses("session_not_found", "session_closed"),
)
async def heartbeat_session(
    session_id: UUID, caller: Customer, database: Database = use(Database)
) -> Session:
    """Say that the resource is alive: twice is as good as once. Needs `write`."""
    return Session.model_validate(
        await database.call_one("heartbeat_session", caller=caller, session_id=session_id)
    )


@router.post("/v1/sessions/{session_id}/stop", responses=writes("session_not_found"))
async def stop_session(
    session_id: UUID,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    request: StopSessionRequest = JsonBody(default_factory=StopSessionRequest),
    database: Database = use(Database),
) -> Session:
    """Stop a session and charge it to now; a closed one answers how it ended. Needs `write`."""
    row = await database.call_one(
        "stop_session",
        caller=caller,
        session_id=session_id,
        reason=request.reason,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return Session.model_validate(row["session"])
