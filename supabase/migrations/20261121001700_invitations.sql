-- Invitations: a person is asked by e-mail to join an organization, or to own one that an operator
-- made for them.
--
-- The mail's token is made by the task that has the mail sent. Only its SHA-256 is stored; whoever
-- invited never sees it, and it is worth nothing to anybody but the owner of the address.
-- Locks: the organization, then the invitation.

create table billing.invitations (
    organization_id uuid not null references billing.organizations (id),
    id uuid not null default billing.uuidv7(),
    email text not null,
    role text not null,
    invited_by text not null,
    token_hash bytea,
    failure text,
    sent_at timestamptz,
    accepted_at timestamptz,
    revoked_at timestamptz,
    expires_at timestamptz not null default billing.now() + interval '7 days',
    created_at timestamptz not null default billing.now(),
    primary key (organization_id, id),
    constraint invitations_token_hash_key unique (token_hash),
    constraint invitations_token_hash_is_sha256 check (octet_length(token_hash) = 32),
    constraint invitations_role_is_known check (role in ('owner', 'admin', 'member')),
    constraint invitations_end_once check (num_nonnulls(accepted_at, revoked_at) <= 1)
);
alter table billing.invitations enable row level security;
create unique index invitations_open_key on billing.invitations (organization_id, lower(email))
where accepted_at is null and revoked_at is null;
create index invitations_invited_by on billing.invitations (invited_by, created_at);
comment on table billing.invitations is
'Who was asked by e-mail to join an organization. An address has one open invitation to each.';
comment on column billing.invitations.organization_id is 'The organization that they may join.';
comment on column billing.invitations.id is 'Time-ordered (UUIDv7).';
comment on column billing.invitations.email is
'The address that was invited: only its owner can accept.';
comment on column billing.invitations.role is 'What they will be: owner, admin or member.';
comment on column billing.invitations.invited_by is
'Who invited: user:<id>, or the passport:<id> of an operator.';
comment on column billing.invitations.token_hash is
'The SHA-256 of the mail''s token; null before the first attempt to send it.';
comment on column billing.invitations.failure is
'Why the mail was refused for good; null: it was not.';
comment on column billing.invitations.sent_at is 'When Supabase Auth had sent the mail (UTC).';
comment on column billing.invitations.accepted_at is 'When they joined (UTC).';
comment on column billing.invitations.revoked_at is
'When (UTC) it was withdrawn, or replaced by a newer one; or whoever invited lost the right to, or
the organization was closed.';
comment on column billing.invitations.expires_at is 'It cannot be accepted from then on (UTC).';
comment on column billing.invitations.created_at is 'When they were invited (UTC).';

create view api.invitations with (security_invoker = true) as
select
    i.id,
    i.organization_id,
    i.email,
    i.role,
    case
        when i.accepted_at is not null then 'accepted'
        when i.failure is not null then 'failed'
        when i.revoked_at < i.expires_at then 'revoked'
        when i.expires_at <= billing.now() then 'expired'
        when i.sent_at is not null then 'sent'
        else 'pending'
    end as status,
    i.failure,
    i.invited_by,
    i.created_at,
    i.expires_at,
    i.accepted_at
from billing.invitations as i;
comment on view api.invitations is 'Invitations without the hash of their token.';
comment on column api.invitations.status is
'pending: the mail is not sent yet; sent; accepted; revoked; expired; failed: it cannot be sent.';
call billing.inherit_comments('api.invitations');

-- billing.find_inviter: who may invite to an organization, as the audit log names them: its owners
-- and admins in person, and operators by passport.
--
-- Raises  FG404 organization_not_found, FG403 role_required
--         FG401 invalid_passport, FG403 permission_denied  a passport, but no operator's
create function billing.find_inviter(p_caller jsonb, p_organization_id uuid)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_user_id uuid := p_caller ->> 'user_id';
    v_actor text := 'user:' || v_user_id;
begin
    if p_caller ? 'passport_hash' then
        v_actor := (billing.authenticate(p_caller, 'admin')).actor;
        perform billing.find_customer(p_organization_id);
    else
        perform billing.require_decider(
            billing.find_role(v_user_id, p_organization_id), 'member'
        );
    end if;
    return v_actor;
end
$$;

-- billing.authenticate_inviter: billing.find_inviter, for whoever is about to invite for a role.
--
-- Raises  what billing.find_inviter raises, FG409 organization_closed
-- Locks   the organization.
create function billing.authenticate_inviter(
    p_caller jsonb, p_organization_id uuid, p_role text
)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_caller ? 'passport_hash' then
        perform billing.lock_organization(p_organization_id);
    else
        perform billing.authenticate_manager(
            (p_caller ->> 'user_id')::uuid, p_organization_id, p_role
        );
    end if;
    return billing.find_inviter(p_caller, p_organization_id);
end
$$;

-- billing.write_invitation: an invitation, in place of an open one of the same address, and what
-- has its mail sent. The caller holds the organization's lock.
--
-- Raises  FG409 already_member            the address is a member's
--         FG409 invitation_limit_reached  50 are open, or within a day 100 were made in the
--                                         organization or by its member anywhere, or 5 by them to
--                                         this address: nobody floods other people's mailboxes
-- Locks   whoever invites, against inviting elsewhere at the same time.
create function billing.write_invitation(
    p_organization_id uuid, p_email text, p_role text, p_actor text
)
returns uuid
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id uuid := billing.uuidv7();
begin
    if exists (
        select
        from billing.members as m
        inner join auth.users as u on u.id = m.user_id
        where m.organization_id = p_organization_id and lower(u.email) = lower(p_email)
    ) then
        raise exception using errcode = 'FG409', message = 'already_member';
    end if;
    update billing.invitations as i
    set revoked_at = billing.now()
    where i.organization_id = p_organization_id
        and lower(i.email) = lower(p_email)
        and i.accepted_at is null
        and i.revoked_at is null;
    perform pg_advisory_xact_lock(hashtextextended('invite:' || p_actor, 0));
    if (
        select
            count(*) filter (where i.status in ('pending', 'sent')) >= 50
            or count(*) filter (where i.created_at > billing.now() - interval '1 day') >= 100
        from api.invitations as i
        where i.organization_id = p_organization_id
    ) or (
        select
            count(*) >= 100 or count(*) filter (where lower(i.email) = lower(p_email)) >= 5
        from billing.invitations as i
        where i.invited_by = p_actor
            and i.invited_by like 'user:%'
            and i.created_at > billing.now() - interval '1 day'
    ) then
        raise exception using errcode = 'FG409', message = 'invitation_limit_reached';
    end if;
    insert into billing.invitations (organization_id, id, email, role, invited_by)
    values (p_organization_id, v_id, p_email, p_role, p_actor);
    insert into billing.outbox (organization_id, topic, payload)
    values (
        p_organization_id, 'send_invitation',
        jsonb_build_object('organization_id', p_organization_id, 'invitation_id', v_id)
    );
    insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
    values (
        p_organization_id, p_actor, 'create_invitation', v_id, jsonb_build_object('role', p_role)
    );
    return v_id;
end
$$;

-- api.create_invitation: an owner, an admin or an operator invites an address; again: the older
-- invitation and its mail are void.
--
-- Raises  what billing.authenticate_inviter and billing.write_invitation raise
--         FG409 idempotency_conflict  the key was used for another request
-- Locks   the key, the organization.
create function api.create_invitation(
    p_caller jsonb,
    p_organization_id uuid,
    p_email text,
    p_role text,
    p_idempotency_key text
)
returns table (invitation api.invitations, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_request jsonb := jsonb_build_array(p_email, p_role);
    v_stored jsonb;
    v_actor text;
    v_id uuid;
begin
    perform billing.find_inviter(p_caller, p_organization_id);
    v_stored := billing.replay(
        p_organization_id, p_idempotency_key, 'create_invitation', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.invitations, v_stored), true;
        return;
    end if;
    v_actor := billing.authenticate_inviter(p_caller, p_organization_id, p_role);
    -- To replace an invitation is to revoke it.
    perform billing.authenticate_inviter(p_caller, p_organization_id, i.role)
    from billing.invitations as i
    where i.organization_id = p_organization_id
        and lower(i.email) = lower(p_email)
        and i.accepted_at is null
        and i.revoked_at is null;
    v_id := billing.write_invitation(p_organization_id, p_email, p_role, v_actor);
    select i.* into invitation
    from api.invitations as i
    where i.organization_id = p_organization_id and i.id = v_id;
    perform billing.remember(
        p_organization_id, p_idempotency_key, 'create_invitation', v_request, to_jsonb(invitation)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.create_invitation to service_role, faregate_functions;
comment on function api.create_invitation is
'Invites an address to an organization, in place of an open invitation of the same address.';

-- api.list_invitations: an organization's invitations, newest first, from before p_cursor.
--
-- Raises  what billing.find_inviter raises
create function api.list_invitations(
    p_caller jsonb, p_organization_id uuid, p_limit integer, p_cursor uuid
)
returns setof api.invitations
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.find_inviter(p_caller, p_organization_id);
    return query
    select i.*
    from api.invitations as i
    where i.organization_id = p_organization_id and (p_cursor is null or i.id < p_cursor)
    order by i.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_invitations to service_role, faregate_functions;
comment on function api.list_invitations is
'Pages through an organization''s invitations, newest first.';

-- api.revoke_invitation: an invitation is withdrawn; the mail's link leads nowhere any more.
--
-- Raises  what billing.authenticate_inviter raises, for the role that was offered
--         FG404 invitation_not_found  absent, or another organization's
--         FG409 invitation_closed     it is accepted, revoked, expired or failed
--         FG409 idempotency_conflict  the key was used for another request
-- Locks   the key, the organization.
create function api.revoke_invitation(
    p_caller jsonb, p_organization_id uuid, p_invitation_id uuid, p_idempotency_key text
)
returns table (invitation api.invitations, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_request jsonb := jsonb_build_array(p_invitation_id);
    v_stored jsonb;
    v_actor text;
begin
    perform billing.find_inviter(p_caller, p_organization_id);
    v_stored := billing.replay(
        p_organization_id, p_idempotency_key, 'revoke_invitation', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.invitations, v_stored), true;
        return;
    end if;
    select i.* into invitation
    from api.invitations as i
    where i.organization_id = p_organization_id and i.id = p_invitation_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'invitation_not_found';
    end if;
    v_actor := billing.authenticate_inviter(p_caller, p_organization_id, invitation.role);
    -- Again: whoever held the lock may have changed it.
    select i.* into invitation
    from api.invitations as i
    where i.organization_id = p_organization_id and i.id = p_invitation_id;
    if invitation.status not in ('pending', 'sent') then
        raise exception using
            errcode = 'FG409',
            message = 'invitation_closed',
            detail = jsonb_build_object('invitation_status', invitation.status)::text;
    end if;
    update billing.invitations as i
    set revoked_at = billing.now()
    where i.organization_id = p_organization_id and i.id = p_invitation_id;
    select i.* into invitation
    from api.invitations as i
    where i.organization_id = p_organization_id and i.id = p_invitation_id;
    insert into billing.audit_log (organization_id, actor, action, subject_id)
    values (p_organization_id, v_actor, 'revoke_invitation', p_invitation_id);
    perform billing.remember(
        p_organization_id, p_idempotency_key, 'revoke_invitation', v_request, to_jsonb(invitation)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.revoke_invitation to service_role, faregate_functions;
comment on function api.revoke_invitation is 'Withdraws an invitation.';

-- api.accept_invitation: a signed-in user joins the organization that the bearer of the token was
-- invited to, once. An invited owner claims an organization that waits for one, and its bonus.
--
-- Raises  FG401 invalid_token, FG403 email_not_verified
--         FG404 invitation_not_found  the token is unknown, used, replaced, revoked or expired, or
--                                     for another address: nobody learns which
--         FG409 already_member        the user is a member
--         FG409 idempotency_conflict  the key was used for another request
-- Locks   the key, the organization, the bonus identities, the wallet.
create function api.accept_invitation(
    p_user_id uuid, p_token_hash text, p_idempotency_key text
)
returns table (member api.members, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_request jsonb := jsonb_build_array(p_token_hash);
    v_stored jsonb;
    v_email text;
    v_organization_id uuid;
    v_id uuid;
    v_role text;
begin
    v_stored := billing.replay(p_user_id, p_idempotency_key, 'accept_invitation', v_request);
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.members, v_stored), true;
        return;
    end if;
    v_email := billing.verified_email(p_user_id);
    select i.organization_id, i.id into v_organization_id, v_id
    from billing.invitations as i
    where i.token_hash = decode(p_token_hash, 'hex');
    perform from billing.organizations as o
    where o.id = v_organization_id
    for no key update;
    -- Whoever had to wait for somebody that accepts, revokes, replaces or registers looks anew.
    select i.role into v_role
    from api.invitations as i
    where i.organization_id = v_organization_id
        and i.id = v_id
        and i.status in ('pending', 'sent')
        and lower(i.email) = lower(v_email);
    if not found then
        raise exception using errcode = 'FG404', message = 'invitation_not_found';
    end if;
    insert into billing.members (organization_id, user_id, role)
    values (v_organization_id, p_user_id, v_role)
    on conflict do nothing;
    if not found then
        raise exception using errcode = 'FG409', message = 'already_member';
    end if;
    update billing.invitations as i
    set accepted_at = billing.now()
    where i.organization_id = v_organization_id and i.id = v_id;
    perform from billing.organizations as o
    where o.id = v_organization_id and o.claimed_at is null and v_role = 'owner';
    if found then
        perform billing.claim_organization(v_organization_id, p_user_id, v_email);
    end if;
    select m.* into member
    from api.members as m
    where m.organization_id = v_organization_id and m.user_id = p_user_id;
    insert into billing.audit_log (organization_id, actor, action, subject_id)
    values (v_organization_id, 'user:' || p_user_id, 'accept_invitation', v_id);
    perform billing.remember(
        p_user_id, p_idempotency_key, 'accept_invitation', v_request, to_jsonb(member)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.accept_invitation to service_role, faregate_functions;
comment on function api.accept_invitation is
'Makes a user a member of the organization that they were invited to.';

-- billing.end_invitation: whoever joins an organization otherwise needs its invitation no more.
create function billing.end_invitation(p_organization_id uuid, p_email text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.invitations as i
    set accepted_at = billing.now()
    where i.organization_id = p_organization_id
        and lower(i.email) = lower(p_email)
        and i.accepted_at is null
        and i.revoked_at is null;
end
$$;

-- billing.void_invitations: whoever leaves, or loses the right to invite, leaves no open invitation
-- behind, not even one of a second address of their own.
--
-- With its owner's rights, because Supabase Auth deletes users with its own.
--
-- Locks   the organization, the invitations.
create function billing.void_invitations()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from billing.organizations as o where o.id = old.organization_id for no key update;
    update billing.invitations as i
    set revoked_at = billing.now()
    where i.organization_id = old.organization_id
        and i.invited_by = 'user:' || old.user_id
        and i.accepted_at is null
        and i.revoked_at is null
        and (tg_op = 'DELETE' or not billing.decides_about(new.role, i.role));
    return null;
end
$$;
create trigger members_void_invitations after delete or update of role on billing.members
for each row execute function billing.void_invitations();
