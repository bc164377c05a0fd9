"""What PostgREST makes of tokens. Forged ones are refused; honest ones that lie read nothing more.

PostgREST looks at a token's signature, times and role, not at its issuer or audience: the project's
keys sign both users' tokens and passports'. What guards that is that nobody else has these keys,
and that policies read memberships and passports from tables, not from claims.
"""

from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
import pytest

from tests.harness.forgery import FORGERIES, Forge
from tests.harness.platform import Organization, Platform
from tests.harness.postgrest import Rest

# The day that a slow run has: the claims are made when the tests are collected.
_DAY = 86_400
_NOW = int(datetime.now(UTC).timestamp())
_VIEWS = ("wallets", "transactions", "organizations", "members", "passports", "top_ups")


def _reader_claims(
    platform: Platform, organization: Organization, passport: str = "", **claims: object
) -> dict[str, Any]:
    """Claim what an honest token of a passport says."""
    return {
        "role": "faregate_reader",
        "iss": "faregate",
        "aud": "faregate_reader",
        "organization_id": organization.id,
        "passport_id": platform.passport_id(passport or organization.passport),
        "iat": _NOW,
        "exp": _NOW + _DAY,
    } | claims


def _refused(answer: httpx.Response) -> None:
    assert answer.status_code == 401, answer.text


def _nothing(rest: Rest, token: str) -> None:
    for view in _VIEWS:
        assert rest.rows(view, by=token) == [], view


@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_token_is_refused(platform: Platform, rest: Rest, forge: Forge) -> None:
    user, organization = platform.user(), platform.organization(usd=1)
    platform.join(user, organization, "owner")
    layout = platform.cloud.layout
    of_user, of_passport = (
        platform.cloud.user_claims(user.id),
        _reader_claims(platform, organization),
    )
    for key in (layout.auth_key, layout.reader_key):
        for claims in (
            *[of_user, of_passport],
            *[of_user | {"role": role} for role in ("service_role", "postgres", "authenticator")],
        ):
            token = forge(key, claims)
            _refused(rest.request("GET", "wallets", by=token))
            _refused(rest.request("POST", "rpc/get_wallet", by=token, json={"p_caller": {}}))


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"iat": _NOW - 7200, "exp": _NOW - 60}, id="expired"),
        pytest.param({"nbf": _NOW + _DAY}, id="not valid yet"),
        pytest.param({"iat": _NOW + _DAY}, id="issued in the future"),
    ],
)
def test_a_token_out_of_its_time_is_refused(
    platform: Platform, rest: Rest, claims: dict[str, Any]
) -> None:
    user, organization = platform.user(), platform.organization(usd=1)
    platform.join(user, organization, "owner")
    layout = platform.cloud.layout
    _refused(rest.request("GET", "wallets", by=platform.cloud.user_token(user.id, **claims)))
    token = layout.reader_key.sign(_reader_claims(platform, organization, **claims))
    _refused(rest.request("GET", "wallets", by=token))


def test_google_is_nobody_here(platform: Platform, rest: Rest) -> None:
    organization = platform.organization(usd=1)
    google = platform.cloud.layout.google_key
    for token in (
        platform.cloud.invoker_token(role="service_role"),
        google.sign(_reader_claims(platform, organization)),
        jwt.encode({"role": "service_role"}, "x" * 32, "HS256"),
    ):
        _refused(rest.request("GET", "wallets", by=token))


def test_what_users_claim_of_organizations_is_not_looked_at(platform: Platform, rest: Rest) -> None:
    stranger, member = platform.user(), platform.user()
    ours, theirs = platform.organization(usd=1), platform.organization(usd=9)
    platform.join(member, ours, "member")
    lies: dict[str, Any] = {
        "organization_id": theirs.id,
        "passport_id": platform.passport_id(theirs.passport),
        "permissions": ["read", "billing", "admin"],
    }
    told = lies | {"role": "faregate_reader", "is_admin": True, "organizations": [theirs.id]}
    lies |= {"user_metadata": told, "app_metadata": told}
    _nothing(rest, platform.cloud.user_token(stranger.id, **lies))
    token = platform.cloud.user_token(member.id, **lies)
    assert {row["organization_id"] for row in rest.rows("wallets", by=token)} == {ours.id}
    assert rest.rows("top_ups", by=token) == []


def test_a_user_without_an_organization_reads_nothing(platform: Platform, rest: Rest) -> None:
    platform.organization(usd=1)
    _nothing(rest, platform.user().token)
    _nothing(rest, platform.cloud.user_token(platform.user().id, is_anonymous=True))


@pytest.mark.parametrize("role", ["postgres", "authenticator", "faregate_functions", "", "nobody"])
def test_no_token_makes_anybody_a_role_that_is_not_for_tokens(
    platform: Platform, rest: Rest, role: str
) -> None:
    """Not even one that the project signed."""
    user, organization = platform.user(), platform.organization(usd=1)
    platform.join(user, organization, "owner")
    for key in (platform.cloud.layout.auth_key, platform.cloud.layout.reader_key):
        token = key.sign(platform.cloud.user_claims(user.id) | {"role": role})
        answer = rest.request("GET", "wallets", by=token)
        assert answer.status_code in (400, 401, 403), answer.text


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"passport_id": None}, id="no passport"),
        pytest.param({"organization_id": None}, id="no organization"),
        pytest.param({"organization_id": None, "passport_id": None}, id="nothing"),
        pytest.param(
            {"passport_id": "01936f00-0000-7000-8000-000000000000"}, id="an absent passport"
        ),
        pytest.param({"permissions": ["read", "billing"], "passport_id": None}, id="permissions"),
    ],
)
def test_a_passports_token_without_its_passport_reads_nothing(
    platform: Platform, rest: Rest, claims: dict[str, Any]
) -> None:
    organization, owner = platform.organization(usd=1), platform.user()
    platform.join(owner, organization, "owner")
    key = platform.cloud.layout.reader_key
    _nothing(rest, key.sign(_reader_claims(platform, organization, **claims)))
    # A subject makes a passport's token no user's.
    _nothing(rest, key.sign(_reader_claims(platform, organization, sub=owner.id, **claims)))


def test_a_passports_token_is_for_its_organization(platform: Platform, rest: Rest) -> None:
    ours, theirs = platform.organization(usd=1), platform.organization(usd=9)
    key = platform.cloud.layout.reader_key
    honest = key.sign(_reader_claims(platform, ours))
    assert {row["organization_id"] for row in rest.rows("wallets", by=honest)} == {ours.id}
    # Whoever had the key could claim another organization; their passport is not there.
    mixed = _reader_claims(platform, ours) | {"organization_id": theirs.id}
    _nothing(rest, key.sign(mixed))


def test_a_passports_token_reads_what_the_passport_may_now(platform: Platform, rest: Rest) -> None:
    organization = platform.organization(usd=1)
    key = platform.cloud.layout.reader_key
    revoked, expired, writer = (
        platform.passport(organization.id, "read", "billing"),
        platform.passport(organization.id, "read", "billing", expires_in_seconds=60),
        platform.passport(organization.id, "write"),
    )
    tokens = [
        key.sign(_reader_claims(platform, organization, passport))
        for passport in (revoked, expired, writer)
    ]
    assert [len(rest.rows("wallets", by=token)) for token in tokens] == [1, 1, 0]
    platform.advance(61)
    platform.run(
        "update billing.passports set revoked_at = billing.now() where id = %s",
        platform.passport_id(revoked),
    )
    for token in tokens:
        _nothing(rest, token)


def test_an_api_key_alone_reads_nothing(platform: Platform, rest: Rest) -> None:
    platform.organization(usd=1)
    secrets = platform.cloud.layout.secrets
    for view in _VIEWS:
        # The publishable key's role, anon, may nothing. The secret key's passes row-level security,
        # but not the rights on views: it executes functions.
        for key, status in ((secrets.publishable_key, 401), (secrets.secret_key, 403)):
            answer = rest.request("GET", view, key=key)
            assert (answer.status_code, answer.json()["code"]) == (status, "42501"), answer.text
    for path in ("", "wallets"):
        answer = rest.request("GET", path, key="no key of this project")
        _refused(answer)
