-- Members: who belongs to an organization, and who decides that.

-- billing.authenticate_member: the role of a user in an organization that they name: the first line
-- of every function about members, who are asked for in person: no passport stands for them.
--
-- Raises  FG404 organization_not_found  absent, or not theirs
--         FG409 organization_closed     it does nothing any more
-- Locks   the organization: of two changes of its members one sees what the other did.
create function billing.authenticate_member(p_user_id uuid, p_organization_id uuid)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_role text;
    v_closed_at timestamptz;
begin
    perform from billing.organizations as o
    where o.id = p_organization_id
    for no key update;
    select m.role, o.closed_at into v_role, v_closed_at
    from billing.members as m
    inner join billing.organizations as o on o.id = m.organization_id
    where m.organization_id = p_organization_id and m.user_id = p_user_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'organization_not_found';
    elsif v_closed_at is not null then
        raise exception using errcode = 'FG409', message = 'organization_closed';
    end if;
    return v_role;
end
$$;

-- billing.authenticate_manager: the same, for those who decide about members of some role: owners
-- about everybody, admins about all but owners.
--
-- Raises  FG404 organization_not_found, FG409 organization_closed
--         FG403 role_required  detail: the role it takes
create function billing.authenticate_manager(
    p_user_id uuid, p_organization_id uuid, p_role text
)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_role text := billing.authenticate_member(p_user_id, p_organization_id);
begin
    if v_role = 'member' or (v_role = 'admin' and p_role = 'owner') then
        raise exception using
            errcode = 'FG403',
            message = 'role_required',
            detail = jsonb_build_object(
                'role', case when p_role = 'owner' then 'owner' else 'admin' end
            )::text;
    end if;
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
