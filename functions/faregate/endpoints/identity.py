"""Identity: the service account at Google that an organization acts as."""

from typing import Literal
from uuid import UUID

from pydantic import AwareDatetime

from faregate.backends.database import Database
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.contract import customer_refuses
from faregate.function import Answer, new_router, use

router = new_router("identity")
backends = (Database, UserTokens)


class Identity(Answer):
    """The service account, and what in Kubernetes may act as it."""

    organization_id: UUID
    status: Literal["requested", "provisioning", "ready", "failed", "deleting", "deleted"]
    email: str | None
    namespace: str
    kubernetes_account: str
    failure: str | None
    created_at: AwareDatetime
    ready_at: AwareDatetime | None
    deleted_at: AwareDatetime | None


@router.get("/v1/identity", responses=customer_refuses("identity_not_found"))
async def get_identity(caller: Customer, database: Database = use(Database)) -> Identity:
    """Tell which service account the organization acts as. Needs `read`."""
    return Identity.model_validate(await database.call_one("get_identity", caller=caller))
