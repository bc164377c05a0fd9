-- Invitations' mails: what the task that has one sent asks before, and tells afterwards.

-- api.start_invitation_mail: the address that a mail with this token goes to; none when there is
-- nothing to send any more: then the task is done.
--
-- Raises  FG404 invitation_not_found
-- Locks   the invitation, the task's row.
create function api.start_invitation_mail(
    p_organization_id uuid, p_invitation_id uuid, p_task_id uuid, p_token_hash text
)
returns table (email text, status text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from billing.invitations as i
    where i.organization_id = p_organization_id and i.id = p_invitation_id
    for update;
    select i.status, case i.status when 'pending' then i.email end into status, email
    from api.invitations as i
    where i.organization_id = p_organization_id and i.id = p_invitation_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'invitation_not_found';
    end if;
    if email is null then
        perform billing.acknowledge(p_organization_id, p_task_id);
    else
        update billing.invitations as i
        set token_hash = decode(p_token_hash, 'hex')
        where i.organization_id = p_organization_id and i.id = p_invitation_id;
    end if;
    return next;
end
$$;
grant execute on function api.start_invitation_mail to service_role, faregate_functions;
comment on function api.start_invitation_mail is
'Gives the address that an invitation''s mail goes to, and stores the hash of the mail''s token.';

-- api.finish_invitation_mail: the mail was sent, or refused for good (p_failure). Of two attempts
-- the first to tell is believed. The task is done.
-- Locks   the invitation, the task's row.
create function api.finish_invitation_mail(
    p_organization_id uuid, p_invitation_id uuid, p_task_id uuid, p_failure text
)
returns setof api.invitations
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.invitations as i
    set
        failure = p_failure,
        sent_at = case when p_failure is null then billing.now() end
    where i.organization_id = p_organization_id
        and i.id = p_invitation_id
        and i.sent_at is null
        and i.failure is null;
    perform billing.acknowledge(p_organization_id, p_task_id);
    return query
    select i.*
    from api.invitations as i
    where i.organization_id = p_organization_id and i.id = p_invitation_id;
end
$$;
grant execute on function api.finish_invitation_mail to service_role, faregate_functions;
comment on function api.finish_invitation_mail is
'Notes that an invitation''s mail was sent, or why it never will be.';
