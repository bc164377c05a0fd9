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
declare
    v_workspace billing.workspaces;
begin
    select w.* into v_workspace
    from billing.workspaces as w
    where w.organization_id = p_organization_id
        and w.id = p_workspace_id
        and w.deleted_at is null
    for no key update;
    if not found then
        raise exception using errcode = 'FG404', message = 'workspace_not_found';
    end if;
    return v_workspace;
end
$$;
