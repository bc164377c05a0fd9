"""POST /v1/token: from a passport to rows, straight out of Postgres."""

import json
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import HMACAlgorithm, RSAAlgorithm

from tests.harness.answers import done, problem
from tests.harness.client import Load
from tests.harness.platform import Platform
from tests.harness.postgrest import Rest


def _token(function: Load, passport: str) -> str:
    return str(done(function("token").post("/v1/token", by=passport))["token"])


def test_a_passport_reads_its_organizations_rows(
    function: Load, platform: Platform, rest: Rest
) -> None:
    ours, theirs = platform.organization(usd=5), platform.organization(usd=7)
    for organization in (ours, theirs):
        done(
            function("sessions").post("/v1/sessions", {"tier": "small"}, by=organization.passport),
            201,
        )
    answer = done(function("token").post("/v1/token", by=platform.passport(ours.id, "read")))
    assert answer["rest_url"] == platform.cloud.layout.rest_url
    token = answer["token"]
    newest = "transactions?organization_id=eq.{}&order=sequence.desc&limit=50"
    assert len(rest.rows(newest.format(ours.id), by=token)) == 1
    assert rest.rows(newest.format(theirs.id), by=token) == []
    for view in ("wallets", "grants", "transactions", "holds", "sessions", "passports"):
        rows = rest.rows(view, by=token)
        assert {row["organization_id"] for row in rows} == {ours.id}, view
    (wallet,) = rest.rows("wallets", by=token)
    assert wallet["settled_micros"] == 5_000_000
    assert [row["id"] for row in rest.rows("organizations", by=token)] == [ours.id]


def test_a_token_is_of_a_passport_and_of_nobody_else(function: Load, platform: Platform) -> None:
    organization = platform.organization()
    before = int(datetime.now(UTC).timestamp())
    answer = done(function("token").post("/v1/token", by=organization.passport))
    after = int(datetime.now(UTC).timestamp())
    assert (answer["token_type"], answer["expires_in"]) == ("bearer", 300)
    key = jwt.PyJWK(platform.cloud.layout.reader_key.public_jwk)
    claims = jwt.decode(answer["token"], key, ["ES256"], audience="faregate_reader")
    assert jwt.get_unverified_header(answer["token"])["kid"] == "local-reader"
    assert before <= claims["iat"] <= after
    assert claims["exp"] == claims["iat"] + 300
    assert datetime.fromisoformat(answer["expires_at"]).timestamp() == claims["exp"]
    assert {name: claims[name] for name in claims.keys() - {"iat", "exp", "jti"}} == {
        "role": "faregate_reader",
        "iss": "faregate",
        "aud": "faregate_reader",
        "organization_id": organization.id,
        "passport_id": platform.passport_id(organization.passport),
    }


def test_nothing_is_stored_and_each_token_is_another(function: Load, platform: Platform) -> None:
    passport = platform.organization().passport
    first = _token(function, passport)
    before = platform.contents()
    assert _token(function, passport) != first
    assert platform.contents() == before


def test_a_token_does_not_outlive_its_passport(function: Load, platform: Platform) -> None:
    organization = platform.organization()
    short = platform.passport(organization.id, "read", expires_in_seconds=60)
    answer = done(function("token").post("/v1/token", by=short))
    assert 50 <= answer["expires_in"] <= 60
    long = platform.passport(organization.id, "read", expires_in_seconds=3600)
    assert done(function("token").post("/v1/token", by=long))["expires_in"] == 300


def test_a_token_ends_with_its_passport(function: Load, platform: Platform, rest: Rest) -> None:
    organization = platform.organization(usd=1)
    passport = platform.passport(organization.id, "read", expires_in_seconds=60)
    token = _token(function, passport)
    assert len(rest.rows("wallets", by=token)) == 1
    platform.advance(61)
    assert rest.rows("wallets", by=token) == []
    problem(function("token").post("/v1/token", by=passport), 401, "invalid_passport")


def test_the_token_of_a_revoked_passport_reads_nothing(
    function: Load, platform: Platform, rest: Rest
) -> None:
    organization = platform.organization(usd=1)
    passport = platform.passport(organization.id, "read")
    token, other = _token(function, passport), _token(function, organization.passport)
    done(
        function("passports").post(
            f"/v1/passports/{platform.passport_id(passport)}/revoke", by=organization.passport
        )
    )
    assert rest.rows("wallets", by=token) == []
    assert len(rest.rows("wallets", by=other)) == 1


def test_a_token_reads_what_its_passport_may(
    function: Load, platform: Platform, rest: Rest
) -> None:
    organization = platform.organization()
    buy = {"amount": "10.00"}
    done(function("credits").post("/v1/credits/checkout", buy, by=organization.passport), 201)
    reader = _token(function, platform.passport(organization.id, "read"))
    payer = _token(function, platform.passport(organization.id, "read", "billing"))
    assert rest.rows("top_ups", by=reader) == []
    assert len(rest.rows("top_ups", by=payer)) == 1
    assert len(rest.rows("wallets", by=reader)) == len(rest.rows("wallets", by=payer)) == 1


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *[("POST", "wallets"), ("PATCH", "wallets?settled_micros=gt.0")],
        *[("DELETE", "organizations?name=eq.Acme"), ("POST", "rpc/create_token")],
        ("POST", "rpc/get_wallet"),
    ],
)
def test_a_token_is_for_reading(
    function: Load, platform: Platform, rest: Rest, method: str, path: str
) -> None:
    passport = platform.organization(usd=1).passport
    token = _token(function, passport)
    before = platform.contents()
    body: dict[str, Any] = {"p_caller": {}} if "rpc" in path else {"settled_micros": 1}
    answer = rest.request(method, path, by=token, json=body)
    assert (answer.status_code, answer.json()["code"]) == (403, "42501"), answer.text
    assert platform.contents() == before


def test_a_token_is_no_passport_and_no_user(function: Load, platform: Platform) -> None:
    token = _token(function, platform.operator().passport)
    for name, path in (
        *[("credits", "/v1/credits"), ("register", "/v1/register"), ("token", "/v1/token")],
        ("sweep_sessions", "/schedules/sweep-sessions"),
    ):
        method = "GET" if name == "credits" else "POST"
        client = function(name)
        headers = {"Idempotency-Key": "reader-token", "Content-Type": "application/json"}
        problem(
            client.request(method, path, by=token, headers=headers, content=b"{}"),
            401,
            "invalid_token",
        )
    as_key = {"X-API-Key": token}
    problem(function("credits").get("/v1/credits", headers=as_key), 401, "invalid_passport")


def test_a_user_has_a_token_already(function: Load, platform: Platform) -> None:
    user, organization = platform.user(), platform.organization()
    platform.join(user, organization, "owner")
    before = platform.contents()
    problem(function("token").post("/v1/token", by=user.token), 403, "passport_required")
    assert platform.contents() == before


def test_the_moved_clock_of_a_laptop_makes_no_token_of_another_day(
    function: Load, platform: Platform, rest: Rest
) -> None:
    passport = platform.organization(usd=1).passport
    for seconds in (86_400, -2 * 86_400):
        platform.advance(seconds)
        assert len(rest.rows("wallets", by=_token(function, passport))) == 1


def test_a_signing_key_may_be_of_each_kind(function: Load, platform: Platform) -> None:
    passport, private = platform.organization().passport, rsa.generate_private_key(65537, 2048)
    jwk = RSAAlgorithm.to_jwk(private, as_dict=True) | {"kid": "rsa-1"}
    client = function("token", TOKEN_SIGNING_KEY=json.dumps(jwk))
    token = done(client.post("/v1/token", by=passport))["token"]
    assert jwt.get_unverified_header(token)["kid"] == "rsa-1"
    jwt.decode(token, private.public_key(), ["RS256"], audience="faregate_reader")

    secret = b"a secret of more than thirty-two characters"
    jwk = HMACAlgorithm.to_jwk(secret, as_dict=True)
    client = function("token", TOKEN_SIGNING_KEY=json.dumps(jwk))
    token = done(client.post("/v1/token", by=passport))["token"]
    assert "kid" not in jwt.get_unverified_header(token)
    jwt.decode(token, secret, ["HS256"], audience="faregate_reader")
