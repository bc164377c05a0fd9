"""What the stand-ins remember across restarts: JSON documents by kind and id."""

import json
import sqlite3
from pathlib import Path
from typing import Any

Document = dict[str, Any]


class Store:
    """Documents in one SQLite file; a call takes microseconds, so none of them is async."""

    def __init__(self, file: Path | str) -> None:
        self._connection = sqlite3.connect(file, isolation_level=None)
        self._connection.executescript(
            "pragma journal_mode = wal;"
            "pragma synchronous = normal;"
            "create table if not exists documents"
            " (kind text, id text, body text not null, primary key (kind, id)) without rowid;"
        )

    def put(self, kind: str, identifier: str, body: Document) -> None:
        """Remember a document in place of the one there was."""
        self._connection.execute(
            "insert or replace into documents values (?, ?, ?)",
            (kind, identifier, json.dumps(body)),
        )

    def get(self, kind: str, identifier: str) -> Document | None:
        """Find a document."""
        query = "select body from documents where kind = ? and id = ?"
        row = self._connection.execute(query, (kind, identifier)).fetchone()
        return None if row is None else json.loads(row[0])

    def delete(self, kind: str, identifier: str) -> None:
        """Forget a document."""
        self._connection.execute(
            "delete from documents where kind = ? and id = ?", (kind, identifier)
        )

    def all(self, kind: str) -> list[Document]:
        """List the documents of a kind."""
        rows = self._connection.execute(
            "select body from documents where kind = ? order by id", (kind,)
        )
        return [json.loads(row[0]) for row in rows]

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()
