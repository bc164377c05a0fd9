"""Databases for tests: clones of one migrated template, on a cluster that nobody would miss."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from uuid import uuid4

import psycopg
from psycopg import sql

from infra.local import migrate, paths
from infra.local.layout import Secrets
from infra.local.postgres import SUPERUSER, THROWAWAY, Cluster, execute

# How the test process that started the cluster tells its workers where it is.
PORT_VARIABLE = "FAREGATE_TEST_DATABASE_PORT"
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
    """Run a cluster with an up-to-date template; its data directory is kept for the next time."""
    paths.LOGS.mkdir(parents=True, exist_ok=True)
    with unused_name("test") as name:
        server = Cluster(name, free_port(), Secrets.load().database_password, THROWAWAY)
        if not server.exists:
            server.initialise()
        try:
            server.start()
            _drop_left_over(server)
            if migrate.state(server, _TEMPLATE) != migrate.digests():
                migrate.create(server, _TEMPLATE)
                migrate.push(server, _TEMPLATE)
            os.environ[PORT_VARIABLE] = str(server.port)
            yield
        finally:
            os.environ.pop(PORT_VARIABLE, None)
            server.stop()


@contextmanager
def clone() -> Iterator[Database]:
    """Copy the template for one test, and drop the copy after it."""
    server = Cluster("", int(os.environ[PORT_VARIABLE]), Secrets.load().database_password)
    name = f"test_{uuid4().hex}"
    execute(
        server.url(SUPERUSER, "postgres"),
        # Copying files beats logging every page, as long as nothing is flushed to the disk.
        sql.SQL("create database {} template {} owner {} strategy file_copy")
        .format(*map(sql.Identifier, (name, _TEMPLATE, migrate.OWNER)))
        .as_string(),
    )
    try:
        yield Database(name, server)
    finally:
        migrate.drop(server, name)


def _drop_left_over(server: Cluster) -> None:
    """Remove what a killed run could not."""
    with psycopg.connect(server.url(SUPERUSER, "postgres")) as connection:
        found = connection.execute("select datname from pg_database where datname ~ '^test_'")
        names = [str(row[0]) for row in found]
    for name in names:
        migrate.drop(server, name)


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
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
