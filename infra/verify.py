"""Recompute every balance from its transfers and print where the books disagree."""

import sys
from typing import NamedTuple

import psycopg
from psycopg.rows import namedtuple_row

from infra.local.progress import RefusalError, run, say
from infra.local.stack import running_stack


class Difference(NamedTuple):
    """A rule of the books that does not hold for a subject; amounts in µ$, counts as they are."""

    organization_id: str
    rule: str
    subject: str | None
    expected: int
    found: int


def differences(database_url: str) -> list[Difference]:
    """Ask billing.verify, as the database's owner."""
    with psycopg.connect(database_url, row_factory=namedtuple_row) as connection:
        rows = connection.execute("select * from billing.verify()").fetchall()
    return [Difference._make(row) for row in rows]


def main() -> None:
    """Print each difference and their number; exit 1 when there is one."""
    stack = running_stack()
    if stack is None:
        raise RefusalError("no stack runs here; start one with `make up`.")
    found = differences(stack.database_url)
    for each in found:
        say(
            f"  {each.organization_id}  {each.rule}  {each.subject or ''}"
            f"  expected {each.expected}, found {each.found}"
        )
    say(f"verify: {len(found)} differences")
    if found:
        sys.exit(1)


if __name__ == "__main__":
    run(main)
