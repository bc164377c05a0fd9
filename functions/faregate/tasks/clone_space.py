"""A clone: copy a space's objects page by page, tell how far it is, and hand on in time."""

from time import monotonic
from typing import Literal
from uuid import UUID

from fastapi import Depends

from faregate.backends.database import Database
from faregate.backends.storage import OutcomeError, Place
from faregate.backends.storage.copying import Copies
from faregate.backends.tasks import Tasks
from faregate.backends.tokens import InvokerTokens
from faregate.caller import invoker
from faregate.chunks import BUDGET_SECONDS
from faregate.document import refuses
from faregate.errors import FaregateError
from faregate.function import Answer, Body, new_router, use
from faregate.outbox import tell

router = new_router("tasks")
backends = (Database, InvokerTokens, Copies, Tasks)

# So often a customer sees it go on, and so much is done again when a run breaks off.
_STRIDE_SECONDS = 5.0


class CloneSpaceTask(Body):
    """What the outbox row said: which clone; and which row it was."""

    organization_id: UUID
    clone_id: UUID
    task_id: UUID


class Cloned(Answer):
    """How the clone stands now; of one that is copying another task goes on."""

    status: Literal["requested", "copying", "done", "failed"]


@router.post(
    "/tasks/clone-space",
    dependencies=[Depends(invoker)],
    responses=refuses(
        *["invalid_request", "unauthenticated", "invalid_token", "clone_not_found"],
        *["body_too_large", "unsupported_media_type", "task_under_way", "unavailable"],
    ),
)
async def clone_space(
    task: CloneSpaceTask,
    database: Database = use(Database),
    copies: Copies = use(Copies),
    tasks: Tasks = use(Tasks),
) -> Cloned:
    """Copy for a while. Repeated, late or outdated, it copies nothing but what is still to do."""
    deadline = monotonic() + BUDGET_SECONDS
    row = await database.call_one("start_clone", **dict(task))
    attempt = row["attempt"]
    if attempt is None:
        return Cloned.model_validate(row)
    source, target = Place(**row["source"]), Place(**row["target"])
    bookmark, failure, cause = row["bookmark"], None, None
    # One step at least, or it would never go on.
    is_time = True
    while is_time:
        try:
            # Between two transactions, never inside one.
            stride = min(monotonic() + _STRIDE_SECONDS, deadline)
            copied = await copies.copy(source, target, bookmark, stride)
        except OutcomeError as error:
            failure, cause = error.outcome, error
            break
        bookmark = copied.bookmark
        row = await database.call_one(
            "note_clone",
            **dict(task),
            attempt=attempt,
            bookmark=bookmark,
            objects=copied.objects,
            bytes=copied.bytes,
        )
        if not row["is_going"]:
            return Cloned.model_validate(row)
        is_time = monotonic() < deadline
    row = await database.call_one(
        "pause_clone",
        **dict(task),
        attempt=attempt,
        failure=failure.reason if failure else None,
        is_final=failure is not None and failure.outcome == "refused",
    )
    if row["is_going"]:
        raise FaregateError("unavailable") from cause
    await tell(database, tasks, "clone_space" if failure is None else "provision_storage")
    return Cloned.model_validate(row)
