"""The stand-in for IAM, called as Google's library for authentication does."""

import base64
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession

from infra.local.cloud.iam_accounts import Accounts
from infra.local.cloud.store import Store
from infra.local.layout import SIGNER
from tests.local.stand_ins import StandIns

Call = Callable[..., tuple[int, Any]]
ACCOUNTS = "/v1/projects/local/serviceAccounts"
ROLE = "roles/iam.workloadIdentityUser"


@pytest.fixture
def call(stand_ins: StandIns) -> Iterator[Call]:
    """Give a way to call the API with what Google's library sends."""
    with AuthorizedSession(AnonymousCredentials()) as session:  # type: ignore[no-untyped-call]
        session.trust_env = False

        def call(method: str, path: str, **body: object) -> tuple[int, Any]:
            url = f"{stand_ins.layout.iam_url}{path}"
            answer = session.request(method, url, json=body or None, timeout=5)  # type: ignore[no-untyped-call]
            return answer.status_code, answer.json()

        yield call


def new_id() -> str:
    return f"fg-{uuid4().hex[:20]}"


def make(call: Call) -> dict[str, Any]:
    status, made = call("POST", ACCOUNTS, accountId=new_id(), serviceAccount={"displayName": "A"})
    assert status == 200
    account: dict[str, Any] = made
    return account


def test_an_account_is_made_found_and_deleted(call: Call) -> None:
    made = make(call)
    account_id = made["email"].partition("@")[0]
    assert made["email"] == f"{account_id}@local.iam.gserviceaccount.com"
    assert made["name"] == f"projects/local/serviceAccounts/{made['email']}"
    assert (made["displayName"], made["projectId"]) == ("A", "local")
    for name in (made["email"], made["email"].replace("@", "%40"), made["uniqueId"]):
        assert call("GET", f"{ACCOUNTS}/{name}") == (200, made)
    assert call("GET", f"/v1/projects/-/serviceAccounts/{made['email']}") == (200, made)
    assert made in call("GET", ACCOUNTS)[1]["accounts"]
    assert call("DELETE", f"{ACCOUNTS}/{made['email']}") == (200, {})
    for method in ("GET", "DELETE"):
        status, told = call(method, f"{ACCOUNTS}/{made['email']}")
        assert (status, told["error"]["status"]) == (404, "NOT_FOUND")
    _, again = call("POST", ACCOUNTS, accountId=account_id)
    assert (again["email"], again["uniqueId"] != made["uniqueId"]) == (made["email"], True)


def test_a_name_is_taken(call: Call) -> None:
    account_id = make(call)["email"].partition("@")[0]
    status, told = call("POST", ACCOUNTS, accountId=account_id)
    assert (status, told["error"]["status"]) == (409, "ALREADY_EXISTS")
    assert account_id in told["error"]["message"]


@pytest.mark.parametrize(
    "account_id", ["", "short", "a" * 31, "Upper-case", "1digit-first", "ends-with-", "ünicode"]
)
def test_an_account_id_follows_the_rules(call: Call, account_id: str) -> None:
    status, told = call("POST", ACCOUNTS, accountId=account_id)
    assert (status, told["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_another_project_is_closed(call: Call) -> None:
    for method in ("POST", "GET"):
        status, told = call(method, "/v1/projects/other/serviceAccounts", accountId=new_id())
        assert (status, told["error"]["status"]) == (403, "PERMISSION_DENIED")


def test_a_project_has_a_quota(stand_ins: StandIns, call: Call) -> None:
    def limit(body: dict[str, int]) -> None:
        httpx.post(f"{stand_ins.layout.iam_url}/_quota", json=body, trust_env=False)

    limit({"service_accounts": 1})
    try:
        status, told = call("POST", ACCOUNTS, accountId=new_id())
        assert (status, told["error"]["status"]) == (429, "RESOURCE_EXHAUSTED")
    finally:
        limit({})


def test_a_policy_is_changed_by_who_knows_it(call: Call) -> None:
    name = f"{ACCOUNTS}/{make(call)['email']}"
    _, empty = call("POST", f"{name}:getIamPolicy")
    assert empty == {"etag": "ACAB"}
    member = "serviceAccount:local.svc.id.goog[spaces/runner]"
    policy = {"bindings": [{"role": ROLE, "members": [member]}], "etag": empty["etag"]}
    status, changed = call("POST", f"{name}:setIamPolicy", policy=policy)
    assert (status, changed["bindings"]) == (200, policy["bindings"])
    assert call("POST", f"{name}:getIamPolicy") == (200, changed)
    status, told = call("POST", f"{name}:setIamPolicy", policy=policy)
    assert (status, told["error"]["status"]) == (409, "ABORTED")
    assert call("POST", f"{name}:getIamPolicy") == (200, changed)


@pytest.mark.parametrize(
    ("role", "member"),
    [
        pytest.param(ROLE, "serviceAccount:other.svc.id.goog[a/b]", id="a pool of nobody"),
        pytest.param(ROLE, "somebody", id="a member of no kind"),
        pytest.param("owner", "user:a@example.com", id="a role that is none"),
        pytest.param(
            ROLE,
            "serviceAccount:nobody@local.iam.gserviceaccount.com",
            id="an account of nobody",
        ),
    ],
)
def test_a_policy_names_only_who_exists(call: Call, role: str, member: str) -> None:
    name = f"{ACCOUNTS}/{make(call)['email']}"
    policy = {"bindings": [{"role": role, "members": [member]}]}
    status, told = call("POST", f"{name}:setIamPolicy", policy=policy)
    assert (status, told["error"]["status"]) == (400, "INVALID_ARGUMENT")


def test_an_account_signs(stand_ins: StandIns) -> None:
    def sign(email: str, payload: str) -> httpx.Response:
        accounts = f"{stand_ins.layout.iam_credentials_url}/v1/projects/-/serviceAccounts"
        body = {"payload": payload}
        return httpx.post(f"{accounts}/{email}:signBlob", json=body, trust_env=False)

    answer = sign(SIGNER, base64.b64encode(b"text").decode()).json()
    signature = base64.b64decode(answer["signedBlob"]).hex()
    accounts = Accounts(Store(":memory:"), stand_ins.layout.secrets.google_private_key)
    assert accounts.has_signed(SIGNER, b"text", signature)
    assert not accounts.has_signed(SIGNER, b"texts", signature)
    assert sign(SIGNER, "not base64!").status_code == 400
    assert sign("nobody@local.iam.gserviceaccount.com", "").status_code == 404
