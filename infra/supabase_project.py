"""Give the functions their three keys to a Supabase project, each once.

    python -m infra.supabase_project                          what has no value yet
    python -m infra.supabase_project --rotate database-url    another login, key, … beside the old
    python -m infra.supabase_project --retire database-url    end the logins that it has replaced

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
from secrets import token_bytes, token_hex, token_urlsafe
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


# Another login that may do what the functions' role may, and as impatiently: what is set for a role
# holds for those who log in as it, not for its members.
_ANOTHER_LOGIN = """
do $$
declare
    v_setting text;
begin
    create role {login} login inherit password '{verifier}' in role {role};
    for v_setting in
        select unnest(s.setconfig) from pg_catalog.pg_db_role_setting as s
        where s.setrole = '{role}'::regrole and s.setdatabase = 0
    loop
        -- By way of this transaction: a list of words is no literal.
        perform set_config(
            split_part(v_setting, '=', 1), substr(v_setting, strpos(v_setting, '=') + 1), true
        );
        execute format('alter role {login} set %I from current', split_part(v_setting, '=', 1));
    end loop;
end
$$
"""
# The role stays, because it is what all are allowed as; without a password nobody logs in as it.
_OLDER_LOGINS = """
do $$
declare
    v_logins name[] := array(
        select r.rolname from pg_catalog.pg_roles as r
        inner join pg_catalog.pg_auth_members as m on m.member = r.oid
        where m.roleid = '{role}'::regrole and r.rolname ~ '^{role}_[0-9a-f]{{8}}$'
        order by r.oid desc
    );
    v_login name;
begin
    if cardinality(v_logins) = 0 then
        raise exception 'the functions log in as {role} itself: rotate first';
    end if;
    foreach v_login in array v_logins[2:] loop
        execute format('drop role %I', v_login);
    end loop;
    alter role {role} password null;
end
$$
"""


class Project:
    """A project, by Supabase's Management API."""

    def __init__(self, api: httpx.Client, ref: str) -> None:
        self._api, self._ref = api, ref

    def database_url(self) -> str:
        """Set the password of the functions' role, and tell how they log in with it."""
        password = token_urlsafe(32)
        return self._log_in(
            FUNCTIONS, password, f"alter role {FUNCTIONS} password '{verifier(password)}'"
        )

    def another_database_url(self) -> str:
        """Make another login beside the one that is used, and tell how the functions use it."""
        login, password = f"{FUNCTIONS}_{token_hex(4)}", token_urlsafe(32)
        statement = _ANOTHER_LOGIN.format(login=login, role=FUNCTIONS, verifier=verifier(password))
        return self._log_in(login, password, statement)

    def retire_logins(self) -> None:
        """End every login of the functions but the newest."""
        self._call("POST", "database/query", query=_OLDER_LOGINS.format(role=FUNCTIONS))

    def _log_in(self, login: str, password: str, statement: str) -> str:
        poolers = self._call("GET", "config/database/pooler")
        host = next(each["db_host"] for each in poolers if each["database_type"] == "PRIMARY")
        self._call("POST", "database/query", query=statement)
        user = f"{login}.{self._ref}"
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

ROTATORS = MAKERS | {"database-url": Project.another_database_url}
"""How another one is made, while the functions still use the one before."""


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


def _make_missing(project: Project) -> None:
    for secret, make in MAKERS.items():
        if secret_manager.has(secret):
            say(f"{secret} has a value.")
        else:
            _store(secret, make(project))


def _store(secret: str, value: str) -> None:
    secret_manager.put(secret, value)
    say(f"{secret} has a new value.")


def main() -> None:
    """Make what is missing, or do what the arguments say."""
    parser = argparse.ArgumentParser(prog="infra.supabase_project")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--rotate", choices=ROTATORS, help="make another value of this one")
    way.add_argument("--retire", choices=["database-url"], help="end what a newer one replaced")
    asked = parser.parse_args()
    ref, token = _setting("SUPABASE_PROJECT_REF"), _setting("SUPABASE_ACCESS_TOKEN")
    with httpx.Client(
        base_url=os.environ.get("SUPABASE_API_URL") or _API,
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    ) as api:
        project = Project(api, ref)
        try:
            if asked.retire:
                project.retire_logins()
                say(f"{asked.retire}: only the newest login is left.")
            elif asked.rotate:
                _store(asked.rotate, ROTATORS[asked.rotate](project))
            else:
                _make_missing(project)
        except httpx.HTTPError as error:
            raise RefusalError(f"Supabase could not be reached: {error!r}") from error


if __name__ == "__main__":
    run(main)
