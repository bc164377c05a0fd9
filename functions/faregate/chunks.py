"""How a schedule works through what is due: chunk by chunk, until nothing is or its time is up."""

from collections import Counter
from time import monotonic
from typing import LiteralString, NamedTuple

from faregate.backends.database import Database

# Chunks keep each transaction's locks short; the next run goes on where this one's time was up.
CHUNK_ROWS = 200
BUDGET_SECONDS = 45.0


class Run(NamedTuple):
    """How many rows it did of each kind. more: its time was up before everything due was done."""

    counts: Counter[str]
    more: bool


async def run_in_chunks(
    database: Database, function: LiteralString, deadline: float, limit: int = CHUNK_ROWS
) -> Run:
    """Call a function of SQL that answers counts and `more`, until there is no more."""
    counts: Counter[str] = Counter()
    more = True
    while more and monotonic() < deadline:
        chunk = await database.call_one(function, limit=limit)
        more = chunk.pop("more")
        counts.update(chunk)
    return Run(counts, more)
