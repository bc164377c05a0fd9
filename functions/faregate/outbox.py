"""The outbox: what committed transactions want done outside. Here its queues are told."""

import asyncio
from time import monotonic
from typing import Any
from uuid import UUID

from faregate.backends.database import Database
from faregate.backends.tasks import Tasks
from faregate.log import log

_CHUNK_TASKS = 100
_TASKS_AT_ONCE = 4
# A request that has just written a row waits no longer for its queue.
_TELL_TASKS = 4
_TELL_SECONDS = 1.5


async def enqueue(database: Database, tasks: Tasks, topic: str, deadline: float) -> int:
    """Tell a topic's queue what waits for it. Told twice, a row names the same task.

    A task that is refused does not keep others waiting.

    Raises FaregateError: unavailable, when the queue or the database was: what was told is noted.
    """
    enqueued, failure = 0, None
    while monotonic() < deadline:
        told, failure = await _enqueue_some(database, tasks, topic, _CHUNK_TASKS, deadline)
        enqueued += told
        if not told:
            break
    if failure:
        raise failure
    return enqueued


async def tell(database: Database, tasks: Tasks, topic: str) -> None:
    """Tell a topic's queue right after a commit. Where that fails, the cron function tells it."""
    try:
        async with asyncio.timeout(_TELL_SECONDS):
            deadline = monotonic() + _TELL_SECONDS
            _, failure = await _enqueue_some(database, tasks, topic, _TELL_TASKS, deadline)
    except Exception as error:  # noqa: BLE001  what is committed is answered, come what may
        failure = error
    if failure:
        log("WARNING", "the queue was not told", failure, topic=topic)


async def _enqueue_some(
    database: Database, tasks: Tasks, topic: str, limit: int, deadline: float
) -> tuple[int, BaseException | None]:
    """Give how many the queue took, and why it did not take all."""
    rows = await database.call("list_outbox", topic=topic, limit=limit)
    told: list[dict[str, Any]] = []
    failure: BaseException | None = None
    for first in range(0, len(rows), _TASKS_AT_ONCE):
        some = rows[first : first + _TASKS_AT_ONCE]
        outcomes = await asyncio.gather(
            *(
                tasks.enqueue(
                    topic=topic, name=row["name"], payload=row["payload"], run_at=row["run_at"]
                )
                for row in some
            ),
            return_exceptions=True,
        )
        taken = [row for row, outcome in zip(some, outcomes, strict=True) if outcome is None]
        told += taken
        failure = next(filter(None, outcomes), failure)
        if not taken or monotonic() >= deadline:
            break
    if told:
        await database.call(
            "mark_enqueued",
            organization_ids=[UUID(row["organization_id"]) for row in told],
            ids=[UUID(row["id"]) for row in told],
        )
    return len(told), failure
