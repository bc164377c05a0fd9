"""A storage resource: take the next step that makes the cloud as it is wanted, and record it."""

from typing import Literal
from uuid import UUID

from fastapi import Depends

from faregate.backends.database import Database
from faregate.backends.storage import Storage, Wanted
from faregate.backends.tasks import Tasks
from faregate.backends.tokens import InvokerTokens
from faregate.caller import invoker
from faregate.document import refuses
from faregate.errors import FaregateError
from faregate.function import Answer, Body, new_router, use
from faregate.outbox import tell

router = new_router("tasks")
backends = (Database, InvokerTokens, Storage, Tasks)


class ProvisionStorageTask(Body):
    """What the outbox row said: which storage resource; and which row it was."""

    organization_id: UUID
    storage_id: UUID
    task_id: UUID


class ProvisionedStorage(Answer):
    """How the storage resource stands now that nothing is left to do."""

    status: Literal[
        "requested",
        "provisioning",
        "ready",
        "grace",
        "read_only",
        "deletion_notice",
        "deleting",
        "deleted",
        "failed",
    ]


@router.post(
    "/tasks/provision-storage",
    dependencies=[Depends(invoker)],
    responses=refuses(
        *["invalid_request", "unauthenticated", "invalid_token", "storage_not_found"],
        *["body_too_large", "unsupported_media_type", "task_under_way", "unavailable"],
    ),
)
async def provision_storage(
    task: ProvisionStorageTask,
    database: Database = use(Database),
    storage: Storage = use(Storage),
    tasks: Tasks = use(Tasks),
) -> ProvisionedStorage:
    """Take a step. Repeated, late or outdated, it takes none but what is still to do."""
    row = await database.call_one("start_provisioning", **dict(task))
    if row["step"] != "nothing":
        wanted = Wanted(
            organization_id=task.organization_id,
            storage_id=task.storage_id,
            **{name: row[name] for name in Wanted.__dataclass_fields__ if name in row},
        )
        # Between two transactions, never inside one.
        outcome = await storage.take(row["step"], wanted)
        row = await database.call_one(
            "finish_provisioning",
            **dict(task),
            attempt=row["attempt"],
            step=row["step"],
            size_gb=wanted.size_gb,
            access=wanted.access,
            principal=wanted.principal,
            outcome=outcome.outcome,
            reason=outcome.reason,
            mount=outcome.mount,
            operation=outcome.operation,
        )
        if not row["is_done"]:
            raise FaregateError("unavailable") from outcome.cause
        # A clone waits for its bucket.
        await tell(database, tasks, "clone_space")
    return ProvisionedStorage.model_validate(row)
