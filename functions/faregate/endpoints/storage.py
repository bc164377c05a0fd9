"""Storage: rent buckets and file shares, resize, attach and delete them."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Response
from pydantic import AwareDatetime, Field, model_validator

from faregate.backends.database import Database
from faregate.backends.tasks import Tasks
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.contract import (
    WHOLE,
    Cursor,
    IdempotencyKey,
    Limit,
    Name,
    Page,
    RegionId,
    customer_refuses,
    mark_replayed,
    page,
    writes,
)
from faregate.function import Answer, Body, new_router, use
from faregate.money import Usd
from faregate.outbox import tell

router = new_router("storage")
backends = (Database, UserTokens, Tasks)

Kind = Literal["bucket", "filestore"]
Status = Literal[
    "requested",
    "provisioning",
    "ready",
    "grace",
    "read_only",
    "deletion_notice",
    "deleting",
    "deleted",
    "failed",
]
MAX_GB = 1_000_000
Gigabytes = Annotated[int, Field(strict=True, ge=1, le=MAX_GB), WHOLE]
# For how long Cloud Storage keeps what was deleted.
SoftDeleteDays = Annotated[int, Field(strict=True, ge=7, le=90), WHOLE]
DeleteAfterDays = Annotated[int, Field(strict=True, ge=1, le=3650), WHOLE]


class CreateStorageRequest(Body):
    """Storage to be: a GB is 2³⁰ bytes. The two options in days are of buckets.

    soft_delete_days: for so long a deleted object can be restored. delete_after_days: objects are
    deleted by themselves.
    """

    kind: Kind
    region: RegionId | None = None
    size_gb: Gigabytes
    name: Name | None = None
    workspace_id: UUID | None = None
    soft_delete_days: SoftDeleteDays | None = None
    delete_after_days: DeleteAfterDays | None = None

    @model_validator(mode="after")
    def _options_are_of_buckets(self) -> "CreateStorageRequest":
        if self.kind != "bucket" and (self.soft_delete_days or self.delete_after_days):
            raise ValueError("soft_delete_days and delete_after_days are of buckets")
        return self


class ResizeStorageRequest(Body):
    """The size that it is to have."""

    size_gb: Gigabytes


class AttachStorageRequest(Body):
    """The workspace that it is to belong to."""

    workspace_id: UUID


class Region(Answer):
    """Where the caller's plan may rent what: for how much, how large, how many at a time."""

    kind: Kind
    region: str
    provider: Literal["gcs", "s3", "filestore"]
    is_default: bool
    gb_month_price: Usd = Field(validation_alias="gb_month_price_micros")
    min_gb: int
    max_gb: int
    step_gb: int
    max_count: int


class Regions(Answer):
    """All regions there are."""

    data: list[Region]


class StorageEstimate(Answer):
    """What storage costs in a month of 730 hours, and what must be available to rent it."""

    kind: Kind
    region: str
    size_gb: int
    gb_month_price: Usd = Field(validation_alias="gb_month_price_micros")
    month_cost: Usd = Field(validation_alias="month_cost_micros")
    required: Usd = Field(validation_alias="required_micros")
    available: Usd = Field(validation_alias="available_micros")


class Storage(Answer):
    """A bucket or a file share with its cost as of now.

    Of its cost, unpaid is what neither a charge nor a hold covers. resource_name is its name in
    the cloud; access what the organization's service account may do there.
    """

    id: UUID
    kind: Kind
    region: str
    name: str | None
    workspace_id: UUID | None
    status: Status
    status_since: AwareDatetime
    size_gb: int
    resize_to_gb: int | None
    included_gb: int
    used_bytes: int | None
    measured_at: AwareDatetime | None
    soft_delete_days: int
    delete_after_days: int | None
    gb_month_price: Usd | None = Field(validation_alias="gb_month_price_micros")
    cost: Usd = Field(validation_alias="cost_micros")
    charged: Usd = Field(validation_alias="charged_micros")
    unpaid: Usd = Field(validation_alias="unpaid_micros")
    held: Usd = Field(validation_alias="held_micros")
    paid_until: AwareDatetime | None
    resource_name: str | None
    access: Literal["write", "read"] | None
    mount: str | None
    failure: str | None
    created_at: AwareDatetime
    ready_at: AwareDatetime | None
    ended_at: AwareDatetime | None
    deleted_at: AwareDatetime | None


async def _changed(database: Database, tasks: Tasks, row: dict[str, Any]) -> Storage:
    """Answer what a call changed, having told the queue that the cloud is to follow."""
    await tell(database, tasks, "provision_storage")
    return Storage.model_validate(row)


@router.get("/v1/storage/regions", responses=customer_refuses())
async def list_regions(caller: Customer, database: Database = use(Database)) -> Regions:
    """List where storage can be rented on the caller's plan. Needs `read`."""
    rows = await database.call("list_regions", caller=caller)
    return Regions.model_validate({"data": rows})


@router.get(
    "/v1/storage/estimate",
    responses=customer_refuses("region_not_offered", "size_not_allowed", "storage_not_allowed"),
)
async def estimate_storage(
    caller: Customer,
    kind: Kind,
    size_gb: Annotated[int, Query(ge=1, le=MAX_GB)],
    region: Annotated[RegionId | None, Query()] = None,
    database: Database = use(Database),
) -> StorageEstimate:
    """Tell what storage would cost. Needs `read`."""
    row = await database.call_one(
        "estimate_storage", caller=caller, kind=kind, region=region, size_gb=size_gb
    )
    return StorageEstimate.model_validate(row)


@router.post(
    "/v1/storage",
    status_code=201,
    responses=writes(
        "region_not_offered",
        "size_not_allowed",
        "insufficient_credits",
        "storage_not_allowed",
        "storage_limit_reached",
        "workspace_not_found",
        "organization_closed",
    ),
)
async def create_storage(
    request: CreateStorageRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
    tasks: Tasks = use(Tasks),
) -> Storage:
    """Rent a bucket or a file share: charged to the second once it is there. Needs `write`."""
    row = await database.call_one(
        "create_storage",
        caller=caller,
        kind=request.kind,
        region=request.region,
        size_gb=request.size_gb,
        name=request.name,
        workspace_id=request.workspace_id,
        soft_delete_days=request.soft_delete_days,
        delete_after_days=request.delete_after_days,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return await _changed(database, tasks, row["storage"])


@router.get("/v1/storage", responses=customer_refuses())
async def list_storage(
    caller: Customer,
    kind: Kind | None = None,
    status: Status | None = None,
    workspace_id: UUID | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[Storage]:
    """List storage, newest first. Needs `read`."""
    rows = await database.call(
        "list_storage",
        caller=caller,
        kind=kind,
        status=status,
        workspace_id=workspace_id,
        limit=limit + 1,
        cursor=cursor,
    )
    return page(Storage, rows, limit)


@router.get("/v1/storage/{storage_id}", responses=customer_refuses("storage_not_found"))
async def get_storage(
    storage_id: UUID, caller: Customer, database: Database = use(Database)
) -> Storage:
    """Tell the state of storage and its cost as of now. Needs `read`."""
    return Storage.model_validate(
        await database.call_one("get_storage", caller=caller, storage_id=storage_id)
    )


@router.post(
    "/v1/storage/{storage_id}/resize",
    responses=writes(
        "size_not_allowed",
        "insufficient_credits",
        "storage_not_allowed",
        "storage_not_found",
        "storage_not_ready",
        "storage_in_use",
    ),
)
async def resize_storage(
    storage_id: UUID,
    request: ResizeStorageRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
    tasks: Tasks = use(Tasks),
) -> Storage:
    """Give storage another size: a file share has it when the cloud says so. Needs `write`."""
    row = await database.call_one(
        "resize_storage",
        caller=caller,
        storage_id=storage_id,
        size_gb=request.size_gb,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return await _changed(database, tasks, row["storage"])


@router.delete(
    "/v1/storage/{storage_id}",
    responses=customer_refuses("storage_not_found", "storage_attached", "storage_is_source"),
)
async def delete_storage(
    storage_id: UUID,
    caller: Customer,
    database: Database = use(Database),
    tasks: Tasks = use(Tasks),
) -> Storage:
    """Delete storage with all that is in it, charged to now. Needs `write`."""
    row = await database.call_one("delete_storage", caller=caller, storage_id=storage_id)
    return await _changed(database, tasks, row)


@router.post(
    "/v1/storage/{storage_id}/attach",
    responses=customer_refuses(
        "workspace_not_found",
        "storage_not_found",
        "storage_not_ready",
        "storage_attached",
        "body_too_large",
        "unsupported_media_type",
    ),
)
async def attach_storage(
    storage_id: UUID,
    request: AttachStorageRequest,
    caller: Customer,
    database: Database = use(Database),
) -> Storage:
    """Attach storage to a workspace: twice is as good as once. Needs `write`."""
    row = await database.call_one(
        "attach_storage", caller=caller, storage_id=storage_id, workspace_id=request.workspace_id
    )
    return Storage.model_validate(row)


@router.post(
    "/v1/storage/{storage_id}/detach",
    responses=customer_refuses("storage_not_found", "workspace_busy"),
)
async def detach_storage(
    storage_id: UUID, caller: Customer, database: Database = use(Database)
) -> Storage:
    """Take storage out of its workspace: twice is as good as once. Needs `write`."""
    row = await database.call_one("detach_storage", caller=caller, storage_id=storage_id)
    return Storage.model_validate(row)
