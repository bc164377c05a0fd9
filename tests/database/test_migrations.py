"""The migrations as the Supabase CLI sees them."""

import json
import os
import subprocess
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from infra.local import paths
from infra.local.template import Database
from tests.database.superuser import superuser_url

_CATALOG: LiteralString = """
    select c.oid::regclass::text, c.relfilenode::text from pg_class as c
    where c.relnamespace in ('api'::regnamespace, 'billing'::regnamespace, 'ops'::regnamespace)
    union all
    select p.oid::regprocedure::text, md5(pg_get_functiondef(p.oid)) from pg_proc as p
    where p.pronamespace in ('api'::regnamespace, 'billing'::regnamespace, 'ops'::regnamespace)
    order by 1, 2
"""


def _supabase(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(paths.supabase_cli()), *arguments, "--workdir", str(paths.ROOT)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=120,
        env={
            **os.environ,
            "PGSSLMODE": "disable",
            "SUPABASE_TELEMETRY_DISABLED": "1",
            "SUPABASE_NO_UPDATE_NOTIFIER": "1",
        },
    )


def _catalog(database: Database) -> list[tuple[str, str]]:
    with psycopg.connect(database.owner_url) as owner:
        return [(str(name), str(body)) for name, body in owner.execute(_CATALOG)]


def test_a_second_push_changes_nothing(database: Database) -> None:
    before = _catalog(database)
    pushed = _supabase("db", "push", "--yes", "--db-url", database.owner_url)
    assert pushed.returncode == 0, pushed.stderr
    assert "up to date" in pushed.stdout + pushed.stderr
    assert _catalog(database) == before


def test_every_migration_is_recorded(database: Database) -> None:
    versions = [f.name.split("_")[0] for f in (paths.SUPABASE / "migrations").glob("*.sql")]
    with psycopg.connect(database.owner_url) as owner:
        found = owner.execute("select version from supabase_migrations.schema_migrations")
        assert sorted(str(version) for (version,) in found) == sorted(versions)


def _advise(database: Database, kind: str) -> set[tuple[str, str]]:
    """Ask for everything worth a warning: (lint, object)."""
    with psycopg.connect(superuser_url(database), autocommit=True) as superuser:
        # Without it the checks of exposed schemas see none.
        superuser.execute(
            sql.SQL("alter database {} set pgrst.db_schemas = 'api'").format(
                sql.Identifier(database.name)
            )
        )
    url = database.owner_url
    advised = _supabase("db", "advisors", "--db-url", url, "--type", kind, "--level", "warn")
    assert advised.returncode == 0, advised.stderr
    return {
        (advice["name"], f"{advice['metadata']['schema']}.{advice['metadata']['name']}")
        for advice in json.loads(advised.stdout or "[]")
    }


def _bound_functions(database: Database) -> set[tuple[str, str]]:
    """Find what has a body that no search_path can mislead, which the advisors do not look at."""
    with psycopg.connect(database.owner_url) as owner:
        found = owner.execute(
            "select pronamespace::regnamespace::text || '.' || proname from pg_proc"
            " where prosqlbody is not null"
        )
        return {("function_search_path_mutable", str(name)) for (name,) in found}


@pytest.mark.parametrize("kind", ["security", "performance"])
def test_the_advisors_have_nothing_to_say(database: Database, kind: str) -> None:
    assert _advise(database, kind) - _bound_functions(database) == set()


def test_the_advisors_see_a_mistake(database: Database) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute("create view api.careless as select * from billing.wallets")
        owner.execute("grant select on api.careless to anon, authenticated")
    assert ("security_definer_view", "api.careless") in _advise(database, "security")
