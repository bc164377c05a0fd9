"""Spaces: the catalogue, what was bought and where it is attached, clones, and publishing."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import Path, Response
from pydantic import AwareDatetime, Field, StringConstraints

from faregate.backends.database import Database
from faregate.backends.tasks import Tasks
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.contract import (
    Cursor,
    IdempotencyKey,
    Limit,
    Name,
    Note,
    Page,
    RegionId,
    customer_refuses,
    mark_replayed,
    page,
    writes,
)
from faregate.function import Answer, Body, new_router, use
from faregate.money import GivenAmount, Usd
from faregate.outbox import tell

router = new_router("spaces")
backends = (Database, UserTokens, Tasks)

Status = Literal["in_review", "published", "rejected", "withdrawn"]

_SLUG = r"^[a-z][a-z0-9-]{2,40}$"
Slug = Annotated[str, Path(pattern=_SLUG, description="What the space is called.")]
NewSlug = Annotated[str, StringConstraints(pattern=_SLUG)]
Description = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True,
        min_length=1,
        max_length=1000,
        pattern=r"^[^\x00-\x09\x0b-\x1f\x7f]*$",
    ),
]


class PublishSpaceRequest(Body):
    """A space to be, with the content of a bucket of one's own, at a price for everybody."""

    slug: NewSlug
    title: Name
    description: Description
    storage_id: UUID
    price: GivenAmount
    is_cloneable: Annotated[bool, Field(strict=True)] = False


class ReviewSpaceRequest(Body):
    """What an operator decides, and why, which the publisher reads."""

    decision: Literal["approve", "reject"]
    reason: Note


class SetSourceRequest(Body):
    """The operator's bucket that a space of the platform comes from."""

    storage_id: UUID
    is_cloneable: Annotated[bool, Field(strict=True)]


class RefundPurchaseRequest(Body):
    """Whose purchase it is, and why the money goes back, which the customer reads."""

    organization_id: UUID
    reason: Note


class WorkspaceRequest(Body):
    """The workspace that a space goes into or comes from."""

    workspace_id: UUID


class CloneSpaceRequest(Body):
    """Where the copy goes: without a region the default one, without a name the space's title."""

    workspace_id: UUID | None = None
    region: RegionId | None = None
    name: Name | None = None


class Space(Answer):
    """A space as the caller sees it: what it costs them, and whether they have it.

    source_storage_id and review_reason: for its publisher and for operators.
    """

    id: UUID
    slug: str
    title: str
    description: str
    size_gb: int
    is_cloneable: bool
    publisher: str | None
    status: Status
    price: Usd | None = Field(validation_alias="price_micros")
    is_own: bool
    is_owned: bool
    workspace_ids: list[UUID]
    source_storage_id: UUID | None
    review_reason: str | None
    created_at: AwareDatetime
    published_at: AwareDatetime | None
    withdrawn_at: AwareDatetime | None


class Purchase(Answer):
    """A space that was bought, and for how much. sequence: the transaction that paid for it."""

    id: UUID
    organization_id: UUID
    space: str
    status: Literal["owned", "refunded"]
    price: Usd = Field(validation_alias="price_micros")
    sequence: int | None
    purchased_by: str
    purchased_at: AwareDatetime
    refunded_at: AwareDatetime | None
    refund_reason: str | None


class Attachment(Answer):
    """A space in a workspace."""

    space: str
    workspace_id: UUID
    attached_by: str
    attached_at: AwareDatetime


class Clone(Answer):
    """A copy of a space and how far it is. source_bytes: how many it will have, if known."""

    id: UUID
    space: str
    purchase_id: UUID
    storage_id: UUID
    status: Literal["requested", "copying", "done", "failed"]
    copied_objects: int
    copied_bytes: int
    source_bytes: int | None
    failure: str | None
    created_at: AwareDatetime
    finished_at: AwareDatetime | None
    ended_at: AwareDatetime | None


@router.get("/v1/spaces", responses=customer_refuses())
async def list_spaces(
    caller: Customer,
    status: Status = "published",
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[Space]:
    """List spaces, newest first; unpublished ones are for their publisher and operators.

    Needs `read`.
    """
    rows = await database.call(
        "list_spaces", caller=caller, status=status, limit=limit + 1, cursor=cursor
    )
    return page(Space, [row["space"] for row in rows], limit)


@router.post(
    "/v1/spaces",
    status_code=201,
    responses=writes(
        *["slug_not_allowed", "slug_taken", "too_many_in_review", "amount_out_of_bounds"],
        "organization_closed",
        *["storage_not_found", "bucket_required", "storage_not_ready"],
    ),
)
async def publish_space(
    request: PublishSpaceRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Space:
    """Submit a space of your own: an operator decides about it. Needs `write`."""
    row = await database.call_one(
        "publish_space",
        caller=caller,
        slug=request.slug,
        title=request.title,
        description=request.description,
        storage_id=request.storage_id,
        price_micros=request.price,
        is_cloneable=request.is_cloneable,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return Space.model_validate(row["space"])


@router.get("/v1/spaces/purchases", responses=customer_refuses())
async def list_purchases(
    caller: Customer,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[Purchase]:
    """List the spaces that were bought, newest first. Needs `read`."""
    rows = await database.call("list_purchases", caller=caller, limit=limit + 1, cursor=cursor)
    return page(Purchase, rows, limit)


@router.post(
    "/v1/spaces/purchases/{purchase_id}/refund",
    responses=writes(
        *["purchase_not_found", "purchase_refunded", "purchase_cloned"],
        *["organization_closed", "amount_out_of_bounds"],
    ),
)
async def refund_purchase(
    purchase_id: UUID,
    request: RefundPurchaseRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Purchase:
    """Give a customer the price of a space back, as the credits that paid it. Needs `admin`."""
    row = await database.call_one(
        "refund_purchase",
        caller=caller,
        purchase_id=purchase_id,
        organization_id=request.organization_id,
        reason=request.reason,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return Purchase.model_validate(row["purchase"])


@router.get("/v1/spaces/clones", responses=customer_refuses())
async def list_clones(
    caller: Customer,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[Clone]:
    """List clones, newest first. Needs `read`."""
    rows = await database.call("list_clones", caller=caller, limit=limit + 1, cursor=cursor)
    return page(Clone, rows, limit)


@router.get("/v1/spaces/clones/{clone_id}", responses=customer_refuses("clone_not_found"))
async def get_clone(clone_id: UUID, caller: Customer, database: Database = use(Database)) -> Clone:
    """Tell how far a clone is. Needs `read`."""
    return Clone.model_validate(
        await database.call_one("get_clone", caller=caller, clone_id=clone_id)
    )


@router.get("/v1/spaces/{slug}", responses=customer_refuses("space_not_found"))
async def get_space(slug: Slug, caller: Customer, database: Database = use(Database)) -> Space:
    """Tell what a space is and what it costs. Needs `read`."""
    row = await database.call_one("get_space", caller=caller, slug=slug)
    return Space.model_validate(row["space"])


@router.post(
    "/v1/spaces/{slug}/purchases",
    status_code=201,
    responses=writes(
        *["insufficient_credits", "debt_outstanding", "space_not_found", "sku_not_found"],
        *["own_space", "space_not_published", "space_owned", "organization_closed"],
    ),
)
async def buy_space(
    slug: Slug,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Purchase:
    """Buy a space, for good; once, unless each purchase brings a clone. Needs `write`."""
    row = await database.call_one(
        "buy_space", caller=caller, slug=slug, idempotency_key=idempotency_key
    )
    mark_replayed(response, replayed=row["replayed"])
    return Purchase.model_validate(row["purchase"])


@router.post(
    "/v1/spaces/{slug}/attach",
    responses=writes(
        *["space_not_found", "workspace_not_found", "organization_closed"],
        *["space_not_published", "space_not_owned"],
    ),
)
async def attach_space(
    slug: Slug,
    request: WorkspaceRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Attachment:
    """Put a space that is yours into a workspace. Needs `write`."""
    row = await database.call_one(
        "attach_space",
        caller=caller,
        slug=slug,
        workspace_id=request.workspace_id,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return Attachment.model_validate(row["attachment"])


@router.post(
    "/v1/spaces/{slug}/detach",
    responses=writes(
        *["space_not_found", "workspace_not_found", "organization_closed"],
        *["space_not_attached", "workspace_busy"],
    ),
)
async def detach_space(
    slug: Slug,
    request: WorkspaceRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Attachment:
    """Take a space out of a workspace in which no session runs. Needs `write`."""
    row = await database.call_one(
        "detach_space",
        caller=caller,
        slug=slug,
        workspace_id=request.workspace_id,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return Attachment.model_validate(row["attachment"])


@router.post(
    "/v1/spaces/{slug}/clone",
    status_code=201,
    responses=writes(
        *["space_not_found", "workspace_not_found", "organization_closed"],
        *["space_not_owned", "purchase_cloned", "space_not_cloneable", "region_not_offered"],
        *["size_not_allowed", "storage_not_allowed", "storage_limit_reached"],
        *["insufficient_credits", "debt_outstanding"],
    ),
)
async def clone_space(
    slug: Slug,
    request: CloneSpaceRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
    tasks: Tasks = use(Tasks),
) -> Clone:
    """Rent a bucket and have a bought space copied into it, once per purchase. Needs `write`."""
    row = await database.call_one(
        "clone_space",
        caller=caller,
        slug=slug,
        workspace_id=request.workspace_id,
        region=request.region,
        name=request.name,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    await tell(database, tasks, "provision_storage")
    return Clone.model_validate(row["clone"])


@router.post("/v1/spaces/{slug}/review", responses=writes("space_not_found", "space_not_in_review"))
async def review_space(
    slug: Slug,
    request: ReviewSpaceRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Space:
    """Have a submitted space sold from now on, or reject it. Needs `admin`."""
    row = await database.call_one(
        "review_space",
        caller=caller,
        slug=slug,
        is_approved=request.decision == "approve",
        reason=request.reason,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return Space.model_validate(row["space"])


@router.post(
    "/v1/spaces/{slug}/withdraw", responses=writes("space_not_found", "space_not_published")
)
async def withdraw_space(
    slug: Slug,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Space:
    """Sell a space of yours no more; who bought it keeps it. Needs `write`, for others' `admin`."""
    row = await database.call_one(
        "withdraw_space", caller=caller, slug=slug, idempotency_key=idempotency_key
    )
    mark_replayed(response, replayed=row["replayed"])
    return Space.model_validate(row["space"])


@router.post(
    "/v1/spaces/{slug}/source",
    responses=writes(
        *["space_not_found", "organization_closed"],
        *["storage_not_found", "bucket_required", "storage_not_ready"],
    ),
)
async def set_space_source(
    slug: Slug,
    request: SetSourceRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Space:
    """Say which of your buckets a space of the platform comes from. Needs `admin`."""
    row = await database.call_one(
        "set_space_source",
        caller=caller,
        slug=slug,
        storage_id=request.storage_id,
        is_cloneable=request.is_cloneable,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return Space.model_validate(row["space"])
