"""A PostgreSQL cluster of our own: made, started and stopped without anything installed."""

import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import monotonic, sleep
from typing import TypedDict

import psycopg

from infra.local import children, paths
from infra.local.progress import RefusalError

SUPERUSER = "supabase_admin"

# A crash of this machine loses nothing: fsync and synchronous_commit keep their defaults.
DURABLE: Mapping[str, str] = {
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
}
# For databases that nobody misses.
THROWAWAY: Mapping[str, str] = {
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "1h",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "autovacuum_naptime": "10min",
    "max_connections": "200",  # several tests race on it at once
}
_COMMON: Mapping[str, str] = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",  # a call takes less than its compilation
}


class _Account(TypedDict, total=False):
    user: int
    group: int
    cwd: Path


@dataclass
class Cluster:
    """One data directory behind one port. All login roles share one password."""

    name: str
    port: int
    password: str
    settings: Mapping[str, str] = field(default_factory=lambda: DURABLE)
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def url(self, role: str, database: str) -> str:
        """Tell how a role reaches a database of this cluster."""
        return f"postgresql://{role}:{self.password}@127.0.0.1:{self.port}/{database}"

    @property
    def log(self) -> Path:
        """Tell where the server writes its log."""
        return paths.LOGS / f"postgres-{self.name}.log"

    @property
    def exists(self) -> bool:
        """Tell whether the data directory has been made."""
        return self.data.exists()

    def initialise(self) -> None:
        """Make the data directory; a half-made one never gets its final name."""
        unfinished = self.data.with_name(f"{self.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        with tempfile.NamedTemporaryFile("w", dir=self._home) as secret:
            secret.write(self.password)
            secret.flush()
            if self._account is not None:
                os.chown(secret.name, self._account.pw_uid, self._account.pw_gid)
            initdb = children.spawn(
                [
                    *[self._binary("initdb"), "--pgdata", str(unfinished), "--username", SUPERUSER],
                    *["--pwfile", secret.name, "--auth", "scram-sha-256", "--encoding", "UTF8"],
                    # The same order of texts on every machine.
                    *["--locale", "C", "--locale-provider", "builtin"],
                    *["--builtin-locale", "C.UTF-8"],
                    *(["--no-sync"] if self.settings.get("fsync") == "off" else []),
                ],
                self.log,
                env={"LC_ALL": "C", "TZ": "UTC"},
                **self._as_account(),
            )
            if initdb.wait() != 0:
                raise RefusalError(
                    f"PostgreSQL's data directory could not be made; see {self.log}."
                )
        unfinished.rename(self.data)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = [f"{key}={value}" for key, value in {**_COMMON, **self.settings}.items()]
        self.process = children.spawn(
            [
                *[self._binary("postgres"), "-D", str(self.data), "-p", str(self.port)],
                *[argument for option in options for argument in ("-c", option)],
            ],
            self.log,
            env={"LC_ALL": "C", "TZ": "UTC"},
            **self._as_account(),
        )
        deadline = monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url(SUPERUSER, "postgres"), connect_timeout=2).close()
            except psycopg.OperationalError as error:
                if "password authentication failed" in str(error):
                    self.stop()
                    raise RefusalError(
                        f"{self.data} was made with other secrets than .local has; remove it."
                    ) from error
                if self.process.poll() is not None or monotonic() > deadline:
                    self.stop()
                    raise RefusalError(f"PostgreSQL did not start; see {self.log}.") from error
                sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stop the server in order: no new connections, open ones rolled back, a checkpoint."""
        if self.process is not None:
            children.stop(self.process, signal.SIGINT, patience_seconds=30)

    @cached_property
    def _account(self) -> pwd.struct_passwd | None:
        """Find whom to run as: PostgreSQL refuses root."""
        if os.geteuid() != 0:
            return None
        try:
            return pwd.getpwnam("nobody")
        except KeyError as error:
            raise RefusalError(
                "PostgreSQL refuses to run as root, and there is no user `nobody` to run it as."
            ) from error

    @cached_property
    def _home(self) -> Path:
        """Make the folder of the data directories, safe from other users of this machine."""
        home = paths.postgres_home()
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
        if home.is_symlink() or home.stat().st_uid != os.geteuid():
            raise RefusalError(f"{home} belongs to somebody else; remove it.")
        if self._account is not None:
            home.chmod(0o755)
            pointer = paths.STATE / "postgres"
            if not pointer.is_symlink():
                # Left by an earlier checkout in the same place, whose secrets are gone.
                shutil.rmtree(home / "data", ignore_errors=True)
                pointer.symlink_to(home)
        return home

    @cached_property
    def data(self) -> Path:
        """Tell where the server keeps everything; whoever it runs as owns the folder."""
        if self._account is None:
            return self._home / self.name
        parent = self._home / "data"
        parent.mkdir(mode=0o700, exist_ok=True)
        os.chown(parent, self._account.pw_uid, self._account.pw_gid)
        return parent / self.name

    @cached_property
    def _installation(self) -> Path:
        """Find the binaries where the account can run them: a copy, when root dropped rights."""
        package = paths.postgres_package()
        if self._account is None:
            return package / "native"
        stamp = (package.parents[2] / "stamp").read_text()[:12]
        copy = self._home / f"postgres-{stamp}"
        with (self._home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not copy.exists():
                unfinished = copy.with_suffix(".unfinished")
                shutil.rmtree(unfinished, ignore_errors=True)
                shutil.copytree(package / "native", unfinished, symlinks=True)
                for entry in [unfinished, *unfinished.rglob("*")]:
                    if not entry.is_symlink():  # whatever the umask was at installation
                        entry.chmod(0o755)
                unfinished.rename(copy)
        return copy

    def _binary(self, name: str) -> str:
        return str(self._installation / "bin" / name)

    def _as_account(self) -> _Account:
        if self._account is None:
            return {}
        account = self._account
        return {"user": account.pw_uid, "group": account.pw_gid, "cwd": self._home}


def execute(url: str, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def fetch(url: str, query: str, parameters: Sequence[object] = ()) -> object:
    """Run a query and give its first value."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query.encode(), parameters).fetchone()
        return row[0] if row else None
