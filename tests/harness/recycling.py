"""Databases that tests hand on: emptying one takes a fraction of what copying one does."""

from contextlib import ExitStack

import psycopg

from infra.local import template
from infra.local.postgres import SUPERUSER
from infra.local.template import Database

# What the migrations and the seed filled; a test that changes it spoils its database.
_KEPT = [
    *["plans", "prices", "top_up_brackets", "regions", "storage_limits", "spaces"],
    *["presets", "meter_parts", "usage_rates"],
    *["usage_folds", "usage_retention"],
    "clock_offset",
]

_DELETES = """
select string_agg(format('delete from billing.%%I;', relname), '')
from pg_class
where relnamespace = 'billing'::regnamespace and relkind in ('r', 'p') and relname <> all(%s)
"""


class Recycler:
    """Holds one database, which one test at a time has for its own."""

    def __init__(self) -> None:
        self._clone = ExitStack()
        self._database: Database | None = None

    def take(self) -> Database:
        """Give a database without a customer in it."""
        if self._database is None:
            self._database = self._clone.enter_context(template.clone())
        return self._database

    def give_back(self, *, is_spoiled: bool) -> None:
        """Empty the database for the next test, or drop one that is no longer as it was."""
        if is_spoiled or self._database is None:
            self.close()
        else:
            _empty(self._database)

    def close(self) -> None:
        """Drop the database."""
        self._database = None
        self._clone.close()


def _empty(database: Database) -> None:
    # As a replica the superuser passes the triggers that keep the ledger append-only.
    with psycopg.connect(
        database.owner_url, user=SUPERUSER, options="-c session_replication_role=replica"
    ) as connection:
        (deletes,) = connection.execute(_DELETES, [_KEPT]).fetchone() or ("",)
        # One round trip: this stands between any two tests.
        connection.execute(
            deletes
            + "delete from billing.usage_rates where effective_at > '2026-01-01T00:00:00Z';"
            + "delete from auth.users; update billing.clock_offset set seconds = 0;"
            + "update billing.usage_folds set"
            + " folded_until = default, complete_until = default"
        )
