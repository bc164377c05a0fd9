"""Each minute: tell the queues what waits for them, and again what was never done."""

import asyncio
from time import monotonic

from fastapi import Depends

from faregate.backends.database import Database
from faregate.backends.tasks import Tasks
from faregate.backends.tokens import InvokerTokens
from faregate.caller import invoker
from faregate.chunks import BUDGET_SECONDS
from faregate.document import refuses
from faregate.errors import FaregateError
from faregate.function import FUNCTIONS, Answer, new_router, use
from faregate.log import log
from faregate.outbox import enqueue

router = new_router("schedules")
backends = (Database, InvokerTokens, Tasks)

TOPICS = tuple(name for name, kind in FUNCTIONS.items() if kind == "tasks")


class Enqueued(Answer):
    """How many tasks the queues were told of."""

    enqueued: int


@router.post(
    "/schedules/enqueue-outbox",
    dependencies=[Depends(invoker)],
    responses=refuses("unauthenticated", "invalid_token", "unavailable"),
)
async def enqueue_outbox(database: Database = use(Database), tasks: Tasks = use(Tasks)) -> Enqueued:
    """Tell each queue, beside the others: one that fails stops none. Safe to run twice or late."""
    deadline = monotonic() + BUDGET_SECONDS
    outcomes = await asyncio.gather(
        *(enqueue(database, tasks, topic, deadline) for topic in TOPICS), return_exceptions=True
    )
    failures = {
        topic: outcome
        for topic, outcome in zip(TOPICS, outcomes, strict=True)
        if isinstance(outcome, BaseException)
    }
    for topic, failure in failures.items():
        log("ERROR", "the queue was not told", failure, topic=topic)
    if failures:
        raise FaregateError("unavailable")
    return Enqueued(enqueued=sum(each for each in outcomes if isinstance(each, int)))
