"""Writes supabase/schema.snapshot.sql: what a database is after all migrations, for reviews."""

from pathlib import Path

import psycopg

from infra.local import paths, template
from infra.local.progress import run

FILE = paths.SUPABASE / "schema.snapshot.sql"

_SCHEMAS = ["api", "billing", "ops"]
_QUERY = Path(__file__).with_suffix(".sql")
_HEADER = """\
-- What a database is after all migrations. Written by `make snapshot` and read in reviews; nobody
-- runs it. The bodies of functions are in the migrations: here is the MD5 of each.
"""


def text(connection: psycopg.Connection) -> str:
    """Describe a database."""
    # Names are qualified where the path does not lead to them.
    connection.execute("set search_path = ''")
    found = connection.execute(_QUERY.read_bytes(), {"schemas": _SCHEMAS})
    return "\n\n".join([_HEADER.strip(), *(piece for (piece,) in found)]) + "\n"


def main() -> None:
    """Migrate an empty database and describe it."""
    with (
        template.cluster(),
        template.clone(sandbox=False) as database,
        psycopg.connect(database.owner_url) as owner,
    ):
        FILE.write_text(text(owner))


if __name__ == "__main__":
    run(main)
