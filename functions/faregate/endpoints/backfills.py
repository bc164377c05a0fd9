"""Backfills: usage of the past, staged, charged all at once, and taken back if it was wrong."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Response
from pydantic import AwareDatetime, Field, WrapValidator, computed_field, model_validator

from faregate.backends.database import Database
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.consumption import MAX_EVENTS, check_model, event_row
from faregate.contract import (
    Cursor,
    IdempotencyKey,
    Limit,
    Moment,
    Page,
    customer_refuses,
    mark_replayed,
    page,
    writes,
)
from faregate.errors import FaregateError, explain
from faregate.function import Answer, Body, new_router, use
from faregate.meters import Feature, Provider, Quantities, Text
from faregate.mistakes import read_each
from faregate.request import EventsRoute

router = new_router("backfills", EventsRoute)
backends = (Database, UserTokens)


class OpenBackfillRequest(Body):
    """Whose usage it is, and of when: from starts_at on, before ends_at.

    replaces_existing: events of that time that the backfill does not name are voided.
    """

    organization_id: UUID
    starts_at: Moment
    ends_at: Moment
    replaces_existing: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.ends_at <= self.starts_at:
            raise ValueError("ends_at must be after starts_at")
        return self


class BackfillEvent(Body):
    """What the customer consumed, as an event of usage says it, and when."""

    source: Text
    id: Text
    occurred_at: Moment
    feature: Feature
    provider: Provider | None = None
    model: Text | None = None
    passport_id: UUID | None = None
    quantities: Quantities

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_model(self)
        return self


class BackfillBatch(Body):
    """Up to 1 000 events of the backfill's customer.

    What is wrong with one stops no other, unless the backfill replaces existing events: then all.
    """

    events: Annotated[
        list[Annotated[BackfillEvent, WrapValidator(lambda given, _: given)]],
        Field(min_length=1, max_length=MAX_EVENTS),
    ]


class BackfillOutcome(Answer):
    """What became of the event at this index, where it was not simply staged.

    reason: why it was rejected: `invalid_event`, `outside_backfill`, `in_the_future` or
    `event_conflict` (it was staged with other words). message: the same in a sentence.
    """

    index: int
    status: Literal["duplicate", "rejected"]
    reason: str | None
    message: str | None


class BackfillOutcomes(Answer):
    """What became of a batch, and of the events that were not simply staged."""

    staged: int
    duplicate: int
    rejected: int
    events: list[BackfillOutcome]


class Backfill(Answer):
    """A backfill and how far it is.

    When it is closed: recorded, amended, unchanged and rejected events are those that were staged;
    voided ones are those that it did not name.
    """

    id: UUID
    organization_id: UUID
    starts_at: AwareDatetime
    ends_at: AwareDatetime
    replaces_existing: bool
    status: Literal["open", "closed", "reverted"]
    staged: int
    recorded: int
    amended: int
    unchanged: int
    voided: int
    rejected: int
    created_by: str
    created_at: AwareDatetime
    closed_at: AwareDatetime | None
    reverted_at: AwareDatetime | None


class BackfillRejection(Answer):
    """An event that could not be recorded: the reasons are those of usage and its corrections."""

    source: str
    event_id: str
    reason: str

    @computed_field
    def message(self) -> str | None:  # noqa: D102
        return explain(self.reason)


class BackfillRejections(Answer):
    """Up to 1 000 of them."""

    data: list[BackfillRejection]


@router.post(
    "/v1/usage/backfills",
    status_code=201,
    responses=writes("organization_not_found", "organization_closed"),
)
async def open_backfill(
    request: OpenBackfillRequest,
    caller: Customer,
    idempotency_key: IdempotencyKey,
    response: Response,
    database: Database = use(Database),
) -> Backfill:
    """Begin to report what a customer used in a time of the past. Needs `admin`."""
    row = await database.call_one(
        "open_backfill",
        caller=caller,
        organization_id=request.organization_id,
        starts_at=request.starts_at,
        ends_at=request.ends_at,
        replaces_existing=request.replaces_existing,
        idempotency_key=idempotency_key,
    )
    mark_replayed(response, replayed=row["replayed"])
    return Backfill.model_validate(row["backfill"])


@router.get("/v1/usage/backfills", responses=customer_refuses())
async def list_backfills(
    caller: Customer,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[Backfill]:
    """List backfills of all customers, newest first. Needs `admin`."""
    rows = await database.call("list_backfills", caller=caller, limit=limit + 1, cursor=cursor)
    return page(Backfill, rows, limit)


@router.get("/v1/usage/backfills/{backfill_id}", responses=customer_refuses("backfill_not_found"))
async def get_backfill(
    backfill_id: UUID, caller: Customer, database: Database = use(Database)
) -> Backfill:
    """Tell how far a backfill is. Needs `admin`."""
    return Backfill.model_validate(
        await database.call_one("get_backfill", caller=caller, id=backfill_id)
    )


@router.get(
    "/v1/usage/backfills/{backfill_id}/rejections",
    responses=customer_refuses("backfill_not_found"),
)
async def list_backfill_rejections(
    backfill_id: UUID, caller: Customer, database: Database = use(Database)
) -> BackfillRejections:
    """List events that could not be recorded when the backfill was closed. Needs `admin`."""
    rows = await database.call("list_backfill_rejections", caller=caller, id=backfill_id)
    return BackfillRejections(data=[BackfillRejection.model_validate(row) for row in rows])


@router.post(
    "/v1/usage/backfills/{backfill_id}/events",
    responses=customer_refuses(
        *["backfill_not_found", "backfill_closed", "backfill_too_large", "organization_closed"],
        *["batch_rejected", "body_too_large", "unsupported_media_type"],
    ),
)
async def stage_backfill_events(
    backfill_id: UUID,
    request: BackfillBatch,
    caller: Customer,
    database: Database = use(Database),
) -> BackfillOutcomes:
    """Stage events of an open backfill, each once: send again whatever got no answer.

    However old they are; nothing is charged yet. Into a backfill that replaces existing events a
    batch is staged whole, or refused with 409 when one of its events is rejected: what it does not
    stage it would void. Needs `admin`.
    """
    events, wrong = read_each(request.events, BackfillEvent.model_validate)
    rows = [event_row(index, event) for index, event in events.items()]
    batch = {"events": rows, "invalid": list(wrong)}

    def tell(outcome: dict[str, Any]) -> dict[str, Any]:
        index, reason = outcome["index"], outcome["reason"]
        return outcome | {"message": wrong.get(index) or explain(reason)}

    try:
        row = await database.call_one(
            "stage_backfill_events", caller=caller, id=backfill_id, batch=batch
        )
    except FaregateError as error:
        if error.code == "batch_rejected":
            error.detail["rejected"] = [tell(each) for each in error.detail["rejected"]]
        raise
    told = [BackfillOutcome.model_validate(tell(each)) for each in row["outcomes"]]
    return BackfillOutcomes(
        staged=row["accepted"],
        duplicate=row["duplicates"],
        rejected=row["rejected"],
        events=sorted(told, key=lambda each: each.index),
    )


@router.post(
    "/v1/usage/backfills/{backfill_id}/close",
    responses=customer_refuses(
        *["backfill_not_found", "backfill_closed", "backfill_too_large"],
        *["insufficient_credits", "organization_closed"],
    ),
)
async def close_backfill(
    backfill_id: UUID, caller: Customer, database: Database = use(Database)
) -> Backfill:
    """Record and charge all of it at once, each event rated at its own time.

    New events are recorded, known ones with other quantities amended. When the money is short
    nothing is: 402 says how much is required. Needs `admin`.
    """
    return Backfill.model_validate(
        await database.call_one("close_backfill", caller=caller, id=backfill_id)
    )


@router.post(
    "/v1/usage/backfills/{backfill_id}/revert",
    responses=customer_refuses("backfill_not_found", "insufficient_credits", "organization_closed"),
)
async def revert_backfill(
    backfill_id: UUID, caller: Customer, database: Database = use(Database)
) -> Backfill:
    """Take it back: what was staged is dropped; what was recorded counts no more. Needs `admin`."""
    return Backfill.model_validate(
        await database.call_one("revert_backfill", caller=caller, id=backfill_id)
    )
