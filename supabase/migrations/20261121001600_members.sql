-- Organizations and their members: who belongs to one, and who decides that.

-- billing.find_role: the role of a user in an organization that they name. Members are asked for in
-- person, here and below: no passport stands for them, or a leaked one would decide about people.
--
-- Raises  FG404 organization_not_found  absent, or not theirs
create function billing.find_role(p_user_id uuid, p_organization_id uuid)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_role text;
begin
    select m.role into v_role
    from billing.members as m
    where m.organization_id = p_organization_id and m.user_id = p_user_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'organization_not_found';
    end if;
    return v_role;
end
$$;

-- billing.lock_role: billing.find_role, for whoever is about to change something about members.
--
-- Raises  FG404 organization_not_found
-- Locks   the organization, open or closed: of two changes of its members one sees what the other
--         did.
create function billing.lock_role(p_user_id uuid, p_organization_id uuid)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Strangers lock nothing and learn nothing.
    perform billing.find_role(p_user_id, p_organization_id);
    perform from billing.organizations as o where o.id = p_organization_id for no key update;
    -- Again: whoever held the lock may have changed it.
    return billing.find_role(p_user_id, p_organization_id);
end
$$;

-- billing.decides_about: owners decide about everybody, admins about all but owners.
create function billing.decides_about(p_role text, p_other_role text)
returns boolean
language sql
immutable parallel safe
return p_role = 'owner' or (p_role = 'admin' and p_other_role <> 'owner');

-- billing.require_decider: billing.decides_about, or a refusal.
--
-- Raises  FG403 role_required  detail: the role it takes
create function billing.require_decider(p_role text, p_other_role text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if not billing.decides_about(p_role, p_other_role) then
        raise exception using
            errcode = 'FG403',
            message = 'role_required',
            detail = jsonb_build_object(
                'role', case when p_other_role = 'owner' then 'owner' else 'admin' end
            )::text;
    end if;
end
$$;

-- billing.authenticate_manager: billing.lock_role, for those who decide about members of some role
-- in an organization that is open.
--
-- Raises  FG404 organization_not_found, FG409 organization_closed, FG403 role_required
-- Locks   the organization.
create function billing.authenticate_manager(
    p_user_id uuid, p_organization_id uuid, p_role text
)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_role text := billing.lock_role(p_user_id, p_organization_id);
begin
    perform billing.lock_organization(p_organization_id);
    perform billing.require_decider(v_role, p_role);
    return v_role;
end
$$;

-- billing.user_email: a user's address, for views whose readers may not look into auth.users. It
-- runs with its owner's rights, and views show it only beside rows that their reader sees anyway.
create function billing.user_email(p_user_id uuid)
returns text
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select u.email from auth.users as u where u.id = p_user_id);
end
$$;

create view api.members with (security_invoker = true) as
select
    m.organization_id,
    m.user_id,
    m.role,
    billing.user_email(m.user_id) as email,
    m.created_at
from billing.members as m;
comment on view api.members is 'The users of each organization and their roles.';
comment on column api.members.email is 'Where mail reaches them: what they signed up with.';
call billing.inherit_comments('api.members');

-- api.create_organization: one more organization, on the free plan, with the user as its owner. The
-- answer has no passport.
--
-- Raises  FG401 invalid_token, FG403 email_not_verified, FG409 idempotency_conflict
--         FG409 organization_limit_reached  they own so many open ones already; detail: limit
--         FG402 debt_outstanding  one of theirs owes money: no other is made meanwhile; detail:
--                                 debt_micros
-- Locks   the key, the user, the bonus identities, the wallet.
create function api.create_organization(p_user_id uuid, p_name text, p_idempotency_key text)
returns table (registration billing.registration, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_request jsonb := jsonb_build_array(p_name);
    v_stored jsonb;
    v_email text;
    v_limit constant integer := 10;
    v_debt_micros bigint;
    v_organization_id uuid;
begin
    v_stored := billing.replay(p_user_id, p_idempotency_key, 'create_organization', v_request);
    if v_stored is not null then
        return query select jsonb_populate_record(null::billing.registration, v_stored), true;
        return;
    end if;
    -- What api.register locks, too: of two calls the second counts the first's organization.
    perform pg_advisory_xact_lock(hashtextextended('register:' || p_user_id, 0));
    v_email := billing.verified_email(p_user_id);
    if (
        select count(*) >= v_limit
        from billing.members as m
        inner join billing.organizations as o on o.id = m.organization_id
        where m.user_id = p_user_id and m.role = 'owner' and o.closed_at is null
    ) then
        raise exception using
            errcode = 'FG409',
            message = 'organization_limit_reached',
            detail = jsonb_build_object('limit', v_limit)::text;
    end if;
    select sum(w.debt_micros) into v_debt_micros
    from billing.members as m
    inner join billing.wallets as w on w.organization_id = m.organization_id
    where m.user_id = p_user_id and m.role = 'owner';
    if v_debt_micros > 0 then
        raise exception using
            errcode = 'FG402',
            message = 'debt_outstanding',
            detail = jsonb_build_object('debt_micros', v_debt_micros)::text;
    end if;
    v_organization_id := billing.create_organization(p_name, 'free', v_email, billing.now());
    insert into billing.members (organization_id, user_id, role)
    values (v_organization_id, p_user_id, 'owner');
    perform billing.grant_registration_bonus(v_organization_id, 'free', p_user_id, v_email);
    registration := billing.read_registration(v_organization_id, null);
    insert into billing.audit_log (organization_id, actor, action, subject_id)
    values (v_organization_id, 'user:' || p_user_id, 'create_organization', v_organization_id);
    perform billing.remember(
        p_user_id, p_idempotency_key, 'create_organization', v_request, to_jsonb(registration)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.create_organization to service_role, faregate_functions;
comment on function api.create_organization is
'Makes one more organization of a signed-in user, on the free plan.';

-- api.list_organizations: those that a user belongs to, open and closed, and their role in each,
-- newest first, from before p_cursor.
create function api.list_organizations(p_user_id uuid, p_limit integer, p_cursor uuid)
returns table (organization api.organizations, role text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select o, m.role
    from billing.members as m
    inner join api.organizations as o on o.id = m.organization_id
    where m.user_id = p_user_id and (p_cursor is null or o.id < p_cursor)
    order by o.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_organizations to service_role, faregate_functions;
comment on function api.list_organizations is
'Pages through the organizations that a user belongs to, newest first.';

-- api.get_organization: one that a user belongs to, and their role in it.
-- Raises  FG404 organization_not_found
create function api.get_organization(p_user_id uuid, p_organization_id uuid)
returns table (organization api.organizations, role text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    role := billing.find_role(p_user_id, p_organization_id);
    select o.* into organization from api.organizations as o where o.id = p_organization_id;
    return next;
end
$$;
grant execute on function api.get_organization to service_role, faregate_functions;
comment on function api.get_organization is 'Reads one organization and the user''s role in it.';

-- api.update_organization: another name, another address for bills; null: the same. Until an owner
-- has claimed the organization, that address says who may: nobody else changes it.
--
-- Raises  FG404 organization_not_found, FG409 organization_closed, FG403 role_required
-- Locks   the organization.
create function api.update_organization(
    p_user_id uuid, p_organization_id uuid, p_name text, p_billing_email text
)
returns table (organization api.organizations, role text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_changes jsonb := jsonb_strip_nulls(
        jsonb_build_object('name', p_name, 'billing_email', p_billing_email)
    );
begin
    role := billing.authenticate_manager(p_user_id, p_organization_id, 'admin');
    perform from billing.organizations as o
    where o.id = p_organization_id and o.claimed_at is null and p_billing_email is not null;
    if found then
        perform billing.require_decider(role, 'owner');
    end if;
    if v_changes <> '{}' then
        update billing.organizations as o
        set
            name = coalesce(p_name, o.name),
            billing_email = coalesce(p_billing_email, o.billing_email)
        where o.id = p_organization_id;
        insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
        values (
            p_organization_id, 'user:' || p_user_id, 'update_organization', p_organization_id,
            v_changes
        );
    end if;
    select o.* into organization from api.organizations as o where o.id = p_organization_id;
    return next;
end
$$;
grant execute on function api.update_organization to service_role, faregate_functions;
comment on function api.update_organization is
'Gives an organization another name, or another address for bills.';

-- api.list_members: an organization's members by their ids, from before p_cursor.
-- Raises  FG404 organization_not_found
create function api.list_members(
    p_user_id uuid, p_organization_id uuid, p_limit integer, p_cursor uuid
)
returns setof api.members
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.find_role(p_user_id, p_organization_id);
    return query
    select m.*
    from api.members as m
    where m.organization_id = p_organization_id and (p_cursor is null or m.user_id < p_cursor)
    order by m.user_id desc
    limit p_limit;
end
$$;
grant execute on function api.list_members to service_role, faregate_functions;
comment on function api.list_members is 'Pages through the members of an organization.';

-- billing.find_member: the role of somebody whom a member decides about.
-- Raises  FG404 member_not_found
create function billing.find_member(p_organization_id uuid, p_member_id uuid)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_role text;
begin
    select m.role into v_role
    from billing.members as m
    where m.organization_id = p_organization_id and m.user_id = p_member_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'member_not_found';
    end if;
    return v_role;
end
$$;

-- billing.keep_an_owner: without this member somebody else owns the organization.
-- Raises  FG409 last_owner
create function billing.keep_an_owner(p_organization_id uuid, p_member_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from billing.members as m
    where m.organization_id = p_organization_id
        and m.user_id <> p_member_id
        and m.role = 'owner';
    if not found then
        raise exception using errcode = 'FG409', message = 'last_owner';
    end if;
end
$$;

-- api.set_member_role: what a member is from now on. With a lower role they lose the passports that
-- may do more than it.
--
-- Raises  FG404 organization_not_found, FG409 organization_closed
--         FG404 member_not_found
--         FG403 role_required  to decide about the role they have, or about the one they get
--         FG409 last_owner     nobody else owns the organization
-- Locks   the organization, the passports.
create function api.set_member_role(
    p_user_id uuid, p_organization_id uuid, p_member_id uuid, p_role text
)
returns setof api.members
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_own_role text := billing.authenticate_manager(p_user_id, p_organization_id, p_role);
    v_role text := billing.find_member(p_organization_id, p_member_id);
begin
    perform billing.require_decider(v_own_role, v_role);
    if p_role <> v_role then
        if v_role = 'owner' then
            perform billing.keep_an_owner(p_organization_id, p_member_id);
        end if;
        update billing.members as m
        set role = p_role
        where m.organization_id = p_organization_id and m.user_id = p_member_id;
        insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
        values (
            p_organization_id, 'user:' || p_user_id, 'set_member_role', p_member_id,
            jsonb_build_object('from', v_role, 'to', p_role)
        );
    end if;
    return query
    select m.*
    from api.members as m
    where m.organization_id = p_organization_id and m.user_id = p_member_id;
end
$$;
grant execute on function api.set_member_role to service_role, faregate_functions;
comment on function api.set_member_role is
'Decides what a member is from now on; less takes the passports that may do more.';

-- api.remove_member: somebody is no member any more, and all their passports end. Everybody may
-- remove themselves. Sessions go on: they are the organization's. Nobody need stay in one that is
-- closed. Returns the role they had.
--
-- Raises  FG404 organization_not_found
--         FG404 member_not_found
--         FG403 role_required  to decide about others of their role
--         FG409 last_owner     nobody else owns the organization
-- Locks   the organization, the passports.
create function api.remove_member(p_user_id uuid, p_organization_id uuid, p_member_id uuid)
returns text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_own_role text := billing.lock_role(p_user_id, p_organization_id);
    v_role text := billing.find_member(p_organization_id, p_member_id);
begin
    if p_member_id <> p_user_id then
        perform billing.require_decider(v_own_role, v_role);
    end if;
    if v_role = 'owner' then
        perform billing.keep_an_owner(p_organization_id, p_member_id);
    end if;
    delete from billing.members as m
    where m.organization_id = p_organization_id and m.user_id = p_member_id;
    insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
    values (
        p_organization_id, 'user:' || p_user_id, 'remove_member', p_member_id,
        jsonb_build_object('role', v_role)
    );
    return v_role;
end
$$;
grant execute on function api.remove_member to service_role, faregate_functions;
comment on function api.remove_member is 'Ends a membership and all passports of that member.';
