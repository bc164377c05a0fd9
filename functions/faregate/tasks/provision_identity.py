"""An organization's identity: have Google make or delete its service account, and record it."""

from uuid import UUID

from fastapi import Depends

from faregate.backends.database import Database
from faregate.backends.identity import Identities
from faregate.backends.tokens import InvokerTokens
from faregate.caller import invoker
from faregate.document import refuses
from faregate.errors import FaregateError
from faregate.function import Answer, Body, new_router, use

router = new_router("tasks")
backends = (Database, InvokerTokens, Identities)


class ProvisionIdentityTask(Body):
    """What the outbox row said: whose identity."""

    task_id: UUID
    organization_id: UUID


class Provisioned(Answer):
    """How the identity stands now. One that failed is tried again in a day."""

    status: str


@router.post(
    "/tasks/provision-identity",
    dependencies=[Depends(invoker)],
    responses=refuses(
        *["invalid_request", "unauthenticated", "invalid_token", "identity_not_found"],
        *["body_too_large", "unsupported_media_type", "task_under_way", "unavailable"],
    ),
)
async def provision_identity(
    task: ProvisionIdentityTask,
    database: Database = use(Database),
    identities: Identities = use(Identities),
) -> Provisioned:
    """Make Google have what the row wants. Repeated, it is one service account."""
    row = await database.call_one("start_identity", **dict(task))
    if row["step"] != "nothing":
        # Between two transactions, never inside one.
        account_id, owner = row["account_id"], f"Faregate organization {task.organization_id}"
        if row["step"] == "create":
            workload = f"{row['namespace']}/{row['kubernetes_account']}"
            outcome = await identities.create(account_id, owner, workload)
        else:
            outcome = await identities.delete(account_id, owner)
        row = await database.call_one(
            "finish_identity",
            **dict(task),
            attempt=row["attempt"],
            step=row["step"],
            outcome=outcome.outcome,
            email=outcome.email,
            reason=outcome.reason,
        )
        if not row["is_done"]:
            raise FaregateError("unavailable") from outcome.cause
    return Provisioned.model_validate(row)
