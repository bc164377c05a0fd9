"""Each minute: tell the queue which invitations wait for their mail."""

from time import monotonic

from fastapi import Depends

from faregate.backends.database import Database
from faregate.backends.tasks import Tasks
from faregate.backends.tokens import InvokerTokens
from faregate.caller import invoker
from faregate.chunks import BUDGET_SECONDS
from faregate.document import refuses
from faregate.function import Answer, new_router, use
from faregate.outbox import enqueue

router = new_router("schedules")
backends = (Database, InvokerTokens, Tasks)


class Enqueued(Answer):
    """How many mails the queue was told of."""

    enqueued: int


@router.post(
    "/schedules/enqueue-invitations",
    dependencies=[Depends(invoker)],
    responses=refuses("unauthenticated", "invalid_token", "unavailable"),
)
async def enqueue_invitations(
    database: Database = use(Database), tasks: Tasks = use(Tasks)
) -> Enqueued:
    """Have mails sent. Safe to run twice or late."""
    deadline = monotonic() + BUDGET_SECONDS
    return Enqueued(enqueued=await enqueue(database, tasks, "send_invitation", deadline))
