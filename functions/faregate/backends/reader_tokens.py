"""Signed tokens of ours: PostgREST lets a passport's holder read the views of schema api."""

from datetime import UTC, datetime
from time import time
from typing import Any, NamedTuple
from uuid import uuid4

import jwt

from faregate.settings import ReaderTokenSettings

_ALGORITHMS = ("ES256", "RS256", "HS256")
_signer = jwt.PyJWT(options={"enforce_minimum_key_length": True})


class ReaderToken(NamedTuple):
    """A token, and its end by the clock that PostgREST goes by."""

    token: str
    expires_at: datetime


class ReaderTokens:
    """Signs tokens with a key that the Supabase project trusts."""

    def __init__(self) -> None:
        settings = ReaderTokenSettings()
        self._key = _signing_key(settings.token_signing_key.get_secret_value())
        self.rest_url = settings.rest_url

    def issue(self, organization_id: str, passport_id: str, expires_in_seconds: int) -> ReaderToken:
        """Sign a token of a passport: of no user, for the views of its organization only."""
        now = int(time())
        claims = {
            # What PostgREST becomes, and what billing.readable looks at: the rest is for people.
            "role": "faregate_reader",
            "organization_id": organization_id,
            "passport_id": passport_id,
            "iss": "faregate",
            "aud": "faregate_reader",
            "iat": now,
            "exp": now + expires_in_seconds,
            "jti": str(uuid4()),
        }
        return ReaderToken(
            _sign(claims, self._key), datetime.fromtimestamp(now + expires_in_seconds, UTC)
        )

    async def close(self) -> None:
        """Nothing is kept open."""


def _sign(claims: dict[str, Any], key: jwt.PyJWK) -> str:
    return _signer.encode(claims, key, headers={"kid": key.key_id} if key.key_id else None)


def _signing_key(text: str) -> jwt.PyJWK:
    """Read a private JWK, and try it: a public key, too, can be read.

    Raises ValueError without a cause: the library's own refusals may quote the key.
    """
    try:
        key = jwt.PyJWK.from_json(text)
        _sign({}, key)
        has_name = bool(key.key_id) or key.algorithm_name == "HS256"
        is_usable = has_name and key.algorithm_name in _ALGORITHMS
    except Exception:  # noqa: BLE001  it has many ways to say no
        is_usable = False
    if not is_usable:
        raise ValueError(
            "token_signing_key must be a JWK: a private key for ES256 or RS256 with its kid, "
            "or a secret for HS256"
        )
    return key
