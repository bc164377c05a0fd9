"""Stand-in for Google's identity service: ID tokens of service accounts, and their public key."""

import hashlib
from time import time
from typing import Any

from fastapi import APIRouter

from infra.local.layout import SigningKey

_LIFETIME_SECONDS = 3600


class Google:
    """Signs what Cloud Tasks and Cloud Scheduler show to the functions they call."""

    def __init__(self, issuer: str, key: SigningKey) -> None:
        self._issuer, self._key = issuer, key
        self.router = APIRouter(prefix="/google")
        self.router.add_api_route("/oauth2/v3/certs", self.certificates)
        self.router.add_api_route("/.well-known/openid-configuration", self.configuration)

    def id_token(self, email: str, audience: str) -> str:
        """Sign an ID token with the claims that Google sets."""
        now = int(time())
        subject = str(int.from_bytes(hashlib.sha256(email.encode()).digest()[:8]))
        return self._key.sign(
            {
                "iss": self._issuer,
                "aud": audience,
                "azp": subject,
                "sub": subject,
                "email": email,
                "email_verified": True,
                "iat": now,
                "exp": now + _LIFETIME_SECONDS,
            }
        )

    async def certificates(self) -> dict[str, Any]:
        """GET /oauth2/v3/certs."""
        return {"keys": [self._key.public_jwk]}

    async def configuration(self) -> dict[str, Any]:
        """GET /.well-known/openid-configuration."""
        return {
            "issuer": self._issuer,
            "jwks_uri": f"{self._issuer}/oauth2/v3/certs",
            "id_token_signing_alg_values_supported": ["RS256"],
        }
