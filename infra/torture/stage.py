"""Where it happens: a durable database and the real functions, each a process, behind proxies."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from random import Random
from time import monotonic, sleep
from typing import Any

import httpx
import psycopg
import uvicorn
from anyio.from_thread import BlockingPortal
from fastapi import FastAPI, Request

from infra.local import children, migrate, paths
from infra.local.cloud.google import Google
from infra.local.layout import INVOKER, Layout, Secrets
from infra.local.postgres import DURABLE, SUPERUSER, Cluster
from infra.local.progress import RefusalError, step
from infra.local.template import free_port, unused_name
from infra.torture.proxy import Proxy

FUNCTIONS = (
    *("sessions", "holds", "grants", "stripe_webhook", "stop_session"),
    *("sweep_sessions", "accrue_storage", "expire_holds", "expire_grants"),
)
_DATABASE = "torture"
# A window costs ten cents.
_PRICE = """
insert into billing.prices (plan_id, sku, unit, price_micros, effective_at)
select plan_id, 'session.small', 'hour', 600000, timestamptz '2026-06-01'
from unnest(array['free', 'pro']) as plan_id
union all
select 'pro', 'storage.bucket', 'gb_month', 2000000, timestamptz '2026-06-01'
"""
_STORAGE_WINDOW = "update billing.plans set storage_window_seconds = 3600"


@dataclass
class Function:
    """A function, the port it has for good, and the process that serves it at the moment."""

    name: str
    port: int
    environment: dict[str, str]
    proxy: Proxy
    url: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Serve it as Google's runtime does."""
        self.process = children.spawn(
            [
                *[sys.executable, "-m", "uvicorn", "functions_framework.aio:app"],
                *["--port", str(self.port), "--loop", "asyncio", "--no-access-log"],
            ],
            paths.LOGS / "torture-functions.log",
            env={
                **os.environ,
                **self.environment,
                "FUNCTION_TARGET": self.name,
                "FUNCTION_SOURCE": str(paths.ROOT / "functions" / "main.py"),
                "PYTHONPATH": f"{paths.ROOT}:{paths.ROOT / 'functions'}",
                "DATABASE_POOL_SIZE": "4",
            },
            cwd=paths.ROOT,
        )

    def kill(self) -> None:
        """End it as a machine that fails does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def await_ready(self) -> None:
        """Wait until it answers."""
        deadline = monotonic() + 30
        with httpx.Client(trust_env=False) as http:
            while monotonic() < deadline:
                with suppress(httpx.HTTPError):
                    if http.get(f"http://127.0.0.1:{self.port}/healthz").is_success:
                        return
                sleep(0.05)
        raise RefusalError(f"{self.name} did not start; see {paths.LOGS}.")


@dataclass
class Stage:
    """Everything that can be called and hurt."""

    layout: Layout
    cluster: Cluster
    database: Proxy
    functions_url: str
    functions: dict[str, Function]
    invoker_token: str = ""
    restarts: list[float] = field(default_factory=list)

    @property
    def owner_url(self) -> str:
        """Tell how the owner reaches the database, past every proxy."""
        return self.cluster.url(migrate.OWNER, _DATABASE)

    @property
    def proxies(self) -> list[Proxy]:
        """Give all that can cut."""
        return [self.database, *(function.proxy for function in self.functions.values())]

    @property
    def cuts(self) -> int:
        """Count what was cut so far."""
        return sum(proxy.cuts.total() for proxy in self.proxies)

    def owner(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Connect as the owner."""
        return psycopg.connect(self.owner_url, autocommit=True)

    def kill_database(self) -> None:
        """Kill -9 every process of the server, start it again, note how long that took."""
        assert self.cluster.process is not None  # noqa: S101  it runs
        with psycopg.connect(self.cluster.url(SUPERUSER, "postgres")) as connection:
            # It forks no more from here on, and what it has just forked has time to show itself:
            # one that is overlooked waits for ever for a lock of the dead.
            self.cluster.process.send_signal(signal.SIGSTOP)
            sleep(0.1)
            found = connection.execute("select pid from pg_stat_activity where pid is not null")
            backends = [int(pid) for (pid,) in found]
        self.cluster.process.kill()
        for process in backends:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self.cluster.process.wait()
        began = monotonic()
        while True:
            try:
                self.cluster.start()
            except RefusalError:
                # A process that it had just forked still lets go of its memory.
                if monotonic() - began > 30:
                    raise
            else:
                break
        self.restarts.append(monotonic() - began)


@contextmanager
def stage(portal: BlockingPortal, seed: str) -> Iterator[Stage]:
    """Make everything anew, and take it down when the block ends."""
    paths.LOGS.mkdir(parents=True, exist_ok=True)
    secrets = Secrets.load()
    with unused_name("torture") as name:
        settings = {**DURABLE, "max_connections": "200"}
        cluster = Cluster(name, free_port(), secrets.database_password, settings)
        if not cluster.exists:
            cluster.initialise()
        functions: dict[str, Function] = {}
        layout = Layout(free_port() - 1, secrets)
        google = Google(layout.google_url, layout.google_key)
        cloud = portal.start_task_soon(_serve_cloud, layout, google)
        try:
            with step("database"):
                cluster.start()
                migrate.create(cluster, _DATABASE)
                migrate.push(cluster, _DATABASE)
                with psycopg.connect(cluster.url(migrate.OWNER, _DATABASE)) as connection:
                    connection.execute(_PRICE)
                    connection.execute(_STORAGE_WINDOW)
            with step("functions"):
                stage = _assemble(portal, seed, layout, cluster)
                stage.invoker_token = google.id_token(INVOKER, layout.api_url)
                functions = stage.functions
                for function in functions.values():
                    function.start()
                for function in functions.values():
                    function.await_ready()
            yield stage
        finally:
            cloud.cancel()
            for function in functions.values():
                function.kill()
            if cluster.process is not None and cluster.process.poll() is None:
                migrate.drop(cluster, _DATABASE)
            cluster.stop()


def _assemble(portal: BlockingPortal, seed: str, layout: Layout, cluster: Cluster) -> Stage:
    random = Random(seed)
    database = Proxy(cluster.port, b"api.", random)
    proxied = Cluster("", portal.call(database.listen), cluster.password)
    functions_url = proxied.url(migrate.FUNCTIONS, _DATABASE)
    environment = {**layout.functions_environment(), "DATABASE_URL": functions_url}
    functions = {}
    for name in FUNCTIONS:
        port = free_port()
        proxy = Proxy(port, b"POST ", random)
        url = f"http://127.0.0.1:{portal.call(proxy.listen)}"
        functions[name] = Function(name, port, environment, proxy, url)
    return Stage(layout, cluster, database, functions_url, functions)


async def _serve_cloud(layout: Layout, google: Google) -> None:
    """Serve Google's keys, and a queue that takes everything: the tasks are delivered from here."""
    app = FastAPI(openapi_url=None)
    app.include_router(google.router)

    @app.post("/tasks/v2/{queue:path}/tasks")
    async def create(request: Request) -> dict[str, Any]:
        return {"name": (await request.json())["task"]["name"]}

    config = uvicorn.Config(app, port=layout.cloud_port, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    try:
        await server.serve()
    except asyncio.CancelledError:
        server.should_exit = True
        raise
