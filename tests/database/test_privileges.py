"""What the functions' own login role tries in vain, and what not even the owner can do."""

import re
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from infra.local import paths
from infra.local.template import Database

_APPEND_ONLY = (
    "prices",
    "top_up_brackets",
    "audit_log",
    "bonus_identities",
    "transfers",
    "draw_downs",
    "payments",
    "usage_keys",
    "usage_events",
    "provider_prices",
    "provider_price_units",
    "usage_rates",
    "usage_rate_units",
    "usage_rate_tiers",
)


def _tables(database: Database) -> list[str]:
    with psycopg.connect(database.owner_url) as owner:
        found = owner.execute(
            "select relname from pg_class"
            " where relnamespace = 'billing'::regnamespace and relkind in ('r', 'p', 'v')"
        )
        return [str(name) for (name,) in found]


def test_the_functions_role_reaches_no_table(unchanged: Database) -> None:
    statements: list[LiteralString] = [
        "select from billing.{}",
        "insert into billing.{} default values",
        "delete from billing.{}",
        "truncate billing.{}",
        "drop table billing.{}",
    ]
    tables = _tables(unchanged)
    assert len(tables) > 15
    with psycopg.connect(unchanged.functions_url, autocommit=True) as functions:
        for table in tables:
            for statement in statements:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    functions.execute(sql.SQL(statement).format(sql.Identifier(table)))


@pytest.mark.parametrize(
    "statement",
    [
        "select billing.now()",
        "select billing.credit_wallet(null, 1, 'paid', null, 'top_up', null)",
        "select billing.debit_wallets(null, now())",
        "select billing.settle_sessions(null, null, null)",
        "select billing.create_operator('Me', '\\x00', 'fg_live_mine')",
        "select * from billing.verify()",
        "select null::billing.account",
        "select * from api.wallets",
        "select * from api.passports",
        "select * from auth.users",
        "create table api.mine (id integer)",
        "create table public.mine (id integer)",
        "create function api.mine() returns integer language sql return 1",
        "create schema mine",
        "create role mine",
        "alter role faregate_functions superuser",
        "alter role faregate_functions bypassrls",
        "alter function api.get_wallet(jsonb) security invoker",
        "drop function api.get_wallet(jsonb)",
        "grant execute on function api.get_wallet to public",
        "set role postgres",
        "set role service_role",
        "set session_replication_role = replica",
    ],
)
def test_the_functions_role_is_refused(unchanged: Database, statement: LiteralString) -> None:
    with psycopg.connect(unchanged.functions_url, autocommit=True) as functions:
        try:
            functions.execute(statement)
        except psycopg.errors.InsufficientPrivilege:
            return
        refusals = functions.execute(
            "select a.privilege_type from pg_proc p cross join aclexplode(p.proacl) a"
            " where a.grantee = 0 and p.pronamespace = 'api'::regnamespace"
        ).fetchall()
    # A grant without the right to grant is only a warning, and must have done nothing.
    assert statement.startswith("grant")
    assert refusals == []


@pytest.mark.parametrize("role", ["anon", "authenticated", "faregate_reader"])
@pytest.mark.parametrize(
    "statement",
    [
        *["select * from api.get_wallet('{}')", "select * from billing.wallets"],
        *["select key_hash from billing.passports", "select billing.now()"],
        "select billing.readable('read')",
    ],
)
def test_a_stranger_is_refused(unchanged: Database, role: str, statement: LiteralString) -> None:
    with psycopg.connect(unchanged.owner_url, autocommit=True) as owner:
        owner.execute(sql.SQL("set role {}").format(sql.Identifier(role)))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            owner.execute(statement)


def test_a_temporary_table_misleads_no_function(unchanged: Database) -> None:
    with psycopg.connect(unchanged.functions_url, autocommit=True) as functions:
        functions.execute("create temporary table wallets (organization_id uuid)")
        functions.execute("create temporary table passports (key_hash bytea)")
        functions.execute("set search_path = pg_temp, billing, api")
        with pytest.raises(psycopg.DatabaseError, match="invalid_passport"):
            functions.execute("""select * from api.get_wallet('{"passport_hash": "00"}')""")


@pytest.mark.parametrize("shadowed", ["jsonb", "text", "timestamptz", "uuid"])
def test_a_temporary_type_misleads_no_function(
    unchanged: Database, shadowed: LiteralString
) -> None:
    """With an empty search_path a temporary type comes before one of Postgres itself."""
    calls: list[LiteralString] = [
        """select * from api.get_wallet('{"passport_hash": "00"}')""",
        """select * from api.get_wallet('{"user_id": "00000000-0000-0000-0000-000000000000"}')""",
        """select * from api.register('00000000-0000-0000-0000-000000000000', '', '', '', '')""",
    ]
    with psycopg.connect(unchanged.functions_url, autocommit=True) as functions:
        functions.execute(f"""
            create function pg_temp.tell(pg_catalog.{shadowed}) returns boolean language plpgsql
            as $$ begin raise exception 'now I am %', current_user; end $$;
            create domain pg_temp.{shadowed} as pg_catalog.{shadowed} check (pg_temp.tell(value));
        """)
        for call in calls:
            with pytest.raises(psycopg.DatabaseError, match=r"not_registered|invalid_"):
                functions.execute(call)


@pytest.mark.parametrize("table", _APPEND_ONLY)
@pytest.mark.parametrize(
    "statement", ["update billing.{} set {} = {}", "delete from billing.{}", "truncate billing.{}"]
)
def test_not_even_the_owner_rewrites(
    unchanged: Database, table: str, statement: LiteralString
) -> None:
    with psycopg.connect(unchanged.owner_url) as owner:
        _fill(owner, table)
        (column,) = owner.execute(
            "select attname from pg_attribute where attrelid = %s::regclass and attnum = 1",
            [f"billing.{table}"],
        ).fetchone() or ("",)
        with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
            owner.execute(
                sql.SQL(statement).format(*map(sql.Identifier, (table, column, column)))
                if "set" in statement
                else sql.SQL(statement).format(sql.Identifier(table))
            )


def _fill(owner: psycopg.Connection[tuple[object, ...]], table: str) -> None:
    """Make sure there is a row to rewrite."""
    rows: dict[str, LiteralString] = {
        "usage_keys": "insert into billing.usage_keys (organization_id, source, event_id, id,"
        " fingerprint) values (%s, 'gateway', '1', gen_random_uuid(), 0)",
        "usage_events": "insert into billing.usage_events (organization_id, id, source, event_id,"
        " occurred_at, feature, quantities, cost_usd, price_usd)"
        " values (%s, billing.uuidv7(), 'gateway', '1', now(), 'chat', '{}', 0, 0)",
        "provider_prices": "insert into billing.provider_prices (provider_id, model_id,"
        " effective_at, source) values ('acme', %s, now(), 'test')",
        "provider_price_units": "select billing.add_provider_price("
        "'acme', %s::text, now(), 'test', '{\"-1\": {\"images\": \"1\"}}')",
        "usage_rate_units": "with rate as (insert into billing.usage_rates (organization_id,"
        " effective_at, created_by) values (%s, now(), 'operator') returning id)"
        " insert into billing.usage_rate_units (rate_id, meter, adds_usd)"
        " select id, 'images', 1 from rate",
        "usage_rate_tiers": "insert into billing.usage_rate_tiers (rate_id, meter, above, kind,"
        " unit_price_usd) values (%s, 'images', 0, 'volume', 1)",
        "audit_log": "insert into billing.audit_log (organization_id, actor, action)"
        " values (%s, 'operator', 'test')",
        "bonus_identities": "insert into billing.bonus_identities (identity, organization_id)"
        " values ('user:1', %s)",
        "transfers": "insert into billing.transfers (organization_id, sequence, debit_account,"
        " credit_account, amount_micros, wallet_balance_micros, reason)"
        " values (%s, 1, 'promotion', 'wallet', 1, 1, 'top_up')",
        "draw_downs": "insert into billing.draw_downs (organization_id, sequence, grant_id,"
        " amount_micros) values (%s, 1, gen_random_uuid(), 1)",
        "payments": "with top_up as (insert into billing.top_ups (organization_id, amount_micros,"
        " bonus_micros, created_by) values (%s, 10000, 0, 'operator') returning *)"
        " insert into billing.payments (organization_id, top_up_id, provider, provider_payment_id,"
        " amount_micros, paid_at) select organization_id, id, 'stripe', 'pi_1', 10000, now()"
        " from top_up",
    }
    if table in rows:
        made = owner.execute(
            "select billing.create_organization('A', 'free', 'a@b.example', now())"
        )
        owner.execute(rows[table], made.fetchone())


def test_every_function_has_a_header_that_tells_what_it_does() -> None:
    sources = [file.read_text() for file in sorted((paths.SUPABASE / "migrations").glob("*.sql"))]
    missing = []
    for source in sources:
        for name in re.findall(r"^create function ((?:api|billing)\.\w+)", source, re.MULTILINE):
            header = (
                rf"^-- {re.escape(name)}: (?:.+\n(?:--.*\n)*)create function {re.escape(name)}\("
            )
            if not re.search(header, source, re.MULTILINE):
                missing.append(name)
    assert missing == []
