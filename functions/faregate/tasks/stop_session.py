"""At the second a session's money or time ends: end it, unless money came in the meantime."""

from uuid import UUID

from fastapi import Depends
from pydantic import AwareDatetime

from faregate.backends.database import Database
from faregate.backends.tokens import InvokerTokens
from faregate.caller import invoker
from faregate.document import refuses
from faregate.function import Answer, Body, new_router, use

router = new_router("tasks")
backends = (Database, InvokerTokens)


class StopSessionTask(Body):
    """What the outbox row said: which session, and the end that was foreseen."""

    task_id: UUID
    organization_id: UUID
    session_id: UUID
    paid_until: AwareDatetime


class Stopped(Answer):
    """How the session stands now."""

    status: str
    close_reason: str | None


@router.post(
    "/tasks/stop-session",
    dependencies=[Depends(invoker)],
    responses=refuses(
        *["invalid_request", "unauthenticated", "invalid_token", "session_not_found"],
        *["body_too_large", "unsupported_media_type", "not_yet_due", "unavailable"],
    ),
)
async def stop_session(task: StopSessionTask, database: Database = use(Database)) -> Stopped:
    """End a session at its foreseen second. Repeated, late or outdated, it changes nothing else."""
    row = await database.call_one("sweep_session", **dict(task))
    return Stopped.model_validate(row)
