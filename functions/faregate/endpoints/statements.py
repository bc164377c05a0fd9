"""Statements: what a period did to the balance, its ledger as a file; receipts."""

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query, Response
from fastapi.responses import StreamingResponse
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationInfo,
    field_validator,
)

from faregate.backends.database import Database, Row
from faregate.backends.receipts import Receipts
from faregate.backends.tokens import UserTokens
from faregate.caller import Caller, Customer, going_on
from faregate.contract import Moment, Transaction, customer_refuses, not_before_from
from faregate.files import CSV, attachment, csv_lines, document, json_array
from faregate.function import Answer, new_router, use
from faregate.money import Usd

router = new_router("statements")
backends = (Database, UserTokens, Receipts)

# Of an export: what is in memory at once, and how long other requests wait for it to be written.
_PAGE_ROWS = 1000  # as many as a Supabase project answers at once


class PeriodQuery(BaseModel):
    """Which period: a month, or from one moment up to another; by itself the month until now."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    from_: Moment | None = Field(
        None, alias="from", description="Included. By itself the beginning of `to`'s month, UTC."
    )
    to: Moment | None = Field(None, description="Not included. By itself now.")
    month: Annotated[str, Field(pattern=r"^2[0-9]{3}-(0[1-9]|1[0-2])$")] | None = Field(
        None, description="In place of both: a month of UTC, such as 2026-11."
    )

    _follows_from = field_validator("to")(not_before_from)

    @field_validator("month")
    @classmethod
    def _stands_alone(cls, month: str, info: ValidationInfo) -> str:
        if info.data.get("from_") is not None or info.data.get("to") is not None:
            raise ValueError("stands in place of `from` and `to`")
        return month

    @property
    def bounds(self) -> dict[str, datetime | None]:
        """Give its two ends as SQL takes them; those that are not given are SQL's to know."""
        if self.month is None:
            return {"from": self.from_, "to": self.to}
        first = datetime.fromisoformat(f"{self.month}-01T00:00:00Z")
        next_month = first.month % 12 + 1
        return {
            "from": first,
            "to": first.replace(year=first.year + (next_month == 1), month=next_month),
        }


class Period(Answer):
    """From one moment, included, up to another."""

    from_: AwareDatetime = Field(validation_alias="begins_at", serialization_alias="from")
    to: AwareDatetime = Field(validation_alias="ends_at")


class Line(Answer):
    """What the transactions of a kind brought into the wallet, or took out of it: negative."""

    kind: str
    amount: Usd = Field(validation_alias="amount_micros")
    count: int


class Statement(Period):
    """What a period did to the balance: opening + all lines = closing. `debt` is owed beside it."""

    organization_id: UUID
    opening: Usd = Field(validation_alias="opening_micros")
    lines: list[Line]
    closing: Usd = Field(validation_alias="closing_micros")
    debt: Usd = Field(validation_alias="debt_micros")


class UsageDay(Line):
    """What was consumed of a kind on a day of UTC."""

    day: date


class Usage(Period):
    """What was consumed in a period; a day without usage is left out."""

    data: list[UsageDay] = Field(validation_alias="days")


Asked = Annotated[PeriodQuery, Query()]


@router.get("/v1/statements", responses=customer_refuses())
async def get_statement(
    period: Asked, caller: Customer, database: Database = use(Database)
) -> Statement:
    """Sum up a period: opening, purchases, bonuses, usage, refunds, …, closing. Needs `read`."""
    return Statement.model_validate(
        await database.call_one("get_statement", caller=caller, **period.bounds)
    )


@router.get("/v1/statements/usage", responses=customer_refuses("period_too_long"))
async def list_usage(period: Asked, caller: Customer, database: Database = use(Database)) -> Usage:
    """List what was consumed, by day (UTC) and kind; 400 days at most. Needs `read`."""
    return Usage.model_validate(
        await database.call_one("list_usage_days", caller=caller, **period.bounds)
    )


@router.get(
    "/v1/statements/transactions.csv",
    response_class=StreamingResponse,
    responses=customer_refuses() | document("text/csv", "RFC 4180"),
)
async def export_csv(
    period: Asked, caller: Customer, database: Database = use(Database)
) -> StreamingResponse:
    """Export a period's ledger, oldest first, for spreadsheets. Needs `read`."""
    found = await database.call_one("get_period", caller=caller, **period.bounds)
    lines = csv_lines(Transaction, _pages(database, caller, found))
    return _file(lines, found, "csv", CSV)


@router.get(
    "/v1/statements/transactions.json",
    response_model=list[Transaction],
    responses=customer_refuses(),
)
async def export_json(
    period: Asked, caller: Customer, database: Database = use(Database)
) -> StreamingResponse:
    """Export a period's ledger, oldest first, as one array. Needs `read`."""
    found = await database.call_one("get_period", caller=caller, **period.bounds)
    return _file(
        json_array(Transaction, _pages(database, caller, found)), found, "json", "application/json"
    )


@router.get(
    "/v1/statements/receipts/{top_up_id}",
    response_class=Response,
    responses=customer_refuses("top_up_not_found", "top_up_not_paid")
    | document("application/pdf", "A page of A4"),
)
async def get_receipt(
    top_up_id: UUID,
    caller: Customer,
    database: Database = use(Database),
    receipts: Receipts = use(Receipts),
) -> Response:
    """Give the receipt of a paid top-up, with what went back since. Needs `billing`."""
    receipt = await database.call_one("get_receipt", caller=caller, top_up_id=top_up_id)
    return Response(
        await receipts.write(receipt),
        media_type="application/pdf",
        headers=attachment(f"receipt_{receipt['number']}.pdf"),
    )


_Transactions = TypeAdapter(list[Transaction])


async def _pages(
    database: Database, caller: Caller, period: Row
) -> AsyncIterator[list[Transaction]]:
    """Read the ledger page by page: one call each, so that nothing is held between them.

    When one fails the answer breaks off, and whoever reads it is told so by HTTP.
    """
    after = period["opening_sequence"]
    while True:
        rows = await database.call(
            "list_period",
            caller=going_on(caller),
            opening_sequence=after,
            closing_sequence=period["closing_sequence"],
            limit=_PAGE_ROWS,
        )
        yield _Transactions.validate_python(rows)
        if len(rows) < _PAGE_ROWS:
            return
        after = rows[-1]["sequence"]


def _file(
    content: AsyncIterator[str] | AsyncIterator[bytes],
    period: Row,
    extension: Literal["csv", "json"],
    media_type: str,
) -> StreamingResponse:
    first, end = (
        datetime.fromisoformat(period[name]).astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        for name in ("begins_at", "ends_at")
    )
    name = f"transactions_{period['organization_id']}_{first}_{end}.{extension}"
    return StreamingResponse(content, media_type=media_type, headers=attachment(name))
