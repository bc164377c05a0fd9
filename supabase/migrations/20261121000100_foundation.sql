-- What everything else stands on: two schemas, one login role, closed defaults, ids and time.

create schema billing;
comment on schema billing is
'Tables and rules. Private: nobody but the owner has any right here.';

create schema api;
comment on schema api is
'The only door: functions for the service roles and views that signed-in users read.';

-- Roles belong to the cluster, so another database may have made them already.
-- faregate_functions is what the functions log in as; deployment sets its password.
-- faregate_reader is what PostgREST becomes for a token that api.create_token described: a role of
-- its own, because `authenticated` may be allowed other things in the same project.
do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'faregate_functions') then
        create role faregate_functions login noinherit;
    end if;
    if not exists (select from pg_catalog.pg_roles where rolname = 'faregate_reader') then
        create role faregate_reader nologin noinherit;
        grant faregate_reader to authenticator;
    end if;
end
$$;

-- No call of a function takes seconds: one that does is stuck, and its caller is told to try again.
alter role faregate_functions set statement_timeout = '10s';
alter role faregate_functions set lock_timeout = '5s';
alter role faregate_functions set idle_in_transaction_session_timeout = '10s';
alter role faregate_reader set statement_timeout = '8s';

-- The global form, on purpose: with "in schema" it would change nothing.
alter default privileges revoke execute on functions from public;
alter default privileges revoke usage on types from public;

-- Functions of api run with the rights of their owner, so no caller may choose what names in them
-- or in what they call mean: names are qualified, and `search_path = pg_catalog, pg_temp` puts a
-- caller's temporary objects last. An empty one would put them first: a temporary type `uuid`
-- before the one of Postgres.

grant usage on schema api to faregate_functions, service_role;

-- billing.now: the time that money goes by. The clock, not the start of the transaction: a call
-- that waited for a lock must not charge up to a moment before the one that held it.
create function billing.now()
returns timestamptz
language sql
volatile parallel safe
return clock_timestamp();

-- billing.uuidv7: a time-ordered id (RFC 9562, version 7), so that indexes grow at one end.
-- The body is bound when it is created, which is as safe as a pinned search_path
-- and can be inlined.
-- The linter does not know overlay's own syntax: hence noqa.
create function billing.uuidv7()
returns uuid
language sql
volatile parallel safe
return encode(
    set_bit(
        set_bit(
            overlay( -- noqa: LT01
                uuid_send(gen_random_uuid())
                placing substring( -- noqa: PRS
                    int8send((date_part('epoch', clock_timestamp()) * 1000)::bigint) from 3
                )
                from 1 for 6
            ),
            52, 1
        ),
        53, 1
    ),
    'hex'
)::uuid;

-- billing.inherit_comments: a view's columns mean what the columns of their name mean in the tables
-- that it reads; those with another meaning were given a comment of their own before.
create procedure billing.inherit_comments(p_view regclass)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_column record;
begin
    for v_column in
        select c.attname as name, min(col_description(s.attrelid, s.attnum)) as comment
        from pg_catalog.pg_rewrite as r
        inner join pg_catalog.pg_depend as d
            on d.objid = r.oid and d.classid = 'pg_catalog.pg_rewrite'::regclass
        inner join pg_catalog.pg_attribute as s
            on s.attrelid = d.refobjid and s.attnum = d.refobjsubid
        inner join pg_catalog.pg_attribute as c
            on c.attrelid = r.ev_class and c.attname = s.attname
        where
            r.ev_class = p_view
            and d.refclassid = 'pg_catalog.pg_class'::regclass
            and col_description(c.attrelid, c.attnum) is null
        group by c.attname
        -- Two tables that say different things: neither.
        having count(distinct col_description(s.attrelid, s.attnum)) = 1
    loop
        execute format('comment on column %s.%I is %L', p_view, v_column.name, v_column.comment);
    end loop;
end
$$;

-- billing.refuse_change: trigger of append-only tables.
create function billing.refuse_change()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception '% is append-only: a correction is a new row', tg_relid::regclass
        using errcode = 'restrict_violation';
end
$$;

-- api.ping: true. Whoever hears it has reached a database that is migrated.
create function api.ping()
returns boolean
language sql
immutable security definer
set search_path = pg_catalog, pg_temp
return true;

comment on function api.ping is 'Tells whoever calls it that the database answers: true.';
grant execute on function api.ping to service_role, faregate_functions;
