"""`make up`: start every part in order, watch them, and leave nothing behind."""

import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe
from time import monotonic, sleep
from types import FrameType

import httpx
import psycopg

from infra.local import children, migrate, paths, stack
from infra.local.layout import DATABASE, PORT_VARIABLE, WAY_VARIABLE, WAYS, Layout, write_private
from infra.local.postgres import Cluster
from infra.local.progress import RefusalError, run, say, step

_ADMIN_PASSPORT = paths.STATE / "admin-passport"
_READY_SECONDS = 60
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Child:
    """A process to watch."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Refuse to go on without it."""
        code = self.process.poll()
        if code is not None:
            how = f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
            log = paths.shown(self.log)
            raise RefusalError(f"{self.name} {how}; its last words are in {log}.")


class Supervisor:
    """Everything that runs, in the order it was started."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._way = _way()
        self._cluster = Cluster("data", layout.database_port, layout.secrets.database_password)
        self._children: list[Child] = []

    def start(self) -> stack.Stack:
        """Start every part, each as soon as what it needs is ready."""
        layout = self._layout
        self._check_ports()
        if not self._cluster.exists:
            with step("PostgreSQL: data directory"):
                self._cluster.initialise()
        with step(f"PostgreSQL on port {layout.database_port}"):
            self._cluster.start()
            if self._cluster.process is not None:
                child = Child("PostgreSQL", self._cluster.process, self._cluster.log)
                self._children.append(child)
        self._prepare_database()
        admin_passport = self._admin_passport()

        # The rest starts side by side: reading the code is what takes the time.
        postgrest = layout.postgrest_environment(layout.database("authenticator"), layout.rest_port)
        self._spawn("PostgREST", [_postgrest()], {**os.environ, **postgrest})
        environment = {
            **os.environ,
            "PYTHONPATH": f"{paths.ROOT}:{paths.ROOT / 'functions'}",
            PORT_VARIABLE: str(layout.api_port),
            # They only ever talk to this machine, which no proxy would reach.
            "NO_PROXY": "*",
            "no_proxy": "*",
        }
        self._spawn("cloud", _uvicorn("infra.local.cloud.app", layout.cloud_port), environment)
        self._spawn(
            "gateway",
            _uvicorn("infra.local.gateway", layout.api_port),
            environment | layout.functions_environment(self._way),
        )
        with step(f"PostgREST on port {layout.rest_port}"):
            self._wait_for(layout.postgrest_url)
        with step(f"cloud stand-ins on port {layout.cloud_port}"):
            self._wait_for(f"{layout.auth_url}/.well-known/jwks.json")
        with step(f"functions on port {layout.api_port}"):
            self._wait_for(f"{layout.api_url}/healthz")
        return self._describe(admin_passport)

    def watch(self) -> None:
        """Look after the children until one ends."""
        while True:
            for child in self._children:
                child.check()
            sleep(_LOOK_SECONDS)

    def stop(self) -> None:
        """Stop in the opposite order, so that nobody misses what it needs."""
        for child in reversed(self._children):
            if child.process is not self._cluster.process:
                children.stop(child.process, signal.SIGTERM)
        self._cluster.stop()

    def _check_ports(self) -> None:
        layout = self._layout
        for port in layout.ports:
            with socket.socket() as probe:
                # As servers do: connections that are still closing do not count.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise RefusalError(
                        f"port {port} is in use; end what listens there, or set {PORT_VARIABLE} to "
                        f"the first of {len(layout.ports)} free ports in a row "
                        f"(now {layout.api_port})."
                    ) from error

    def _prepare_database(self) -> None:
        carried, wanted = migrate.state(self._cluster, DATABASE), migrate.digests()
        if carried == wanted:
            return
        if not carried or wanted[: len(carried)] != carried:
            if carried is not None:
                say("  The database was made by other migrations: it is made anew, empty.")
            for outdated in (_ADMIN_PASSPORT, *paths.STATE.glob(f"{paths.CLOUD_STORE.name}*")):
                outdated.unlink(missing_ok=True)
            shutil.rmtree(paths.CLOUD_FILES, ignore_errors=True)
            with step("database"):
                migrate.create(self._cluster, DATABASE)
        with step("migrations"):
            migrate.push(self._cluster, DATABASE)

    def _admin_passport(self) -> str:
        """Give the operator's key; the database only ever sees its hash."""
        if not _ADMIN_PASSPORT.exists():
            key = f"fg_live_{token_urlsafe(32)}"
            with psycopg.connect(self._layout.database(migrate.OWNER)) as connection:
                connection.execute(
                    "select billing.create_operator("
                    "p_name => %s, p_key_hash => %s, p_key_prefix => %s)",
                    ["Local operator", hashlib.sha256(key.encode()).digest(), key[:12]],
                )
            write_private(_ADMIN_PASSPORT, key)
        return _ADMIN_PASSPORT.read_text()

    def _spawn(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        log = paths.LOGS / f"{name.lower()}.log"
        log.unlink(missing_ok=True)
        process = children.spawn(command, log, env=environment, cwd=paths.ROOT)
        self._children.append(Child(name, process, log))

    def _wait_for(self, url: str) -> None:
        deadline = monotonic() + _READY_SECONDS
        with httpx.Client(timeout=2, trust_env=False) as http:
            while monotonic() < deadline:
                for child in self._children:
                    child.check()
                with suppress(httpx.HTTPError):
                    if not http.get(url).is_server_error:
                        return
                sleep(0.05)
        raise RefusalError(f"{url} did not answer within {_READY_SECONDS} s; see {paths.LOGS}.")

    def _describe(self, admin_passport: str) -> stack.Stack:
        layout = self._layout
        return stack.Stack(
            api_url=layout.api_url,
            rest_url=layout.rest_url,
            auth_url=layout.auth_url,
            supabase_url=layout.supabase_url,
            database_url=layout.database(migrate.OWNER),
            functions_database_url=layout.database(migrate.FUNCTIONS),
            publishable_key=layout.secrets.publishable_key,
            secret_key=layout.secrets.secret_key,
            stripe_url=layout.stripe_url,
            stripe_secret_key=layout.secrets.stripe_secret_key,
            stripe_webhook_secret=layout.secrets.stripe_webhook_secret,
            admin_passport=admin_passport,
            tasks_url=layout.tasks_url,
            google_url=layout.google_url,
            gcs_url=layout.gcs_url,
            s3_url=layout.s3_url,
            filestore_url=layout.filestore_url,
            iam_url=layout.iam_url,
            jwks_url=f"{layout.auth_url}/.well-known/jwks.json",
            pid=os.getpid(),
        )


def _way() -> str:
    """Read which way the functions go into the database."""
    way = os.environ.get(WAY_VARIABLE) or WAYS[0]
    if way not in WAYS:
        raise RefusalError(f"{WAY_VARIABLE} must be one of {', '.join(WAYS)}, not {way!r}.")
    return way


def _postgrest() -> str:
    binary = paths.postgrest_binary()
    if binary is None:
        raise RefusalError("PostgREST is gone from PATH.")
    return str(binary)


def _uvicorn(module: str, port: int) -> list[str]:
    return [
        *[sys.executable, "-m", "uvicorn", "--factory", f"{module}:create_app"],
        *["--host", "127.0.0.1", "--port", str(port)],
        *["--no-access-log", "--timeout-graceful-shutdown", "3"],
        # Whom X-Forwarded-For is believed from, TRUSTED_PROXIES says.
        "--no-proxy-headers",
    ]


@contextmanager
def _only_one() -> Iterator[None]:
    """Hold the lock of this checkout; it falls when the process ends, however it ends."""
    with (paths.STATE / "stack.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            running = stack.running_stack()
            where = f"at {running.api_url} (process {running.pid})" if running else "(starting)"
            raise RefusalError(f"the stack of this checkout runs already {where}.") from error
        yield


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Serve until Ctrl-C."""
    paths.LOGS.mkdir(parents=True, exist_ok=True)
    with _only_one():
        supervisor = Supervisor(Layout.load())
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, _interrupt)
        try:
            described = supervisor.start()
            write_private(stack.FILE, described.model_dump_json(indent=2))
            if "--quiet" not in sys.argv:
                say(f"\nFaregate serves {described.api_url} (its description: /docs).")
                keys, logs = paths.shown(stack.FILE), paths.shown(paths.LOGS)
                say(f"Addresses and keys: {keys}. Logs: {logs}. Ctrl-C ends it all.")
            supervisor.watch()
        except KeyboardInterrupt:
            pass
        finally:
            # From here on an impatient second Ctrl-C would only leave something behind.
            for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(name, signal.SIG_IGN)
            stack.FILE.unlink(missing_ok=True)
            supervisor.stop()
        if "--quiet" not in sys.argv:
            say("\nEverything has ended.")


if __name__ == "__main__":
    run(main)
