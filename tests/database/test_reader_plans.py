"""What customers read under row-level security is found by key, however much others have."""

import json
import re
from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from infra.local.template import Database
from tests.database import access

Connection = psycopg.Connection[tuple[Any, ...]]
_ORGANIZATIONS = 500
_ROWS = 20
_LARGE = 1_000

_FOUND: tuple[LiteralString, ...] = (
    """
    insert into billing.organizations (name, plan_id, billing_email, claimed_at)
    select 'Acme', 'free', i || '@example.com', now() from generate_series(1, %(organizations)s) i
    """,
    "insert into billing.wallets (organization_id) select id from billing.organizations",
    "insert into billing.identities (organization_id) select id from billing.organizations",
    """
    insert into billing.auto_top_ups
    (organization_id, threshold_micros, amount_micros, monthly_cap_micros, cool_off_seconds, set_by)
    select organization_id, 10000, 10000, 10000, 60, 'operator' from billing.wallets
    """,
)

# So many rows of everything for every organization, in turns, or more for one.
_FURNISH: tuple[LiteralString, ...] = (
    "create temporary table rows as select o.id as organization_id, i"
    " from generate_series(%(first)s::integer, %(last)s) i, billing.organizations o"
    " where %(first)s = 1 or o.billing_email = '1@example.com'",
    """
    with users as (
        insert into auth.users (email) select i || ' ' || organization_id from rows
        returning id, email
    )
    insert into billing.members (organization_id, user_id, role)
    select split_part(email, ' ', 2)::uuid, id, 'owner' from users
    """,
    """
    insert into billing.passports
    (organization_id, name, permissions, key_hash, key_prefix, created_by)
    select organization_id, 'test', array['read', 'billing'],
        sha256((i || organization_id::text)::bytea), 'fg_live_test', 'operator' from rows
    """,
    "insert into billing.passport_uses select organization_id, id, now() from billing.passports"
    " on conflict do nothing",
    """
    insert into billing.top_ups
    (organization_id, amount_micros, bonus_micros, status, paid_at, created_by)
    select organization_id, 10000, 0, 'paid', now(), 'operator' from rows
    """,
    """
    insert into billing.payments
    (organization_id, top_up_id, provider, provider_payment_id, amount_micros, paid_at)
    select organization_id, id, 'stripe', 'pi_' || id, 10000, now() from billing.top_ups
    on conflict do nothing
    """,
    """
    insert into billing.grants
    (organization_id, category, amount_micros, remaining_micros, payment_id, sequence)
    select organization_id, 'paid', 10000, 0, id, 1 from billing.payments
    where id not in (select payment_id from billing.grants)
    """,
    """
    insert into billing.transfers (organization_id, sequence, debit_account, credit_account,
        amount_micros, wallet_balance_micros, reason)
    select organization_id, i, 'wallet', 'revenue_sessions', 1, 0, 'session' from rows
    """,
    """
    insert into billing.holds
    (organization_id, id, kind, amount_micros, captured_micros, expires_at, is_final)
    select organization_id, billing.uuidv7(), kind::billing.hold_kind, 1, 1, now(), true
    from rows, unnest(array['session', 'storage']) as kind
    """,
    """
    insert into billing.workspaces (organization_id, name, created_by)
    select organization_id, 'Lab', 'operator' from rows
    """,
    """
    insert into billing.sessions (organization_id, id, tier, price_id, hourly_price_micros,
        window_seconds, started_at, last_heartbeat_at, started_by)
    select organization_id, h.id, 'small', p.id, 1, 600, now(), now(), 'operator'
    from billing.holds h, (select id from billing.prices limit 1) p
    where h.kind = 'session'
    on conflict do nothing
    """,
    """
    insert into billing.storage (organization_id, id, kind, region_id, size_gb, created_by)
    select organization_id, h.id, 'bucket', 'us-central1', 1, 'operator'
    from billing.holds h
    where h.kind = 'storage'
    on conflict do nothing
    """,
    """
    insert into billing.storage_periods
    (organization_id, storage_id, starts_at, billed_gb, price_id, gb_month_price_micros)
    select organization_id, s.id, now(), 1, p.id, 1
    from billing.storage s, (select id from billing.prices limit 1) p
    where s.id not in (select storage_id from billing.storage_periods)
    """,
    """
    insert into billing.purchases
    (organization_id, space_id, slug, is_repeatable, price_id, price_micros, purchased_by)
    select organization_id, s.id, slug, true, p.id, 0, 'operator'
    from rows, (select id, slug from billing.spaces limit 1) s,
        (select id from billing.prices limit 1) p
    """,
    """
    insert into billing.attachments
    (organization_id, workspace_id, space_id, slug, attached_by)
    select organization_id, w.id, s.id, s.slug, 'operator'
    from billing.workspaces w, (select id, slug from billing.spaces limit 1) s
    on conflict do nothing
    """,
    """
    insert into billing.clones (organization_id, purchase_id, slug, storage_id,
        source_organization_id, source_storage_id, requested_by, ended_at)
    select s.organization_id, p.id, p.slug, s.id, s.organization_id, s.id, 'operator', now()
    from billing.storage s
    cross join lateral (
        select id, slug from billing.purchases
        where organization_id = s.organization_id limit 1
    ) p
    on conflict do nothing
    """,
    """
    insert into billing.features select 'feature-' || i, 'boolean', 'test'
    from generate_series(1, 20) as i on conflict do nothing
    """,
    """
    insert into billing.entitlements (organization_id, feature_id, is_granted)
    select o.id, f.id, true from billing.organizations o, billing.features f
    on conflict do nothing
    """,
    """
    insert into billing.spend_caps
    (organization_id, passport_id, period, cap_micros, is_operators, set_by)
    select organization_id, id, 'day', 1, false, 'operator' from billing.passports
    on conflict do nothing
    """,
    """
    insert into billing.usage_events (organization_id, source, event_id, occurred_at, feature,
        quantities, cost_usd, price_usd, usage_rate_id)
    select organization_id, 'test', i::text, now(), 'chat', '{"images": 1}', 0, 1, organization_id
    from rows
    """,
    "update billing.usage_folds set"
    " complete_until = date_trunc('milliseconds', billing.now()) + interval '1 millisecond',"
    " folded_until = date_trunc('milliseconds', billing.now()) + interval '1 millisecond'",
    """
    insert into billing.usage_days
    select organization_id, date '2026-11-01' + i, 'chat', '', '', billing.zeros(), 1,
        '{"images": 1}', 0, 1
    from rows
    on conflict do nothing
    """,
    """
    insert into billing.outbox (organization_id, topic, payload)
    select organization_id, topic::billing.outbox_topic, '{}'
    from rows, unnest(array['notification', 'stop_session']) as topic
    """,
    """
    insert into billing.invitations (organization_id, email, role, invited_by)
    select organization_id, i || '@example.com', 'member', 'test' from rows
    """,
    "drop table rows",
)

_READABLE = """
select c.relname, min(a.attname)
from pg_class as c
left join pg_attribute as a
    on a.attrelid = c.oid and a.attname in ('id', 'sequence') and c.relname <> 'organizations'
where c.relnamespace = 'api'::regnamespace and c.relkind = 'v'
    and has_table_privilege('authenticated', c.oid, 'select')
group by c.relname
order by 1
"""

# One row each; months without events; and a catalogue, of which all is asked for.
_COUNT = """
select coalesce(sum(seq_scan), 0), coalesce(sum(seq_tup_read + idx_tup_fetch), 0)
from pg_stat_xact_user_tables
where relname not in ('clock_offset', 'usage_folds', 'features', 'plan_entitlements')
    and pg_relation_size(relid) > 0
"""


@pytest.fixture(scope="module")
def crowd(unchanged: Database) -> Iterator[Connection]:
    """Many organizations alike; that one of them has grown, Postgres does not know yet."""
    with psycopg.connect(unchanged.owner_url, autocommit=True) as owner:
        for statement in _FOUND:
            owner.execute(statement, {"organizations": _ORGANIZATIONS})
        for first, last in ((1, _ROWS), (_ROWS + 1, _LARGE)):
            for statement in _FURNISH:
                owner.execute(statement, {"first": first, "last": last})
            if first == 1:
                owner.execute("vacuum analyze")
        yield owner


def _reader(crowd: Connection, role: str, number: int) -> tuple[str, dict[str, str]]:
    """Pick somebody of an organization; give it and what their token says."""
    ((organization_id, user_id, passport_id),) = crowd.execute(
        "select m.organization_id::text, m.user_id::text, p.id::text"
        " from billing.organizations as o"
        " inner join billing.members as m on m.organization_id = o.id"
        " inner join billing.passports as p on p.organization_id = o.id"
        " where o.billing_email = %s limit 1",
        [f"{number}@example.com"],
    ).fetchall()
    claims = {"role": role, "sub": user_id}
    if role == "faregate_reader":
        claims |= {"organization_id": organization_id, "passport_id": passport_id}
    return organization_id, claims


def _become(crowd: Connection, role: str, claims: dict[str, str]) -> None:
    crowd.execute("select set_config('request.jwt.claims', %s, true)", [json.dumps(claims)])
    crowd.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))


def _read(crowd: Connection, claims: dict[str, str], query: str) -> tuple[int, int, int]:
    """Tell what a query gave, how often it read a table from end to end, and how many rows."""
    with crowd.transaction():
        before = crowd.execute(_COUNT).fetchone() or ()
        _become(crowd, claims["role"], claims)
        given = len(crowd.execute(query.encode()).fetchall())
        crowd.execute("reset role")
        after = crowd.execute(_COUNT).fetchone() or ()
    scans, rows = (int(now - then) for now, then in zip(after, before, strict=True))
    return given, scans, rows


@pytest.mark.parametrize("role", ["authenticated", "faregate_reader"])
def test_nobody_reads_a_table_from_end_to_end(crowd: Connection, role: str) -> None:
    _, claims = _reader(crowd, role, 250)
    views = crowd.execute(_READABLE).fetchall()
    assert len(views) >= 13
    for view, _ in views:
        if role == "faregate_reader" and access.VIEWS[view] <= access.PEOPLE:
            continue
        if view in access.SHARED:
            continue
        given, scans, rows = _read(crowd, claims, f"select * from api.{view}")
        # There are holds of sessions and of storage.
        assert 1 <= given <= 2 * _ROWS, view
        assert scans == 0, view
        assert rows <= 5 * _ROWS, view


@pytest.mark.parametrize("role", ["authenticated", "faregate_reader"])
def test_a_page_never_searches_for_each_row_through_all_rows(crowd: Connection, role: str) -> None:
    organization_id, claims = _reader(crowd, role, 1)
    for view, order in crowd.execute(_READABLE).fetchall():
        if view in access.SHARED or view in (
            *("organizations", "identities", "wallets", "auto_top_ups", "usage", "entitlements"),
        ):
            continue
        if role == "faregate_reader" and access.VIEWS[view] <= access.PEOPLE:
            continue
        query = f"select * from api.{view} where organization_id = '{organization_id}'"
        if order:
            query += f" order by {order} desc"
        given, scans, rows = _read(crowd, claims, f"{query} limit 50")
        assert (given, scans) == (50, 0), view
        # In tables as small as these, all that it has may be sorted.
        assert rows <= 3 * _LARGE, view


def test_who_may_read_is_asked_once(crowd: Connection) -> None:
    organization_id, claims = _reader(crowd, "authenticated", 1)
    query = (
        "explain (analyze, timing off) select * from api.transactions"
        f" where organization_id = '{organization_id}' order by sequence desc limit 50"
    )
    with crowd.transaction():
        _become(crowd, "authenticated", claims)
        plan = "\n".join(row[0] for row in crowd.execute(query.encode()))
    assert "transfers_pkey" in plan
    assert (plan.count("ProjectSet"), plan.count("SubPlan")) == (1, 0)
    (asked,) = re.findall(r"ProjectSet .*actual .*loops=(\d+)", plan)
    assert asked == "1"
