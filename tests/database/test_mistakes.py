"""The proof itself: each kind of mistake in the migrations makes the matrix fail.

One database, in which every mistake is made in another place. What they let through stays there.
"""

from typing import LiteralString

import pytest

from tests.database.test_matrix import check_function, check_list, check_reads, check_writes
from tests.database.town import Town


@pytest.mark.parametrize(
    ("mistake", "view", "reader"),
    [
        ("drop policy readers on billing.sessions", "sessions", "owner"),
        ("alter table billing.holds disable row level security", "holds", "outsider"),
        ("alter table billing.transfers disable row level security", "usage", "owner of another"),
        ("alter policy readers on billing.auto_top_ups using (true)", "auto_top_ups", "outsider"),
        (
            "alter policy readers on billing.top_ups"
            " using (organization_id = any(array(select billing.readable('read'))))",
            *("top_ups", "member"),
        ),
        (
            # Forgets in which organization the reader may.
            "alter policy readers on billing.payments"
            " using (exists (select from billing.readable('billing')))",
            *("receipts", "member here, owner there"),
        ),
        ("alter view api.grants reset (security_invoker)", "grants", "passport"),
        (
            "grant select on api.discrepancies, billing.discrepancies to authenticated",
            *("discrepancies", "outsider"),
        ),
        (
            "grant usage on schema api to anon;"
            "grant select on api.notifications, billing.outbox to anon",
            *("notifications", "anonymous"),
        ),
        (
            "revoke select (key_prefix) on billing.passports from faregate_reader",
            "passports",
            "passport with billing",
        ),
    ],
)
def test_a_mistake_about_reading_is_seen(
    town: Town, mistake: LiteralString, view: str, reader: str
) -> None:
    check_reads(town, view, reader)
    town.platform.alter(mistake)
    with pytest.raises(AssertionError):
        check_reads(town, view, reader)


@pytest.mark.parametrize(
    ("grant", "view", "reader"),
    [
        ("insert", "organizations", "owner"),
        ("update", "wallets", "member"),
        ("delete", "notifications", "outsider"),
    ],
)
def test_a_mistake_about_writing_is_seen(
    town: Town, grant: LiteralString, view: str, reader: str
) -> None:
    table = {"notifications": "outbox"}.get(view, view)
    check_writes(town, view, reader)
    town.platform.alter(f"grant {grant} on api.{view}, billing.{table} to authenticated")
    town.platform.alter(
        f"create policy mistake on billing.{table} for {grant} to authenticated"
        f" {'with check' if grant == 'insert' else 'using'} (true)"
    )
    with pytest.raises(AssertionError):
        check_writes(town, view, reader)


def test_a_mistake_about_calling_is_seen(town: Town) -> None:
    check_function(town, "get_wallet", "owner")
    town.platform.alter("grant execute on function api.get_wallet to authenticated")
    with pytest.raises(AssertionError):
        check_function(town, "get_wallet", "owner")


@pytest.mark.parametrize(
    ("addition", "removal"),
    [
        ("create table billing.new (id uuid)", "drop table billing.new"),
        ("create view api.new as select 1 as one", "drop view api.new"),
        ("create materialized view ops.new as select 1", "drop materialized view ops.new"),
        ("create function api.new() returns void return null", "drop function api.new"),
        ("create schema new; create table new.new ()", "drop schema new cascade"),
        ("create table public.new ()", "drop table public.new"),
    ],
)
def test_what_is_new_must_be_listed(
    town: Town, addition: LiteralString, removal: LiteralString
) -> None:
    check_list(town)
    town.platform.alter(addition)
    with pytest.raises(AssertionError):
        check_list(town)
    town.platform.alter(removal)
