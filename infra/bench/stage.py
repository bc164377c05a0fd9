"""Where the measurements take place: a database as in production, with many paying customers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256

import psycopg

from infra.local import migrate, paths
from infra.local.layout import Secrets
from infra.local.postgres import Cluster
from infra.local.progress import step
from infra.local.template import free_port

ORGANIZATIONS = 100_000
PASSPORTS = 1_000

# Set-based, because a hundred thousand registrations would take longer than what is measured. Every
# organization has one grant of $100, which its one transfer brought.
_POPULATE = """
with organizations as (
    insert into billing.organizations (name, plan_id, billing_email, claimed_at)
    select 'customer ' || i, 'pro', 'customer' || i || '@example.com', now()
    from generate_series(1, %(organizations)s) as i
    returning id
), wallets as (
    insert into billing.wallets (organization_id, settled_micros, last_sequence)
    select id, 100000000, 1 from organizations
    returning organization_id
), grants as (
    insert into billing.grants
        (organization_id, category, amount_micros, remaining_micros, sequence)
    select organization_id, 'promotional', 100000000, 100000000, 1 from wallets
    returning organization_id, id
)
insert into billing.transfers (
    organization_id, sequence, debit_account, credit_account, amount_micros, wallet_balance_micros,
    reason, grant_id
)
select organization_id, 1, 'promotion', 'wallet', 100000000, 100000000, 'registration_bonus', id
from grants
"""

_PASSPORTS = """
insert into billing.passports (organization_id, name, permissions, key_hash, key_prefix, created_by)
select
    id, 'bench', array['read', 'write', 'billing'],
    sha256(('fg_live_' || lpad(number::text, 43, '0'))::bytea), 'fg_live_0000', 'bench'
from (select id, row_number() over (order by id) - 1 as number from billing.organizations) as o
where number < %(passports)s
"""

_FILLED = """
select string_agg(c.oid::regclass::text, ', ')
from pg_class as c
where c.relnamespace = 'billing'::regnamespace and c.relkind = 'r'
    and pg_relation_size(c.oid) > 0
"""


# What a gateway in front of any metered thing does for each call, and nothing else.
_HOLD = """
create function api.bench_hold(p_caller jsonb, p_amount_micros bigint)
returns table (id uuid) language plpgsql security definer
set search_path = pg_catalog, pg_temp as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_expires_at timestamptz := billing.now() + interval '10 minutes';
begin
    id := billing.uuidv7();
    perform billing.open_hold(
        v_caller.organization_id, id, 'usage', p_amount_micros, v_expires_at, true, v_expires_at
    );
    return next;
end $$;
grant execute on function api.bench_hold to faregate_functions
"""


def key(number: int) -> str:
    """Give the key of the passport with this number."""
    return f"fg_live_{number:043d}"


def passport_hash(number: int) -> str:
    """Give what the database knows of it."""
    return sha256(key(number).encode()).hexdigest()


def populate(
    connection: psycopg.Connection, organizations: int = ORGANIZATIONS, passports: int = PASSPORTS
) -> None:
    """Make customers of $100 each; the first of them have passports."""
    connection.execute(_POPULATE, {"organizations": organizations})
    connection.execute(_PASSPORTS, {"passports": passports})


@dataclass(frozen=True)
class Stage:
    """A populated database, as its owner, the functions and PostgREST reach it."""

    owner_url: str
    functions_url: str
    authenticator_url: str


def _vacuum(connection: psycopg.Connection) -> None:
    """Do what the autovacuum would have done: it never looks at an empty table.

    What is planned for a table that is known to be empty reads all of it, and goes on doing so.
    """
    filled = connection.execute(_FILLED).fetchone() or ()
    connection.execute(f"vacuum analyze {filled[0]}".encode())


@contextmanager
def stage() -> Iterator[Stage]:
    """Make the database anew, durable as in production, and populate it."""
    paths.LOGS.mkdir(parents=True, exist_ok=True)
    cluster = Cluster("bench", free_port(), Secrets.load().database_password)
    if not cluster.exists:
        cluster.initialise()
    try:
        with step(f"database with {ORGANIZATIONS:,} customers"):
            cluster.start()
            migrate.create(cluster, "bench")
            migrate.push(cluster, "bench", sandbox=False)
            owner_url = cluster.url(migrate.OWNER, "bench")
            with psycopg.connect(owner_url, autocommit=True) as connection:
                populate(connection)
                connection.execute(_HOLD)
                _vacuum(connection)
        yield Stage(
            owner_url,
            cluster.url(migrate.FUNCTIONS, "bench"),
            cluster.url("authenticator", "bench"),
        )
        migrate.drop(cluster, "bench")
    finally:
        cluster.stop()
