"""What customers and operators do with spaces."""

from dataclasses import dataclass
from typing import Any

import httpx

from tests.harness.answers import done
from tests.harness.client import Client
from tests.harness.platform import Organization, Platform

Row = dict[str, Any]


@dataclass
class Spaces:
    """The function, and buckets and workspaces that tests of it need."""

    platform: Platform
    client: Client

    def try_to_buy(self, buyer: Organization, slug: str) -> httpx.Response:
        return self.client.post(f"/v1/spaces/{slug}/purchases", by=buyer.passport)

    def buy(self, buyer: Organization, slug: str) -> Row:
        return done(self.try_to_buy(buyer, slug), 201)

    def refund(
        self, operator: Organization, purchase: Row, reason: str = "by mistake", **options: str
    ) -> httpx.Response:
        body = {"organization_id": purchase["organization_id"], "reason": reason}
        path = f"/v1/spaces/purchases/{purchase['id']}/refund"
        return self.client.post(path, body, by=operator.passport, **options)

    def place(
        self, verb: str, owner: Organization, slug: str, workspace_id: str, **options: str
    ) -> httpx.Response:
        """Attach or detach."""
        body = {"workspace_id": workspace_id}
        return self.client.post(f"/v1/spaces/{slug}/{verb}", body, by=owner.passport, **options)

    def publish(
        self, publisher: Organization, storage_id: str, /, slug: str = "our-lab", **body: object
    ) -> httpx.Response:
        body = {
            **{"slug": slug, "title": "Our lab", "description": "All that we use."},
            **{"storage_id": storage_id, "price": "1.50"},
            **body,
        }
        return self._alter(self.client.post("/v1/spaces", body, by=publisher.passport))

    def review(
        self, operator: Organization, slug: str = "our-lab", decision: str = "approve"
    ) -> httpx.Response:
        body = {"decision": decision, "reason": "looked at it"}
        return self.client.post(f"/v1/spaces/{slug}/review", body, by=operator.passport)

    def withdraw(self, by: Organization, slug: str = "our-lab") -> httpx.Response:
        return self.client.post(f"/v1/spaces/{slug}/withdraw", by=by.passport)

    def set_source(
        self, operator: Organization, slug: str, storage_id: str, *, is_cloneable: bool = True
    ) -> httpx.Response:
        body = {"storage_id": storage_id, "is_cloneable": is_cloneable}
        return self._alter(
            self.client.post(f"/v1/spaces/{slug}/source", body, by=operator.passport)
        )

    def _alter(self, response: httpx.Response) -> httpx.Response:
        # The catalogue is there before any test.
        self.platform.is_altered |= response.is_success
        return response

    def get(self, by: Organization, slug: str) -> Row:
        return done(self.client.get(f"/v1/spaces/{slug}", by=by.passport))

    # What other functions do.

    def workspace(self, organization: Organization) -> str:
        return str(
            self.platform.value(
                "insert into billing.workspaces (organization_id, name, created_by)"
                " values (%s, 'Lab', 'test') returning id",
                organization.id,
            )
        )

    def ask(self, organization: Organization, *, gb: int = 10, kind: str = "bucket") -> str:
        """Ask for storage; give its id."""
        return str(
            self.platform.value(
                "select billing.open_storage("
                "%s, %s, 'us-central1', %s, null, null, 0, null, 0, 'test')",
                organization.id,
                kind,
                gb,
            )
        )

    def rent(self, organization: Organization, *, gb: int = 10) -> str:
        """Ask for a bucket, which the cloud then has."""
        storage_id = self.ask(organization, gb=gb)
        self.is_there(organization, storage_id)
        return storage_id

    def is_there(self, organization: Organization, storage_id: str) -> None:
        self._with_lock("select billing.start_storage(%s, %s)", organization, storage_id)

    def ends(self, organization: Organization, storage_id: str, status: str = "deleting") -> None:
        self._with_lock(
            "select billing.end_storage(%s, %s, %s, 'test')", organization, storage_id, status
        )

    def _with_lock(self, statement: str, organization: Organization, *values: str) -> None:
        with self.platform.owner.transaction():
            self.platform.run("select billing.lock_storage(%s, %s)", organization.id, values[0])
            self.platform.owner.execute(statement.encode(), [organization.id, *values])
