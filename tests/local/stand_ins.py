"""The stand-ins of `make up` on their own thread, and in the functions' place a receiver.

A `Shop` is what a test does at Stripe: as the functions, as a customer, as a bank.
"""

import json
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from time import monotonic
from typing import Any
from uuid import uuid4

import httpx
import stripe
import uvicorn
from fastapi import FastAPI, Request, Response
from psycopg.conninfo import make_conninfo

from infra.local.cloud.app import assemble
from infra.local.cloud.store import Store
from infra.local.layout import Layout, Secrets
from infra.local.template import Database, free_port


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    body: bytes
    headers: dict[str, str]
    arrived_at: float


@dataclass(frozen=True)
class Receiver:
    """Stands where the functions would: keeps what it gets, and answers as it was told."""

    answers: dict[str, list[int]] = field(default_factory=dict)
    _arrived: dict[str, Queue[Received]] = field(default_factory=dict)

    def app(self) -> FastAPI:
        app = FastAPI(openapi_url=None)

        @app.post("/{path:path}")
        async def receive(request: Request, path: str) -> Response:
            received = Received(await request.body(), dict(request.headers), monotonic())
            self._queue(f"/{path}").put(received)
            statuses = self.answers.get(f"/{path}")
            # What a sweep says that has nothing left to do.
            return Response(json.dumps({"more": False}), statuses.pop(0) if statuses else 200)

        return app

    def next(self, path: str) -> Received:
        """Wait for the next request to a path."""
        return self._queue(path).get(timeout=60)

    def all(self, path: str) -> list[Received]:
        """Give what has arrived at a path since somebody asked."""
        arrived = []
        while True:
            try:
                arrived.append(self._queue(path).get_nowait())
            except Empty:
                return arrived

    def _queue(self, path: str) -> Queue[Received]:
        return self._arrived.setdefault(path, Queue())


class _Layout(Layout):
    """The laptop's addresses, but a database of its own."""

    def __init__(self, port: int, database: Database) -> None:
        super().__init__(port, Secrets.load())
        self._database_url = database.owner_url
        self.s3_port = free_port()

    def database(self, role: str) -> str:
        return make_conninfo(self._database_url, user=role)


@dataclass(frozen=True)
class StandIns:
    """Where they are, and who hears from them."""

    layout: Layout
    database: Database
    receiver: Receiver


class Shop:
    """Sells credits through Stripe's own client, and knows what its customers and banks do."""

    WEBHOOK = "/v1/stripe/webhook"
    URL = "http://127.0.0.1:9"

    def __init__(
        self, stand_ins: StandIns, http: httpx.Client, stripe_http: stripe.HTTPXClient
    ) -> None:
        self._stand_ins, self._http, self._stripe_http = stand_ins, http, stripe_http
        self.client = self.connect(stand_ins.layout.secrets.stripe_secret_key)
        self.events()

    def connect(self, key: str) -> stripe.StripeClient:
        """Give Stripe's client for a key."""
        return stripe.StripeClient(
            key,
            base_addresses={"api": self._stand_ins.layout.stripe_url},
            http_client=self._stripe_http,
            max_network_retries=0,
        )

    def parameters(self, **changes: object) -> dict[str, Any]:
        """Tell what a checkout of 25 USD takes, but for the changes."""
        return {
            "mode": "payment",
            "client_reference_id": "order-7",
            "line_items": [
                {
                    "quantity": 2,
                    "price_data": {
                        "currency": "usd",
                        "unit_amount": 1250,
                        "product_data": {"name": "Credits"},
                    },
                }
            ],
            "metadata": {"order": "7"},
            "payment_intent_data": {"metadata": {"order": "7"}},
            "success_url": f"{self.URL}/paid?checkout={{CHECKOUT_SESSION_ID}}",
            "cancel_url": f"{self.URL}/cancelled",
        } | changes

    def checkout(self, key: str = "", **changes: object) -> stripe.checkout.Session:
        """Make a checkout."""
        asked: Any = self.parameters(**changes)
        return self.client.v1.checkout.sessions.create(
            asked, {"idempotency_key": key or uuid4().hex}
        )

    def choose(self, checkout: stripe.checkout.Session, method: str) -> httpx.Response:
        """Press one of the buttons of a pay page."""
        url = f"{self._stand_ins.layout.stripe_url}/pay/{checkout.id}"
        return self._http.post(url, data={"method": method})

    def sell(self, method: str = "card", **changes: object) -> stripe.PaymentIntent:
        """Make a checkout, have it paid, and give its payment."""
        checkout = self.checkout("", **changes)
        self.choose(checkout, method)
        paid = self.client.v1.checkout.sessions.retrieve(checkout.id)
        return self.client.v1.payment_intents.retrieve(str(paid.payment_intent))

    def control(self, path: str, **form: str) -> dict[str, Any]:
        """Do what a customer's bank does."""
        answer = self._http.post(f"{self._stand_ins.layout.stripe_url}/{path}", data=form)
        answer.raise_for_status()
        body: dict[str, Any] = answer.json()
        return body

    def events(self) -> dict[str, Any]:
        """Give the objects of what arrived, by type, each signature checked by Stripe's library."""
        secret = self._stand_ins.layout.secrets.stripe_webhook_secret
        found = [
            stripe.Webhook.construct_event(each.body, each.headers["stripe-signature"], secret)
            for each in self._stand_ins.receiver.all(self.WEBHOOK)
        ]
        return {event.type: event.data.object for event in found}

    @contextmanager
    def losing_webhooks(self) -> Iterator[None]:
        """Have every event of the block lost on its way."""
        self.control("_webhooks", deliver="false")
        try:
            yield
        finally:
            self.control("_webhooks", deliver="true")


@contextmanager
def run_shop(stand_ins: StandIns) -> Iterator[Shop]:
    """Open a shop until the block ends."""
    stripe_http = stripe.HTTPXClient(allow_sync_methods=True)
    with httpx.Client(trust_env=False) as http:
        yield Shop(stand_ins, http, stripe_http)
    stripe_http.close()  # type: ignore[no-untyped-call]


@contextmanager
def run_stand_ins(database: Database, store: Path) -> Iterator[StandIns]:
    """Serve the stand-ins until the block ends."""
    receiver = Receiver()
    with ExitStack() as running:
        # A layout's cloud has the port after its gateway's.
        functions, cloud = running.enter_context(adjacent_listeners(2))
        layout = _Layout(functions.getsockname()[1], database)
        running.enter_context(_serve(receiver.app, functions))
        # SQLite's connection belongs to the thread that opened it: that of the server.
        running.enter_context(_serve(lambda: assemble(layout, Store(store), store.parent), cloud))
        yield StandIns(layout, database, receiver)


@contextmanager
def adjacent_listeners(count: int) -> Iterator[list[socket.socket]]:
    """Listen on so many ports in a row, below those that outgoing connections take."""
    while True:
        first = random.randrange(20_000, 30_000)
        with ExitStack() as opened:
            try:
                listeners = [
                    opened.enter_context(socket.create_server(("127.0.0.1", port)))
                    for port in range(first, first + count)
                ]
            except OSError:
                continue
            yield listeners
            return


@contextmanager
def _serve(create_app: Callable[[], FastAPI], listener: socket.socket) -> Iterator[None]:
    """Serve on a socket that listens already, so that nobody has to wait for it."""
    config = uvicorn.Config(create_app, factory=True, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = Thread(target=server.run, args=([listener],), name=f"serves {create_app}")
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)
