"""Each day: months of usage are made ahead, and old ones go to files in a bucket."""

import asyncio
from datetime import datetime
from hashlib import sha256
from time import monotonic
from uuid import UUID

from fastapi import Depends

from faregate.backends.database import Database, Row
from faregate.backends.parquet import Column, Table, sums
from faregate.backends.storage.archive import Archive
from faregate.backends.tokens import InvokerTokens
from faregate.caller import invoker
from faregate.document import refuses
from faregate.errors import FaregateError
from faregate.function import Answer, new_router, use
from faregate.log import log

router = new_router("schedules")
backends = (Database, InvokerTokens, Archive)

# The deployment gives it half an hour; a file takes half a minute.
_BUDGET_SECONDS = 1500.0
_FILE_EVENTS = 200_000
_PAGE_ROWS = 1000  # as many as a Supabase project answers at once

COLUMNS: list[Column] = [
    ("organization_id", "text"),
    ("id", "text"),
    ("source", "text"),
    ("event_id", "text"),
    ("occurred_at", "time"),
    ("feature", "text"),
    ("provider_id", "text"),
    ("model", "text"),
    ("passport_id", "text"),
    ("quantities", "text"),
    ("cost_usd", "text"),
    ("price_usd", "text"),
    ("provider_price_id", "text"),
    ("usage_rate_id", "text"),
    ("sequence", "whole"),
    ("corrects_id", "text"),
    ("counted", "whole"),
    ("priced_by", "text"),
]


class Keeping(Answer):
    """What a run did. more: its time was up before all that is old had gone."""

    files: int
    months: int
    more: bool


@router.post(
    "/schedules/keep-usage",
    dependencies=[Depends(invoker)],
    responses=refuses("unauthenticated", "invalid_token", "unavailable"),
)
async def keep_usage(
    database: Database = use(Database), archive: Archive = use(Archive)
) -> Keeping:
    """Make months, and archive old ones. Ended anywhere, the next run goes on after the last file.

    Nothing goes without a bucket, nor what the bucket does not give back as it was.
    """
    deadline = monotonic() + _BUDGET_SECONDS
    await database.call("create_usage_months")
    files = months = 0
    while archive.is_there and monotonic() < deadline:
        due = await database.call("start_usage_file")
        if not due:
            break
        if due[0]["is_last"]:
            (has_gone,) = await database.call("finish_usage_month", month=due[0]["month"])
            if not has_gone:
                break  # another run was faster
            months += 1
        else:
            await _write(database, archive, due[0])
            files += 1
    return Keeping(files=files, months=months, more=monotonic() >= deadline)


async def _write(database: Database, archive: Archive, due: Row) -> None:
    """Write a file, read it back, and have it noted if it is right."""
    name = f"usage_events/{due['month'][:7]}/{due['number']:05}.parquet"
    content = await _read(database, due)
    kept = await archive.keep(name, content)
    if kept != content:
        raise _wrong(name)
    events, (cost_usd, price_usd) = await asyncio.to_thread(sums, kept, "cost_usd", "price_usd")
    (is_right,) = await database.call(
        "finish_usage_file",
        month=due["month"],
        number=due["number"],
        object_name=name,
        events=events,
        cost_usd=cost_usd,
        price_usd=price_usd,
        size_bytes=len(kept),
        sha256=sha256(kept).hexdigest(),
    )
    if not is_right:
        raise _wrong(name)


def _wrong(name: str) -> FaregateError:
    log("ERROR", "a file of usage is not what was to be written", file=name)
    return FaregateError("unavailable")


async def _read(database: Database, due: Row) -> bytes:
    """Read what belongs into a file, page by page: one call each, nothing is held between them."""
    table = await asyncio.to_thread(Table, COLUMNS)
    last = {"organization_id": due["after_organization_id"], "id": due["after_id"]}
    for _ in range(_FILE_EVENTS // _PAGE_ROWS):
        rows = await database.call(
            "list_usage_file",
            month=due["month"],
            organization_id=UUID(last["organization_id"]),
            id=UUID(last["id"]),
            limit=_PAGE_ROWS,
        )
        table.add(
            [row | {"occurred_at": datetime.fromisoformat(row["occurred_at"])} for row in rows]
        )
        if len(rows) < _PAGE_ROWS:
            break
        last = rows[-1]
    return await asyncio.to_thread(table.write)
