"""Signed tokens: who issued them, for whom, and until when. Keys come from the issuer's JWKS."""

import asyncio
from time import monotonic
from typing import Any

import httpx
import jwt

from faregate.errors import FaregateError
from faregate.settings import InvokerSettings, UserTokenSettings

# A key that was rotated in is found at once (an unknown kid fetches anew, but seldom); one that was
# rotated out is gone after this many seconds.
_JWKS_LIFETIME_SECONDS = 600
_JWKS_RETRY_SECONDS = 10


class _Verifier:
    """Verifies one issuer's tokens; algorithm and audience are settings, not the token's choice."""

    def __init__(self, *, issuer: str, jwks_url: str, algorithm: str, audience: str) -> None:
        self._issuer = issuer
        self._jwks_url = jwks_url
        self._algorithm = algorithm
        self._audience = audience
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def claims(self, token: str) -> dict[str, Any]:
        """Give a valid token's claims.

        Raises FaregateError: invalid_token, or unavailable when no keys can be fetched.
        """
        try:
            key = await self._key(jwt.get_unverified_header(token).get("kid"))
            return jwt.decode(
                token,
                key,
                algorithms=[self._algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=5,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        # A ValueError: whatever a hostile token makes of a decoder below the library's own checks.
        except (jwt.PyJWTError, ValueError) as error:
            raise FaregateError("invalid_token") from error

    async def _key(self, kid: object) -> jwt.PyJWK:
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
                answer = (await client.get(self._jwks_url)).raise_for_status().json()
            keys = jwt.PyJWKSet.from_dict(answer).keys
        except (httpx.HTTPError, ValueError, jwt.PyJWTError) as error:
            raise FaregateError("unavailable") from error
        self._keys = {
            key.key_id: key for key in keys if key.key_id and key.algorithm_name == self._algorithm
        }
        self._fetched_at = monotonic()

    async def close(self) -> None:
        """Nothing is kept open."""


class UserTokens(_Verifier):
    """Access tokens of the Supabase project's users."""

    def __init__(self) -> None:
        settings = UserTokenSettings()
        issuer = str(settings.supabase_url).rstrip("/") + "/auth/v1"
        super().__init__(
            issuer=issuer,
            jwks_url=f"{issuer}/.well-known/jwks.json",
            algorithm=settings.auth_jwt_algorithm,
            audience="authenticated",
        )


class InvokerTokens(_Verifier):
    """OIDC tokens of the one Google service account that may call."""

    def __init__(self) -> None:
        settings = InvokerSettings()
        super().__init__(
            issuer=settings.google_issuer,
            jwks_url=str(settings.google_jwks_url),
            algorithm="RS256",
            audience=settings.invoker_audience,
        )
        self._service_account = settings.invoker_service_account

    async def claims(self, token: str) -> dict[str, Any]:
        """Give the claims, if the token is the invoker's own and Google vouches for its address."""
        claims = await super().claims(token)
        if claims.get("email") != self._service_account or claims.get("email_verified") is not True:
            raise FaregateError("invalid_token")
        return claims
