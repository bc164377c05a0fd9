"""Each hour: measure the buckets that were not for a day, and charge for what is in them."""

from datetime import datetime
from time import monotonic
from uuid import UUID

from fastapi import Depends

from faregate.backends.database import Database, Row
from faregate.backends.storage import Place, Storage
from faregate.backends.tokens import InvokerTokens
from faregate.caller import invoker
from faregate.chunks import BUDGET_SECONDS
from faregate.document import refuses
from faregate.errors import FaregateError
from faregate.function import Answer, new_router, use
from faregate.log import log

router = new_router("schedules")
backends = (Database, InvokerTokens, Storage)

_CHUNK_BUCKETS = 10


class Measuring(Answer):
    """What a run did. more: its time was up before every bucket that is due was measured."""

    measured: int
    failed: int
    more: bool


@router.post(
    "/schedules/measure-storage",
    dependencies=[Depends(invoker)],
    responses=refuses("unauthenticated", "invalid_token", "unavailable"),
)
async def measure_storage(
    database: Database = use(Database), storage: Storage = use(Storage)
) -> Measuring:
    """Measure until nothing is due. Safe to run twice or late; what fails is due in an hour."""
    deadline = monotonic() + BUDGET_SECONDS
    counts = {True: 0, False: 0}
    more = True
    while more and monotonic() < deadline:
        rows = await database.call("start_measuring", limit=_CHUNK_BUCKETS)
        for row in rows:
            counts[await _measure(database, storage, row, deadline)] += 1
        more = len(rows) == _CHUNK_BUCKETS
    return Measuring(measured=counts[True], failed=counts[False], more=more)


async def _measure(database: Database, storage: Storage, row: Row, deadline: float) -> bool:
    """Measure one bucket; tell whether it could be."""
    named = {"organization_id": UUID(row.pop("organization_id"))}
    named["storage_id"] = UUID(row.pop("storage_id"))
    started_at = datetime.fromisoformat(row.pop("started_at"))
    try:
        used_bytes = await storage.used_bytes(Place(**row), deadline)
    except FaregateError as error:
        log("WARNING", "a bucket was not measured", error, **{k: str(v) for k, v in named.items()})
        return False
    await database.call_one(
        "record_storage_usage", **named, started_at=started_at, used_bytes=used_bytes
    )
    return True
