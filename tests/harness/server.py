"""Functions on a port, for what only a real connection shows."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Thread

import httpx
import uvicorn

from faregate.function import create_app
from tests.harness.client import environment


@contextmanager
def serve(settings: Mapping[str, str], *names: str) -> Iterator[str]:
    """Serve these functions until the block ends; give their address."""
    with environment(settings):
        app = create_app(*names)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=1))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        try:
            with httpx.Client(transport=httpx.HTTPTransport(retries=10), trust_env=False) as http:
                http.get(f"{address}/healthz").raise_for_status()
            yield address
        finally:
            server.should_exit = True
            thread.join(10)
