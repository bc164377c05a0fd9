"""Usage: events in batches, each recorded once, rated at its own time and charged at once."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Query
from pydantic import (
    AwareDatetime,
    Field,
    SkipValidation,
    model_validator,
)

from faregate.backends.database import Database
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.consumption import MAX_EVENTS, check_model, event_row
from faregate.contract import Cursor, Limit, Moment, Page, customer_refuses, page
from faregate.errors import FaregateError, explain
from faregate.function import Answer, Body, new_router, use
from faregate.meters import Feature, Provider, Quantities, Text
from faregate.mistakes import read_each
from faregate.money import ExactUsd, PositiveAmount
from faregate.request import EventsRoute

CLOUD_EVENT = "application/cloudevents+json"
CLOUD_EVENTS = "application/cloudevents-batch+json"


class UsageRoute(EventsRoute):
    """Takes CloudEvents 1.0 as well, one or a batch, and up to 5 MiB, zipped or not."""

    media_types = ("application/json", CLOUD_EVENT, CLOUD_EVENTS)

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

    What is none becomes what is wrong with it, a ValueError, for which it is rejected.
    """
    if not isinstance(event, dict):
        return event
    if event.get("specversion") != "1.0":
        return ValueError('specversion: must be "1.0"')
    data = event.get("data")
    if "data_base64" in event:
        return ValueError("data: must be JSON, without data_base64")
    if not isinstance(data, dict):
        return ValueError("data: must be an object, with quantities")
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
    quantities: Quantities

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_model(self)
        return self


class CorrectedEvent(Body):
    """The event that is corrected, by its name."""

    source: Text
    id: Text


class UsageCorrection(Body):
    """What an event comes to instead of what it said (quantities), or that it never was (void).

    It has a name of its own. What else it says must be what the event said.
    """

    organization_id: UUID
    source: Text
    id: Text
    corrects: CorrectedEvent
    occurred_at: Moment | None = None
    feature: Feature | None = None
    provider: Provider | None = None
    model: Text | None = None
    passport_id: UUID | None = None
    quantities: Quantities | None = None
    void: Literal[True] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.quantities is None) != bool(self.void):
            raise ValueError("a correction says quantities, or void: true")
        check_model(self)
        return self


class UsageBatch(Body):
    """Up to 1 000 events, of one customer or many. What is wrong with one stops no other.

    Corrections come after the events, in their order.
    """

    events: Annotated[
        list[SkipValidation[UsageEvent | UsageCorrection]],
        Field(min_length=1, max_length=MAX_EVENTS),
    ]


class UsageOutcome(Answer):
    """What became of the event at this index.

    reason: why it was rejected (`invalid_event`, `organization_not_found`,
    `organization_closed`, `passport_not_found` (none that the organization ever had),
    `event_conflict`, `too_late`, `in_the_future`, `feature_not_granted`, `limit_reached`,
    `spend_cap_reached`, `insufficient_credits`, `debt_outstanding`, `policy_denied`,
    `rate_limited`; of a backfill or a capture also `debt_too_large`; of a correction also
    `event_not_found`, `correction_mismatch` (of another time, feature, provider, model or passport
    than the event), `event_in_review`, `event_voided`, `price_was_named` (by a person: it can only
    be voided), or why it could not be rated), or why an accepted one waits for a person and is not
    charged (`unknown_model`, `cost_unknown`, `rate_unknown`, `below_cost`). message: the same in
    a sentence.
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


class ChargeReviewRequest(Body):
    """Whose event it is; price: what it costs, in USD, instead of what rates say now."""

    organization_id: UUID
    price: PositiveAmount | None = None


class DismissReviewRequest(Body):
    """Whose event it is."""

    organization_id: UUID


class RatedReview(Answer):
    """What an event came to in the end.

    cost and price: in USD, exactly. priced_by: who named the price, or 0; null: a rate did.
    sequence: the transaction that paid for it.
    """

    id: UUID
    organization_id: UUID
    source: str
    event_id: str
    cost: ExactUsd | None = Field(validation_alias="cost_usd")
    price: ExactUsd = Field(validation_alias="price_usd")
    priced_by: str | None
    sequence: int | None


def _read(given: list[Any]) -> tuple[dict[str, Any], list[UsageOutcome]]:
    """Part a batch of what the contract says from events that are not."""
    events, wrong = read_each(given, _read_one)
    batch: dict[str, list[dict[str, Any]]] = {"events": []}
    for index, event in events.items():
        is_correction = isinstance(event, UsageCorrection)
        batch.setdefault("corrections" if is_correction else "events", []).append(
            _row(index, event)
        )
    return batch, [
        UsageOutcome(index=index, status="rejected", reason="invalid_event", message=message)
        for index, message in wrong.items()
    ]


def _read_one(given: Any) -> UsageEvent | UsageCorrection:  # noqa: ANN401  JSON is anything
    if isinstance(given, ValueError):
        raise given
    is_correction = isinstance(given, dict) and "corrects" in given
    return (UsageCorrection if is_correction else UsageEvent).model_validate(given)


def _row(index: int, event: UsageEvent | UsageCorrection) -> dict[str, Any]:
    row = event_row(index, event) | {"organization_id": str(event.organization_id)}
    if isinstance(event, UsageCorrection):
        row |= {"corrects_source": event.corrects.source, "corrects_event_id": event.corrects.id}
    return row


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
    `data` the rest; and gzip. An event that says `corrects` amends or voids another one: the
    difference is charged, or goes back into the grants that paid for it. Needs `admin`.
    """
    batch, refused = _read(list(request.events))
    if all_or_none and refused:
        rejected = [each.model_dump(exclude={"status"}) for each in refused]
        raise FaregateError("batch_rejected", {"rejected": rejected})
    try:
        row = await database.call_one(
            "ingest_usage", caller=caller, batch=batch, is_whole=all_or_none
        )
    except FaregateError as error:
        for each in error.detail.get("rejected", []):
            each["message"] = explain(each["reason"])
        raise
    told = {
        each["index"]: UsageOutcome(message=explain(each["reason"]), **each)
        for each in row["outcomes"]
    }
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


@router.post(
    "/v1/usage/reviews/{event_id}/charge",
    responses=customer_refuses(
        *["usage_event_not_found", "usage_not_ratable", "review_closed", "insufficient_credits"],
        *["debt_outstanding", "organization_closed", "body_too_large", "unsupported_media_type"],
    ),
)
async def charge_usage_review(
    event_id: UUID,
    request: ChargeReviewRequest,
    caller: Customer,
    database: Database = use(Database),
) -> RatedReview:
    """Charge an event that could not be rated by its time's rates; if there are none, by now's.

    Or at a price that you name. Once: ask again, and you are told what it came
    to. Needs `admin`.
    """
    return RatedReview.model_validate(
        await database.call_one(
            "charge_usage_review",
            caller=caller,
            organization_id=request.organization_id,
            id=event_id,
            price_micros=request.price,
        )
    )


@router.post(
    "/v1/usage/reviews/{event_id}/dismiss",
    responses=customer_refuses(
        *["usage_event_not_found", "review_closed", "organization_closed"],
        *["body_too_large", "unsupported_media_type"],
    ),
)
async def dismiss_usage_review(
    event_id: UUID,
    request: DismissReviewRequest,
    caller: Customer,
    database: Database = use(Database),
) -> RatedReview:
    """Never charge an event that could not be rated: it stays recorded. Needs `admin`."""
    return RatedReview.model_validate(
        await database.call_one(
            "dismiss_usage_review",
            caller=caller,
            organization_id=request.organization_id,
            id=event_id,
        )
    )
