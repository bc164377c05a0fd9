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
comment on column billing.organizations.id is 'Time-ordered (UUIDv7).';
comment on column billing.organizations.name is 'What its people call it; not unique.';
comment on column billing.organizations.plan_id is 'What it may do and what it pays.';
comment on column billing.organizations.billing_email is
'Where receipts and the provider''s mail go.';
comment on column billing.organizations.claimed_at is
'When its owner signed in (UTC); null: an operator registered it and waits for them.';
comment on column billing.organizations.closed_at is 'When it was closed (UTC); null: it is not.';
comment on column billing.organizations.created_at is 'When it was registered (UTC).';

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
comment on column billing.members.organization_id is 'The organization it belongs to.';
comment on column billing.members.user_id is 'Their login at Supabase Auth.';
comment on column billing.members.role is 'What they may do: owner, admin or member.';
comment on column billing.members.created_at is 'When they joined (UTC).';

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
comment on column billing.audit_log.organization_id is 'The organization it belongs to.';
comment on column billing.audit_log.id is 'Time-ordered (UUIDv7).';
comment on column billing.audit_log.actor is
'Who did it: passport:<id>, user:<id>, stripe or operator.';
comment on column billing.audit_log.action is 'What they did.';
comment on column billing.audit_log.subject_id is
'To whom or what: an organization, a passport, a user.';
comment on column billing.audit_log.detail is 'What else there is to know.';
comment on column billing.audit_log.created_at is 'When they did it (UTC).';
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
'The answer a key was given. Never holds a secret: a passport''s key is not part of any stored
answer.';
comment on column billing.idempotency_keys.scope_id is
'The organization; for a user without one, the user.';
comment on column billing.idempotency_keys.key is 'What the caller sent as Idempotency-Key.';
comment on column billing.idempotency_keys.operation is
'What it was used for; for another operation it is refused.';
comment on column billing.idempotency_keys.request_hash is
'SHA-256 of the request: another one with this key is refused.';
comment on column billing.idempotency_keys.response is
'What the first call answered, and every repetition.';
comment on column billing.idempotency_keys.created_at is 'When the first call was made (UTC).';

-- billing.lock_organization: nobody closes it, and nobody else decides about its members and
-- passports, until the transaction ends.
--
-- Raises  FG409 organization_closed  it does nothing any more
-- Locks   the organization: after an idempotency key, before everything else.
create function billing.lock_organization(p_organization_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_closed_at timestamptz;
begin
    select o.closed_at into v_closed_at
    from billing.organizations as o
    where o.id = p_organization_id
    for no key update;
    if v_closed_at is not null then
        raise exception using errcode = 'FG409', message = 'organization_closed';
    end if;
end
$$;

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
