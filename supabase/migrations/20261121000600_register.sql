-- Registration: a person with a verified e-mail gets an organization, a wallet, the bonus, a first
-- passport, and by tasks that follow an identity and a first bucket.

create table billing.bonus_identities (
    identity text primary key,
    organization_id uuid not null references billing.organizations (id),
    created_at timestamptz not null default billing.now()
);
alter table billing.bonus_identities enable row level security;
comment on table billing.bonus_identities is
'Who has had the registration bonus and the initial storage. Once per identity, ever: rows outlive
users and organizations. Append-only.';
comment on column billing.bonus_identities.identity is
'user:<id> or email:<address>, in the one spelling of that mailbox.';
comment on column billing.bonus_identities.organization_id is
'The organization that was given the bonus.';
comment on column billing.bonus_identities.created_at is 'When it was given (UTC).';
create index bonus_identities_organization_id on billing.bonus_identities (organization_id);
create trigger bonus_identities_append_only before update or delete on billing.bonus_identities
for each row execute function billing.refuse_change();
create trigger bonus_identities_no_truncate before truncate on billing.bonus_identities
for each statement execute function billing.refuse_change();

create view api.organizations with (security_invoker = true) as
select
    o.id,
    o.name,
    o.plan_id as plan,
    o.billing_email,
    o.closed_at,
    o.created_at
from billing.organizations as o;
comment on view api.organizations is 'The tenants and their plans.';
comment on column api.organizations.plan is
'What it may do and what it pays: free, pro, enterprise or admin.';
call billing.inherit_comments('api.organizations');

-- billing.canonical_email: one spelling per mailbox, so that a bonus is not paid to a+1@, a+2@, …
-- Everybody ignores case in practice; a +tag is the same mailbox wherever tags work;
-- Gmail ignores dots.
create function billing.canonical_email(p_email text)
returns text
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_local text := lower(split_part(regexp_replace(p_email, '@[^@]*$', ''), '+', 1));
    v_domain text := lower(substring(p_email from '@([^@]*)$'));
begin
    if v_domain in ('gmail.com', 'googlemail.com') then
        return replace(v_local, '.', '') || '@gmail.com';
    end if;
    return v_local || '@' || v_domain;
end
$$;

-- billing.grant_registration_bonus: the plan's bonus and initial storage,
-- if neither this user nor this mailbox ever had them.
-- Locks   the identities, then the wallet.
create function billing.grant_registration_bonus(
    p_organization_id uuid, p_plan_id text, p_user_id uuid, p_email text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_bonus_micros bigint;
    v_new_identities integer;
begin
    select l.registration_bonus_micros into strict v_bonus_micros
    from billing.plans as l
    where l.id = p_plan_id;
    insert into billing.bonus_identities (identity, organization_id)
    values
    ('email:' || billing.canonical_email(p_email), p_organization_id),
    ('user:' || p_user_id, p_organization_id)
    on conflict do nothing;
    get diagnostics v_new_identities = row_count;
    if v_new_identities < 2 then
        return;
    end if;
    if v_bonus_micros > 0 then
        perform billing.credit_wallet(
            p_organization_id, v_bonus_micros, 'promotional', 'promotion', 'registration_bonus',
            null
        );
    end if;
    perform billing.open_initial_storage(p_organization_id);
end
$$;

-- billing.verified_email: a user's address, which they have confirmed. It is read from auth.users:
-- a token may be old, and its user_metadata lies.
--
-- Raises  FG401 invalid_token       the user no longer exists
--         FG403 email_not_verified  the address is not confirmed, or there is none
create function billing.verified_email(p_user_id uuid)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_email text;
    v_verified_at timestamptz;
begin
    select u.email, u.email_confirmed_at into v_email, v_verified_at
    from auth.users as u
    where u.id = p_user_id;
    if not found then
        raise exception using errcode = 'FG401', message = 'invalid_token';
    end if;
    if v_verified_at is null or coalesce(v_email, '') = '' then
        raise exception using errcode = 'FG403', message = 'email_not_verified';
    end if;
    return v_email;
end
$$;

-- billing.create_organization: an organization with its wallet and, where its plan has one, its
-- identity.
create function billing.create_organization(
    p_name text, p_plan_id text, p_billing_email text, p_claimed_at timestamptz
)
returns uuid
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id uuid := billing.uuidv7();
begin
    insert into billing.organizations (id, name, plan_id, billing_email, claimed_at)
    values (v_id, p_name, p_plan_id, p_billing_email, p_claimed_at);
    insert into billing.wallets (organization_id) values (v_id);
    perform billing.request_identity(v_id);
    return v_id;
end
$$;

create type billing.registration as (
    organization api.organizations,
    passport api.passports,
    wallet api.wallets
);
comment on type billing.registration is 'The answer of both registrations.';

-- billing.read_registration: an organization as its registration answers it.
create function billing.read_registration(p_organization_id uuid, p_passport api.passports)
returns billing.registration
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_registration billing.registration;
begin
    v_registration.passport := p_passport;
    select o into v_registration.organization
    from api.organizations as o
    where o.id = p_organization_id;
    select w into v_registration.wallet
    from api.wallets as w
    where w.organization_id = p_organization_id;
    return v_registration;
end
$$;

-- billing.claim_organization: an organization has its owner now. The bonus that waited for them is
-- theirs, and so are passports that an operator made.
--
-- Locks   the organization, the bonus identities, the wallet.
create function billing.claim_organization(
    p_organization_id uuid, p_user_id uuid, p_email text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_plan_id text;
begin
    update billing.organizations as o
    set claimed_at = billing.now()
    where o.id = p_organization_id
    returning o.plan_id into strict v_plan_id;
    update billing.passports as p
    set user_id = p_user_id
    where p.organization_id = p_organization_id and p.user_id is null;
    perform billing.grant_registration_bonus(p_organization_id, v_plan_id, p_user_id, p_email);
end
$$;

-- api.register: a signed-in user becomes the owner of an organization: the one that an operator
-- registered for their address, or else a new one on the free plan.
--
-- Raises  FG401 invalid_token, FG403 email_not_verified
--         FG409 already_registered    none waits for the user, and they own one that is open;
--                                     detail: organization_id
--         FG409 idempotency_conflict  the key was used for another request
-- Locks   the user, the bonus identities, the wallet.
create function api.register(
    p_user_id uuid,
    p_organization_name text,
    p_key_hash text,
    p_key_prefix text,
    p_idempotency_key text
)
returns table (registration billing.registration, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_request jsonb := jsonb_build_array(p_organization_name);
    v_stored jsonb;
    v_email text;
    v_organization_id uuid;
begin
    v_stored := billing.replay(p_user_id, p_idempotency_key, 'register', v_request);
    if v_stored is not null then
        return query select jsonb_populate_record(null::billing.registration, v_stored), true;
        return;
    end if;
    -- Two registrations of one user with different keys:
    -- the second waits and finds the first's organization.
    perform pg_advisory_xact_lock(hashtextextended('register:' || p_user_id, 0));
    v_email := billing.verified_email(p_user_id);
    select o.id into v_organization_id
    from billing.organizations as o
    where o.claimed_at is null and lower(o.billing_email) = lower(v_email)
    for no key update;
    if found then
        perform billing.end_invitation(v_organization_id, v_email);
    else
        select m.organization_id into v_organization_id
        from billing.members as m
        inner join billing.organizations as o on o.id = m.organization_id
        where m.user_id = p_user_id and m.role = 'owner' and o.closed_at is null
        limit 1;
        if found then
            raise exception using
                errcode = 'FG409',
                message = 'already_registered',
                detail = jsonb_build_object('organization_id', v_organization_id)::text;
        end if;
        v_organization_id := billing.create_organization(
            coalesce(p_organization_name, left(v_email, 100)), 'free', v_email, billing.now()
        );
    end if;
    insert into billing.members (organization_id, user_id, role)
    values (v_organization_id, p_user_id, 'owner')
    -- Invited as something else before.
    on conflict (organization_id, user_id) do update set role = excluded.role;
    perform billing.claim_organization(v_organization_id, p_user_id, v_email);
    registration := billing.read_registration(
        v_organization_id,
        billing.write_passport(
            billing.caller_by_user(p_user_id, v_organization_id),
            'first passport', array['read', 'write', 'billing'], null, p_key_hash, p_key_prefix
        )
    );
    insert into billing.audit_log (organization_id, actor, action, subject_id)
    values (v_organization_id, 'user:' || p_user_id, 'register', v_organization_id);
    perform billing.remember(
        p_user_id, p_idempotency_key, 'register', v_request, to_jsonb(registration)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.register to service_role, faregate_functions;
comment on function api.register is
'Makes a signed-in user with a verified address the owner of an organization.';

-- api.register_customer: an operator makes an organization of any plan for an e-mail address.
-- Whoever verifies that address and registers becomes its owner; the bonus waits for them.
--
-- Raises  FG403 permission_denied     the caller is no operator
--         FG400 plan_unknown          no such plan
--         FG409 already_registered    an organization is waiting for this address; detail:
--                                     organization_id
--         FG409 idempotency_conflict  the key was used for another request
create function api.register_customer(
    p_caller jsonb,
    p_email text,
    p_plan_id text,
    p_organization_name text,
    p_is_invited boolean,
    p_key_hash text,
    p_key_prefix text,
    p_idempotency_key text
)
returns table (registration billing.registration, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_request jsonb := jsonb_build_array(p_email, p_plan_id, p_organization_name, p_is_invited);
    v_stored jsonb;
    v_organization_id uuid;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'register_customer', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::billing.registration, v_stored), true;
        return;
    end if;
    if not exists (select from billing.plans as l where l.id = p_plan_id) then
        raise exception using errcode = 'FG400', message = 'plan_unknown';
    end if;
    perform pg_advisory_xact_lock(hashtextextended('claim:' || lower(p_email), 0));
    select o.id into v_organization_id
    from billing.organizations as o
    left join billing.members as m on m.organization_id = o.id and m.role = 'owner'
    left join auth.users as u on u.id = m.user_id
    where o.closed_at is null
        and (
            (o.claimed_at is null and lower(o.billing_email) = lower(p_email))
            or lower(u.email) = lower(p_email)
        )
    limit 1;
    if found then
        raise exception using
            errcode = 'FG409',
            message = 'already_registered',
            detail = jsonb_build_object('organization_id', v_organization_id)::text;
    end if;
    v_organization_id := billing.create_organization(
        coalesce(p_organization_name, left(p_email, 100)), p_plan_id, p_email, null
    );
    perform billing.open_initial_storage(v_organization_id);
    registration := billing.read_registration(
        v_organization_id,
        billing.write_passport(
            row(
                v_organization_id, p_plan_id, array['read', 'write', 'billing'],
                v_caller.actor, null, null, null
            )::billing.caller,
            'first passport', array['read', 'write', 'billing'], null, p_key_hash, p_key_prefix
        )
    );
    insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
    values (
        v_organization_id, v_caller.actor, 'register_customer', v_organization_id,
        jsonb_build_object('plan', p_plan_id)
    );
    if p_is_invited then
        perform billing.write_invitation(v_organization_id, p_email, 'owner', v_caller.actor);
    end if;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'register_customer', v_request,
        to_jsonb(registration)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.register_customer to service_role, faregate_functions;
comment on function api.register_customer is
'Makes an organization of any plan for an address, for an operator.';

-- billing.create_operator: the platform's own organization and a passport with every permission.
-- Run once by the owner of the database; nobody else may.
create function billing.create_operator(p_name text, p_key_hash bytea, p_key_prefix text)
returns uuid
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id uuid := billing.create_organization(p_name, 'admin', 'operator@localhost', billing.now());
begin
    perform billing.write_passport(
        row(
            v_id, 'admin', array['read', 'write', 'billing', 'admin'], 'operator', null, null, null
        )::billing.caller,
        'operator', array['read', 'write', 'billing', 'admin'], null,
        encode(p_key_hash, 'hex'), p_key_prefix
    );
    insert into billing.audit_log (organization_id, actor, action, subject_id)
    values (v_id, 'operator', 'create_operator', v_id);
    return v_id;
end
$$;
