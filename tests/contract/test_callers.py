"""Who may: the same answers on every address that customers call."""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from faregate.caller import new_key
from tests.harness.answers import done, problem
from tests.harness.client import Load
from tests.harness.cloud import Cloud
from tests.harness.operations import BY_PASSPORT, OPERATIONS, Operation
from tests.harness.platform import EVERYTHING, Platform

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
    kind = operation.path.split("/")[-2 if operation.method == "GET" else -3]
    if kind == "passports":
        subject = platform.passport_id(owner.passport)
    elif kind in ("sessions", "holds"):  # a session's hold has its id
        start = function("sessions").post("/v1/sessions", {"tier": "small"}, by=owner.passport)
        subject = done(start, 201)["id"]
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


def _forged(cloud: Cloud, case: str, user_id: str) -> str:
    claims, key = cloud.user_claims(user_id), cloud.layout.auth_key
    honest = cloud.user_token(user_id)
    kid = jwt.get_unverified_header(honest)["kid"]
    now = int(datetime.now(UTC).timestamp())
    stranger = ec.generate_private_key(ec.SECP256R1())
    changed: dict[str, dict[str, Any]] = {
        "another issuer": {"iss": "https://evil.example/auth/v1"},
        "another audience": {"aud": "anon"},
        "no audience": {"aud": ""},
        "expired": {"iat": now - 7200, "exp": now - 60},
        "issued in the future": {"iat": now + 600},
        "not valid yet": {"nbf": now + 600},
        "service role": {"role": "service_role"},
        "no role": {"role": None},
        "no subject": {"sub": ""},
        "a subject that is no uuid": {"sub": "1 or 1=1"},
        "a subject that is a number": {"sub": 7},
    }
    if case in changed:
        return key.sign(claims | changed[case])
    header, payload, signature = honest.split(".")
    unsigned = urlsafe_b64encode(b'{"alg":"none","kid":"%s"}' % kid.encode()).decode().rstrip("=")
    public = jwt.PyJWK(key.jwks["keys"][0]).key.public_bytes(
        Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
    )
    confused = jwt.api_jws.PyJWS()
    hmac = confused._algorithms["HS256"]
    hs256 = urlsafe_b64encode(b'{"alg":"HS256","kid":"%s"}' % kid.encode()).decode().rstrip("=")
    mac = urlsafe_b64encode(hmac.sign(f"{hs256}.{payload}".encode(), public)).decode().rstrip("=")
    return {
        "alg none": f"{unsigned}.{payload}.",
        "alg none with a signature": f"{unsigned}.{payload}.{signature}",
        "HS256 with the public key": f"{hs256}.{payload}.{mac}",
        "another key under our kid": jwt.encode(claims, stranger, "ES256", {"kid": kid}),
        "unknown kid": jwt.encode(claims, stranger, "ES256", {"kid": "k2"}),
        "no kid": jwt.encode(claims, stranger, "ES256"),
        "a kid that is a path": jwt.encode(claims, stranger, "ES256", {"kid": "../../etc/passwd"}),
        "cut": honest[:-4],
        "no signature": f"{header}.{payload}.",
        "garbage": "not.a.token",
        "a secret key of the project": cloud.layout.secrets.secret_key,
        "a publishable key of the project": cloud.layout.secrets.publishable_key,
        "a Google token": cloud.invoker_token(sub=user_id),
    }[case]


@pytest.mark.parametrize(
    "case",
    [
        *["another issuer", "another audience", "no audience", "expired", "issued in the future"],
        *["not valid yet", "service role", "no role", "no subject", "a subject that is no uuid"],
        *["a subject that is a number", "alg none", "alg none with a signature"],
        *["HS256 with the public key", "another key under our kid", "unknown kid", "no kid"],
        *["a kid that is a path", "cut", "no signature", "garbage"],
        *["a secret key of the project", "a publishable key of the project", "a Google token"],
    ],
)
def test_a_token_that_is_not_the_users_proves_nothing(
    function: Load, platform: Platform, case: str
) -> None:
    user, organization = platform.user(), platform.organization()
    platform.join(user, organization, "owner")
    token = _forged(platform.cloud, case, user.id)
    problem(function("credits").get("/v1/credits", by=token), 401, "invalid_token")
    problem(function("register").post("/v1/register", {}, by=token), 401, "invalid_token")


def test_an_honest_token_is_the_user(function: Load, platform: Platform) -> None:
    user, organization = platform.user(), platform.organization(usd=1)
    platform.join(user, organization, "owner")
    assert done(function("credits").get("/v1/credits", by=user.token))["settled"] == "1.000000"
