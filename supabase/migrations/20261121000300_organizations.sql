-- Organizations and their members, and two books kept about every call:
-- who did what, and what was answered.

create table billing.organizations (
    id uuid primary key default billing.uuidv7(),
    name text not null,
    plan_id text not null references billing.plans (id),
    billing_email text not null,
    claimed_at timestamptz,
    closed_at timestamptz,
    created_at timestamptz not null default billing.now(),
    constraint organizations_name_length check (char_length(name) between 1 and 100)
);
alter table billing.organizations enable row level security;
create index organizations_plan_id on billing.organizations (plan_id);
create unique index organizations_unclaimed_email_key
on billing.organizations (lower(billing_email)) where claimed_at is null;
comment on table billing.organizations is
'The tenant and paying customer. One that an operator registered by e-mail is unclaimed (claimed_at
is null) until the owner of that address signs in and registers. One that is closed (closed_at) does
nothing any more; its members still read its books.';

create table billing.members (
    organization_id uuid not null references billing.organizations (id),
    user_id uuid not null references auth.users (id) on delete cascade,
    role text not null,
    created_at timestamptz not null default billing.now(),
    primary key (organization_id, user_id),
    constraint members_role_is_known check (role in ('owner', 'admin', 'member'))
);
alter table billing.members enable row level security;
create index members_user_id on billing.members (user_id);
comment on table billing.members is
'A user in an organization, and the role that decides what they may do.';

create table billing.audit_log (
    organization_id uuid not null references billing.organizations (id),
    id uuid not null default billing.uuidv7(),
    actor text not null,
    action text not null,
    subject_id uuid,
    detail jsonb not null default '{}',
    created_at timestamptz not null default billing.now(),
    primary key (organization_id, id),
    constraint audit_log_actor_is_typed check (
        actor ~ '^(passport|user):[0-9a-f-]{36}$' or actor in ('stripe', 'operator')
    )
);
alter table billing.audit_log enable row level security;
comment on table billing.audit_log is
'Who did what to whom: identities, passports, plans. Append-only.';
create trigger audit_log_append_only before update or delete on billing.audit_log
for each row execute function billing.refuse_change();
create trigger audit_log_no_truncate before truncate on billing.audit_log
for each statement execute function billing.refuse_change();

create table billing.idempotency_keys (
    scope_id uuid not null,
    key text not null,
    operation text not null,
    request_hash bytea not null,
    response jsonb not null,
    created_at timestamptz not null default billing.now(),
    primary key (scope_id, key)
);
alter table billing.idempotency_keys enable row level security;
comment on table billing.idempotency_keys is
'The answer a key was given. scope_id is the organization; for a user without one, the user.
Never holds a secret: a passport''s key is not part of any stored answer.';

-- billing.replay: the stored answer of this key; null when the call is new.
--
-- Raises  FG409 idempotency_conflict  the key was used for another request
-- Locks   the key, until the transaction ends: of two calls with one key the second sees the
--         first's answer.
create function billing.replay(p_scope_id uuid, p_key text, p_operation text, p_request jsonb)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_stored billing.idempotency_keys;
begin
    perform pg_advisory_xact_lock(hashtextextended(p_scope_id || p_key, 0));
    select k.* into v_stored
    from billing.idempotency_keys as k
    where k.scope_id = p_scope_id and k.key = p_key;
    if not found then
        return null;
    end if;
    if v_stored.operation <> p_operation
        or v_stored.request_hash <> sha256(convert_to(p_request::text, 'UTF8'))
    then
        raise exception using errcode = 'FG409', message = 'idempotency_conflict';
    end if;
    return v_stored.response;
end
$$;

-- billing.remember: store the answer of a key that billing.replay found to be new.
create function billing.remember(
    p_scope_id uuid, p_key text, p_operation text, p_request jsonb, p_response jsonb
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.idempotency_keys (scope_id, key, operation, request_hash, response)
    values (
        p_scope_id, p_key, p_operation,
        sha256(convert_to(p_request::text, 'UTF8')), p_response
    );
end
$$;
