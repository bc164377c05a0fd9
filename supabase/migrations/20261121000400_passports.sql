-- Passports (API keys) and the one place where a caller becomes an organization with permissions.

create table billing.passports (
    organization_id uuid not null references billing.organizations (id),
    id uuid not null default billing.uuidv7(),
    name text not null,
    permissions text[] not null,
    user_id uuid,
    key_hash bytea not null,
    key_prefix text not null,
    created_by text not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz not null default billing.now(),
    primary key (organization_id, id),
    constraint passports_key_hash_key unique (key_hash),
    constraint passports_key_hash_is_sha256 check (octet_length(key_hash) = 32),
    constraint passports_key_prefix_is_short check (key_prefix ~ '^fg_live_[A-Za-z0-9_-]{4}$'),
    constraint passports_name_length check (char_length(name) between 1 and 100),
    constraint passports_permissions_are_known check (
        permissions <@ array['read', 'write', 'billing', 'admin']
        and cardinality(permissions) between 1 and 4
    )
);
alter table billing.passports enable row level security;
comment on table billing.passports is
'An API key of an organization. Shown once; only its SHA-256 is stored.';
comment on column billing.passports.organization_id is 'The organization it belongs to.';
comment on column billing.passports.id is 'Time-ordered (UUIDv7).';
comment on column billing.passports.name is 'What its people call it; not unique.';
comment on column billing.passports.permissions is 'What it may do: read, write, billing, admin.';
comment on column billing.passports.user_id is
'The member whose it is, because they made it, or the passport that it was made with was theirs: it
ends when they go. Null: an operator made it. No foreign key: it tells of users who are gone, too.';
comment on column billing.passports.key_hash is 'SHA-256 of the key.';
comment on column billing.passports.key_prefix is
'The first 12 characters, so that a person can tell keys apart.';
comment on column billing.passports.created_by is
'Who issued it: passport:<id>, user:<id> or operator.';
comment on column billing.passports.expires_at is
'From then on (UTC) it opens nothing; null: never.';
comment on column billing.passports.revoked_at is 'When it was ended before that (UTC).';
comment on column billing.passports.created_at is 'When it was issued (UTC).';

create table billing.passport_uses (
    organization_id uuid not null,
    passport_id uuid not null,
    last_used_at timestamptz not null,
    primary key (organization_id, passport_id),
    constraint passport_uses_passport_fkey foreign key (organization_id, passport_id)
    references billing.passports (organization_id, id)
);
alter table billing.passport_uses enable row level security;
comment on table billing.passport_uses is
'When a passport was last used. Apart from the passport, because every call may lock it: two calls
that rotate each other''s passport would wait for each other.';
comment on column billing.passport_uses.organization_id is 'The organization it belongs to.';
comment on column billing.passport_uses.passport_id is 'The passport that was used.';
comment on column billing.passport_uses.last_used_at is 'To the minute (UTC).';

create view api.passports with (security_invoker = true) as
select
    p.id,
    p.organization_id,
    p.name,
    p.permissions,
    p.user_id,
    p.key_prefix,
    p.expires_at,
    p.revoked_at,
    (
        select u.last_used_at
        from billing.passport_uses as u
        where u.organization_id = p.organization_id and u.passport_id = p.id
    ) as last_used_at,
    p.created_at
from billing.passports as p;
comment on view api.passports is 'Passports without their hash.';
call billing.inherit_comments('api.passports');

create type billing.caller as (
    organization_id uuid,
    plan_id text,
    permissions text [],
    actor text,
    expires_at timestamptz,
    user_id uuid,
    facts jsonb
);
comment on type billing.caller is
'Who calls: the organization they act for, what they may do, their name in the audit log
(passport:<id> or user:<id>), when their passport ends, the member that they are or whose passport
it is, and what policies are asked about (null: none is enabled).';

-- billing.note_passport_use: remember that a passport was used. Once a minute is enough to see
-- that a key is alive, and nobody waits for it.
create function billing.note_passport_use(p_organization_id uuid, p_id uuid, p_now timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.passport_uses (organization_id, passport_id, last_used_at)
    values (p_organization_id, p_id, p_now)
    on conflict do nothing;
    update billing.passport_uses as u set last_used_at = p_now
    where (u.organization_id, u.passport_id) in (
        select q.organization_id, q.passport_id
        from billing.passport_uses as q
        where q.organization_id = p_organization_id
            and q.passport_id = p_id
            and q.last_used_at < p_now
        for update skip locked
    );
end
$$;

-- billing.role_permissions: what a member may do, by their role, their organization's plan and when
-- it was closed: then its books can be read, and nothing else is left to do.
create function billing.role_permissions(p_role text, p_plan_id text, p_closed_at timestamptz)
returns text[]
language sql
immutable parallel safe
return case
    when p_closed_at is not null and p_role = 'member' then array['read']
    when p_closed_at is not null then array['read', 'billing']
    when p_role = 'member' then array['read', 'write']
    when p_plan_id = 'admin' then array['read', 'write', 'billing', 'admin']
    else array['read', 'write', 'billing']
end;

-- billing.member_permissions: what a user may do in an organization: nothing unless a member.
create function billing.member_permissions(p_organization_id uuid, p_user_id uuid)
returns text[]
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_permissions text[];
begin
    select billing.role_permissions(m.role, o.plan_id, o.closed_at) into v_permissions
    from billing.members as m
    inner join billing.organizations as o on o.id = m.organization_id
    where m.organization_id = p_organization_id and m.user_id = p_user_id;
    return coalesce(v_permissions, '{}');
end
$$;

-- billing.revoke_passports: trigger of members. Whoever leaves, is removed, is deleted or may do
-- less loses the passports that may do more than they. With its owner's rights, because Supabase
-- Auth deletes users with its own.
--
-- Locks   the organization, the passports.
create function billing.revoke_passports()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- The turnstile of billing.write_passport: meanwhile nobody makes another one.
    perform from billing.organizations as o where o.id = old.organization_id for no key update;
    update billing.passports as p
    set revoked_at = billing.now()
    where p.organization_id = old.organization_id
        and p.user_id = old.user_id
        and p.revoked_at is null
        and not p.permissions <@ billing.member_permissions(old.organization_id, old.user_id);
    return null;
end
$$;
create trigger members_passports after delete or update of role on billing.members
for each row execute function billing.revoke_passports();

-- billing.caller_by_user: the caller that a signed-in user is, in the organization they name or in
-- their only one. One that is closed can only be read, and is not meant where another is open.
--
-- Raises  FG403 not_registered         the user belongs to no organization
--         FG400 organization_required  they belong to several and named none
--         FG404 organization_not_found the one they named is not theirs, or is not
create function billing.caller_by_user(p_user_id uuid, p_organization_id uuid)
returns billing.caller
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_membership record;
begin
    select
        m.organization_id,
        o.plan_id,
        billing.role_permissions(m.role, o.plan_id, o.closed_at) as permissions,
        count(*) over (partition by o.closed_at is null) > 1 as is_one_of_several
    into v_membership
    from billing.members as m
    inner join billing.organizations as o on o.id = m.organization_id
    where m.user_id = p_user_id
        and (p_organization_id is null or m.organization_id = p_organization_id)
    order by o.closed_at is null desc
    limit 1;
    if not found and p_organization_id is not null then
        raise exception using errcode = 'FG404', message = 'organization_not_found';
    elsif not found then
        raise exception using errcode = 'FG403', message = 'not_registered';
    elsif v_membership.is_one_of_several then
        raise exception using errcode = 'FG400', message = 'organization_required';
    end if;
    return row(
        v_membership.organization_id,
        v_membership.plan_id,
        v_membership.permissions,
        'user:' || p_user_id,
        null,
        p_user_id,
        null
    )::billing.caller;
end
$$;

-- billing.authenticate: who calls, or a refusal. The first line
-- of every function a customer can reach.
--
-- p_caller is what the HTTP function proved: {"passport_hash": hex} or {"user_id": uuid}, which
-- organization they named: "organization_id": uuid|null, and where they call from: "ip". A passport
-- knows its own organization; whoever names another has mixed up their keys.
--
-- Policies are asked whether the call may be; not when it "goes_on" with what another call of the
-- same request has begun. They know it by the name of the function of api.
--
-- Raises  FG401 invalid_passport  unknown, expired or revoked: all the same to the outside
--         FG403 not_registered, FG400 organization_required, FG404 organization_not_found
--         FG403 permission_denied  the caller lacks p_permission; detail names it
--         FG403 policy_denied, FG429 rate_limited
create function billing.authenticate(p_caller jsonb, p_permission text)
returns billing.caller
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller;
    v_now timestamptz;
    v_passport_id uuid;
    v_last_used_at timestamptz;
    v_is_ruled boolean;
    v_stack text;
begin
    if p_caller ? 'passport_hash' then
        -- On the path of every call, so it is one statement.
        v_now := billing.now();
        select
            p.organization_id, o.plan_id, p.permissions, 'passport:' || p.id, p.expires_at,
            p.user_id, p.id, u.last_used_at,
            exists (select from billing.policies as r where r.is_enabled)
        into
            v_caller.organization_id, v_caller.plan_id, v_caller.permissions, v_caller.actor,
            v_caller.expires_at, v_caller.user_id,
            v_passport_id, v_last_used_at, v_is_ruled
        from billing.passports as p
        inner join billing.organizations as o on o.id = p.organization_id
        left join billing.passport_uses as u
            on u.organization_id = p.organization_id and u.passport_id = p.id
        where p.key_hash = decode(p_caller ->> 'passport_hash', 'hex')
            and p.revoked_at is null
            and (p.expires_at is null or p.expires_at > v_now);
        if not found then
            raise exception using errcode = 'FG401', message = 'invalid_passport';
        end if;
        if (p_caller ->> 'organization_id')::uuid <> v_caller.organization_id then
            raise exception using errcode = 'FG404', message = 'organization_not_found';
        end if;
        if v_last_used_at is null or v_last_used_at < v_now - interval '1 minute' then
            perform billing.note_passport_use(v_caller.organization_id, v_passport_id, v_now);
        end if;
    else
        v_caller := billing.caller_by_user(
            (p_caller ->> 'user_id')::uuid, (p_caller ->> 'organization_id')::uuid
        );
        v_is_ruled := exists (select from billing.policies as r where r.is_enabled);
    end if;
    if not p_permission = any(v_caller.permissions) then
        raise exception using
            errcode = 'FG403',
            message = 'permission_denied',
            detail = jsonb_build_object('permission', p_permission)::text;
    end if;
    if v_is_ruled and not p_caller ? 'goes_on' then
        get diagnostics v_stack = pg_context;
        v_caller.facts := billing.call_facts(
            v_caller.organization_id, v_caller.plan_id, p_permission,
            substring(v_stack from '\mapi\.(\w+)\('), v_caller.actor,
            (p_caller ->> 'ip')::inet, billing.now()
        );
        perform billing.tell_headers(billing.check_policies(v_caller.facts, false));
    end if;
    return v_caller;
end
$$;

-- billing.write_passport: make a passport that grants no more than its issuer has. It belongs to
-- the same member.
--
-- Raises  FG403 passport_exceeds_issuer  a permission or a lifetime that the issuer lacks
--         FG409 passport_limit_reached   the plan's number of live passports is used up
--         FG409 organization_closed
-- Locks   the organization.
create function billing.write_passport(
    p_issuer billing.caller,
    p_name text,
    p_permissions text[],
    p_expires_at timestamptz,
    p_key_hash text,
    p_key_prefix text
)
returns api.passports
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id uuid := billing.uuidv7();
    v_passport api.passports;
begin
    -- The turnstile: of two calls one counts after the other's insert, and of an insert and the
    -- removal of its member one sees the other.
    perform billing.lock_organization(p_issuer.organization_id);
    if p_issuer.user_id is not null then
        p_issuer.permissions := array(
            select unnest(p_issuer.permissions)
            intersect
            select unnest(
                billing.member_permissions(p_issuer.organization_id, p_issuer.user_id)
            )
            order by 1
        );
    end if;
    if not p_permissions <@ p_issuer.permissions or p_expires_at > p_issuer.expires_at then
        raise exception using
            errcode = 'FG403',
            message = 'passport_exceeds_issuer',
            detail = jsonb_build_object(
                'permissions', p_issuer.permissions, 'expires_at', p_issuer.expires_at
            )::text;
    end if;
    if (
        select count(*) >= max(l.max_passports)
        from billing.passports as p
        inner join billing.plans as l on l.id = p_issuer.plan_id
        where p.organization_id = p_issuer.organization_id
            and p.revoked_at is null
            and (p.expires_at is null or p.expires_at > billing.now())
    ) then
        raise exception using errcode = 'FG409', message = 'passport_limit_reached';
    end if;
    insert into billing.passports (
        organization_id, id, name, permissions, user_id, expires_at, key_hash, key_prefix,
        created_by
    )
    values (
        p_issuer.organization_id, v_id, p_name,
        array(select distinct unnest(p_permissions) order by 1), p_issuer.user_id,
        coalesce(p_expires_at, p_issuer.expires_at),
        decode(p_key_hash, 'hex'), p_key_prefix, p_issuer.actor
    );
    select v.* into v_passport
    from api.passports as v
    where v.organization_id = p_issuer.organization_id and v.id = v_id;
    return v_passport;
end
$$;

-- api.create_passport: a new passport of the caller's organization.
--
-- Raises  FG403 passport_exceeds_issuer, FG409 passport_limit_reached, FG409 idempotency_conflict
--         FG409 organization_closed, FG400 expiry_in_the_past
create function api.create_passport(
    p_caller jsonb,
    p_name text,
    p_permissions text[],
    p_expires_at timestamptz,
    p_key_hash text,
    p_key_prefix text,
    p_idempotency_key text
)
returns table (passport api.passports, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_request jsonb := jsonb_build_array(p_name, p_permissions, p_expires_at);
    v_stored jsonb;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'create_passport', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.passports, v_stored), true;
        return;
    end if;
    if p_expires_at <= billing.now() then
        raise exception using errcode = 'FG400', message = 'expiry_in_the_past';
    end if;
    passport := billing.write_passport(
        v_caller, p_name, p_permissions, p_expires_at, p_key_hash, p_key_prefix
    );
    insert into billing.audit_log (organization_id, actor, action, subject_id)
    values (v_caller.organization_id, v_caller.actor, 'create_passport', passport.id);
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'create_passport', v_request,
        to_jsonb(passport)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.create_passport to service_role, faregate_functions;
comment on function api.create_passport is
'Makes a passport of the caller''s organization, with no more rights than the caller has.';

-- api.list_passports: the organization's passports, newest first, from before p_cursor.
create function api.list_passports(p_caller jsonb, p_limit integer, p_cursor uuid)
returns setof api.passports
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    return query
    select p.*
    from api.passports as p
    where p.organization_id = v_caller.organization_id and (p_cursor is null or p.id < p_cursor)
    order by p.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_passports to service_role, faregate_functions;
comment on function api.list_passports is
'Pages through the passports of the caller''s organization, newest first.';

-- billing.lock_passport: a live passport of the caller's organization
-- that is not stronger than the caller.
--
-- Raises  FG404 passport_not_found       absent, another organization's, revoked or expired
--         FG403 passport_exceeds_issuer  whoever could rotate or revoke it
--                                        would gain what they lack
-- Locks   the passport.
create function billing.lock_passport(p_caller billing.caller, p_passport_id uuid)
returns billing.passports
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_passport billing.passports;
begin
    select p.* into v_passport
    from billing.passports as p
    where p.organization_id = p_caller.organization_id
        and p.id = p_passport_id
        and p.revoked_at is null
        and (p.expires_at is null or p.expires_at > billing.now())
    -- Not "for update": a call that notes its first use keeps the key and may wait for us.
    for no key update;
    if not found then
        raise exception using errcode = 'FG404', message = 'passport_not_found';
    end if;
    if not v_passport.permissions <@ p_caller.permissions then
        raise exception using
            errcode = 'FG403',
            message = 'passport_exceeds_issuer',
            detail = jsonb_build_object('permissions', p_caller.permissions)::text;
    end if;
    return v_passport;
end
$$;

-- api.rotate_passport: a new key with the same name and rights;
-- the old one lives on for the overlap. The new one belongs to whoever rotates, because they see
-- its key: it ends with them.
--
-- Raises  FG404 passport_not_found, FG403 passport_exceeds_issuer, FG409 idempotency_conflict,
--         FG409 passport_limit_reached, FG409 organization_closed
-- Locks   the organization, then the passport.
create function api.rotate_passport(
    p_caller jsonb,
    p_passport_id uuid,
    p_overlap_seconds integer,
    p_key_hash text,
    p_key_prefix text,
    p_idempotency_key text
)
returns table (passport api.passports, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_request jsonb := jsonb_build_array(p_passport_id, p_overlap_seconds);
    v_stored jsonb;
    v_old billing.passports;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'rotate_passport', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.passports, v_stored), true;
        return;
    end if;
    perform billing.lock_organization(v_caller.organization_id);
    v_old := billing.lock_passport(v_caller, p_passport_id);
    v_caller.user_id := coalesce(v_caller.user_id, v_old.user_id);
    -- First, so that without an overlap the old one no longer counts towards the plan's limit.
    update billing.passports as p
    set expires_at = least(
        p.expires_at, billing.now() + make_interval(secs => p_overlap_seconds)
    )
    where p.organization_id = v_caller.organization_id and p.id = p_passport_id;
    passport := billing.write_passport(
        v_caller, v_old.name, v_old.permissions,
        least(v_old.expires_at, v_caller.expires_at), p_key_hash, p_key_prefix
    );
    perform billing.inherit_spend_caps(
        v_caller.organization_id, p_passport_id, passport.id, v_caller.actor
    );
    insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
    values (
        v_caller.organization_id, v_caller.actor, 'rotate_passport', p_passport_id,
        jsonb_build_object('successor', passport.id, 'overlap_seconds', p_overlap_seconds)
    );
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'rotate_passport', v_request,
        to_jsonb(passport)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.rotate_passport to service_role, faregate_functions;
comment on function api.rotate_passport is
'Gives a passport a new key; the old one works on for the overlap.';

-- api.revoke_passport: end a passport now.
--
-- Raises  FG404 passport_not_found, FG403 passport_exceeds_issuer, FG409 idempotency_conflict
-- Locks   the passport.
create function api.revoke_passport(p_caller jsonb, p_passport_id uuid, p_idempotency_key text)
returns table (passport api.passports, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_request jsonb := jsonb_build_array(p_passport_id);
    v_stored jsonb;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'revoke_passport', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.passports, v_stored), true;
        return;
    end if;
    perform billing.lock_passport(v_caller, p_passport_id);
    update billing.passports as p
    set revoked_at = billing.now()
    where p.organization_id = v_caller.organization_id and p.id = p_passport_id;
    select v.* into passport
    from api.passports as v
    where v.organization_id = v_caller.organization_id and v.id = p_passport_id;
    insert into billing.audit_log (organization_id, actor, action, subject_id)
    values (v_caller.organization_id, v_caller.actor, 'revoke_passport', p_passport_id);
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'revoke_passport', v_request,
        to_jsonb(passport)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.revoke_passport to service_role, faregate_functions;
comment on function api.revoke_passport is 'Ends a passport now.';
