"""What the functions find around them: key sets, Stripe and Cloud Tasks, on their own thread."""

import json
import socket
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from psycopg import AsyncConnection

from infra.local.cloud import auth, stripe
from infra.local.cloud.auth import Auth, AuthError
from infra.local.cloud.clock import Clock
from infra.local.cloud.google import Google
from infra.local.cloud.resources import Resources
from infra.local.cloud.rest import Rest
from infra.local.cloud.store import Store
from infra.local.cloud.stripe import Stripe
from infra.local.cloud.stripe_objects import StripeError
from infra.local.cloud.stripe_webhooks import Webhooks
from infra.local.cloud.supabase_keys import SupabaseKeys
from infra.local.cloud.tasks import Tasks
from infra.local.cloud.users import Users
from infra.local.layout import INVOKER, Layout, Secrets
from infra.local.template import Database, free_port


class _RealTime(Clock):
    """The queue stores what it is told; nobody moves a clock under it."""

    def __init__(self) -> None:
        pass

    async def now(self) -> datetime:
        return datetime.now(UTC)


class _UsersDatabase:
    """The database whose users Supabase Auth knows: that of the test."""

    def __init__(self) -> None:
        self.current: Database | None = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[Any]]:
        assert self.current is not None, "no test has a database"
        url = self.current.url("supabase_auth_admin")
        async with await AsyncConnection.connect(url, autocommit=True) as connection:
            yield connection


@dataclass(frozen=True)
class Cloud:
    """The stand-ins' addresses and keys, and what they remember."""

    layout: Layout
    store_file: Path
    postgrest_url: str
    _users: _UsersDatabase

    def serve(self, database: Database) -> None:
        """Let Supabase Auth keep its users in this database from now on."""
        self._users.current = database

    def remembered(self, kind: str) -> list[dict[str, Any]]:
        """Tell the documents of a kind: what Stripe or the queue was asked for."""
        store = Store(self.store_file)
        try:
            return store.all(kind)
        finally:
            store.close()

    def take_bucket(self, name: str) -> None:
        """Let another project make a bucket of this name."""
        self.control(f"{self.layout.gcs_url}/_buckets/{name}")

    def filestore_behaves(self, **behaviour: object) -> None:
        """Change ready_after_seconds (0 at first), quota_gib or failure of file shares."""
        self.control(f"{self.layout.filestore_url}/_behaviour", **behaviour)

    def control(self, url: str, **body: object) -> None:
        """Have a stand-in do what is not ours to do there."""
        httpx.post(url, json=body, trust_env=False).raise_for_status()

    def enqueued(self, queue: str) -> list[dict[str, Any]]:
        """Tell the tasks that a queue was given, in the order in which they were written."""
        bodies = [
            json.loads(b64decode(task["httpRequest"]["body"]))
            for task in self.remembered("task")
            if task["name"].startswith(f"{queue}/tasks/")
        ]
        return sorted(bodies, key=itemgetter("task_id"))

    def user_token(self, user_id: str, **claims: object) -> str:
        """Sign an access token as Supabase Auth does."""
        return self.layout.auth_key.sign(self.user_claims(user_id) | claims)

    def user_claims(self, user_id: str) -> dict[str, Any]:
        now = int(datetime.now(UTC).timestamp())
        return {
            "iss": self.layout.auth_url,
            "sub": user_id,
            "aud": "authenticated",
            "role": "authenticated",
            "iat": now,
            "exp": now + 3600,
        }

    def invoker_token(self, **claims: object) -> str:
        """Sign an ID token as Google does for the service account that may call."""
        now = int(datetime.now(UTC).timestamp())
        honest = {
            "iss": self.layout.google_url,
            "aud": self.layout.api_url,
            "sub": "1234567890",
            "email": INVOKER,
            "email_verified": True,
            "iat": now,
            "exp": now + 3600,
        }
        return self.layout.google_key.sign(honest | claims)


@contextmanager
def run_cloud(store_file: Path) -> Iterator[Cloud]:
    """Serve the stand-ins until the block ends."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        # A layout's cloud has the port after its gateway's.
        layout = Layout(listener.getsockname()[1] - 1, Secrets.load())
        layout.s3_port = free_port()
        postgrest_url = f"http://127.0.0.1:{free_port()}"
        server = uvicorn.Server(uvicorn.Config(lambda: None, log_config=None))
        ready = Event()
        users = _UsersDatabase()

        def serve() -> None:
            # SQLite's connection belongs to the thread that opened it.
            store = Store(store_file)
            server.config.app = _app(layout, store, store_file.parent, postgrest_url, users)
            ready.set()
            server.run(sockets=[listener])
            store.close()

        thread = Thread(target=serve, name="cloud")
        thread.start()
        try:
            ready.wait(10)
            _await_answer(f"{layout.google_url}/oauth2/v3/certs")
            yield Cloud(layout, store_file, postgrest_url, users)
        finally:
            server.should_exit = True
            thread.join(10)


def _await_answer(url: str) -> None:
    with httpx.Client(transport=httpx.HTTPTransport(retries=10), trust_env=False) as http:
        http.get(url).raise_for_status()


def _app(
    layout: Layout, store: Store, files: Path, postgrest_url: str, users: _UsersDatabase
) -> FastAPI:
    http = httpx.AsyncClient(trust_env=False)
    google = Google(layout.google_url, layout.google_key)
    nowhere = Webhooks("http://127.0.0.1:9/", layout.secrets.stripe_webhook_secret, store, http)
    # Tests tell the events themselves.
    nowhere.configure({"deliver": "false"})
    payments = Stripe(layout.stripe_url, layout.secrets.stripe_secret_key, store, nowhere)
    keys = SupabaseKeys(layout.secrets.publishable_key, layout.secrets.secret_key)
    rest = Rest(postgrest_url, keys, http)
    accounts = Auth(layout.auth_url, layout.auth_key, layout.jwks, keys, Users(users), store)

    resources = Resources(layout, store, files, _RealTime(), http, file_share_seconds=0)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with http:
            with resources.running():
                yield

    app = FastAPI(openapi_url=None, lifespan=lifespan)
    app.add_exception_handler(AuthError, auth.refuse)
    app.add_exception_handler(StripeError, stripe.refuse)
    tasks = Tasks(store, _RealTime(), google, http)
    for part in (google, payments, tasks, rest, accounts):
        app.include_router(part.router)
    resources.join(app)
    return app
