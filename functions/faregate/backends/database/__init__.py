"""The database: one port, two ways in. Which one, the settings say."""

import json
from typing import Any, LiteralString

from faregate.errors import PROBLEMS, FaregateError
from faregate.settings import DatabaseSettings

Row = dict[str, Any]


class Database:
    """The product's door: calls functions of schema api by name."""

    def __new__(cls) -> "Database":
        """Make one of the two ways: a subclass."""
        return super().__new__(_way() if cls is Database else cls)

    async def call(self, function: LiteralString, **arguments: object) -> list[Row]:
        """Call api.<function> with named arguments (without their p_); give its rows, as JSON.

        Raises FaregateError with the code that SQL raised, or `unavailable` when the database is
        out of reach or too busy: then nothing was done, or the idempotency key tells.
        """
        raise NotImplementedError

    async def call_one(self, function: LiteralString, **arguments: object) -> Row:
        """Call a function that answers exactly one row."""
        (row,) = await self.call(function, **arguments)
        return row

    async def check(self) -> None:
        """Raise `unavailable` unless the database answers."""
        raise NotImplementedError

    async def close(self) -> None:
        """Give the connections back."""
        raise NotImplementedError


def refusal(state: str | None, code: str | None, detail: str | None) -> FaregateError | None:
    """Give what SQL refused with: an SQLSTATE FGnnn, a code of PROBLEMS and a JSON detail."""
    if state and state.startswith("FG") and code in PROBLEMS:
        told = json.loads(detail or "{}")
        return FaregateError(code, told, header_list(told.pop("headers", [])))
    return None


def header_list(told: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Give the headers that SQL tells of, each in an object of its own, as PostgREST takes them."""
    return [header for each in told for header in each.items()]


def jsonb(document: dict[str, Any]) -> str:
    """Write a document for jsonb, which cannot hold a NUL: nor can any field that we act on."""
    return json.dumps(document).replace("\\u0000", "\\ufffd")


def _way() -> type[Database]:
    # Imported when chosen: neither way waits for the other's library.
    if DatabaseSettings().database_url:
        from faregate.backends.database.postgres import Postgres

        return Postgres
    from faregate.backends.database.postgrest import Postgrest

    return Postgrest
