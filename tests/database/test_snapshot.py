"""supabase/schema.snapshot.sql: what a reviewer of a migration sees that it does."""

from typing import LiteralString

import psycopg
import pytest

from infra import snapshot
from infra.local.layout import Secrets
from infra.local.template import Database


def test_the_snapshot_is_what_the_migrations_make(migrated: Database) -> None:
    with psycopg.connect(migrated.owner_url) as owner:
        assert snapshot.text(owner) == snapshot.FILE.read_text(), "run `make snapshot`"


def test_the_snapshot_tells_no_secret_and_nothing_of_this_machine(migrated: Database) -> None:
    with psycopg.connect(migrated.owner_url) as owner:
        text = snapshot.text(owner)
    assert Secrets.load().database_password not in text
    assert migrated.name not in text


@pytest.mark.parametrize(
    "change",
    [
        "alter table billing.wallets add column surprise integer",
        "alter table billing.wallets alter column held_micros set default 1",
        "alter table billing.wallets alter column held_micros drop not null",
        "alter table billing.wallets drop constraint wallets_settled_covers_held",
        "alter table billing.wallets disable row level security",
        "alter table billing.wallets reset (fillfactor)",
        "alter table billing.transfers disable trigger transfers_append_only",
        "alter table billing.wallets owner to authenticator",
        "drop trigger transfers_no_truncate on billing.transfers",
        "drop index billing.grants_payment",
        "drop policy readers on billing.wallets",
        "alter policy readers on billing.wallets to public",
        "alter policy readers on billing.wallets using (true)",
        "create table billing.surprise (id integer primary key)",
        "grant update on billing.wallets to authenticated",
        "grant select (next_expiry_at) on billing.wallets to authenticated",
        "revoke select (held_micros) on billing.wallets from authenticated",
        "grant usage on schema billing to anon",
        "grant execute on function api.get_wallet to public",
        "alter view api.wallets reset (security_invoker)",
        "alter view api.wallets alter column held_micros set default 1",
        "comment on column api.wallets.held_micros is 'A surprise.'",
        "comment on table billing.wallets is null",
        "alter function api.get_wallet security invoker",
        "alter function api.get_wallet reset all",
        "alter function api.get_wallet owner to authenticator",
        "alter function billing.role_permissions stable",
        "create or replace function billing.now() returns timestamptz language sql return now()",
        "alter type billing.reason add value 'surprise'",
        "alter domain billing.amount drop constraint amount_in_bounds",
        "grant usage on type billing.reason to public",
        "alter role faregate_functions set work_mem = '1GB'",
        "grant faregate_functions to authenticator",
        "alter default privileges grant execute on functions to public",
    ],
)
def test_the_snapshot_shows_a_change(migrated: Database, change: LiteralString) -> None:
    with psycopg.connect(migrated.owner_url) as owner:
        before = snapshot.text(owner)
        owner.execute("grant create on schema api, billing to authenticator")
        owner.execute(change)
        owner.execute("revoke create on schema api, billing from authenticator")
        assert snapshot.text(owner) != before
        owner.rollback()
