"""Postgres, through a pooler: one call is one function of schema api and one transaction."""

import asyncio
import json
from functools import cache
from typing import Any, Literal, LiteralString

import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from faregate.backends.database import Database, Row, header_list, jsonb, refusal
from faregate.errors import FaregateError
from faregate.headers import add_header
from faregate.settings import DatabaseSettings
from faregate.trace import span


class Postgres(Database):
    """The way in for whoever can reach Postgres: a pool of connections."""

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
        """Call a function in a transaction of its own."""
        values = {
            name: jsonb(value) if isinstance(value, dict) else value
            for name, value in arguments.items()
        }
        query = call_query(function, tuple(arguments))
        with span(f"api.{function}"):
            return [row for (row,) in await self._execute(query, values)]

    async def check(self) -> None:
        """Raise `unavailable` unless the database answers."""
        await self._execute(b"select 1")

    async def close(self) -> None:
        """Give the connections back."""
        await self._pool.close()

    async def _execute(
        self, query: bytes, values: dict[str, Any] | None = None
    ) -> list[tuple[Any, ...]]:
        notices: list[str] = []

        def note(notice: psycopg.errors.Diagnostic) -> None:
            if notice.message_primary == "headers" and notice.message_detail:
                notices.append(notice.message_detail)

        try:
            await self._open()
            connection = await self._pool.getconn()
            connection.add_notice_handler(note)
            try:
                cursor = await connection.execute(query, values)
                rows = await cursor.fetchall()
            finally:
                connection.remove_notice_handler(note)
                await self._pool.putconn(connection)
        except (psycopg.Error, PoolTimeout) as error:
            _tell(notices, "left")
            raise _translate(error) from error
        _tell(notices, "taken")
        return rows

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


def _tell(notices: list[str], tokens: Literal["taken", "left"]) -> None:
    """Tell of limits: a transaction that was rolled back has left the tokens where they are."""
    for notice in notices:
        for name, value in header_list(json.loads(notice)[tokens]):
            add_header(name, value)


def _translate(error: Exception) -> Exception:
    if isinstance(error, psycopg.Error):
        diagnosis = error.diag
        refused = refusal(error.sqlstate, diagnosis.message_primary, diagnosis.message_detail)
        # Operational: connections, locks, deadlocks, statements whose time is up.
        if refused or not isinstance(error, psycopg.OperationalError):
            return refused or error
    return FaregateError("unavailable")
