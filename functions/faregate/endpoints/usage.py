"""Usage: events in batches, each recorded once, rated at its own time and charged at once."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Query
from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    SkipValidation,
    StringConstraints,
    ValidationError,
    model_validator,
)

from faregate.backends.database import Database
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.contract import Cursor, Limit, Moment, Page, customer_refuses, page
from faregate.errors import FaregateError
from faregate.function import Answer, Body, new_router, use
from faregate.meters import too_small_whole
from faregate.request import StrictRoute

CLOUD_EVENT = "application/cloudevents+json"
CLOUD_EVENTS = "application/cloudevents-batch+json"
MAX_EVENTS = 1000


class UsageRoute(StrictRoute):
    """Takes CloudEvents 1.0 as well, one or a batch, and up to 5 MiB, zipped or not."""

    media_types = ("application/json", CLOUD_EVENT, CLOUD_EVENTS)
    max_body_bytes = 5 * 2**20
    takes_gzip = True

    @staticmethod
    def read(media_type: str, document: Any) -> Any:  # noqa: ANN401  JSON is anything
        """Give a batch, whichever of the three came."""
        if media_type == CLOUD_EVENT:
            return {"events": [_from_cloud_event(document)]}
        if media_type == CLOUD_EVENTS:
            is_list = isinstance(document, list)
            return {"events": [_from_cloud_event(each) for each in document] if is_list else None}
        return document


def _from_cloud_event(event: Any) -> Any:  # noqa: ANN401  JSON is anything
    """Give what a CloudEvent says: its type is the feature, its subject the organization.

    What is none is left as it is, and then refused for not being an event of ours.
    """
    if not isinstance(event, dict) or event.get("specversion") != "1.0":
        return event
    data = event.get("data")
    if not isinstance(data, dict):
        return event
    said = {
        "organization_id": event.get("subject"),
        "source": event.get("source"),
        "id": event.get("id"),
        "occurred_at": event.get("time"),
        "feature": event.get("type"),
    }
    # Its own words about who and when cannot be said twice.
    return {**data, **{name: value for name, value in said.items() if value is not None}}


router = new_router("usage", UsageRoute)
backends = (Database, UserTokens)

_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"


def _check_decimals(quantity: float) -> float:
    if round(quantity, 6) != quantity:
        raise ValueError("must not have more than six decimals")
    return quantity


Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_PRINTABLE)]
Feature = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,99}$")]
Provider = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Meter = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
Quantity = Annotated[
    Annotated[int, Field(strict=True)] | Annotated[float, Field(strict=True)],
    Field(ge=0, le=10**12),
    AfterValidator(_check_decimals),
]


class UsageEvent(Body):
    """What a customer consumed. organization, source and id name it, forever.

    quantities: how much of each meter. Wholes include their parts: input_tokens those that were
    read from the cache (cache_read_tokens). Without a provider and a model it costs nothing to buy.
    """

    organization_id: UUID
    source: Text
    id: Text
    occurred_at: Moment | None = None
    feature: Feature
    provider: Provider | None = None
    model: Text | None = None
    passport_id: UUID | None = None
    quantities: Annotated[dict[Meter, Quantity], Field(min_length=1, max_length=32)]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.provider is None) != (self.model is None):
            raise ValueError("provider and model belong together")
        if whole := too_small_whole(self.quantities):
            raise ValueError(f"{whole} must not be less than its parts")
        return self


class UsageBatch(Body):
    """Up to 1 000 events, of one customer or many. What is wrong with one stops no other."""

    events: Annotated[
        list[SkipValidation[UsageEvent]],
        Field(
            min_length=1,
            max_length=MAX_EVENTS,
            json_schema_extra={"items": {"$ref": "#/components/schemas/UsageEvent"}},
        ),
    ]


class UsageOutcome(Answer):
    """What became of the event at this index.

    reason: why it was rejected (`invalid_event`, with a message, `organization_not_found`,
    `organization_closed`, `event_conflict`, `too_late`, `in_the_future`, `insufficient_credits`,
    `debt_outstanding`), or why an accepted one waits for a person and is not charged
    (`unknown_model`, `cost_unknown`, `rate_unknown`, `below_cost`).
    """

    index: int
    status: Literal["accepted", "duplicate", "rejected"]
    reason: str | None = None
    message: str | None = None


class UsageOutcomes(Answer):
    """What became of a batch: accepted + duplicate + rejected events are those that were sent."""

    accepted: int
    duplicate: int
    rejected: int
    events: list[UsageOutcome]


class UsageReview(Answer):
    """An event that is recorded and not charged: it could not be rated."""

    id: UUID
    organization_id: UUID
    source: str
    event_id: str
    occurred_at: AwareDatetime
    feature: str
    provider: str | None = Field(validation_alias="provider_id")
    model: str | None
    quantities: dict[str, float]
    reason: str = Field(validation_alias="review")


def _read(given: list[Any]) -> tuple[list[dict[str, Any]], list[UsageOutcome]]:
    """Part events that are what the contract says from those that are not."""
    events: list[dict[str, Any]] = []
    refused: list[UsageOutcome] = []
    for index, each in enumerate(given):
        try:
            event = UsageEvent.model_validate(each)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            message = f"{where}: {first['msg']}" if where else str(first["msg"])
            refused.append(_refused(index, "invalid_event", message))
        else:
            events.append(_row(index, event))
    return events, refused


def _row(index: int, event: UsageEvent) -> dict[str, Any]:
    row: dict[str, Any] = {
        "index": index,
        "organization_id": str(event.organization_id),
        "source": event.source,
        "event_id": event.id,
        "feature": event.feature,
        "quantities": {meter: each for meter, each in event.quantities.items() if each},
    }
    if event.occurred_at:
        row["occurred_at"] = event.occurred_at.isoformat()
    if event.provider:
        row |= {"provider_id": event.provider, "model": event.model}
    if event.passport_id:
        row["passport_id"] = str(event.passport_id)
    return row


def _refused(index: int, reason: str, message: str | None = None) -> UsageOutcome:
    return UsageOutcome(index=index, status="rejected", reason=reason, message=message)


@router.post(
    "/v1/usage/events",
    responses=customer_refuses("batch_rejected", "body_too_large", "unsupported_media_type"),
)
async def ingest_usage(
    request: UsageBatch,
    caller: Customer,
    all_or_none: Annotated[
        bool, Query(description="One that is rejected keeps all others from being recorded.")
    ] = False,
    database: Database = use(Database),
) -> UsageOutcomes:
    """Record, rate and charge usage, each event once, ever: send again whatever got no answer.

    An event may be 35 days old. Its cost and price are those of its own time. Of a customer whose
    money is short, those are rejected, in order of arrival, that it does not cover. Also takes
    CloudEvents 1.0, one (`application/cloudevents+json`) or a batch
    (`application/cloudevents-batch+json`): `subject` is the organization, `type` the feature,
    `data` the rest; and gzip. Needs `admin`.
    """
    events, refused = _read(list(request.events))
    if all_or_none and refused:
        raise FaregateError("batch_rejected", {"rejected": [each.model_dump() for each in refused]})
    row = await database.call_one(
        "ingest_usage", caller=caller, batch={"events": events}, is_whole=all_or_none
    )
    told = {each["index"]: UsageOutcome.model_validate(each) for each in row["outcomes"]}
    told |= {each.index: each for each in refused}
    return UsageOutcomes(
        accepted=row["accepted"],
        duplicate=row["duplicates"],
        rejected=row["rejected"] + len(refused),
        events=[
            told.get(index) or UsageOutcome(index=index, status="accepted")
            for index in range(len(request.events))
        ],
    )


@router.get("/v1/usage/reviews", responses=customer_refuses())
async def list_usage_reviews(
    caller: Customer,
    limit: Limit = 50,
    cursor: Cursor = None,
    database: Database = use(Database),
) -> Page[UsageReview]:
    """List events of all customers that could not be rated, newest first. Needs `admin`."""
    rows = await database.call("list_usage_reviews", caller=caller, limit=limit + 1, cursor=cursor)
    return page(UsageReview, rows, limit)
