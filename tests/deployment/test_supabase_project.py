"""infra.supabase_project: the functions get their keys once, and nobody sees them."""

import json
import sys
from collections.abc import Iterator
from subprocess import CompletedProcess
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import jwt
import psycopg
import pytest

from faregate.settings import DatabaseSettings, ReaderTokenSettings
from infra.local.migrate import FUNCTIONS
from infra.local.template import Database
from tests.deployment.commands import Commands
from tests.deployment.management_api import REF, TOKEN, Management, run_management

SECRETS = ["database-url", "supabase-secret-key", "token-signing-key"]


@pytest.fixture
def project(database: Database) -> Iterator[Management]:
    role = f"test_{uuid4().hex[:8]}"
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute(f"create role {role} login".encode())
        with run_management(database.owner_url, role) as management:
            yield management
        members = owner.execute(
            "select member::regrole::text from pg_auth_members where roleid = %s::regrole"
            " and member::regrole::text like %s",
            [role, f"{role}%"],
        )
        owner.execute("drop table if exists kept")
        for name in [*(row[0] for row in members), role]:
            owner.execute(f"drop role {name}".encode())


def _run(
    commands: Commands, project: Management, *arguments: str, **changes: str
) -> CompletedProcess[str]:
    environment = {
        "SUPABASE_PROJECT_REF": REF,
        "SUPABASE_ACCESS_TOKEN": TOKEN,
        "SUPABASE_API_URL": project.url,
    }
    return commands.run(
        [sys.executable, "-m", "infra.supabase_project", *arguments],
        environment=environment | changes,
    )


def _put(commands: Commands) -> dict[str, str]:
    return {call.argv[3]: call.told for call in commands.calls if call.told}


def test_all_keys_are_made_and_stored(commands: Commands, project: Management) -> None:
    done = _run(commands, project)
    assert done.returncode == 0, done.stderr
    assert list(_put(commands)) == SECRETS


def test_the_functions_can_log_in(
    commands: Commands, project: Management, database: Database
) -> None:
    _run(commands, project)
    url = urlsplit(_put(commands)["database-url"])
    assert url.username == f"{FUNCTIONS}.{REF}"
    assert (url.hostname, url.port) == ("aws-0-eu-west-1.pooler.supabase.com", 6543)
    with _log_in(_put(commands)["database-url"], project, database) as connection:
        assert connection.execute("select current_user").fetchone() == (project.role,)


def _log_in(url: str, project: Management, database: Database) -> psycopg.Connection[Any]:
    """Log in with what was stored, at the test's own Postgres instead of the pooler."""
    told, here = urlsplit(url), urlsplit(database.owner_url)
    login = str(told.username).removesuffix(f".{REF}").replace(FUNCTIONS, project.role)
    return psycopg.connect(
        host=here.hostname,
        port=here.port,
        dbname=database.name,
        user=login,
        password=told.password,
        autocommit=True,
    )


def test_logins_overlap_until_the_old_one_is_retired(
    commands: Commands, project: Management, database: Database
) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute("create table kept (id integer)")
        owner.execute(f"grant select on kept to {project.role}".encode())
        owner.execute(f"alter role {project.role} set statement_timeout = '7s'".encode())
        owner.execute(f'alter role {project.role} set search_path = a, "b c"'.encode())
    _run(commands, project)
    urls = [_put(commands)["database-url"]]
    for _ in range(2):
        assert _run(commands, project, "--rotate", "database-url").returncode == 0
        urls.append(_put(commands)["database-url"])
    assert len({urlsplit(url).username for url in urls}) == 3
    for url in urls:  # none of them has a gap, whichever an instance still has
        with _log_in(url, project, database) as connection:
            assert connection.execute("select count(*) from public.kept").fetchone() == (0,)
            assert connection.execute("show statement_timeout").fetchone() == ("7s",)
            assert connection.execute("show search_path").fetchone() == ('a, "b c"',)

    assert _run(commands, project, "--retire", "database-url").returncode == 0
    _log_in(urls[-1], project, database).close()
    for url in urls[:-1]:
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            _log_in(url, project, database)


def test_the_only_login_is_not_retired(
    commands: Commands, project: Management, database: Database
) -> None:
    _run(commands, project)
    done = _run(commands, project, "--retire", "database-url")
    assert done.returncode == 1
    assert done.stderr == "faregate: Supabase refused database/query: 400.\n"
    _log_in(_put(commands)["database-url"], project, database).close()


def test_postgres_never_sees_the_password(commands: Commands, project: Management) -> None:
    _run(commands, project)
    (query,) = project.queries
    assert query.startswith(f"alter role {FUNCTIONS} password 'SCRAM-SHA-256$4096:")
    assert str(urlsplit(_put(commands)["database-url"]).password) not in query
    _run(commands, project, "--rotate", "database-url")
    assert "password 'SCRAM-SHA-256$4096:" in project.queries[1]
    assert str(urlsplit(_put(commands)["database-url"]).password) not in project.queries[1]


def test_the_settings_take_what_was_made(
    commands: Commands, project: Management, monkeypatch: pytest.MonkeyPatch
) -> None:
    _run(commands, project)
    made = _put(commands)
    monkeypatch.setenv("SUPABASE_URL", "https://project.supabase.co")
    monkeypatch.setenv("DATABASE_URL", made["database-url"])
    monkeypatch.setenv("TOKEN_SIGNING_KEY", made["token-signing-key"])
    assert DatabaseSettings().database_url
    assert ReaderTokenSettings().token_signing_key


def test_the_project_trusts_the_signing_key_and_goes_on_signing_with_its_own(
    commands: Commands, project: Management
) -> None:
    _run(commands, project)
    (imported,) = project.signing_keys
    assert (imported["algorithm"], imported["status"]) == ("ES256", "standby")
    key = json.loads(_put(commands)["token-signing-key"])
    assert imported["private_jwk"] == key
    token = jwt.encode({"role": "authenticated"}, jwt.PyJWK(key).key, "ES256")
    public = jwt.PyJWK({name: value for name, value in key.items() if name != "d"})
    assert jwt.decode(token, public.key, ["ES256"]) == {"role": "authenticated"}


def test_what_has_a_value_keeps_it(commands: Commands, project: Management) -> None:
    commands.have(*SECRETS)
    done = _run(commands, project)
    assert done.returncode == 0
    assert (_put(commands), project.queries, project.signing_keys) == ({}, [], [])


@pytest.mark.parametrize("secret", SECRETS)
def test_one_is_rotated_alone(commands: Commands, project: Management, secret: str) -> None:
    commands.have(*SECRETS)
    assert _run(commands, project, "--rotate", secret).returncode == 0
    assert list(_put(commands)) == [secret]


def test_no_secret_is_printed_or_an_argument(commands: Commands, project: Management) -> None:
    done = _run(commands, project)
    seen = done.stdout + done.stderr + "".join(commands.lines())
    made = _put(commands)
    password = urlsplit(made["database-url"]).password
    key = json.loads(made["token-signing-key"])["d"]
    for secret in (password, key, made["supabase-secret-key"], TOKEN):
        assert str(secret) not in seen


def test_a_refusal_is_a_sentence_without_what_was_sent(
    commands: Commands, project: Management
) -> None:
    project.is_broken = True
    done = _run(commands, project)
    assert done.returncode == 1
    assert done.stderr == "faregate: Supabase refused database/query: 500.\n"
    assert _put(commands) == {}


def test_without_knowing_whether_there_is_a_value_none_is_made(
    commands: Commands, project: Management
) -> None:
    commands.fail("versions list")
    assert _run(commands, project).returncode == 1
    assert project.queries == []


@pytest.mark.parametrize("setting", ["SUPABASE_PROJECT_REF", "SUPABASE_ACCESS_TOKEN"])
def test_what_is_missing_is_named(commands: Commands, project: Management, setting: str) -> None:
    done = _run(commands, project, **{setting: ""})
    assert (done.returncode, done.stderr) == (1, f"faregate: {setting} is missing.\n")
