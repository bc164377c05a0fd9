"""The stand-ins of `make up` on their own thread, and in the functions' place a receiver."""

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

import uvicorn
from fastapi import FastAPI, Request, Response
from psycopg.conninfo import make_conninfo

from infra.local.cloud.app import assemble
from infra.local.cloud.store import Store
from infra.local.layout import Layout, Secrets
from infra.local.template import Database


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
        return self._queue(path).get(timeout=10)

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

    def database(self, role: str) -> str:
        return make_conninfo(self._database_url, user=role)


@dataclass(frozen=True)
class StandIns:
    """Where they are, and who hears from them."""

    layout: Layout
    database: Database
    receiver: Receiver


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
        running.enter_context(_serve(lambda: assemble(layout, Store(store)), cloud))
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
