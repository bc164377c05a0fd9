"""The migrations and config.toml as the Supabase CLI sees them."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from infra.local import paths, template
from infra.local.template import Database
from tests.database.superuser import superuser_url

# What the advisors say and we do not follow: (lint, object), and why. It must be what they say.
_BOUND = "its body was bound when it was made: no search_path misleads it, and it can be inlined"
_EXCEPTIONS = {
    ("function_search_path_mutable", "billing.affordable_seconds"): _BOUND,
    ("function_search_path_mutable", "billing.billed_gb"): _BOUND,
    ("function_search_path_mutable", "billing.bucket_of"): _BOUND,
    ("function_search_path_mutable", "billing.call_facts"): _BOUND,
    ("function_search_path_mutable", "billing.counted"): _BOUND,
    ("function_search_path_mutable", "billing.decline_reason"): _BOUND,
    ("function_search_path_mutable", "billing.now"): _BOUND,
    ("function_search_path_mutable", "billing.decides_about"): _BOUND,
    ("function_search_path_mutable", "billing.backfill_key"): _BOUND,
    ("function_search_path_mutable", "billing.first_id_of"): _BOUND,
    ("function_search_path_mutable", "billing.has_ended"): _BOUND,
    ("function_search_path_mutable", "billing.is_amount_range"): _BOUND,
    ("function_search_path_mutable", "billing.is_consumption"): _BOUND,
    ("function_search_path_mutable", "billing.largest_amount"): _BOUND,
    ("function_search_path_mutable", "billing.limit_headers"): _BOUND,
    ("function_search_path_mutable", "billing.oldest_usage"): _BOUND,
    ("function_search_path_mutable", "billing.refilled"): _BOUND,
    ("function_search_path_mutable", "billing.required_micros"): _BOUND,
    ("function_search_path_mutable", "billing.period_end"): _BOUND,
    ("function_search_path_mutable", "billing.period_start"): _BOUND,
    ("function_search_path_mutable", "billing.predict_spending"): _BOUND,
    ("function_search_path_mutable", "billing.revert_key"): _BOUND,
    ("function_search_path_mutable", "billing.role_permissions"): _BOUND,
    ("function_search_path_mutable", "billing.seconds_until"): _BOUND,
    ("function_search_path_mutable", "billing.session_cost"): _BOUND,
    ("function_search_path_mutable", "billing.random_name"): _BOUND,
    ("function_search_path_mutable", "billing.session_due_at"): _BOUND,
    ("function_search_path_mutable", "billing.statement_kind"): _BOUND,
    ("function_search_path_mutable", "billing.stop_session_payload"): _BOUND,
    ("function_search_path_mutable", "billing.storage_cost"): _BOUND,
    ("function_search_path_mutable", "billing.storage_next_status"): _BOUND,
    ("function_search_path_mutable", "billing.usage_parts"): _BOUND,
    ("function_search_path_mutable", "billing.usd"): _BOUND,
    ("function_search_path_mutable", "billing.uuidv7"): _BOUND,
    ("function_search_path_mutable", "billing.window_cost"): _BOUND,
    ("function_search_path_mutable", "billing.task_name"): _BOUND,
    ("function_search_path_mutable", "billing.zeros"): _BOUND,
    ("function_search_path_mutable", "ops.age_seconds"): _BOUND,
    ("function_search_path_mutable", "ops.day"): _BOUND,
    ("function_search_path_mutable", "ops.revenue_kind"): _BOUND,
    ("function_search_path_mutable", "ops.usd"): _BOUND,
}

_CATALOG: LiteralString = """
    select c.oid::regclass::text, c.relfilenode::text from pg_class as c
    where c.relnamespace in ('api'::regnamespace, 'billing'::regnamespace, 'ops'::regnamespace)
    union all
    select p.oid::regprocedure::text, md5(pg_get_functiondef(p.oid)) from pg_proc as p
    where p.pronamespace in ('api'::regnamespace, 'billing'::regnamespace, 'ops'::regnamespace)
    order by 1, 2
"""


def _supabase(*arguments: str, workdir: Path = paths.ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(paths.supabase_cli()), *arguments, "--workdir", str(workdir)],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=600,
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


def _push(database: Database, workdir: Path) -> subprocess.CompletedProcess[str]:
    return _supabase("db", "push", "--yes", "--db-url", database.owner_url, workdir=workdir)


def test_a_migration_that_fails_half_way_leaves_nothing(database: Database, tmp_path: Path) -> None:
    shutil.copytree(paths.SUPABASE, tmp_path / "supabase")
    last = tmp_path / "supabase" / "migrations" / "29991231000000_last.sql"
    half = "create table billing.half (id integer);\nalter table billing.wallets add x integer;\n"
    before = _catalog(database)

    last.write_text(half + "select 1 / 0;\n")
    pushed = _push(database, tmp_path)
    assert pushed.returncode != 0
    assert "division by zero" in pushed.stderr
    assert _catalog(database) == before

    last.write_text(half)
    pushed = _push(database, tmp_path)
    assert pushed.returncode == 0, pushed.stderr
    assert dict(_catalog(database)).keys() - dict(before).keys() == {"billing.half"}
    assert "up to date" in _push(database, tmp_path).stdout


@pytest.fixture(scope="module")
def project() -> Iterator[Database]:
    with template.project() as project:
        yield project


def _run(connection: psycopg.Connection[Any], statements: bytes) -> None:
    """Run a file in the transaction that is open, which it must not end."""
    before = connection.execute("select txid_current()").fetchone()
    connection.execute(statements)
    assert connection.execute("select txid_current()").fetchone() == before, "it commits"


def test_all_migrations_run_in_one_transaction(project: Database) -> None:
    migrations = sorted((paths.SUPABASE / "migrations").glob("*.sql"))
    with psycopg.connect(project.owner_url) as owner:
        for migration in migrations:
            _run(owner, migration.read_bytes())
        owner.rollback()
        assert owner.execute("select from pg_namespace where nspname = 'billing'").rowcount == 0


@pytest.mark.parametrize(
    "statement",
    [b"create index concurrently on t (id)", b"vacuum t", b"commit", b"select 1; commit; begin"],
)
def test_a_migration_that_cannot_be_undone_is_found(project: Database, statement: bytes) -> None:
    with psycopg.connect(project.owner_url) as owner:
        owner.execute("create temporary table t (id integer)")
        with pytest.raises((psycopg.errors.ActiveSqlTransaction, AssertionError)):
            _run(owner, statement)
        owner.rollback()


def _kinds(settings: dict[str, Any], path: str = "") -> Iterator[tuple[str, type]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _kinds(value, f"{path}{name}.")
        else:
            yield path + name, type(value)


def test_the_cli_knows_every_setting(tmp_path: Path) -> None:
    """It overlooks what it does not know; but it writes a file with all that it knows."""
    made = _supabase("init", "--force", workdir=tmp_path)
    assert made.returncode == 0, made.stderr
    example = (tmp_path / "supabase" / "config.toml").read_text()
    example = re.sub(r"^# (\[|[a-z0-9_]+ = )", r"\1", example, flags=re.MULTILINE)
    ours = tomllib.loads((paths.SUPABASE / "config.toml").read_text())
    assert set(_kinds(ours)) - set(_kinds(tomllib.loads(example))) == set()


def _advise(database: Database) -> set[tuple[str, str]]:
    """Ask for everything worth a warning: (lint, object)."""
    with psycopg.connect(superuser_url(database), autocommit=True) as superuser:
        # Without it the checks of exposed schemas see none.
        superuser.execute(
            sql.SQL("alter database {} set pgrst.db_schemas = 'api'").format(
                sql.Identifier(database.name)
            )
        )
    url = database.owner_url
    advised = _supabase("db", "advisors", "--db-url", url, "--type", "all", "--level", "warn")
    assert advised.returncode == 0, advised.stderr
    return {
        (advice["name"], f"{advice['metadata']['schema']}.{advice['metadata']['name']}")
        for advice in json.loads(advised.stdout or "[]")
    }


def test_the_advisors_say_nothing_new(migrated: Database) -> None:
    assert _advise(migrated) == _EXCEPTIONS.keys()


def test_the_advisors_see_mistakes(database: Database) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute("create view api.careless as select * from billing.wallets")
        owner.execute("grant select on api.careless to anon, authenticated")
        owner.execute(
            "create policy again on billing.wallets for select to authenticated"
            " using (organization_id = auth.uid())"
        )
    assert _advise(database) - _EXCEPTIONS.keys() == {
        ("security_definer_view", "api.careless"),
        ("multiple_permissive_policies", "billing.wallets"),
        ("auth_rls_initplan", "billing.wallets"),
    }
