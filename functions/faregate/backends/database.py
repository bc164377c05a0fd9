"""Postgres, through a pooler: one call is one function of schema api and one transaction."""

import asyncio
import json
from functools import cache
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from faregate.errors import PROBLEMS, FaregateError
from faregate.settings import DatabaseSettings

Row = dict[str, Any]

# Codes after which the same call may succeed: nothing was done.
_PASSING = {
    "40001",  # serialization_failure
    "40P01",  # deadlock_detected
    "55P03",  # lock_not_available
    "57014",  # query_canceled: the statement's time is up
}


class Database:
    """The product's door: calls functions of schema api by name."""

    def __init__(self) -> None:
        settings = DatabaseSettings()
        self._pool = AsyncConnectionPool(
            str(settings.database_url),
            open=False,
            min_size=1,
            max_size=settings.database_pool_size,
            timeout=5,
            # A pooler in transaction mode keeps no prepared statement for the next transaction.
            kwargs={"autocommit": True, "prepare_threshold": None, "connect_timeout": 5},
        )
        self._opening = asyncio.Lock()
        self._is_open = False

    async def call(self, function: LiteralString, **arguments: object) -> list[Row]:
        """Call api.<function> with named arguments (without their p_); give its rows, as JSON.

        Raises FaregateError with the code that SQL raised, or `unavailable` when the database is
        out of reach or too busy: then nothing was done, or the idempotency key tells.
        """
        values = {
            name: _jsonb(value) if isinstance(value, dict) else value
            for name, value in arguments.items()
        }
        query = call_query(function, tuple(arguments))
        return [row for (row,) in await self._execute(query, values)]

    async def call_one(self, function: LiteralString, **arguments: object) -> Row:
        """Call a function that answers exactly one row."""
        (row,) = await self.call(function, **arguments)
        return row

    async def check(self) -> None:
        """Raise `unavailable` unless the database answers."""
        await self._execute(b"select 1")

    async def close(self) -> None:
        """Give the connections back."""
        await self._pool.close()

    async def _execute(
        self, query: bytes, values: dict[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        try:
            await self._open()
            connection = await self._pool.getconn()
            try:
                cursor = await connection.execute(query, values)
                return await cursor.fetchall()
            finally:
                await self._pool.putconn(connection)
        except (psycopg.Error, PoolTimeout) as error:
            raise _refusal(error) from error

    async def _open(self) -> None:
        # On the first request, not at import: an instance that only starts costs no connection.
        if not self._is_open:
            async with self._opening:
                if not self._is_open:
                    await self._pool.open()
                    self._is_open = True


@cache
def call_query(function: LiteralString, arguments: tuple[str, ...]) -> bytes:
    """Write a call of api.<function> with these arguments (without their p_), each a placeholder.

    Names come from handlers, never from a request; values are bound.
    """
    return (
        sql.SQL("select to_jsonb(r) from api.{}({}) as r")
        .format(
            sql.Identifier(function),
            sql.SQL(", ").join(
                sql.SQL("{} => {}").format(sql.Identifier(f"p_{name}"), sql.Placeholder(name))
                for name in arguments
            ),
        )
        .as_bytes()
    )


def _jsonb(document: dict[str, Any]) -> str:
    # jsonb cannot hold a NUL; no field that we act on can contain one.
    return json.dumps(document).replace("\\u0000", "\\ufffd")


def _refusal(error: Exception) -> Exception:
    if not isinstance(error, psycopg.Error):
        return FaregateError("unavailable")
    state = error.sqlstate or ""
    if state.startswith("FG"):
        code = error.diag.message_primary or ""
        if code in PROBLEMS:
            return FaregateError(code, json.loads(error.diag.message_detail or "{}"))
    if state in _PASSING or isinstance(error, psycopg.OperationalError):
        return FaregateError("unavailable")
    return error
