"""Stand-in for Google's IAM: service accounts, who may act as them, and their signatures."""

import base64
import binascii
import re
from secrets import token_bytes

from fastapi import APIRouter, Request

from infra.local.cloud.google_errors import GoogleError, body_of, refusal
from infra.local.cloud.iam_accounts import Accounts
from infra.local.cloud.store import Document, Store
from infra.local.layout import GOOGLE_PROJECT

_ACCOUNT_ID = re.compile(r"[a-z]([a-z0-9-]{4,28})[a-z0-9]")
_MEMBER = re.compile(r"(user|group|domain|serviceAccount|principal|principalSet):\S+")
_POOL_MEMBER = re.compile(r"serviceAccount:([^\[\]]+)\[[^\[\]/]+/[^\[\]/]+\]")
_POOL = f"{GOOGLE_PROJECT}.svc.id.goog"
_ROLE = re.compile(r"(projects/[^/]+/|organizations/[^/]+/)?roles/[\w.]+")
_NO_POLICY: Document = {"etag": "ACAB"}


class Iam:
    """The REST API of service accounts, and that of their credentials.

    What Google's support does: `POST /_quota` service_accounts, how many the project may have.
    """

    def __init__(self, accounts: Accounts, store: Store) -> None:
        self._accounts, self._store = accounts, store
        self.router = APIRouter()
        accounts_of, account = (
            "/iam/v1/projects/{project}/serviceAccounts",
            "/iam/v1/projects/{project}/serviceAccounts/{name}",
        )
        for path, method, endpoint in (
            (accounts_of, "POST", self.create),
            (accounts_of, "GET", self.index),
            (f"{account}:getIamPolicy", "POST", self.get_policy),
            (f"{account}:setIamPolicy", "POST", self.set_policy),
            (account, "GET", self.get),
            (account, "DELETE", self.delete),
            ("/iam/_quota", "POST", self.limit),
            (
                "/iamcredentials/v1/projects/-/serviceAccounts/{name}:signBlob",
                "POST",
                self.sign_blob,
            ),
        ):
            self.router.add_api_route(path, endpoint, methods=[method])

    async def limit(self, request: Request) -> Document:
        """POST /_quota."""
        quota = await body_of(request)
        self._store.put("iam.quota", "", quota)
        return quota

    async def create(self, request: Request, project: str) -> Document:
        """POST /v1/projects/{project}/serviceAccounts."""
        asked = await body_of(request)
        _check_project(project, "iam.serviceAccounts.create")
        account_id = str(asked.get("accountId", ""))
        if not _ACCOUNT_ID.fullmatch(account_id):
            raise refusal(
                "INVALID_ARGUMENT",
                f"Invalid service account ID '{account_id}': 6 to 30 lower-case letters, digits "
                "and dashes, beginning with a letter.",
            )
        described = asked.get("serviceAccount") or {}
        if len(described.get("displayName", "")) > 100:
            raise refusal("INVALID_ARGUMENT", "The display name is longer than 100 characters.")
        existing = self._accounts.all()
        if any(each["email"].partition("@")[0] == account_id for each in existing):
            raise refusal(
                "ALREADY_EXISTS",
                f"Service account {account_id} already exists within project projects/{project}.",
            )
        quota = self._store.get("iam.quota", "") or {}
        if len(existing) >= quota.get("service_accounts", len(existing) + 1):
            raise refusal(
                "RESOURCE_EXHAUSTED", "Maximum number of service accounts on project reached."
            )
        return self._accounts.make(account_id, described)

    async def index(self, project: str) -> Document:
        """GET /v1/projects/{project}/serviceAccounts."""
        _check_project(project, "iam.serviceAccounts.list")
        return {"accounts": self._accounts.all()}

    async def get(self, project: str, name: str) -> Document:
        """GET /v1/projects/{project}/serviceAccounts/{address or number}."""
        return self._find(project, name, "iam.serviceAccounts.get")

    async def delete(self, project: str, name: str) -> Document:
        """DELETE /v1/projects/{project}/serviceAccounts/{address or number}."""
        self._accounts.remove(self._find(project, name, "iam.serviceAccounts.delete"))
        return {}

    async def get_policy(self, project: str, name: str) -> Document:
        """POST /v1/…:getIamPolicy."""
        return self._policy(self._find(project, name, "iam.serviceAccounts.getIamPolicy"))

    async def set_policy(self, request: Request, project: str, name: str) -> Document:
        """POST /v1/…:setIamPolicy: only if nobody else did since it was read."""
        asked = (await body_of(request)).get("policy") or {}
        account = self._find(project, name, "iam.serviceAccounts.setIamPolicy")
        current = self._policy(account)["etag"]
        if asked.get("etag") not in (None, "", current):
            raise refusal(
                "ABORTED",
                "There were concurrent policy changes. Please retry the whole read-modify-write "
                f"with exponential backoff. The request's ETag '{asked['etag']}' did not match the "
                f"current policy's ETag '{current}'.",
            )
        bindings = asked.get("bindings", [])
        for binding in bindings:
            self._check_binding(binding)
        policy = {
            "version": asked.get("version") or 1,
            "etag": base64.b64encode(token_bytes(8)).decode(),
            **({"bindings": bindings} if bindings else {}),
        }
        self._store.put("iam.policy", account["uniqueId"], policy)
        return policy

    async def sign_blob(self, request: Request, name: str) -> Document:
        """POST /v1/projects/-/serviceAccounts/{address}:signBlob."""
        asked = await body_of(request)
        self._find("-", name, "iam.serviceAccounts.signBlob")
        try:
            message = base64.b64decode(asked["payload"], validate=True)
        except (KeyError, TypeError, binascii.Error) as error:
            raise refusal("INVALID_ARGUMENT", "Base64 decoding failed for payload.") from error
        key_id, signature = self._accounts.sign(message)
        return {"keyId": key_id, "signedBlob": base64.b64encode(signature).decode()}

    def _find(self, project: str, name: str, permission: str) -> Document:
        if project != "-":
            _check_project(project, permission)
        account = self._accounts.find(name)
        if account is None:
            raise refusal("NOT_FOUND", f"Unknown service account: {name}")
        return account

    def _policy(self, account: Document) -> Document:
        return self._store.get("iam.policy", account["uniqueId"]) or _NO_POLICY

    def _check_binding(self, binding: Document) -> None:
        role = binding.get("role", "")
        if not _ROLE.fullmatch(role):
            raise refusal("INVALID_ARGUMENT", f"Role {role} is not supported for this resource.")
        for member in binding.get("members", []):
            pool = _POOL_MEMBER.fullmatch(member)
            if pool and pool[1] != _POOL:
                raise refusal(
                    "INVALID_ARGUMENT",
                    f"Identity Pool does not exist ({pool[1]}). Please check that you specified a "
                    "valid resource name as returned in the `name` attribute in the configuration "
                    "API.",
                )
            kind, _, email = member.partition(":")
            if not _MEMBER.fullmatch(member):
                raise refusal("INVALID_ARGUMENT", f"Invalid member: {member}")
            if kind == "serviceAccount" and not pool and not self._accounts.may_exist(email):
                raise refusal("INVALID_ARGUMENT", f"Service account {email} does not exist.")


def _check_project(project: str, permission: str) -> None:
    if project != GOOGLE_PROJECT:
        raise _denied(permission)


def _denied(permission: str) -> GoogleError:
    return refusal(
        "PERMISSION_DENIED", f"Permission '{permission}' denied on resource (or it may not exist)."
    )
