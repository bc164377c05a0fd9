"""A database as the cloud has it: Supabase's own objects, our migrations, the sandbox clock."""

import hashlib
import json
import os
import subprocess
from pathlib import Path

import psycopg
from psycopg import sql

from infra.local import paths
from infra.local.postgres import SUPERUSER, Cluster, execute, fetch
from infra.local.progress import RefusalError

OWNER = "postgres"
FUNCTIONS = "faregate_functions"
LOG = paths.LOGS / "migrate.log"

_PLATFORM = Path(__file__).with_name("supabase.sql")
_SEED = paths.SUPABASE / "seed.sql"
_MIGRATIONS = paths.SUPABASE / "migrations"


def digests() -> list[str]:
    """Fingerprint what a database is made of: first what cannot be repeated, then each migration.

    A database is up to date when it carries this list, can be migrated when it carries a beginning
    of it, and has to be made anew when it carries anything else.
    """
    files = [_PLATFORM, _SEED, *sorted(_MIGRATIONS.glob("*.sql"))]
    return [
        hashlib.sha256(file.name.encode() + file.read_bytes()).hexdigest()[:16]
        for file in files
        if file.exists()
    ]


def state(cluster: Cluster, database: str) -> list[str] | None:
    """Read the fingerprints that a database carries; none when it does not exist."""
    found = fetch(
        cluster.url(SUPERUSER, "postgres"),
        "select coalesce(shobj_description(oid, 'pg_database'), '[]')"
        " from pg_database where datname = %s",
        [database],
    )
    return None if found is None else list(json.loads(str(found)))


def create(cluster: Cluster, database: str) -> None:
    """Make a database anew, in place of the one there was."""
    drop(cluster, database)
    name = sql.Identifier(database)
    execute(
        cluster.url(SUPERUSER, "postgres"),
        # Before Supabase's own objects there is no role to own it.
        sql.SQL("create database {}").format(name).as_string(),
    )
    execute(
        cluster.url(SUPERUSER, database),
        _PLATFORM.read_text(),
        sql.SQL("alter database {} owner to {}").format(name, sql.Identifier(OWNER)).as_string(),
    )
    _set_passwords(cluster, "authenticator", "supabase_auth_admin", OWNER)


def push(cluster: Cluster, database: str, *, sandbox: bool = True) -> None:
    """Apply the missing migrations, for a sandbox then the seed, and note what was applied."""
    url = cluster.url(OWNER, database)
    with LOG.open("a") as log:
        done = subprocess.run(  # noqa: S603
            [
                *[str(paths.supabase_cli()), "db", "push", "--yes", "--db-url", url],
                *["--workdir", str(paths.ROOT)],
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
            env={
                **os.environ,
                "PGSSLMODE": "disable",
                "SUPABASE_TELEMETRY_DISABLED": "1",
                "SUPABASE_NO_UPDATE_NOTIFIER": "1",
            },
        )
    if done.returncode != 0:
        raise RefusalError(f"the migrations could not be applied; see {paths.shown(LOG)}.")
    if sandbox and _SEED.exists():
        try:
            execute(url, _SEED.read_text())
        except psycopg.Error as error:
            raise RefusalError(f"{_SEED.relative_to(paths.ROOT)} failed: {error}.") from error
    _set_passwords(cluster, FUNCTIONS)
    execute(
        cluster.url(SUPERUSER, "postgres"),
        sql.SQL("comment on database {} is {}")
        .format(sql.Identifier(database), json.dumps(digests()))
        .as_string(),
    )


def drop(cluster: Cluster, database: str) -> None:
    """Remove a database and everybody in it."""
    execute(
        cluster.url(SUPERUSER, "postgres"),
        sql.SQL("drop database if exists {} with (force)")
        .format(sql.Identifier(database))
        .as_string(),
    )


def _set_passwords(cluster: Cluster, *roles: str) -> None:
    execute(
        cluster.url(SUPERUSER, "postgres"),
        *[
            sql.SQL("alter role {} password {}")
            .format(sql.Identifier(role), cluster.password)
            .as_string()
            for role in roles
        ],
    )
