"""Reports on usage: sums by day, model, feature and passport; every request; a forecast; files."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query, Response
from fastapi.responses import StreamingResponse
from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    WithJsonSchema,
    field_validator,
)

from faregate.backends.database import Database
from faregate.backends.parquet import Column, Table
from faregate.backends.tokens import UserTokens
from faregate.caller import Caller, Customer, going_on
from faregate.contract import (
    Cursor,
    CustomerId,
    Limit,
    Moment,
    Page,
    customer_refuses,
    not_before_from,
    page,
)
from faregate.files import CSV, attachment, csv_lines, json_array
from faregate.function import Answer, new_router, use
from faregate.money import ExactUsd, Usd

router = new_router("usage_reports")
backends = (Database, UserTokens)

# Of an export: what is in memory at once, and how long other requests wait for it to be written.
_PAGE_ROWS = 1000  # as many as a Supabase project answers at once
_EXPORT_ROWS = 100_000

Format = Literal["csv", "json", "parquet"]
Grouping = Literal["organization", "day", "feature", "model", "passport"]


def _written_as_day(text: object) -> object:
    """Refuse the other ways to write a day, such as a moment of it."""
    if not isinstance(text, str) or not re.fullmatch(r"2\d{3}-\d\d-\d\d", text, re.ASCII):
        raise ValueError("must be a day of this millennium, such as 2026-11-01")
    return text


Day = Annotated[
    date,
    BeforeValidator(_written_as_day),
    WithJsonSchema(
        {"type": "string", "format": "date", "pattern": "^2[0-9]{3}-[0-9]{2}-[0-9]{2}$"}
    ),
]
Word = Annotated[str, Query(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
ExportLimit = Annotated[int, Query(ge=1, le=_EXPORT_ROWS)]
Quantities = dict[str, int | float]


class AnalyticsQuery(BaseModel):
    """Which days, whose, and by what they are summed up."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_: Day | None = Field(
        None, alias="from", description="Included, in UTC. By itself the first of `to`'s month."
    )
    to: Day | None = Field(None, description="Not included. By itself tomorrow.")
    group_by: list[Grouping] = Field([], max_length=5, description="Repeat it for more than one.")
    organization_id: UUID | None = Field(
        None, description="An operator names a customer: needs `admin`."
    )
    all_customers: bool = Field(
        False, description="An operator asks for all, whichever is named: needs `admin`."
    )

    _in_order = field_validator("to")(not_before_from)


class HistoryQuery(BaseModel):
    """Which requests: all that are asked for has to be so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_: Moment | None = Field(None, alias="from", description="Occurred then or later.")
    to: Moment | None = Field(None, description="Occurred before.")
    feature: Word | None = None
    model: Word | None = None
    passport_id: UUID | None = None
    organization_id: CustomerId = None
    cursor: Cursor = None

    _in_order = field_validator("to")(not_before_from)

    @property
    def arguments(self) -> dict[str, Any]:
        """Give them as SQL takes them."""
        return {"from" if name == "from_" else name: value for name, value in self}


class HistoryPageQuery(HistoryQuery):
    """A page of them."""

    limit: Limit = 50


class HistoryFileQuery(HistoryQuery):
    """A file of them; one that is full goes on with its last row's `id` as cursor."""

    limit: ExportLimit = _EXPORT_ROWS


class UsageGroup(Answer):
    """The sums of a group. What they are not grouped by, or do not have, is null.

    cost and margin are for operators; null for customers.
    """

    organization_id: UUID | None
    day: date | None
    feature: str | None
    provider: str | None = Field(validation_alias="provider_id")
    model: str | None
    passport_id: UUID | None
    events: int
    quantities: Quantities
    price: ExactUsd = Field(validation_alias="price_usd")
    cost: ExactUsd | None = Field(validation_alias="cost_usd")
    margin: ExactUsd | None = Field(validation_alias="margin_usd")


class UsageAnalytics(Answer):
    """What was used from one day, included, up to another."""

    from_: date = Field(validation_alias="from_day", serialization_alias="from")
    to: date = Field(validation_alias="to_day")
    data: list[UsageGroup] = Field(validation_alias="groups")


class UsageRecord(Answer):
    """A request and its price. review: why it waits for a person, and is not charged yet.

    corrects_id: the request that it corrects; quantities and amounts are then the difference.
    cost and margin are for operators; null for customers.
    """

    id: UUID
    organization_id: UUID
    source: str
    event_id: str
    occurred_at: AwareDatetime
    feature: str
    provider: str | None = Field(validation_alias="provider_id")
    model: str | None
    passport_id: UUID | None
    quantities: Quantities
    price: ExactUsd | None = Field(validation_alias="price_usd")
    cost: ExactUsd | None = Field(validation_alias="cost_usd")
    margin: ExactUsd | None = Field(validation_alias="margin_usd")
    review: str | None
    corrects_id: UUID | None


class UsageForecast(Answer):
    """For how long the money lasts.

    burn: what a day cost on average of the last seven that are over. forecast: what a day of the
    week to come is expected to. error: by how much the same forecast was off on the past days, of
    what was spent on them: 0.25 is a quarter. days: how many are known, 56 at most; with less than
    14 nothing is foretold.
    """

    organization_id: UUID
    available: Usd = Field(validation_alias="available_micros")
    days: int
    burn: Usd = Field(validation_alias="burn_micros")
    forecast: Usd | None = Field(validation_alias="forecast_micros")
    error: float | None
    days_left: int | None
    runs_out_on: date | None


@router.get("/v1/usage/analytics", responses=customer_refuses("period_too_long", "too_many_groups"))
async def analyze_usage(
    query: Annotated[AnalyticsQuery, Query()],
    caller: Customer,
    database: Database = use(Database),
) -> UsageAnalytics:
    """Sum up usage, exact as of now: days of UTC, 400 at most. Needs `read`."""
    return await _analyze(database, caller, query)


@router.get("/v1/usage/forecast", responses=customer_refuses())
async def forecast_usage(
    caller: Customer,
    organization_id: CustomerId = None,
    database: Database = use(Database),
) -> UsageForecast:
    """Tell for how long the available money lasts at what is spent, and how sure that is.

    Needs `read`.
    """
    return UsageForecast.model_validate(
        await database.call_one("forecast_usage", caller=caller, organization_id=organization_id)
    )


@router.get("/v1/usage/history", responses=customer_refuses())
async def list_usage_events(
    query: Annotated[HistoryPageQuery, Query()],
    caller: Customer,
    database: Database = use(Database),
) -> Page[UsageRecord]:
    """List requests, newest first, in the order in which they came. Needs `read`."""
    arguments = query.arguments | {"limit": query.limit + 1}
    rows = await database.call("list_usage_events", caller=caller, **arguments)
    return page(UsageRecord, rows, query.limit)


_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "CSV (RFC 4180), one array of JSON, or Parquet",
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
            "application/vnd.apache.parquet": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


@router.get(
    "/v1/usage/exports/analytics.{extension}",
    response_class=Response,
    responses=customer_refuses("period_too_long", "too_many_groups") | _FILE,
)
async def export_analytics(
    extension: Format,
    query: Annotated[AnalyticsQuery, Query()],
    caller: Customer,
    database: Database = use(Database),
) -> Response:
    """Give the sums of usage as a file. Needs `read`."""
    found = await _analyze(database, caller, query)

    async def pages() -> AsyncIterator[list[UsageGroup]]:
        yield found.data

    name = f"usage_{found.from_}_{found.to}"
    return await _file(UsageGroup, _GROUP_COLUMNS, pages(), name, extension)


@router.get(
    "/v1/usage/exports/history.{extension}",
    response_class=Response,
    responses=customer_refuses() | _FILE,
)
async def export_history(
    extension: Format,
    query: Annotated[HistoryFileQuery, Query()],
    caller: Customer,
    database: Database = use(Database),
) -> Response:
    """Give up to 100 000 requests as a file, newest first. Needs `read`.

    A file that is full goes on with its last row's `id` as `cursor`.
    """
    first = await _read(database, caller, query, query.limit, query.cursor)
    pages = _pages(database, caller, query, first)
    return await _file(UsageRecord, _RECORD_COLUMNS, pages, "usage_history", extension)


async def _analyze(database: Database, caller: Caller, query: AnalyticsQuery) -> UsageAnalytics:
    row = await database.call_one(
        "analyze_usage",
        caller=caller,
        organization_id=query.organization_id,
        is_all=query.all_customers,
        **{"from": query.from_},
        to=query.to,
        group_by=list(query.group_by),
    )
    return UsageAnalytics.model_validate(row)


_Records = TypeAdapter(list[UsageRecord])


async def _read(
    database: Database, caller: Caller, query: HistoryQuery, limit: int, cursor: UUID | None
) -> list[UsageRecord]:
    arguments = query.arguments | {"limit": min(limit, _PAGE_ROWS), "cursor": cursor}
    return _Records.validate_python(
        await database.call("list_usage_events", caller=caller, **arguments)
    )


async def _pages(
    database: Database, caller: Caller, query: HistoryFileQuery, first: list[UsageRecord]
) -> AsyncIterator[list[UsageRecord]]:
    """Read page by page after the first: one call each, so that nothing is held between them.

    When one fails the answer breaks off, and whoever reads it is told so by HTTP.
    """
    rows, left = first, query.limit
    while True:
        yield rows
        left -= len(rows)
        if len(rows) < _PAGE_ROWS or not left:
            return
        rows = await _read(database, going_on(caller), query, left, rows[-1].id)


_GROUP_COLUMNS: list[Column] = [
    ("organization_id", "text"),
    ("day", "day"),
    ("feature", "text"),
    ("provider", "text"),
    ("model", "text"),
    ("passport_id", "text"),
    ("events", "whole"),
    ("quantities", "text"),
    ("price", "text"),
    ("cost", "text"),
    ("margin", "text"),
]
_RECORD_COLUMNS: list[Column] = [
    ("id", "text"),
    ("organization_id", "text"),
    ("source", "text"),
    ("event_id", "text"),
    ("occurred_at", "time"),
    ("feature", "text"),
    ("provider", "text"),
    ("model", "text"),
    ("passport_id", "text"),
    ("quantities", "text"),
    ("price", "text"),
    ("cost", "text"),
    ("margin", "text"),
    ("review", "text"),
    ("corrects_id", "text"),
]


async def _file(
    kind: type[UsageGroup] | type[UsageRecord],
    columns: Sequence[Column],
    pages: AsyncIterator[list[Any]],
    name: str,
    extension: Format,
) -> Response:
    headers = attachment(f"{name}.{extension}")
    if extension == "csv":
        return StreamingResponse(csv_lines(kind, pages), media_type=CSV, headers=headers)
    if extension == "json":
        content = json_array(kind, pages)
        return StreamingResponse(content, media_type="application/json", headers=headers)
    # Such a file begins with nothing that is known before its end.
    table = await asyncio.to_thread(Table, columns)
    async for rows in pages:
        table.add([_plain(row) for row in rows])
    content_bytes = await asyncio.to_thread(table.write)
    return Response(content_bytes, media_type="application/vnd.apache.parquet", headers=headers)


def _plain(row: UsageGroup | UsageRecord) -> dict[str, Any]:
    """Give a row as a table takes it."""
    return {
        name: str(value)
        if isinstance(value, UUID)
        else json.dumps(value)
        if isinstance(value, dict)
        else value
        for name, value in row
    }
