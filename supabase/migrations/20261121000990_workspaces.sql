-- Workspaces: what spaces, storage and sessions are attached to.

create table billing.workspaces (
    organization_id uuid not null references billing.organizations (id),
    id uuid not null default billing.uuidv7(),
    name text not null,
    created_by text not null,
    created_at timestamptz not null default billing.now(),
    deleted_at timestamptz,
    primary key (organization_id, id),
    constraint workspaces_name_length check (char_length(name) between 1 and 100)
);
alter table billing.workspaces enable row level security;
comment on table billing.workspaces is
'What belongs together in an organization: spaces, storage and sessions are attached to one.';
comment on column billing.workspaces.organization_id is 'The organization it belongs to.';
comment on column billing.workspaces.id is 'Time-ordered (UUIDv7).';
comment on column billing.workspaces.name is 'What its people call it; not unique.';
comment on column billing.workspaces.created_by is
'Who made it: passport:<id>, user:<id> or operator.';
comment on column billing.workspaces.created_at is 'When it was made (UTC).';
comment on column billing.workspaces.deleted_at is 'When it was deleted (UTC); null: it was not.';

create view api.workspaces with (security_invoker = true) as
select
    w.id,
    w.organization_id,
    w.name,
    w.created_at,
    w.deleted_at
from billing.workspaces as w;
comment on view api.workspaces is 'Workspaces, those that were deleted among them.';
call billing.inherit_comments('api.workspaces');

-- billing.find_workspace: a workspace of an organization.
--
-- Raises  FG404 workspace_not_found  absent, deleted, or another organization's
create function billing.find_workspace(p_organization_id uuid, p_workspace_id uuid)
returns billing.workspaces
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_workspace billing.workspaces;
begin
    select w.* into v_workspace
    from billing.workspaces as w
    where w.organization_id = p_organization_id
        and w.id = p_workspace_id
        and w.deleted_at is null;
    if not found then
        raise exception using errcode = 'FG404', message = 'workspace_not_found';
    end if;
    return v_workspace;
end
$$;

-- billing.lock_workspace: a workspace that something is attached to or taken from: nobody deletes
-- it until the transaction ends.
--
-- Raises  FG404 workspace_not_found  absent, deleted, or another organization's
-- Locks   the workspace: after the organization, before storage and holds.
create function billing.lock_workspace(p_organization_id uuid, p_workspace_id uuid)
returns billing.workspaces
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform w.id
    from billing.workspaces as w
    where w.organization_id = p_organization_id and w.id = p_workspace_id
    for no key update;
    -- After the lock: whoever held it may have deleted it.
    return billing.find_workspace(p_organization_id, p_workspace_id);
end
$$;

-- billing.workspace_contents: what is attached to a workspace, and how many sessions run in it.
create function billing.workspace_contents(p_organization_id uuid, p_workspace_id uuid)
returns table (storage_ids uuid[], spaces text[], running_sessions bigint)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    storage_ids := array(
        select s.id
        from billing.storage as s
        where s.organization_id = p_organization_id
            and s.workspace_id = p_workspace_id
            and not billing.has_ended(s.status)
        order by s.id
    );
    spaces := array(
        select a.slug
        from billing.attachments as a
        where a.organization_id = p_organization_id and a.workspace_id = p_workspace_id
        order by a.slug
    );
    running_sessions := billing.running_sessions(p_organization_id, p_workspace_id);
    return next;
end
$$;

-- api.create_workspace: a new workspace of the caller's organization.
--
-- Raises  FG409 workspace_limit_reached  the plan's number of workspaces is used up; detail:
--                                        max_workspaces
--         FG409 organization_closed, FG409 idempotency_conflict
-- Locks   the key, the organization.
create function api.create_workspace(p_caller jsonb, p_name text, p_idempotency_key text)
returns table (workspace api.workspaces, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_request jsonb := jsonb_build_array(p_name);
    v_stored jsonb;
    v_max_workspaces integer;
    v_id uuid := billing.uuidv7();
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'create_workspace', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.workspaces, v_stored), true;
        return;
    end if;
    -- The turnstile: of two calls one counts after the other's insert.
    perform billing.lock_organization(v_caller.organization_id);
    select l.max_workspaces into strict v_max_workspaces
    from billing.organizations as o
    inner join billing.plans as l on l.id = o.plan_id
    where o.id = v_caller.organization_id;
    if v_max_workspaces <= (
        select count(*)
        from billing.workspaces as w
        where w.organization_id = v_caller.organization_id and w.deleted_at is null
    ) then
        raise exception using
            errcode = 'FG409',
            message = 'workspace_limit_reached',
            detail = jsonb_build_object('max_workspaces', v_max_workspaces)::text;
    end if;
    insert into billing.workspaces (organization_id, id, name, created_by)
    values (v_caller.organization_id, v_id, p_name, v_caller.actor);
    insert into billing.audit_log (organization_id, actor, action, subject_id)
    values (v_caller.organization_id, v_caller.actor, 'create_workspace', v_id);
    select v.* into workspace
    from api.workspaces as v
    where v.organization_id = v_caller.organization_id and v.id = v_id;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'create_workspace', v_request,
        to_jsonb(workspace)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.create_workspace to service_role, faregate_functions;
comment on function api.create_workspace is 'Makes a workspace of the caller''s organization.';

-- api.list_workspaces: the organization's workspaces but for deleted ones, newest first, from
-- before p_cursor.
create function api.list_workspaces(p_caller jsonb, p_limit integer, p_cursor uuid)
returns setof api.workspaces
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    return query
    select w.*
    from api.workspaces as w
    where w.organization_id = v_caller.organization_id
        and w.deleted_at is null
        and (p_cursor is null or w.id < p_cursor)
    order by w.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_workspaces to service_role, faregate_functions;
comment on function api.list_workspaces is
'Pages through the workspaces of the caller''s organization, newest first.';

-- api.get_workspace: one workspace, what is attached to it, and how many sessions run in it.
--
-- Raises  FG404 workspace_not_found
create function api.get_workspace(p_caller jsonb, p_workspace_id uuid)
returns table (
    workspace api.workspaces, storage_ids uuid[], spaces text[], running_sessions bigint
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    perform billing.find_workspace(v_caller.organization_id, p_workspace_id);
    return query
    select w, c.*
    from api.workspaces as w
    cross join lateral billing.workspace_contents(w.organization_id, w.id) as c
    where w.organization_id = v_caller.organization_id and w.id = p_workspace_id;
end
$$;
grant execute on function api.get_workspace to service_role, faregate_functions;
comment on function api.get_workspace is
'Reads one workspace, what is attached to it and how many sessions run in it.';

-- api.update_workspace: another name.
--
-- Raises  FG404 workspace_not_found
-- Locks   the workspace.
create function api.update_workspace(p_caller jsonb, p_workspace_id uuid, p_name text)
returns setof api.workspaces
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
begin
    perform billing.lock_workspace(v_caller.organization_id, p_workspace_id);
    update billing.workspaces as w
    set name = p_name
    where w.organization_id = v_caller.organization_id and w.id = p_workspace_id;
    insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
    values (
        v_caller.organization_id, v_caller.actor, 'update_workspace', p_workspace_id,
        jsonb_build_object('name', p_name)
    );
    return query
    select w.*
    from api.workspaces as w
    where w.organization_id = v_caller.organization_id and w.id = p_workspace_id;
end
$$;
grant execute on function api.update_workspace to service_role, faregate_functions;
comment on function api.update_workspace is 'Gives a workspace another name.';

-- api.delete_workspace: the end of a workspace to which nothing is attached and in which nothing
-- runs. Whoever attaches something or starts a session locks it, too, so that neither is lost.
--
-- Raises  FG404 workspace_not_found
--         FG409 workspace_in_use     detail: storage, spaces, running_sessions: how many there are
-- Locks   the workspace.
create function api.delete_workspace(p_caller jsonb, p_workspace_id uuid)
returns setof api.workspaces
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_contents record;
begin
    perform billing.lock_workspace(v_caller.organization_id, p_workspace_id);
    select c.* into strict v_contents
    from billing.workspace_contents(v_caller.organization_id, p_workspace_id) as c;
    if cardinality(v_contents.storage_ids) > 0
        or cardinality(v_contents.spaces) > 0
        or v_contents.running_sessions > 0
    then
        raise exception using
            errcode = 'FG409',
            message = 'workspace_in_use',
            detail = jsonb_build_object(
                'storage', cardinality(v_contents.storage_ids),
                'spaces', cardinality(v_contents.spaces),
                'running_sessions', v_contents.running_sessions
            )::text;
    end if;
    update billing.workspaces as w
    set deleted_at = billing.now()
    where w.organization_id = v_caller.organization_id and w.id = p_workspace_id;
    insert into billing.audit_log (organization_id, actor, action, subject_id)
    values (v_caller.organization_id, v_caller.actor, 'delete_workspace', p_workspace_id);
    return query
    select w.*
    from api.workspaces as w
    where w.organization_id = v_caller.organization_id and w.id = p_workspace_id;
end
$$;
grant execute on function api.delete_workspace to service_role, faregate_functions;
comment on function api.delete_workspace is
'Ends a workspace to which nothing is attached and in which nothing runs.';
