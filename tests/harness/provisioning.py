"""Storage that is rented, and the queue that delivers its tasks; straight, without a customer."""

from functools import cached_property
from typing import Any

import httpx

from tests.harness.client import Client, Load
from tests.harness.platform import Organization, Platform

HOUR = 3600


class Provisioning:
    """Plays the customer in SQL, and Cloud Tasks."""

    def __init__(self, platform: Platform, function: Load) -> None:
        self.platform, self.function = platform, function
        self.organization = platform.organization("pro", usd=1000)

    @cached_property
    def worker(self) -> Client:
        """Give the function that the queue calls."""
        return self.function("provision_storage")

    def rent(
        self,
        kind: str = "bucket",
        region: str = "europe-west4",
        size_gb: int = 10,
        *,
        by: Organization | None = None,
        soft_delete_days: int = 0,
        delete_after_days: int | None = None,
    ) -> str:
        """Ask for a storage resource; give its id."""
        return str(
            self.platform.value(
                "select billing.open_storage(%s, %s, %s, %s, 'data', null, %s, %s, 0, 'operator')",
                (by or self.organization).id,
                kind,
                region,
                size_gb,
                soft_delete_days,
                delete_after_days,
            )
        )

    def end(self, storage_id: str) -> None:
        """Have its owner delete it."""
        with self.platform.owner.transaction():
            self.platform.run(
                "select billing.lock_storage(organization_id, id) from billing.storage"
                " where id = %s",
                storage_id,
            )
            self.platform.run(
                "select billing.end_storage(organization_id, id, 'deleting', null)"
                " from billing.storage where id = %s",
                storage_id,
            )

    def want(self, storage_id: str, **columns: object) -> None:
        """Have something else be wanted of it."""
        for column, value in columns.items():
            self.platform.owner.execute(
                f"update billing.storage set {column} = %s where id = %s", (value, storage_id)
            )
        self.platform.run(
            "select billing.drive_storage(organization_id, id) from billing.storage where id = %s",
            storage_id,
        )

    def row(self, storage_id: str) -> dict[str, Any]:
        """Tell how it stands."""
        row: dict[str, Any] = self.platform.value(
            "select to_jsonb(s) from billing.storage as s where s.id = %s", storage_id
        )
        return row

    def task(self, storage_id: str) -> dict[str, str]:
        """Tell what the queue is to call its function with."""
        row = self.row(storage_id)
        return {name: row[name] for name in ("organization_id", "task_id")} | {
            "storage_id": storage_id
        }

    def is_settled(self, storage_id: str) -> bool:
        """Tell whether nothing is left to do."""
        return not self.platform.value(
            "select exists (select from billing.outbox as o join billing.storage as s"
            " on s.task_id = o.id where s.id = %s and o.acknowledged_at is null)",
            storage_id,
        )

    def deliver(self, task: dict[str, str], worker: Client | None = None) -> httpx.Response:
        """Have the queue call the function once."""
        token = self.platform.cloud.invoker_token()
        return (worker or self.worker).post("/tasks/provision-storage", task, by=token)

    def work(self, storage_id: str, worker: Client | None = None, limit: int = 30) -> str:
        """Deliver until nothing is left to do, as the queue does; tell how it ended."""
        for _ in range(limit):
            if self.is_settled(storage_id):
                break
            answer = self.deliver(self.task(storage_id), worker)
            assert answer.status_code in {200, 503}, answer.text
        assert self.is_settled(storage_id), self.row(storage_id)
        status: str = self.row(storage_id)["status"]
        return status

    def ready(self, *arguments: Any, **options: Any) -> str:  # noqa: ANN401  as rent has them
        """Rent a storage resource and have it made; give its id."""
        storage_id = self.rent(*arguments, **options)
        assert self.work(storage_id) == "ready"
        return storage_id

    def measure(self) -> httpx.Response:
        """Let the hour strike at which buckets are measured."""
        token = self.platform.cloud.invoker_token()
        cron = self.function("measure_storage")
        return cron.post("/schedules/measure-storage", by=token)

    def held(self) -> int:
        """Tell what is held of the organization's money, in µ$."""
        return self.platform.wallet(self.organization)[1]

    def notified(self) -> list[str]:
        """Tell of what the organization was told, the oldest first."""
        return [
            kind
            for (kind,) in self.platform.fetch(
                "select payload ->> 'kind' from billing.outbox"
                " where topic = 'notification' and organization_id = %s order by id",
                self.organization.id,
            )
        ]
