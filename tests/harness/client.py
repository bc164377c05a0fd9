"""Functions loaded as the cloud loads them, and a client that speaks to one."""

import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
from anyio.from_thread import BlockingPortal
from functions_framework.aio import create_asgi_app

from infra.local import paths

MAIN = str(paths.ROOT / "functions" / "main.py")


class Client:
    """One function's callers. `by` is the credential that a call shows."""

    def __init__(self, portal: BlockingPortal, http: httpx.AsyncClient) -> None:
        self._portal, self._http = portal, http

    def request(
        self,
        method: str,
        path: str,
        *,
        by: str = "",
        headers: Mapping[str, str] | None = None,
        **options: Any,  # noqa: ANN401  httpx types them
    ) -> httpx.Response:
        """Send anything at all."""
        sent = dict(headers or {}) | ({"Authorization": f"Bearer {by}"} if by else {})
        call = partial(self._http.request, method, path, headers=sent, **options)
        response: httpx.Response = self._portal.call(call)
        return response

    def raw(
        self, method: str, path: str, body: bytes, headers: Mapping[bytes, bytes]
    ) -> httpx.Response:
        """Send bytes that no library would."""
        call = partial(self._http.request, method, path, content=body, headers=headers)
        response: httpx.Response = self._portal.call(call)
        return response

    def get(
        self,
        path: str,
        *,
        by: str = "",
        **options: Any,  # noqa: ANN401  httpx types them
    ) -> httpx.Response:
        return self.request("GET", path, by=by, **options)

    def post(
        self,
        path: str,
        body: object = None,
        *,
        by: str = "",
        repeat: str = "",
        **options: Any,  # noqa: ANN401  httpx types them
    ) -> httpx.Response:
        """Post JSON under an idempotency key, which is new unless one is repeated."""
        headers = {"Idempotency-Key": repeat or uuid4().hex} | options.pop("headers", {})
        return self.request("POST", path, by=by, json=body, headers=headers, **options)


Load = Callable[..., Client]
"""Gives a client of the function of this name; keywords are settings that differ."""


@contextmanager
def load(portal: BlockingPortal, name: str, settings: Mapping[str, str]) -> Iterator[Client]:
    """Load an entry point with functions-framework, and close afterwards what it opened."""
    with environment(settings), _search_path():
        app = create_asgi_app(name, MAIN)  # type: ignore[no-untyped-call]
    function_app = vars(getattr(sys.modules.pop("main"), name))["app"]

    @asynccontextmanager
    async def http() -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://function") as client:
            try:
                yield client
            finally:
                for backend in function_app.state.backends.values():
                    await backend.close()

    with portal.wrap_async_context_manager(http()) as client:
        yield Client(portal, client)


@contextmanager
def _search_path() -> Iterator[None]:
    """Keep it as it is: the framework adds to it at each load, and each failed import walks it."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Show exactly these settings; the framework also leaves FUNCTION_TARGET behind."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
