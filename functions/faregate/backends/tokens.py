"""Signed tokens of others: who issued them, for whom, and until when."""

import asyncio
from base64 import urlsafe_b64encode
from time import monotonic
from typing import Any, Protocol

import httpx
import jwt
from jwt.types import Options

from faregate.errors import FaregateError
from faregate.settings import InvokerSettings, UserTokenSettings

# A key that was rotated in is found at once (an unknown kid fetches anew, but seldom); one that was
# rotated out is gone after this many seconds.
_JWKS_LIFETIME_SECONDS = 600
_JWKS_RETRY_SECONDS = 10


class _Keys(Protocol):
    """Where an issuer's keys come from, all of them for one algorithm."""

    algorithm: str

    async def find(self, kid: object) -> jwt.PyJWK:
        """Give the key that a token names; raise jwt.InvalidTokenError when there is none."""


# All by name, because where the signature is not checked the library would check nothing else.
_CHECKS: Options = {
    "require": ["exp", "iat", "iss", "aud", "sub"],
    "verify_exp": True,
    "verify_nbf": True,
    "verify_iat": True,
    "verify_iss": True,
    "verify_aud": True,
    "verify_sub": True,
    "verify_jti": True,
}
# What Cloud Run puts in the place of a signature that it has verified:
# https://cloud.google.com/run/docs/troubleshooting#signature-removed
_REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"


class _Verifier:
    """Verifies one issuer's tokens; algorithm and audience are settings, not the token's choice."""

    def __init__(self, keys: _Keys, *, issuer: str, audience: str) -> None:
        self._keys, self._issuer, self._audience = keys, issuer, audience

    async def claims(self, token: str) -> dict[str, Any]:
        """Give a valid token's claims.

        Raises FaregateError: invalid_token, or unavailable when no keys can be fetched.
        """
        try:
            key = await self._key(token)
            return jwt.decode(
                token,
                key or "",
                algorithms=[self._keys.algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=5,
                options=_CHECKS | {"verify_signature": key is not None},
            )
        # A ValueError: whatever a hostile token makes of a decoder below the library's own checks.
        except (jwt.PyJWTError, ValueError) as error:
            raise FaregateError("invalid_token") from error

    async def _key(self, token: str) -> jwt.PyJWK | None:
        """Give the key to verify a token's signature with; None: that is done already."""
        return await self._keys.find(jwt.get_unverified_header(token).get("kid"))

    async def close(self) -> None:
        """Nothing is kept open."""


class _KeySet:
    """The public keys that an issuer publishes (JWKS)."""

    def __init__(self, url: str, algorithm: str) -> None:
        self._url, self.algorithm = url, algorithm
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, kid: object) -> jwt.PyJWK:
        if not isinstance(kid, str):
            raise jwt.InvalidTokenError("no kid")
        async with self._fetching:
            age = monotonic() - self._fetched_at
            if age > _JWKS_LIFETIME_SECONDS or (
                kid not in self._keys and age > _JWKS_RETRY_SECONDS
            ):
                await self._fetch()
        if kid not in self._keys:
            raise jwt.InvalidTokenError("unknown kid")
        return self._keys[kid]

    async def _fetch(self) -> None:
        try:
            async with httpx.AsyncClient(timeout=5) as client:
                answer = (await client.get(self._url)).raise_for_status().json()
            keys = jwt.PyJWKSet.from_dict(answer).keys
        except (httpx.HTTPError, ValueError, jwt.PyJWTError) as error:
            raise FaregateError("unavailable") from error
        self._keys = {
            key.key_id: key for key in keys if key.key_id and key.algorithm_name == self.algorithm
        }
        self._fetched_at = monotonic()


class _SharedSecret:
    """The one secret that an issuer of the old kind shares: it is ours already."""

    algorithm = "HS256"

    def __init__(self, secret: str) -> None:
        encoded = urlsafe_b64encode(secret.encode()).decode()
        self._key = jwt.PyJWK({"kty": "oct", "alg": self.algorithm, "k": encoded})

    async def find(self, _kid: object) -> jwt.PyJWK:
        return self._key


class UserTokens(_Verifier):
    """Access tokens of the Supabase project's users."""

    def __init__(self) -> None:
        settings = UserTokenSettings()
        issuer, secret = settings.auth_url, settings.supabase_jwt_secret
        keys: _Keys = (
            _SharedSecret(secret.get_secret_value())
            if secret
            else _KeySet(f"{issuer}/.well-known/jwks.json", settings.auth_jwt_algorithm)
        )
        super().__init__(keys, issuer=issuer, audience="authenticated")

    async def claims(self, token: str) -> dict[str, Any]:
        """Give the claims, if the token is that of somebody who signed up and signed in."""
        claims = await super().claims(token)
        # The project also signs tokens of nobody: its API keys, anonymous sign-ins, ours.
        is_anonymous = claims.get("is_anonymous", False) is not False
        if claims.get("role") != "authenticated" or is_anonymous:
            raise FaregateError("invalid_token")
        return claims


class InvokerTokens(_Verifier):
    """OIDC tokens of the one Google service account that may call."""

    def __init__(self) -> None:
        settings = InvokerSettings()
        super().__init__(
            _KeySet(str(settings.google_jwks_url), "RS256"),
            issuer=settings.google_issuer,
            audience=settings.invoker_audience,
        )
        self._service_account = settings.invoker_service_account
        self._guard = settings.invoker_guard

    async def claims(self, token: str) -> dict[str, Any]:
        """Give the claims, if the token is the invoker's own and Google vouches for its address."""
        claims = await super().claims(token)
        if claims.get("email") != self._service_account or claims.get("email_verified") is not True:
            raise FaregateError("invalid_token")
        return claims

    async def _key(self, token: str) -> jwt.PyJWK | None:
        if self._guard == "code":
            return await super()._key(token)
        # A token as its issuer signed it has not passed by Cloud Run: nobody has verified it.
        if token.rpartition(".")[2] != _REMOVED:
            raise jwt.InvalidTokenError("the signature was not removed")
        return None
