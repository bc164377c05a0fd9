"""Everybody who takes part in an identity: who registers, queue, worker, Google's IAM."""

import json
from base64 import b64decode
from typing import Any
from uuid import uuid4

import httpx

from infra.local.layout import GOOGLE_PROJECT
from tests.harness.answers import done
from tests.harness.client import Client, Load
from tests.harness.platform import Organization, Platform, User

Row = dict[str, Any]
ROLE = "roles/iam.workloadIdentityUser"


class Identities:
    """Plays all parts."""

    def __init__(self, platform: Platform, function: Load) -> None:
        self.platform = platform
        self._location = f"projects/test/locations/{uuid4().hex}"
        self.desk = function("register", TASKS_LOCATION=self._location)
        self._cron = function("enqueue_outbox", TASKS_LOCATION=self._location)
        self._reader = function("identity")
        self.worker = function("provision_identity")

    def register(self, user: User | None = None) -> Organization:
        """Register a person; the queue has been told of what follows."""
        user = user or self.platform.user()
        made = done(self.desk.post("/v1/register", {}, by=user.token), 201)
        return Organization(made["organization"]["id"], made["passport"]["key"])

    def begin(self) -> tuple[Organization, Row]:
        """Register a person; give the task that makes the identity."""
        organization = self.register()
        return organization, self.task(organization)

    def task(self, organization: Organization) -> Row:
        """Let a minute strike; give the task that the identity waits for."""
        self.strike()
        task_id = self.row(organization)["task_id"]
        (task,) = (each for each in self.tasks("provision_identity") if each["task_id"] == task_id)
        return task

    def strike(self) -> int:
        """Let a minute strike; tell how many tasks the queues were told of."""
        token = self.platform.cloud.invoker_token()
        return int(done(self._cron.post("/schedules/enqueue-outbox", by=token))["enqueued"])

    def tasks(self, topic: str) -> list[Row]:
        """Tell what a queue was given."""
        queue = f"{self._location}/queues/{topic.replace('_', '-')}/tasks/"
        return [
            json.loads(b64decode(task["httpRequest"]["body"]))
            for task in self.platform.cloud.remembered("task")
            if task["name"].startswith(queue)
        ]

    def work(self, task: Row, worker: Client | None = None) -> httpx.Response:
        """Deliver a task."""
        token = self.platform.cloud.invoker_token()
        return (worker or self.worker).post("/tasks/provision-identity", task, by=token)

    def read(self, organization: Organization) -> Row:
        """Tell what a customer is told of their identity."""
        return done(self._reader.get("/v1/identity", by=organization.passport))

    def row(self, organization: Organization) -> Row:
        """Tell what the table has."""
        row: Row = self.platform.value(
            "select to_jsonb(i) from billing.identities as i where organization_id = %s",
            organization.id,
        )
        return row

    def accounts(self, organization: Organization) -> list[Row]:
        """Tell which accounts Google has that say that they are an organization's."""
        return [
            account
            for account in self.platform.cloud.remembered("iam.account")
            if account.get("description") == f"Faregate organization {organization.id}"
        ]

    def iam(self, method: str, path: str, body: Row | None = None) -> Row:
        """Ask Google's IAM, as somebody else would."""
        url = f"{self.platform.cloud.layout.iam_url}/v1/projects/{GOOGLE_PROJECT}/serviceAccounts"
        with httpx.Client(trust_env=False) as http:
            return done(http.request(method, url + path, json=body))

    def members(self, email: str) -> list[str]:
        """Tell who may act as an account."""
        policy = self.iam("POST", f"/{email}:getIamPolicy")
        return [
            member
            for binding in policy.get("bindings", [])
            if binding["role"] == ROLE
            for member in binding["members"]
        ]

    def expect_one(self, organization: Organization) -> None:
        """Fail unless the identity is ready, and is one account that its namespace may act as."""
        identity = self.read(organization)
        assert identity["status"] == "ready"
        (account,) = self.accounts(organization)
        assert account["email"] == identity["email"]
        workload = f"{identity['namespace']}/{identity['kubernetes_account']}"
        member = f"serviceAccount:{GOOGLE_PROJECT}.svc.id.goog[{workload}]"
        assert self.members(account["email"]) == [member]

    def expect_none(self, organization: Organization) -> None:
        """Fail if Google has an account of an organization's."""
        assert self.accounts(organization) == []
