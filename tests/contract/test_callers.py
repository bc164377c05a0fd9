"""Who may: the same answers on every address that customers call."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest

from faregate.caller import new_key
from infra.local.layout import WAYS
from tests.harness.answers import done, problem
from tests.harness.client import Load
from tests.harness.cloud import Cloud
from tests.harness.forgery import FORGERIES, Forge
from tests.harness.operations import BY_PASSPORT, OPERATIONS, Operation
from tests.harness.platform import EVERYTHING, Platform

pytestmark = pytest.mark.parametrize("way", WAYS, indirect=True)

every_operation = pytest.mark.parametrize("operation", BY_PASSPORT, ids=str)


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_nobody_may_do_anything(function: Load, platform: Platform, operation: Operation) -> None:
    before = platform.contents()
    client = function(operation.function)
    response = operation.call(client)
    problem(response, 401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"
    problem(operation.call(client, headers={"Authorization": "Basic YTpi"}), 401, "unauthenticated")
    assert platform.contents() == before


@every_operation
def test_only_a_live_passport_with_the_permission_may(
    function: Load, platform: Platform, operation: Operation
) -> None:
    client = function(operation.function)
    organization = platform.organization()
    expired = platform.passport(organization.id, *EVERYTHING, "admin", expires_in_seconds=60)
    platform.advance(61)
    revoked = platform.passport(organization.id, *EVERYTHING, "admin")
    platform.run(
        "update billing.passports set revoked_at = billing.now() where id = %s",
        platform.passport_id(revoked),
    )
    weak = platform.passport(organization.id, *({*EVERYTHING, "admin"} - {operation.permission}))
    before = platform.contents()
    for key in (expired, revoked, new_key().key, weak[:-1], weak + "x", "fg_test_" + weak[8:]):
        problem(operation.call(client, by=key), 401, "invalid_passport")
    refusal = problem(operation.call(client, by=weak), 403, "permission_denied")
    assert refusal["permission"] == operation.permission
    assert platform.contents() == before


@every_operation
def test_a_stranger_may_not_and_a_member_only_what_members_may(
    function: Load, platform: Platform, operation: Operation
) -> None:
    client = function(operation.function)
    stranger, member = platform.user(), platform.user()
    organization = platform.organization()
    platform.join(member, organization, "member")
    problem(operation.call(client, by=stranger.token), 403, "not_registered")
    of_another = {"Faregate-Organization": organization.id}
    problem(
        operation.call(client, by=stranger.token, headers=of_another),
        404,
        "organization_not_found",
    )
    response = operation.call(client, by=member.token)
    if operation.permission in ("billing", "admin"):
        problem(response, 403, "permission_denied")
    elif operation.function == "token":
        problem(response, 403, "passport_required")
    else:
        assert response.status_code in (operation.status, 404, 402), response.text


@pytest.mark.parametrize(
    "operation",
    [each for each in BY_PASSPORT if "_id}" in each.path and each.permission != "admin"],
    ids=str,
)
def test_what_belongs_to_others_answers_like_what_is_not(
    function: Load, platform: Platform, operation: Operation
) -> None:
    owner, other = platform.organization(usd=5), platform.organization(usd=5)
    kind = operation.path.partition("/{")[0].rpartition("/")[2]
    if kind == "passports":
        subject = platform.passport_id(owner.passport)
    elif kind in ("sessions", "holds"):  # a session's hold has its id
        start = function("sessions").post("/v1/sessions", {"tier": "small"}, by=owner.passport)
        subject = done(start, 201)["id"]
    elif kind == "workspaces":
        made = function("workspaces").post("/v1/workspaces", {"name": "Lab"}, by=owner.passport)
        subject = done(made, 201)["id"]
    elif kind == "spend-caps":
        cap = {"period": "day", "cap": "1.00"}
        caps = function("entitlements")
        subject = done(caps.request("PUT", "/v1/spend-caps", json=cap, by=owner.passport))["id"]
    elif kind == "storage":
        body = {"kind": "bucket", "size_gb": 1}
        subject = done(function("storage").post("/v1/storage", body, by=owner.passport), 201)["id"]
    elif kind == "authorizations":
        body = {"organization_id": owner.id, "feature": "chat", "quantities": {"images": 1}}
        operator = platform.operator()
        rate = {"prices": {"images": "1"}}
        done(function("rates").post("/v1/usage/rates", rate, by=operator.passport), 201)
        client = function("authorizations")
        subject = done(client.post("/v1/usage/authorize", body, by=operator.passport), 201)["id"]
    else:
        buy = function("credits").post(
            "/v1/credits/checkout", {"amount": "10.00"}, by=owner.passport
        )
        subject = done(buy, 201)["id"]
    client = function(operation.function)
    before = platform.contents()
    foreign = operation.call(client, subject=subject, by=other.passport)
    absent = operation.call(client, by=other.passport)
    code = operation.path.partition("{")[2].partition("_id}")[0]
    same = {"type", "title", "status", "code"}
    a, b = problem(foreign, 404, f"{code}_not_found"), problem(absent, 404, f"{code}_not_found")
    assert {name: a[name] for name in same} == {name: b[name] for name in same}
    assert a.keys() == b.keys()
    assert platform.contents() == before


def test_a_passport_knows_its_organization(function: Load, platform: Platform) -> None:
    one, other = platform.organization(), platform.organization()
    client = function("credits")
    named = {"Faregate-Organization": one.id}
    done(client.get("/v1/credits", by=one.passport, headers=named))
    refusal = client.get("/v1/credits", by=other.passport, headers=named)
    problem(refusal, 404, "organization_not_found")


def test_a_passport_may_come_as_x_api_key(function: Load, platform: Platform) -> None:
    passport = platform.organization().passport
    client = function("credits")
    done(client.get("/v1/credits", headers={"X-API-Key": passport}))
    problem(
        client.get("/v1/credits", by=passport, headers={"X-API-Key": "fg_live_x"}),
        401,
        "invalid_passport",
    )


def test_a_user_of_two_organizations_names_one(function: Load, platform: Platform) -> None:
    client, user = function("credits"), platform.user()
    rich, poor = platform.organization(usd=7), platform.organization()
    platform.join(user, rich, "owner")
    platform.join(user, poor, "admin")
    problem(client.get("/v1/credits", by=user.token), 400, "organization_required")
    for organization, settled in ((rich, "7.000000"), (poor, "0.000000")):
        headers = {"Faregate-Organization": organization.id}
        assert done(client.get("/v1/credits", by=user.token, headers=headers))["settled"] == settled
    headers = {"Faregate-Organization": "all of them"}
    problem(client.get("/v1/credits", by=user.token, headers=headers), 400, "invalid_request")


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_token_proves_nothing(function: Load, platform: Platform, forge: Forge) -> None:
    user, organization = platform.user(), platform.organization()
    platform.join(user, organization, "owner")
    cloud = platform.cloud
    token = forge(cloud.layout.auth_key, cloud.user_claims(user.id))
    problem(function("credits").get("/v1/credits", by=token), 401, "invalid_token")
    problem(function("register").post("/v1/register", {}, by=token), 401, "invalid_token")


_NOW = int(datetime.now(UTC).timestamp())

# Signed by the project itself, but not what a signed-in user's token says.
NOBODYS: dict[str, dict[str, Any]] = {
    "another issuer": {"iss": "https://evil.example/auth/v1"},
    "no issuer": {"iss": ""},
    "another audience": {"aud": "anon"},
    "no audience": {"aud": ""},
    "expired": {"iat": _NOW - 7200, "exp": _NOW - 60},
    "no end": {"exp": None},
    "issued in the future": {"iat": _NOW + 86_400},
    "not valid yet": {"nbf": _NOW + 86_400},
    "service role": {"role": "service_role"},
    "the role of passports' tokens": {"role": "faregate_reader"},
    "the owner's role": {"role": "postgres"},
    "roles in a list": {"role": ["authenticated"]},
    "no role": {"role": None},
    "an anonymous sign-in": {"is_anonymous": True},
    "an anonymous sign-in in words": {"is_anonymous": "true"},
    "no subject": {"sub": ""},
    "a subject that is no uuid": {"sub": "1 or 1=1"},
    "a subject that is a number": {"sub": 7},
}


@pytest.mark.parametrize("claims", NOBODYS.values(), ids=NOBODYS)
def test_a_token_that_is_not_the_users_proves_nothing(
    function: Load, platform: Platform, claims: dict[str, Any]
) -> None:
    user, organization = platform.user(), platform.organization()
    platform.join(user, organization, "owner")
    token = platform.cloud.user_token(user.id, **claims)
    problem(function("credits").get("/v1/credits", by=token), 401, "invalid_token")
    problem(function("register").post("/v1/register", {}, by=token), 401, "invalid_token")


@pytest.mark.parametrize(
    "credential",
    [
        pytest.param(lambda cloud, _: cloud.layout.secrets.secret_key, id="secret key"),
        pytest.param(lambda cloud, _: cloud.layout.secrets.publishable_key, id="publishable key"),
        pytest.param(lambda cloud, user: cloud.invoker_token(sub=user), id="Google's token"),
        pytest.param(
            lambda cloud, user: cloud.layout.google_key.sign(cloud.user_claims(user)),
            id="Google's signature",
        ),
    ],
)
def test_what_others_prove_is_not_a_user(
    function: Load, platform: Platform, credential: Callable[[Cloud, str], str]
) -> None:
    user, organization = platform.user(), platform.organization()
    platform.join(user, organization, "owner")
    token = credential(platform.cloud, user.id)
    problem(function("credits").get("/v1/credits", by=token), 401, "invalid_token")
    problem(function("register").post("/v1/register", {}, by=token), 401, "invalid_token")


def test_what_a_user_says_of_themselves_changes_nothing(function: Load, platform: Platform) -> None:
    member, stranger = platform.user(), platform.user()
    organization, other = platform.organization(usd=1), platform.organization(usd=9)
    platform.join(member, organization, "member")
    lies = {"organization_id": other.id, "role": "owner", "admin": True, "is_admin": True}
    lies |= {"permissions": ["read", "write", "billing", "admin"], "plan_id": "admin"}
    told = {"user_metadata": lies, "app_metadata": lies} | lies | {"role": "authenticated"}
    token = platform.cloud.user_token(member.id, **told)
    client = function("credits")
    assert done(client.get("/v1/credits", by=token))["settled"] == "1.000000"
    problem(client.get("/v1/credits/top-ups", by=token), 403, "permission_denied")
    headers = {"Faregate-Organization": other.id}
    refusal = client.get("/v1/credits", by=token, headers=headers)
    problem(refusal, 404, "organization_not_found")
    token = platform.cloud.user_token(stranger.id, **told)
    problem(client.get("/v1/credits", by=token), 403, "not_registered")


@dataclass(frozen=True)
class SharedSecret:
    """A project of the old kind: users' tokens are signed with one secret. Nobody answers there."""

    secret: str = "a secret of more than thirty-two characters"
    url: str = "http://127.0.0.1:9"

    def settings(self) -> dict[str, str]:
        return {
            "AUTH_JWT_ALGORITHM": "HS256",
            "SUPABASE_JWT_SECRET": self.secret,
            "SUPABASE_URL": self.url,
        }

    def claims(self, platform: Platform, user_id: str) -> dict[str, Any]:
        return platform.cloud.user_claims(user_id) | {"iss": f"{self.url}/auth/v1"}

    def token(self, platform: Platform, user_id: str, **claims: object) -> str:
        return jwt.encode(self.claims(platform, user_id) | claims, self.secret, "HS256")


def test_a_shared_secret_needs_no_network(function: Load, platform: Platform) -> None:
    old, user, organization = SharedSecret(), platform.user(), platform.organization(usd=1)
    platform.join(user, organization, "owner")
    client = function("credits", **old.settings())
    token = old.token(platform, user.id)
    assert done(client.get("/v1/credits", by=token))["settled"] == "1.000000"
    # A kid is a name for a key of a set: there is none here.
    token = jwt.encode(old.claims(platform, user.id), old.secret, "HS256", {"kid": "any"})
    done(client.get("/v1/credits", by=token))


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_beside_a_shared_secret_no_other_key_counts(
    function: Load, platform: Platform, forge: Forge
) -> None:
    old, user = SharedSecret(), platform.user()
    client = function("credits", **old.settings())
    auth_key, claims = platform.cloud.layout.auth_key, old.claims(platform, user.id)
    for token in (
        forge(auth_key, claims),
        auth_key.sign(claims),
        jwt.encode(claims, old.secret[:-1] + "x", "HS256"),
        jwt.encode(claims, old.secret * 2, "HS512"),
        old.token(platform, user.id)[:-4],
    ):
        problem(client.get("/v1/credits", by=token), 401, "invalid_token")


@pytest.mark.parametrize("claims", NOBODYS.values(), ids=NOBODYS)
def test_a_shared_secret_proves_no_more_than_a_key(
    function: Load, platform: Platform, claims: dict[str, Any]
) -> None:
    old, user, organization = SharedSecret(), platform.user(), platform.organization()
    platform.join(user, organization, "owner")
    client, token = function("credits", **old.settings()), old.token(platform, user.id, **claims)
    problem(client.get("/v1/credits", by=token), 401, "invalid_token")


def test_beside_a_key_set_no_shared_secret_counts(function: Load, platform: Platform) -> None:
    user, organization = platform.user(), platform.organization()
    platform.join(user, organization, "owner")
    claims = platform.cloud.user_claims(user.id)
    token = jwt.encode(claims, SharedSecret().secret, "HS256", {"kid": "local-es256"})
    problem(function("credits").get("/v1/credits", by=token), 401, "invalid_token")


def test_a_key_of_the_set_counts_for_its_algorithm_only(function: Load, platform: Platform) -> None:
    user, organization = platform.user(), platform.organization()
    platform.join(user, organization, "owner")
    client = function("credits", AUTH_JWT_ALGORITHM="RS256")
    problem(client.get("/v1/credits", by=user.token), 401, "invalid_token")


def test_an_honest_token_is_the_user(function: Load, platform: Platform) -> None:
    user, organization = platform.user(), platform.organization(usd=1)
    platform.join(user, organization, "owner")
    assert done(function("credits").get("/v1/credits", by=user.token))["settled"] == "1.000000"
