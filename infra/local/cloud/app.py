"""All stand-ins as one ASGI application: `uvicorn --factory infra.local.cloud.app:create_app`."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI
from psycopg_pool import AsyncConnectionPool

from infra.local import paths
from infra.local.cloud import auth, stripe
from infra.local.cloud.auth import Auth, AuthError
from infra.local.cloud.clock import Clock
from infra.local.cloud.google import Google
from infra.local.cloud.resources import Resources
from infra.local.cloud.rest import Rest
from infra.local.cloud.scheduler import Scheduler
from infra.local.cloud.store import Store
from infra.local.cloud.stripe import Stripe
from infra.local.cloud.stripe_objects import StripeError
from infra.local.cloud.stripe_webhooks import Webhooks
from infra.local.cloud.supabase_keys import SupabaseKeys
from infra.local.cloud.tasks import Tasks
from infra.local.cloud.users import Users
from infra.local.layout import INVOKER, Layout

# In this order: what ran is charged before money comes or goes.
SCHEDULES = (
    *("sweep-sessions", "expire-grants", "expire-holds", "start-auto-top-ups"),
    *("enqueue-outbox", "fold-usage", "report-health"),
)
# What was used is charged before it is measured anew.
HOURLY_SCHEDULES = ("accrue-storage", "measure-storage")
DAILY_SCHEDULES = ("reconcile", "keep-usage")
# Minutes at Google, and never none: a task has to ask again.
_FILE_SHARE_SECONDS = 2


def create_app() -> FastAPI:
    """Serve the stack of this checkout."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    return assemble(Layout.load(), Store(paths.CLOUD_STORE), paths.CLOUD_FILES)


def assemble(layout: Layout, store: Store, files: Path) -> FastAPI:
    """Put the stand-ins together."""
    # They only ever talk to this machine: no proxy, and long enough for a debugger.
    http = httpx.AsyncClient(timeout=600, trust_env=False)
    auth_pool = _pool(layout.database("supabase_auth_admin"))
    owner_pool = _pool(layout.database("postgres"))

    keys = SupabaseKeys(layout.secrets.publishable_key, layout.secrets.secret_key)
    clock = Clock(owner_pool)
    google = Google(layout.google_url, layout.google_key)
    tasks = Tasks(store, clock, google, http)
    scheduler = Scheduler(
        [f"{layout.api_url}/schedules/{name}" for name in SCHEDULES],
        [f"{layout.api_url}/schedules/{name}" for name in HOURLY_SCHEDULES],
        [f"{layout.api_url}/schedules/{name}" for name in DAILY_SCHEDULES],
        INVOKER,
        layout.api_url,
        (clock, tasks, google, http),
    )
    webhooks = Webhooks(
        f"{layout.api_url}/v1/stripe/webhook", layout.secrets.stripe_webhook_secret, store, http
    )
    payments = Stripe(layout.stripe_url, layout.secrets.stripe_secret_key, store, webhooks)
    accounts = Auth(layout.auth_url, layout.auth_key, layout.jwks, keys, Users(auth_pool), store)
    rest = Rest(layout.postgrest_url, keys, http)
    resources = Resources(layout, store, files, clock, http, file_share_seconds=_FILE_SHARE_SECONDS)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with http, auth_pool, owner_pool:
            webhooks.resume()
            loops = [asyncio.create_task(part.run()) for part in (tasks, scheduler)]
            try:
                with resources.running():
                    yield
            finally:
                for loop in loops:
                    loop.cancel()
                await asyncio.gather(*loops, return_exceptions=True)
                store.close()

    app = FastAPI(title="Stand-ins", openapi_url=None, lifespan=lifespan)
    app.add_exception_handler(AuthError, auth.refuse)
    app.add_exception_handler(StripeError, stripe.refuse)
    for part in (google, tasks, scheduler, payments, accounts, rest):
        app.include_router(part.router)
    resources.join(app)
    return app


def _pool(url: str) -> AsyncConnectionPool:
    return AsyncConnectionPool(url, min_size=1, max_size=4, open=False, kwargs={"autocommit": True})
