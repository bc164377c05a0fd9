"""Google's IAM: a service account for each organization, and who in Kubernetes may act as it."""

import asyncio
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from faregate.settings import IdentitySettings

if TYPE_CHECKING:
    from google.auth.transport.requests import AuthorizedSession

# To connect and to answer: all calls of an attempt together take less than its two minutes.
_TIMEOUT_SECONDS = (3, 10)
_MAX_POLICY_ATTEMPTS = 3
_USER = "roles/iam.workloadIdentityUser"
# A policy that has changed since it was read.
_CONFLICTS = (409, 412)
# What no repetition mends.
_REFUSALS = {400: "invalid", 403: "permission_denied"}
_PASSING = {404: "not_there_yet", 409: "conflict", 412: "conflict", 429: "too_many_requests"}


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt, as SQL wants it told.

    taken: the name is another's. absent: there was nothing to delete. refused: repetition does not
    help. unavailable: perhaps it was done, perhaps not.
    """

    outcome: Literal["done", "absent", "taken", "refused", "unavailable"]
    email: str | None = None
    reason: str | None = None
    cause: BaseException | None = field(default=None, compare=False)


class _IamError(Exception):
    """A refusal, or no answer at all (status 0)."""

    def __init__(self, status: int, message: object) -> None:
        super().__init__(status, message)
        self.status, self.message = status, str(message)

    @property
    def outcome(self) -> Outcome:
        if self.status == 429 and "Maximum number" in self.message:
            # Not a rate: the project is full.
            return Outcome("refused", reason="quota_exceeded", cause=self)
        if self.status in _REFUSALS:
            return Outcome("refused", reason=_REFUSALS[self.status], cause=self)
        return Outcome("unavailable", reason=_PASSING.get(self.status, "no_answer"), cause=self)


class Identities:
    """The service accounts of a project. Google's library is imported at the first call."""

    def __init__(self) -> None:
        self._settings = IdentitySettings()

    async def create(self, account_id: str, owner: str, workload: str) -> Outcome:
        """Make a service account that says whose it is, and let a workload act as it.

        Repeated, it is the same account. workload: NAMESPACE/SERVICE_ACCOUNT in Kubernetes.
        """
        # The client blocks; a thread keeps the event loop free.
        return await asyncio.to_thread(self._create, account_id, owner, workload)

    async def delete(self, account_id: str, owner: str) -> Outcome:
        """Delete a service account, if it says that it is this owner's."""
        return await asyncio.to_thread(self._delete, account_id, owner)

    def _create(self, account_id: str, owner: str, workload: str) -> Outcome:
        email = self._email(account_id)
        account = {"displayName": owner, "description": owner}
        try:
            try:
                self._call("POST", "", {"accountId": account_id, "serviceAccount": account})
            except _IamError as error:
                if error.status != 409:
                    raise
                # An earlier attempt may have made it, whose answer was lost.
                if self._owner(email) != owner:
                    return Outcome("taken", reason="name_taken")
            self._bind(email, workload)
        except _IamError as error:
            return error.outcome
        return Outcome("done", email)

    def _delete(self, account_id: str, owner: str) -> Outcome:
        email = self._email(account_id)
        try:
            if self._owner(email) != owner:
                return Outcome("absent")
            self._call("DELETE", f"/{email}")
        except _IamError as error:
            return Outcome("absent") if error.status == 404 else error.outcome
        return Outcome("done")

    def _bind(self, email: str, workload: str) -> None:
        """Add the workload to those who may act as the account; whoever else may, still may."""
        member = f"serviceAccount:{self._settings.workload_identity_pool}[{workload}]"
        for attempt in range(1, _MAX_POLICY_ATTEMPTS + 1):
            # Version 3 is the one that shows conditions, which an older one would drop.
            version = "options.requestedPolicyVersion=3"
            policy = self._call("POST", f"/{email}:getIamPolicy?{version}")
            bindings = policy.setdefault("bindings", [])
            if any(_lets_in(binding, member) for binding in bindings):
                return
            bindings.append({"role": _USER, "members": [member]})
            try:
                self._call("POST", f"/{email}:setIamPolicy", {"policy": policy})
            except _IamError as error:
                if error.status not in _CONFLICTS or attempt == _MAX_POLICY_ATTEMPTS:
                    raise

    def _owner(self, email: str) -> str:
        return str(self._call("GET", f"/{email}").get("description", ""))

    def _email(self, account_id: str) -> str:
        # A project of a domain, example.com:project, has its parts the other way round there.
        domain, _, project = self._settings.google_project.rpartition(":")
        return f"{account_id}@{project}{domain and f'.{domain}'}.iam.gserviceaccount.com"

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException

        address = str(self._settings.iam_api_url).rstrip("/")
        accounts = f"{address}/v1/projects/{self._settings.google_project}/serviceAccounts"
        try:
            answer = self._session.request(  # type: ignore[no-untyped-call]
                method, accounts + path, json=body, timeout=_TIMEOUT_SECONDS, allow_redirects=False
            )
            document = answer.json()
        except (RequestException, GoogleAuthError, ValueError) as error:
            raise _IamError(0, error) from error
        if not isinstance(document, dict):
            raise _IamError(0, document)
        if answer.status_code != 200:
            raise _IamError(answer.status_code, document.get("error"))
        return document

    @cached_property
    def _session(self) -> "AuthorizedSession":
        """Make the client, which repeats nothing: the queue does."""
        from google.auth.transport.requests import AuthorizedSession

        from faregate.backends.google import credentials

        as_us = credentials(str(self._settings.iam_api_url))
        return AuthorizedSession(as_us)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        """The client's connections end with the process."""


def _lets_in(binding: dict[str, Any], member: str) -> bool:
    return (
        binding.get("role") == _USER
        and "condition" not in binding
        and member in binding.get("members", ())
    )
