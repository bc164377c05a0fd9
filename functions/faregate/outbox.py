"""The outbox: what committed transactions want done outside. Cron functions tell the queues."""

from time import monotonic
from uuid import UUID

from faregate.backends.database import Database
from faregate.backends.tasks import Tasks

_CHUNK_TASKS = 100


async def enqueue(database: Database, tasks: Tasks, topic: str, deadline: float) -> int:
    """Tell a topic's queue what waits for it. Told twice, a row names the same task."""
    enqueued = 0
    while monotonic() < deadline:
        rows = await database.call("list_outbox", topic=topic, limit=_CHUNK_TASKS)
        if not rows:
            break
        for row in rows:
            await tasks.enqueue(
                topic=topic, name=row["id"], payload=row["payload"], run_at=row["run_at"]
            )
        enqueued += len(rows)
        await database.call("mark_enqueued", ids=[UUID(row["id"]) for row in rows])
    return enqueued
