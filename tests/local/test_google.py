"""The stand-in for Google's identity service, seen by Google's own library."""

import httpx
import jwt
import pytest
from google.auth.transport.requests import Request
from google.oauth2 import id_token

from infra.local.cloud.google import Google
from infra.local.layout import INVOKER
from tests.local.stand_ins import StandIns


def token(stand_ins: StandIns) -> str:
    layout = stand_ins.layout
    return Google(layout.google_url, layout.google_key).id_token(INVOKER, layout.api_url)


def verify(stand_ins: StandIns, shown: str, audience: str) -> dict[str, object]:
    certificates = f"{stand_ins.layout.google_url}/oauth2/v3/certs"
    claims = id_token.verify_token(
        shown,
        Request(),
        audience,
        certificates,
    )
    return dict(claims)


def test_a_token_names_the_service_account(stand_ins: StandIns) -> None:
    claims = verify(stand_ins, token(stand_ins), stand_ins.layout.api_url)
    assert claims["iss"] == stand_ins.layout.google_url
    assert (claims["email"], claims["email_verified"]) == (INVOKER, True)


def test_a_token_is_for_one_audience(stand_ins: StandIns) -> None:
    with pytest.raises(jwt.InvalidAudienceError):
        verify(stand_ins, token(stand_ins), "https://elsewhere.example")


def test_a_token_of_another_key_is_refused(stand_ins: StandIns) -> None:
    forged = stand_ins.layout.auth_key.sign({"aud": stand_ins.layout.api_url, "email": INVOKER})
    with pytest.raises(jwt.PyJWKClientError):
        verify(stand_ins, forged, stand_ins.layout.api_url)


def test_the_issuer_says_where_its_keys_are(stand_ins: StandIns) -> None:
    issuer = stand_ins.layout.google_url
    configuration = httpx.get(f"{issuer}/.well-known/openid-configuration", trust_env=False).json()
    assert configuration["issuer"] == issuer
    keys = httpx.get(configuration["jwks_uri"], trust_env=False).json()["keys"]
    assert [(key["kty"], key["alg"]) for key in keys] == [("RSA", "RS256")]
    assert not {"d", "p", "q"} & set(keys[0])
