"""What holds for every object there is and will ever be: queries that must return nothing."""

from typing import LiteralString

import psycopg
import pytest

from infra.local.template import Database
from tests.database.superuser import superuser_url

# Views and functions of all schemas, and who is neither the owner nor invited.
_RULES: dict[str, LiteralString] = {
    "every table of billing has row level security": """
        select c.oid::regclass from pg_class as c
        where c.relnamespace in ('billing'::regnamespace, 'partitions'::regnamespace)
            and c.relkind in ('r', 'p') and not c.relrowsecurity
    """,
    "there is no table in api or ops": """
        select c.oid::regclass from pg_class as c
        where c.relnamespace in ('api'::regnamespace, 'ops'::regnamespace)
            and c.relkind in ('r', 'p', 'm', 'f', 'S')
    """,
    "views run with the rights of their reader": """
        select c.oid::regclass from pg_class as c
        where c.relnamespace in ('api'::regnamespace, 'billing'::regnamespace)
            and c.relkind = 'v'
            and not coalesce(c.reloptions, '{}') @> array['security_invoker=true']
    """,
    # Not an empty one: temporary types would come before those of Postgres itself.
    "every function looks for names in Postgres first, or has a bound body": """
        select p.oid::regprocedure from pg_proc as p
        where p.pronamespace in (
                'api'::regnamespace, 'billing'::regnamespace, 'ops'::regnamespace
            )
            and p.prosqlbody is null
            and not coalesce(p.proconfig, '{}') @> array['search_path=pg_catalog, pg_temp']
    """,
    "only functions of api run with their owner's rights": """
        select p.oid::regprocedure from pg_proc as p
        where p.prosecdef is distinct from (p.pronamespace = 'api'::regnamespace)
            and p.pronamespace in (
                'api'::regnamespace, 'billing'::regnamespace, 'ops'::regnamespace
            )
            -- These answer the readers of views, who may not look where they do; and there is a
            -- trigger that Supabase Auth sets off, by deleting a user.
            and p.proname not in (
                'readable', 'user_email', 'usage_folded_to',
                'revoke_passports', 'void_invitations', 'pause_without_owner'
            )
    """,
    "only the service roles may execute functions of api": """
        select p.oid::regprocedure, a.grantee::regrole
        from pg_proc as p
        cross join aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
        where p.pronamespace = 'api'::regnamespace
            and a.grantee not in (
                p.proowner, 'service_role'::regrole, 'faregate_functions'::regrole
            )
    """,
    "both service roles may execute every function of api": """
        select p.oid::regprocedure, r.rolname
        from pg_proc as p
        cross join pg_roles as r
        where p.pronamespace = 'api'::regnamespace
            and r.rolname in ('service_role', 'faregate_functions')
            and not has_function_privilege(r.oid, p.oid, 'execute')
    """,
    "nobody but the owner has any right in billing or ops": """
        with acls as (
            select nspname::text as subject, nspowner as owner,
                acldefault('n', nspowner) as initial, nspacl as acl
            from pg_namespace where nspname in ('billing', 'ops', 'partitions')
            union all
            select oid::regclass::text, relowner,
                acldefault(case when relkind = 'S' then 's' else 'r' end::"char", relowner), relacl
            from pg_class
            where relnamespace in (
                    'billing'::regnamespace, 'ops'::regnamespace, 'partitions'::regnamespace
                )
                and relkind not in ('i', 'I', 'c')
            union all
            select oid::regprocedure::text, proowner, acldefault('f', proowner), proacl
            from pg_proc where pronamespace in ('billing'::regnamespace, 'ops'::regnamespace)
            union all
            -- Neither arrays nor the row types of tables have rights of their own.
            select t.oid::regtype::text, t.typowner, acldefault('T', t.typowner), t.typacl
            from pg_type as t
            left join pg_class as c on c.oid = t.typrelid
            where t.typnamespace in ('billing'::regnamespace, 'ops'::regnamespace)
                and t.typelem = 0 and coalesce(c.relkind, 'c') = 'c'
        )
        select s.subject, a.grantee, a.privilege_type
        from acls as s
        cross join aclexplode(coalesce(s.acl, s.initial)) as a
        where a.grantee <> s.owner
            -- What the views of api call with their reader's rights.
            and s.subject not in (
                'billing.readable(text)', 'billing.now()', 'billing.user_email(uuid)',
                'billing.session_cost(bigint,timestamp with time zone,timestamp with time zone)',
                'billing.storage_cost(uuid,uuid,timestamp with time zone)',
                'billing.statement_kind(billing.reason)',
                'billing.is_consumption(billing.reason)', 'billing.clock_offset',
                'billing.usage_folded_to()', 'billing.zeros()',
                'billing.usage_parts(bigint,numeric,numeric,jsonb)'
            )
    """,
    "readers may read views of api and nothing else": """
        select c.oid::regclass, a.grantee::regrole, a.privilege_type
        from pg_class as c
        cross join aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) as a
        where c.relnamespace = 'api'::regnamespace and c.relkind = 'v' and a.grantee <> c.relowner
            and (
                a.privilege_type <> 'SELECT'
                or a.grantee not in ('authenticated'::regrole, 'faregate_reader'::regrole)
            )
    """,
    "signed-in users and strangers may execute nothing": """
        select p.oid::regprocedure, r.rolname
        from pg_proc as p
        cross join pg_roles as r
        where p.pronamespace = 'api'::regnamespace
            and r.rolname in ('anon', 'authenticated', 'authenticator', 'faregate_reader')
            and has_function_privilege(r.oid, p.oid, 'execute')
    """,
    "clients may change nothing, not even a sequence": """
        with acls as (
            select oid::regclass::text as subject, relkind = 'S' as is_sequence, relacl as acl
            from pg_class where relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
            union all
            select attrelid::regclass || '.' || attname, false, attacl
            from pg_attribute where attrelid > 16383
            union all
            select nspname, false, nspacl from pg_namespace
            union all
            select 'defaults', defaclobjtype = 'S', defaclacl from pg_default_acl
        )
        select s.subject, a.grantee, a.privilege_type
        from acls as s
        cross join aclexplode(s.acl) as a
        left join pg_roles as r on r.oid = a.grantee
        where (s.is_sequence or a.privilege_type not in ('SELECT', 'USAGE', 'EXECUTE'))
            and coalesce(r.rolname, 'public') in (
                'public', 'anon', 'authenticated', 'authenticator', 'faregate_reader'
            )
    """,
    "no reader sees a column that is named like a secret": """
        select a.attrelid::regclass, a.attname, r.rolname
        from pg_attribute as a
        inner join pg_class as c on c.oid = a.attrelid and c.relkind in ('r', 'p', 'v', 'm', 'f')
        cross join pg_roles as r
        where c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)'
            and r.rolname in ('anon', 'authenticated', 'faregate_reader')
            and a.attnum > 0 and not a.attisdropped
            and a.attname ~ '(hash|token|secret|key|passw|cipher|payment_method|customer_id)'
            and a.attname <> 'key_prefix' -- so that a person can tell passports apart
            and has_column_privilege(r.oid, c.oid, a.attnum, 'select')
    """,
    "readers have the columns that their views use, and nobody has others": """
        with used as (
            -- By the views themselves, or by the functions with a bound body that they call.
            select distinct d.refobjid as relation, d.refobjsubid as number, r.oid as role
            from pg_rewrite as w
            inner join pg_class as v
                on v.oid = w.ev_class and v.relnamespace = 'api'::regnamespace
            left join pg_depend as f
                on f.classid = 'pg_rewrite'::regclass and f.objid = w.oid
                and f.refclassid = 'pg_proc'::regclass
            inner join pg_depend as d
                on (d.classid, d.objid)
                    in (('pg_rewrite'::regclass, w.oid), (f.refclassid, f.refobjid))
                and d.refclassid = 'pg_class'::regclass and d.refobjsubid > 0
                and d.refobjid not in (v.oid, 'billing.clock_offset'::regclass)
            inner join pg_roles as r on has_table_privilege(r.oid, v.oid, 'select')
            where r.rolname in ('authenticated', 'faregate_reader')
        ), granted as (
            select a.attrelid as relation, a.attnum as number, r.oid as role
            from pg_attribute as a
            inner join pg_class as c
                on c.oid = a.attrelid and c.relkind in ('r', 'p', 'v', 'm', 'f')
            cross join pg_roles as r
            where c.relnamespace = 'billing'::regnamespace and c.relname <> 'clock_offset'
                and a.attnum > 0 and not a.attisdropped
                and r.oid <> c.relowner and not r.rolsuper and r.rolname !~ '^pg_'
                and has_column_privilege(r.oid, c.oid, a.attnum, 'select')
        )
        select relation::regclass, number, role::regrole
        from (select * from used except select * from granted) as missing
        union all
        select relation::regclass, number, role::regrole
        from (select * from granted except select * from used) as unused
    """,
    "every policy lets readers read, and asks once a query": """
        select p.polrelid::regclass, p.polname
        from pg_policy as p
        inner join pg_class as c on c.oid = p.polrelid
        where c.relnamespace = 'billing'::regnamespace and c.relname <> 'clock_offset'
            and (
                p.polcmd = 'r'
                and array['authenticated', 'faregate_reader']::regrole []::oid [] @> p.polroles
                and replace(pg_get_expr(p.polqual, p.polrelid), '''billing''', '''read''') = format(
                    case c.relname
                        when 'organizations' then '(id = %s)'
                        -- What else is in there is nobody's to read.
                        when 'outbox' then '((topic = ''notification''::billing.outbox_topic)'
                            || ' AND (organization_id = %s))'
                        -- A catalogue: what was published, for whoever reads anything at all.
                        when 'spaces' then '((published_at IS NOT NULL) AND (EXISTS ('
                            || ' SELECT billing.readable(''read''::text) AS readable)))'
                        when 'features'
                            then '(EXISTS ( SELECT billing.readable(''read''::text) AS readable))'
                        when 'plan_entitlements'
                            then '(EXISTS ( SELECT billing.readable(''read''::text) AS readable))'
                        else '(organization_id = %s)'
                    end,
                    'ANY (ARRAY( SELECT billing.readable(''read''::text) AS readable))'
                )
            ) is not true
    """,
    "the roles of the product are no more than they seem": """
        select r.rolname from pg_roles as r
        where r.rolname in ('anon', 'authenticated', 'faregate_reader', 'faregate_functions')
            and (
                r.rolsuper or r.rolbypassrls or r.rolcreaterole or r.rolcreatedb
                or r.rolreplication or r.rolinherit
                or r.rolcanlogin <> (r.rolname = 'faregate_functions')
            )
        union all
        select m.member::regrole || ' is ' || m.roleid::regrole
        from pg_auth_members as m
        inner join pg_roles as r on r.oid = m.member
        where r.rolname in ('anon', 'authenticated', 'faregate_reader', 'faregate_functions')
            or r.rolname = 'authenticator' and m.roleid not in (
                'anon'::regrole, 'authenticated'::regrole, 'service_role'::regrole,
                'faregate_reader'::regrole
            )
        union all
        select r.rolname || ' owns ' || c.oid::regclass
        from pg_class as c
        inner join pg_roles as r on r.oid = c.relowner
        where r.rolname in ('anon', 'authenticated', 'faregate_reader', 'faregate_functions')
    """,
    "nothing of ours is in public": """
        select c.relname from pg_class as c where c.relnamespace = 'public'::regnamespace
        union all
        select p.proname from pg_proc as p where p.pronamespace = 'public'::regnamespace
    """,
    "no function of api has two forms": """
        select p.proname from pg_proc as p
        where p.pronamespace in (
                'api'::regnamespace, 'billing'::regnamespace, 'ops'::regnamespace
            )
        group by p.pronamespace, p.proname having count(*) > 1
    """,
    "every answer of api is read alike on both ways into the database": """
        select p.oid::regprocedure, p.prorettype::regtype
        from pg_proc as p
        inner join pg_type as t on t.oid = p.prorettype
        where p.pronamespace = 'api'::regnamespace
            and (
                t.typname = 'void'
                -- A JSON array, which is also how rows are written: `setof` it.
                or not p.proretset and (t.typcategory = 'A' or t.typname in ('json', 'jsonb'))
                -- A table of one column, which Postgres takes for values: `setof` its type.
                or p.proargmodes::text [] && '{o,b,t}' and p.prorettype <> 'record'::regtype
            )
    """,
    "every parameter says that it is one": """
        select p.oid::regprocedure, n.name
        from pg_proc as p
        cross join unnest(p.proargnames, p.proargmodes::text []) as n (name, mode)
        where p.pronamespace in (
                'api'::regnamespace, 'billing'::regnamespace, 'ops'::regnamespace
            )
            and coalesce(n.mode, 'i') = 'i' and n.name not like 'p\\_%'
    """,
    "every table, view and type has a comment": """
        select c.oid::regclass from pg_class as c
        where c.relnamespace in (
                'api'::regnamespace, 'billing'::regnamespace, 'ops'::regnamespace
            )
            and c.relkind in ('r', 'p', 'v', 'c') and obj_description(c.oid, 'pg_class') is null
            -- `comment on type` of a composite type is kept with the type.
            and obj_description(c.reltype, 'pg_type') is null
    """,
    "every column has a comment, which tells its unit": """
        select c.oid::regclass::text, a.attname, col_description(c.oid, a.attnum)
        from pg_class as c
        inner join pg_attribute as a
            on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relnamespace in (
                'api'::regnamespace, 'billing'::regnamespace, 'ops'::regnamespace
            )
            and c.relkind in ('r', 'p', 'v')
            and col_description(c.oid, a.attnum) !~ case
                when a.attname like '%\\_micros' then 'µ[$]'
                when a.attname like '%\\_usd' then 'USD'
                when a.attname like '%\\_seconds' then '[Ss]econds'
                when a.atttypid in ('timestamptz'::regtype, 'date'::regtype) then 'UTC'
                else '.'
            end is not false
    """,
    "every function of api has a comment": """
        select p.oid::regprocedure from pg_proc as p
        where p.pronamespace = 'api'::regnamespace
            and obj_description(p.oid, 'pg_proc') is null
    """,
    "every foreign key has an index that begins with its columns": """
        select k.conrelid::regclass, k.conname
        from pg_constraint as k
        where k.contype = 'f' and k.connamespace = 'billing'::regnamespace
            and not exists (
                select from pg_index as i
                where i.indrelid = k.conrelid
                    and (
                        i.indpred is null
                        -- Rows without the key are nobody's to look up.
                        or pg_get_expr(i.indpred, i.indrelid) in (
                            select format('(%I IS NOT NULL)', a.attname)
                            from pg_attribute as a
                            where a.attrelid = k.conrelid and a.attnum = any(k.conkey)
                        )
                    )
                    and (i.indkey::smallint [])[0:cardinality(k.conkey) - 1] @> k.conkey
            )
    """,
    "every check and exclusion has a name that was thought of": """
        select k.conrelid::regclass, k.conname
        from pg_constraint as k
        where k.connamespace = 'billing'::regnamespace
            and k.contype in ('c', 'x') and k.conname ~ '_(check|excl)[0-9]*$'
    """,
    "every constraint is valid": """
        select k.conname from pg_constraint as k
        where k.connamespace = 'billing'::regnamespace and not k.convalidated
    """,
    "every table has a primary key": """
        select c.oid::regclass from pg_class as c
        where c.relnamespace = 'billing'::regnamespace and c.relkind in ('r', 'p')
            and not exists (
                select from pg_constraint as k where k.conrelid = c.oid and k.contype = 'p'
            )
    """,
    "tables that grow are keyed by their organization first": """
        select c.oid::regclass
        from pg_class as c
        inner join pg_attribute as a
            on a.attrelid = c.oid and a.attname = 'organization_id' and a.attnotnull
        inner join pg_index as i on i.indrelid = c.oid and i.indisprimary
        where c.relnamespace = 'billing'::regnamespace and i.indkey[0] <> a.attnum
            and c.relname <> 'bonus_identities'
    """,
    "money is a whole number of micro-dollars": """
        select a.attrelid::regclass, a.attname
        from pg_attribute as a
        inner join pg_class as c on c.oid = a.attrelid and c.relkind in ('r', 'p', 'v', 'c')
        where c.relnamespace in (
                'api'::regnamespace, 'billing'::regnamespace, 'ops'::regnamespace
            )
            and (
                a.attname like '%\\_micros'
                and a.atttypid not in ('bigint'::regtype, 'billing.amount'::regtype)
                or a.atttypid in ('real'::regtype, 'double precision'::regtype, 'money'::regtype)
                or a.attname like '%\\_at' and a.atttypid <> 'timestamptz'::regtype
            )
    """,
    "every table that only grows refuses to be emptied, too": """
        select t.tgrelid::regclass
        from pg_trigger as t
        where t.tgfoid = 'billing.refuse_change()'::regprocedure
            -- Views have nothing to be emptied of.
            and t.tgtype & 64 = 0
        group by t.tgrelid
        having bit_or(t.tgtype & (8 | 16 | 32)) <> 8 | 16 | 32
    """,
}


@pytest.mark.parametrize("rule", _RULES)
def test_rule(unchanged: Database, rule: str) -> None:
    with psycopg.connect(unchanged.owner_url) as owner:
        assert owner.execute(_RULES[rule]).fetchall() == []


# What each rule must see. Every mistake is one that nothing else refuses.
_MISTAKES: dict[str, list[LiteralString]] = {
    "every table of billing has row level security": [
        "create table billing.mistake (id uuid)",
        "alter table billing.wallets disable row level security",
        "create table partitions.mistake partition of billing.usage_events"
        " for values from ('ff000000-0000-0000-0000-000000000000') to (maxvalue)",
    ],
    "there is no table in api or ops": ["create table api.mistake (id uuid)"],
    "views run with the rights of their reader": [
        "create view api.mistake as select w.settled_micros from billing.wallets as w",
        "alter view api.wallets reset (security_invoker)",
    ],
    "every function looks for names in Postgres first, or has a bound body": [
        "alter function api.get_wallet reset search_path",
        "alter function billing.credit_wallet set search_path = ''",
    ],
    "only functions of api run with their owner's rights": [
        "alter function api.get_wallet security invoker",
        "alter function billing.credit_wallet security definer",
    ],
    "only the service roles may execute functions of api": [
        "grant execute on function api.get_wallet to authenticated",
        "grant execute on function api.get_wallet to public",
    ],
    "both service roles may execute every function of api": [
        "revoke execute on function api.get_wallet from service_role",
    ],
    "nobody but the owner has any right in billing or ops": [
        "grant usage on schema billing to authenticated",
        "grant usage on schema partitions to authenticated",
        "create table partitions.mistake (); grant select on partitions.mistake to authenticated",
        "grant select on billing.wallets to service_role",
        "grant execute on function billing.credit_wallet to public",
    ],
    "readers may read views of api and nothing else": [
        "grant insert on api.wallets to authenticated",
        "grant select on api.wallets to anon",
        "grant select on api.wallets to public",
    ],
    "signed-in users and strangers may execute nothing": [
        "grant execute on function api.get_wallet to anon",
        "grant execute on function api.get_wallet to public",
        "grant faregate_functions to faregate_reader with inherit true",
    ],
    "clients may change nothing, not even a sequence": [
        "grant insert on billing.wallets to authenticated",
        "grant update (name) on billing.organizations to faregate_reader",
        "grant create on schema public to public",
        "create sequence public.mistake; grant usage on sequence public.mistake to anon",
        "alter default privileges in schema billing grant all on tables to authenticated",
    ],
    "no reader sees a column that is named like a secret": [
        "grant select (key_hash) on billing.passports to authenticated",
        "grant select on billing.saved_cards to anon",
    ],
    "readers have the columns that their views use, and nobody has others": [
        "grant select (claimed_at) on billing.organizations to authenticated",
        "revoke select (name) on billing.organizations from faregate_reader",
        "grant select on billing.plans to authenticated",
        "grant select (key_hash) on billing.passports to service_role",
    ],
    "every policy lets readers read, and asks once a query": [
        "create policy mistake on billing.wallets for select to authenticated using (true)",
        "create policy mistake on billing.wallets to authenticated"
        " using (organization_id = any(array(select billing.readable('read'))))",
        "alter policy readers on billing.wallets using"
        " (true or organization_id = any(array(select billing.readable('read'))))",
        "alter policy readers on billing.outbox using"
        " (organization_id = any(array(select billing.readable('read'))))",
        "alter policy readers on billing.spaces using (exists (select billing.readable('read')))",
        "alter policy readers on billing.spaces using (published_at is not null)",
        "create policy mistake on billing.wallets for select to authenticated",
        "alter policy readers on billing.wallets to public",
        "alter policy readers on billing.wallets"
        " using (organization_id in (select billing.readable('read')))",
    ],
    "the roles of the product are no more than they seem": [
        "alter role faregate_reader createdb",
        "grant service_role to faregate_reader",
        "reset role; alter view api.wallets owner to faregate_reader",
    ],
    "nothing of ours is in public": [
        "create table public.mistake ()",
        "create function public.mistake() returns void return null",
    ],
    "no function of api has two forms": [
        "create function api.get_wallet() returns void return null",
    ],
    "every answer of api is read alike on both ways into the database": [
        "create function api.mistake() returns void language sql return null",
        "create function api.mistake() returns text[] language sql return '{}'::text []",
        "create function api.mistake() returns jsonb language sql return '[]'::jsonb",
        "create function api.mistake() returns table (id uuid) language sql"
        " begin atomic select gen_random_uuid(); end",
    ],
    "every parameter says that it is one": [
        "create function billing.mistake(id uuid) returns void return null",
        "create function billing.mistake(p_id uuid, id uuid, out a int) return 1",
    ],
    "every table, view and type has a comment": [
        "create table billing.mistake ()",
        "create type billing.mistake as (id uuid)",
        "comment on view api.wallets is null",
    ],
    "every column has a comment, which tells its unit": [
        "alter table billing.wallets add mistake text",
        "create view api.mistake as select 1 as price_usd;"
        " comment on column api.mistake.price_usd is 'The price.'",
        "comment on column billing.wallets.debt_micros is 'What is owed.'",
        "comment on column billing.passports.created_at is 'When.'",
        "comment on column billing.sessions.heartbeat_timeout_seconds is 'How long.'",
    ],
    "every function of api has a comment": [
        "comment on function api.get_wallet is null",
    ],
    "every foreign key has an index that begins with its columns": [
        "alter table billing.wallets add mistake uuid references billing.organizations",
        "alter table billing.wallets add mistake uuid references billing.organizations;"
        "create index on billing.wallets (debt_micros, mistake);"
        "create index on billing.wallets (mistake) where debt_micros > 0",
    ],
    "every check and exclusion has a name that was thought of": [
        "alter table billing.wallets add check (debt_micros >= 0)",
        "alter table billing.wallets add exclude (debt_micros with =)",
    ],
    "every constraint is valid": [
        "alter table billing.wallets add constraint mistake check (debt_micros >= 0) not valid",
    ],
    "every table has a primary key": [
        "create table billing.mistake (id uuid unique not null)",
    ],
    "tables that grow are keyed by their organization first": [
        "create table billing.mistake (id uuid primary key, organization_id uuid not null)",
    ],
    "money is a whole number of micro-dollars": [
        "create view api.mistake as select 0.5 as price_micros",
        "create type billing.mistake as (price float)",
        "alter table billing.wallets add price money",
        "alter table billing.wallets add priced_at timestamp",
    ],
    "every table that only grows refuses to be emptied, too": [
        "drop trigger transfers_no_truncate on billing.transfers",
        "drop trigger transfers_append_only on billing.transfers",
    ],
}


def test_every_rule_has_a_mistake() -> None:
    assert set(_MISTAKES) == set(_RULES)
    assert all(_MISTAKES.values())


@pytest.mark.parametrize(
    ("rule", "mistake"), [(rule, each) for rule, all_ in _MISTAKES.items() for each in all_]
)
def test_a_rule_sees_a_mistake(unchanged: Database, rule: str, mistake: LiteralString) -> None:
    with psycopg.connect(superuser_url(unchanged)) as anybody:
        anybody.execute("set role postgres")
        anybody.execute(mistake)
        assert anybody.execute(_RULES[rule]).fetchall() != []
        anybody.rollback()
