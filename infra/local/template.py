"""Databases for tests: clones of migrated templates, on a cluster that nobody would miss."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from secrets import randbelow
from uuid import uuid4

import psycopg
from psycopg import sql

from infra.local import migrate, paths
from infra.local.layout import Secrets
from infra.local.postgres import SUPERUSER, THROWAWAY, Cluster, execute

# How the test process that started the cluster tells its workers where it is.
PORT_VARIABLE = "FAREGATE_TEST_DATABASE_PORT"
_MIGRATED = "faregate_migrated"
_TEMPLATE = "faregate_template"


@dataclass(frozen=True)
class Database:
    """A database of one test."""

    name: str
    _server: Cluster

    @property
    def owner_url(self) -> str:
        """Tell how the owner of everything reaches it."""
        return self.url(migrate.OWNER)

    @property
    def functions_url(self) -> str:
        """Tell how the functions reach it."""
        return self.url(migrate.FUNCTIONS)

    def url(self, role: str) -> str:
        """Tell how a role reaches it."""
        return self._server.url(role, self.name)


@contextmanager
def cluster() -> Iterator[None]:
    """Run a cluster with up-to-date templates; its data directory is kept for the next time."""
    paths.LOGS.mkdir(parents=True, exist_ok=True)
    with unused_name("test") as name:
        server = Cluster(name, free_port(), Secrets.load().database_password, THROWAWAY)
        if not server.exists:
            server.initialise()
        try:
            server.start()
            _drop_left_over(server)
            states = [migrate.state(server, name) for name in (_MIGRATED, _TEMPLATE)]
            if states != [migrate.digests()] * 2:
                _forget(server)
                migrate.create(server, _MIGRATED)
                migrate.push(server, _MIGRATED, sandbox=False)
                _copy(server, _MIGRATED, _TEMPLATE)
                migrate.push(server, _TEMPLATE)
            os.environ[PORT_VARIABLE] = str(server.port)
            yield
        finally:
            os.environ.pop(PORT_VARIABLE, None)
            server.stop()


@contextmanager
def clone(*, sandbox: bool = True) -> Iterator[Database]:
    """Copy a template for one test, and drop the copy after it.

    Without a sandbox it is what a push makes of a project: no seed, no clock that can be moved.
    """
    with _database() as database:
        _copy(_server(), _TEMPLATE if sandbox else _MIGRATED, database.name)
        yield database


@contextmanager
def project() -> Iterator[Database]:
    """Make a database as a new Supabase project has it, without any migration."""
    with _database() as database:
        migrate.create(_server(), database.name)
        yield database


def _server() -> Cluster:
    return Cluster("", int(os.environ[PORT_VARIABLE]), Secrets.load().database_password)


@contextmanager
def _database() -> Iterator[Database]:
    database = Database(f"test_{uuid4().hex}", _server())
    try:
        yield database
    finally:
        migrate.drop(_server(), database.name)


def _copy(server: Cluster, template: str, name: str) -> None:
    execute(
        server.url(SUPERUSER, "postgres"),
        # Copying files beats logging every page, as long as nothing is flushed to the disk.
        sql.SQL("create database {} template {} owner {} strategy file_copy")
        .format(*map(sql.Identifier, (name, template, migrate.OWNER)))
        .as_string(),
    )


def _drop_left_over(server: Cluster) -> None:
    """Remove what a killed run could not."""
    with psycopg.connect(server.url(SUPERUSER, "postgres")) as connection:
        found = connection.execute("select datname from pg_database where datname ~ '^test_'")
        names = [str(row[0]) for row in found]
    for name in names:
        migrate.drop(server, name)


def _forget(server: Cluster) -> None:
    """Remove what other migrations made: roles outlive their databases."""
    for database in (_MIGRATED, _TEMPLATE):
        migrate.drop(server, database)
    with psycopg.connect(server.url(SUPERUSER, "postgres")) as connection:
        found = connection.execute("select rolname from pg_roles where rolname ~ '^faregate_'")
        for (role,) in found.fetchall():
            connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


@contextmanager
def unused_name(prefix: str) -> Iterator[str]:
    """Choose a name that no other test run of this checkout uses, and keep it from them."""
    for number in count(1):
        with (paths.LOCAL / f"{prefix}-{number}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield f"{prefix}-{number}"
            return


def free_port() -> int:
    """Find a port that nobody listens on, below those that outgoing connections take."""
    while True:
        port = 20_000 + randbelow(10_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
