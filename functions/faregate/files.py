"""Answers that are files: CSV that no spreadsheet runs, and JSON; a page in memory at a time."""

import csv
import json
import re
from collections.abc import AsyncIterator
from io import StringIO
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter

T = TypeVar("T", bound=BaseModel)

CSV = "text/csv; charset=utf-8; header=present"

# What a spreadsheet takes for the beginning of a formula (OWASP: CSV injection).
_FORMULA = re.compile(r"[=+\-@\uff0b\uff0d\uff1d\uff20\t\r\n]")


def attachment(name: str) -> dict[str, str]:
    """Give the headers of an answer that is saved under this name."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def document(media_type: str, description: str) -> dict[int | str, dict[str, Any]]:
    """Document an answer that is a file."""
    content = {media_type: {"schema": {"type": "string"}}}
    return {200: {"description": description, "content": content}}


async def csv_lines(kind: type[T], pages: AsyncIterator[list[T]]) -> AsyncIterator[str]:
    """Write pages as CSV (RFC 4180), their fields' names first."""
    names, amounts = list(kind.model_fields), _amounts(kind)
    yield _lines([names])
    async for page in pages:
        rows = (each.model_dump(mode="json") for each in page)
        yield _lines(
            [
                [row[name] if name in amounts else spreadsheet_cell(row[name]) for name in names]
                for row in rows
            ]
        )


def _amounts(kind: type[BaseModel]) -> set[str]:
    """Tell which fields are money: numbers, whatever they begin with."""
    schemas = kind.model_json_schema(by_alias=False, mode="serialization")["properties"]
    return {
        name
        for name, schema in schemas.items()
        if any(each.get("format") == "decimal" for each in (schema, *schema.get("anyOf", [])))
    }


def _lines(rows: list[list[Any]]) -> str:
    text = StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def spreadsheet_cell(value: object) -> object:
    """Give a value as a spreadsheet shows it: no text of anybody's is a formula."""
    if isinstance(value, dict):
        return json.dumps(value)
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


async def json_array(kind: type[T], pages: AsyncIterator[list[T]]) -> AsyncIterator[bytes]:
    """Write pages as one array."""
    rows = TypeAdapter(list[kind])  # type: ignore[valid-type]
    yield b"["
    separator = b""
    async for page in pages:
        if page:
            yield separator + rows.dump_json(page)[1:-1]
            separator = b","
    yield b"]"
