"""Everybody who takes part in an invitation: inviter, cron, queue, worker, mailbox, the invited."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx

from tests.harness.answers import done
from tests.harness.client import Client, Load
from tests.harness.platform import Organization, Platform, User

DAY = 24 * 3600


class Arrival(NamedTuple):
    """What a browser has where a mail's link led it."""

    token: str
    session: str
    url: str


class Invitations:
    """Plays all parts."""

    def __init__(self, platform: Platform, function: Load) -> None:
        self.platform, self.function = platform, function
        self._location = f"projects/test/locations/{uuid4().hex}"
        self.desk = function("invitations")
        self._cron = function("enqueue_outbox", TASKS_LOCATION=self._location)
        self.worker = function("send_invitation")
        self.organization = platform.organization(usd=5)
        # What else new organizations have done is not of interest here.
        platform.run("delete from billing.outbox where topic <> 'send_invitation'")
        self.owner = self.member("owner")

    @staticmethod
    def new_address() -> str:
        """Give an address that nobody has; with capitals, as people write them."""
        return f"{uuid4().hex}@Example.com"

    def member(self, role: str, organization: Organization | None = None) -> User:
        """Make a user who belongs to an organization already."""
        user = self.platform.user()
        self.platform.join(user, organization or self.organization, role)
        return user

    def path(self, organization: Organization | None = None) -> str:
        return f"/v1/organizations/{(organization or self.organization).id}/invitations"

    def ask(
        self, email: str, role: str = "member", *, by: str = "", repeat: str = ""
    ) -> httpx.Response:
        """Invite an address to the organization."""
        body = {"email": email, "role": role}
        return self.desk.post(self.path(), body, by=by or self.owner.token, repeat=repeat)

    def invite(self, email: str, role: str = "member") -> dict[str, Any]:
        """Invite an address, and have the mail sent; give the invitation as it was answered."""
        invitation = done(self.ask(email, role), 201)
        assert self.strike() == 1
        assert done(self.work(self.tasks()[-1])) == {"status": "sent"}
        return invitation

    def revoke(self, invitation_id: str, *, by: str = "") -> httpx.Response:
        path = f"{self.path()}/{invitation_id}/revoke"
        return self.desk.post(path, by=by or self.owner.token)

    def all(self, *, by: str = "", **query: object) -> list[dict[str, Any]]:
        """Tell what the list has."""
        answer = self.desk.get(self.path(), by=by or self.owner.token, params=query)
        found: list[dict[str, Any]] = done(answer)["data"]
        return found

    def statuses(self) -> list[str]:
        """Tell what became of each, the oldest first."""
        return [each["status"] for each in reversed(self.all())]

    def strike(self) -> int:
        """Let a minute strike; tell how many mails the queue was told of."""
        token = self.platform.cloud.invoker_token()
        return int(done(self._cron.post("/schedules/enqueue-outbox", by=token))["enqueued"])

    def tasks(self) -> list[dict[str, str]]:
        """Tell what the queue was given."""
        return self.platform.cloud.enqueued(f"{self._location}/queues/send-invitation")

    def work(self, task: dict[str, str], worker: Client | None = None) -> httpx.Response:
        """Deliver a task."""
        token = self.platform.cloud.invoker_token()
        return (worker or self.worker).post("/tasks/send-invitation", task, by=token)

    def mail(self, email: str) -> dict[str, str]:
        """Open the last message that an address got."""
        answer = self._auth("GET", "_mailbox", params={"email": email})
        return done(answer)

    def follow(self, email: str) -> Arrival:
        """Press the link of the last message."""
        answer = httpx.get(self.mail(email)["action_link"], trust_env=False)
        assert answer.status_code == 303, answer.text
        url = answer.headers["location"]
        where = urlsplit(url)
        session = parse_qs(where.fragment).get("access_token", [""])[0]
        return Arrival(parse_qs(where.query)["invitation"][0], session, url)

    def accept(self, token: str, *, by: str, repeat: str = "") -> httpx.Response:
        return self.desk.post("/v1/invitations/accept", {"token": token}, by=by, repeat=repeat)

    @contextmanager
    def mails_limited(self, remaining: int = 0) -> Iterator[None]:
        """Have Supabase Auth send no more than so many messages meanwhile."""
        self._auth("POST", "_mailbox", json={"remaining": remaining})
        try:
            yield
        finally:
            self._auth("POST", "_mailbox", json={"remaining": None})

    def _auth(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401
        url = f"{self.platform.cloud.layout.auth_url}/{path}"
        return httpx.request(method, url, trust_env=False, **options)
