"""The Supabase project's API: one call is one request to PostgREST, one function of schema api."""

import asyncio
import json
import re
from decimal import Decimal
from functools import cached_property
from typing import TYPE_CHECKING, Any, LiteralString

import httpx

from faregate.backends.database import Database, Row, jsonb, refusal
from faregate.errors import FaregateError
from faregate.headers import add_header
from faregate.settings import DatabaseSettings
from faregate.trace import span

if TYPE_CHECKING:
    from postgrest import APIError, APIResponse
    from supabase import AsyncClient

# As long as a statement may take for the functions' own role; a repetition counts in.
_CALL_SECONDS = 10
_CONNECT_SECONDS = 4

# The code in PostgREST's errors: an SQLSTATE or one of its own. Other answers are of what stands
# before it: a gateway, a proxy.
_CODE = re.compile(r"[0-9A-Z]{5}|PGRST\w+")
# Nothing was done, and the same call may succeed. By class: connections, logins, conflicts,
# resources, locks, statements whose time is up, the system; PostgREST's own connections.
_HANDED_ON = {"ratelimit", "ratelimit-policy"}
_PASSING = re.compile(r"(08|28|40|53|55|57|58)...|PGRST00\d")


class Postgrest(Database):
    """The way in for whoever has only the project's address and a secret key.

    Its library is imported at the first call, as connections are opened.
    """

    def __init__(self) -> None:
        self._settings = DatabaseSettings()

    async def call(self, function: LiteralString, **arguments: object) -> list[Row]:
        """Call a function in a transaction of its own."""
        from postgrest import APIError

        body = {f"p_{name}": _json(value) for name, value in arguments.items()}
        # A key's hash is stored with the passport; the key itself is in this request's memory and
        # shown by the first answer only. Repeated, the call would find its own answer and hide it.
        is_repeatable = "idempotency_key" in arguments and "key_hash" not in arguments
        try:
            with span(f"api.{function}"):
                async with asyncio.timeout(_CALL_SECONDS):
                    answer = await self._execute(function, body, is_repeatable=is_repeatable)
        except APIError as error:
            raise _translate(error) from error
        except (httpx.HTTPError, TimeoutError) as error:
            raise FaregateError("unavailable") from error
        return _rows(answer)

    async def check(self) -> None:
        """Raise `unavailable` unless PostgREST and the database behind it answer."""
        await self.call("ping")

    async def close(self) -> None:
        """Give the connections back, if there was a call."""
        if "_http" in vars(self):
            await self._http.aclose()

    @cached_property
    def _http(self) -> httpx.AsyncClient:
        # HTTP/1.1: over HTTP/2 there were a sixth fewer calls, and all of them on one connection.
        connections = self._settings.database_pool_size
        return httpx.AsyncClient(
            timeout=httpx.Timeout(_CALL_SECONDS, connect=_CONNECT_SECONDS, pool=_CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            event_hooks={"response": [_hand_on]},
        )

    @cached_property
    def _client(self) -> "AsyncClient":
        from supabase import AsyncClient, AsyncClientOptions

        url, key = self._settings.supabase_url, self._settings.supabase_secret_key
        assert url and key  # noqa: S101  settings without a way are refused
        return AsyncClient(
            str(url),
            key.get_secret_value(),
            AsyncClientOptions(
                schema="api",
                httpx_client=self._http,
                auto_refresh_token=False,
                persist_session=False,
            ),
        )

    async def _execute(
        self, function: str, body: dict[str, Any], *, is_repeatable: bool
    ) -> "APIResponse":
        """Send a request, and once more if the first was not sent or is safe to repeat."""
        try:
            return await self._send(function, body)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            pass
        except (httpx.NetworkError, httpx.RemoteProtocolError):
            if not is_repeatable:
                raise
        return await self._send(function, body)

    async def _send(self, function: str, body: dict[str, Any]) -> "APIResponse":
        from postgrest.types import CountMethod

        return await self._client.rpc(function, body, count=CountMethod.exact).execute()


async def _hand_on(answer: httpx.Response) -> None:
    """Hand on the headers that SQL has for our caller: PostgREST's client drops them."""
    for name, value in answer.headers.multi_items():
        if name in _HANDED_ON:
            add_header(name, value)


def _json(value: object) -> object:
    """Write an argument so that Postgres reads it back as it was; the client knows the rest."""
    if isinstance(value, dict):
        return json.loads(jsonb(value))
    # As a number it would be a float on the way.
    return str(value) if isinstance(value, Decimal) else value


def _rows(answer: "APIResponse") -> list[Row]:
    data: Any = answer.data
    rows: list[Row] = data if isinstance(data, list) else [data]
    # Only PostgREST counts. What stands before it may answer 200 too, and the client hands on a
    # page of HTML as data.
    if answer.count is None:
        raise FaregateError("unavailable") from ValueError("an answer that is not PostgREST's")
    if answer.count > len(rows):
        raise ValueError(f"{len(rows)} of {answer.count} rows: the project's Max rows is too small")
    return rows


def _translate(error: "APIError") -> Exception:
    code = error.code or ""
    refused = refusal(code, error.message, error.details)
    if refused or (_CODE.fullmatch(code) and not _PASSING.fullmatch(code)):
        return refused or error
    return FaregateError("unavailable")
