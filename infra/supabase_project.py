"""Give the functions their three keys to a Supabase project, each once.

    python -m infra.supabase_project                          what has no value yet
    python -m infra.supabase_project --rotate database-url    another password, key, …

After the migrations, which make the role that the functions log in as. A secret that has a value is
left alone, so it may run with every deployment. Reads SUPABASE_ACCESS_TOKEN, SUPABASE_PROJECT_REF
and PROJECT_ID. Prints no secret; Postgres is told a password's verifier only: no log has it.
"""

import argparse
import hashlib
import hmac
import json
import os
from base64 import b64encode
from secrets import token_bytes, token_urlsafe
from typing import Any
from uuid import uuid4

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from infra import secret_manager
from infra.local.migrate import FUNCTIONS
from infra.local.progress import RefusalError, run, say

_API = "https://api.supabase.com"
# The pooler in transaction mode, which every project has; functions prepare no statements.
_POOLER_PORT = 6543
_ITERATIONS = 4096


class Project:
    """A project, by Supabase's Management API."""

    def __init__(self, api: httpx.Client, ref: str) -> None:
        self._api, self._ref = api, ref

    def database_url(self) -> str:
        """Set another password of the functions' role, and tell how they log in with it."""
        poolers = self._call("GET", "config/database/pooler")
        host = next(each["db_host"] for each in poolers if each["database_type"] == "PRIMARY")
        password = token_urlsafe(32)
        statement = f"alter role {FUNCTIONS} password '{verifier(password)}'"
        self._call("POST", "database/query", query=statement)
        user = f"{FUNCTIONS}.{self._ref}"
        return f"postgresql://{user}:{password}@{host}:{_POOLER_PORT}/postgres?sslmode=require"

    def secret_key(self) -> str:
        """Make another secret key of the project's API."""
        name = f"faregate_{uuid4().hex[:8]}"
        made = self._call("POST", "api-keys?reveal=true", type="secret", name=name)
        return str(made["api_key"])

    def signing_key(self) -> str:
        """Make another key for passports' tokens; the project trusts it and signs with its own."""
        key = private_jwk()
        self._call(
            "POST",
            "config/auth/signing-keys",
            algorithm="ES256",
            status="standby",
            private_jwk=key,
        )
        return json.dumps(key)

    def _call(self, method: str, path: str, **body: object) -> Any:  # noqa: ANN401  JSON
        answer = self._api.request(method, f"/v1/projects/{self._ref}/{path}", json=body or None)
        if not answer.is_success:
            # What was sent is in no message: it can hold a key.
            raise RefusalError(f"Supabase refused {path.partition('?')[0]}: {answer.status_code}.")
        return answer.json()


MAKERS = {
    "database-url": Project.database_url,
    "supabase-secret-key": Project.secret_key,
    "token-signing-key": Project.signing_key,
}
"""How each secret is made."""


def verifier(password: str) -> str:
    """Compute what Postgres keeps of a password (SCRAM-SHA-256, RFC 5803)."""
    salt = token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [b64encode(each).decode() for each in (salt, stored_key, server_key)]
    return "SCRAM-SHA-256${}:{}${}:{}".format(_ITERATIONS, *encoded)


def private_jwk() -> dict[str, Any]:
    """Make a signing key as `supabase gen signing-key` does."""
    key = ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True)
    return {
        **key,
        "kid": str(uuid4()),
        "use": "sig",
        "key_ops": ["sign", "verify"],
        "alg": "ES256",
        "ext": True,
    }


def _setting(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise RefusalError(f"{name} is missing.")
    return value


def main() -> None:
    """Make what is missing, or what the arguments name."""
    parser = argparse.ArgumentParser(prog="infra.supabase_project")
    parser.add_argument("--rotate", choices=MAKERS, help="make another value of this one")
    rotated = parser.parse_args().rotate
    ref, token = _setting("SUPABASE_PROJECT_REF"), _setting("SUPABASE_ACCESS_TOKEN")
    with httpx.Client(
        base_url=os.environ.get("SUPABASE_API_URL") or _API,
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    ) as api:
        project = Project(api, ref)
        try:
            for secret in [rotated] if rotated else MAKERS:
                if not rotated and secret_manager.has(secret):
                    say(f"{secret} has a value.")
                    continue
                secret_manager.put(secret, MAKERS[secret](project))
                say(f"{secret} has a new value.")
        except httpx.HTTPError as error:
            raise RefusalError(f"Supabase could not be reached: {error!r}") from error


if __name__ == "__main__":
    run(main)
