"""An invitation's mail: have Supabase Auth send it, and record what became of it."""

from hashlib import sha256
from typing import Literal
from uuid import UUID

from fastapi import Depends

from faregate.backends.auth import InvitationMails
from faregate.backends.database import Database
from faregate.backends.tokens import InvokerTokens
from faregate.caller import invoker
from faregate.document import refuses
from faregate.function import Answer, Body, new_router, use

router = new_router("tasks")
backends = (Database, InvokerTokens, InvitationMails)


class SendInvitationTask(Body):
    """What the outbox row said: which invitation."""

    task_id: UUID
    organization_id: UUID
    invitation_id: UUID


class Sent(Answer):
    """How the invitation stands now."""

    status: Literal["sent", "accepted", "revoked", "expired", "failed"]


@router.post(
    "/tasks/send-invitation",
    dependencies=[Depends(invoker)],
    responses=refuses(
        *["invalid_request", "unauthenticated", "invalid_token", "invitation_not_found"],
        *["body_too_large", "unsupported_media_type", "unavailable"],
    ),
)
async def send_invitation(
    task: SendInvitationTask,
    database: Database = use(Database),
    mails: InvitationMails = use(InvitationMails),
) -> Sent:
    """Send an invitation's mail. Repeated, it sends none, or if in doubt the same once more."""
    token = mails.token(task.invitation_id)
    row = await database.call_one(
        "start_invitation_mail", **dict(task), token_hash=sha256(token.encode()).hexdigest()
    )
    if row["email"]:
        # Between two transactions, never inside one.
        failure = await mails.send(row["email"], token)
        row = await database.call_one("finish_invitation_mail", **dict(task), failure=failure)
    return Sent.model_validate(row)
