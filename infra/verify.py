"""Recompute every balance from its transfers and print where the books disagree."""

import sys
from typing import NamedTuple

import psycopg

from infra.local.progress import RefusalError, run, say
from infra.local.stack import running_stack

# Less is done before anybody asks how far it is.
_TELL_EVERY_TRANSFERS = 1_000_000


class Difference(NamedTuple):
    """A rule of the books that does not hold for a subject; amounts in µ$, counts as they are."""

    organization_id: str
    rule: str
    subject: str | None
    expected: int
    found: int


def differences(database_url: str) -> list[Difference]:
    """Verify everything as the database's owner, some organizations at a time.

    Each part sees one moment, and is the checkpoint from which the daily run goes on.
    """
    found: list[Difference] = []
    organizations = transfers = told = 0
    after = None
    with psycopg.connect(database_url, autocommit=True) as connection:
        while True:
            part = connection.execute(
                "select organization_ids, transfers::bigint, to_jsonb(differences)"
                " from billing.verify_next(%s, true)",
                [after],
            ).fetchone()
            if part is None:
                return found
            ids, count, rows = part
            found += [Difference(**row) for row in rows]
            after, organizations, transfers = ids[-1], organizations + len(ids), transfers + count
            if transfers - told >= _TELL_EVERY_TRANSFERS:
                say(f"  {transfers:,} transfers of {organizations:,} organizations")
                told = transfers


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
