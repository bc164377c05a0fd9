-- Identities: the service account at Google that an organization acts as.
--
--   an organization is made        the cloud has it
--     │                                 │
--     ▼                                 ▼
--  requested ────→ provisioning ────→ ready ──────────┐
--                    │      ▲                         │ the organization is closed
--             gave up│      │a day later              ▼
--                    └→ failed ────────────────→ deleting ──→ deleted
--
-- As with storage, a row says what is wanted; one task makes the cloud so and looks again before it
-- ends. All that changes a row has locked its organization.

create type billing.identity_status as enum (
    'requested', 'provisioning', 'ready', 'failed', 'deleting', 'deleted'
);
comment on type billing.identity_status is
'requested, provisioning: not there yet. failed: it could not be made, and is tried again each day.
deleting, deleted: its organization is closed.';

-- billing.random_name: a name that nobody can guess and take before, of 29 characters: what Google
-- and Kubernetes allow.
create function billing.random_name()
returns text
language sql
volatile parallel safe
return 'fg-' || right(translate(gen_random_uuid()::text, '-', ''), 26);

create table billing.identities (
    organization_id uuid primary key references billing.organizations (id),
    status billing.identity_status not null default 'requested',
    account_id text not null default billing.random_name(),
    email text,
    namespace text not null default billing.random_name(),
    kubernetes_account text not null default 'default',
    task_id uuid,
    failure text,
    created_at timestamptz not null default billing.now(),
    asked_at timestamptz,
    ready_at timestamptz,
    deleted_at timestamptz,
    constraint identities_account_id_key unique (account_id),
    constraint identities_namespace_key unique (namespace),
    constraint identities_account_id_is_ours check (account_id ~ '^fg-[0-9a-f]{26}$'),
    constraint identities_namespace_is_ours check (namespace ~ '^fg-[0-9a-f]{26}$'),
    constraint identities_kubernetes_account_is_a_label check (
        kubernetes_account ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'
    )
);
alter table billing.identities enable row level security;
comment on table billing.identities is
'The service account at Google of an organization: what is wanted, and what the cloud has of it.';
comment on column billing.identities.organization_id is 'The organization that acts as it.';
comment on column billing.identities.status is
'requested, provisioning, ready, failed, deleting or deleted.';
comment on column billing.identities.account_id is
'Its name at Google: random, so that nobody can take it before.';
comment on column billing.identities.email is
'Its address at Google, by which it is let in; null: it is not there yet.';
comment on column billing.identities.namespace is
'The namespace of Kubernetes whose service account may act as it.';
comment on column billing.identities.kubernetes_account is
'The service account of Kubernetes, in that namespace, that may act as it.';
comment on column billing.identities.task_id is
'The row of the outbox that is to make the cloud so.';
comment on column billing.identities.failure is
'Why it could not be made, or why the last attempt did not succeed; null: nothing failed.';
comment on column billing.identities.created_at is 'When it was asked for (UTC).';
comment on column billing.identities.asked_at is
'When the cloud was last asked to make it (UTC); null: never.';
comment on column billing.identities.ready_at is
'When the cloud had it (UTC); null: it is not there yet.';
comment on column billing.identities.deleted_at is
'When the cloud no longer had it (UTC); null: it may still have it.';

create view api.identities with (security_invoker = true) as
select
    i.organization_id,
    i.status,
    i.email,
    i.namespace,
    i.kubernetes_account,
    i.failure,
    i.created_at,
    i.ready_at,
    i.deleted_at
from billing.identities as i;
comment on view api.identities is 'The service account at Google that an organization acts as.';
call billing.inherit_comments('api.identities');

-- billing.write_identity_task: have the identity's task run at a time.
create function billing.write_identity_task(p_organization_id uuid, p_run_at timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_task_id uuid := billing.write_task(
        p_organization_id, 'provision_identity',
        jsonb_build_object('organization_id', p_organization_id)
    );
begin
    update billing.outbox as o
    set run_at = p_run_at
    where o.organization_id = p_organization_id and o.id = v_task_id;
    update billing.identities as i
    set task_id = v_task_id
    where i.organization_id = p_organization_id;
end
$$;

-- billing.drive_identity: have a task make the cloud as the row wants it, now. While one is at it,
-- nothing new is needed: it looks again before it ends. One that waits is replaced. An operator may
-- call it, too, who has mended what made an identity fail.
--
-- Locks   the outbox's row; the caller has locked the organization.
create function billing.drive_identity(p_organization_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_task_id uuid;
    v_leased_until timestamptz;
begin
    select o.id, o.leased_until into v_task_id, v_leased_until
    from billing.identities as i
    inner join billing.outbox as o on o.organization_id = i.organization_id and o.id = i.task_id
    where i.organization_id = p_organization_id
    for no key update of o;
    if v_leased_until > billing.now() then
        return;
    end if;
    perform billing.acknowledge(p_organization_id, v_task_id);
    perform billing.write_identity_task(p_organization_id, billing.now());
end
$$;

-- billing.request_identity: an organization whose plan has one gets an identity. One that has one
-- keeps it.
create function billing.request_identity(p_organization_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.identities (organization_id)
    select o.id
    from billing.organizations as o
    inner join billing.plans as l on l.id = o.plan_id
    where o.id = p_organization_id and l.has_identity
    on conflict do nothing;
    if found then
        perform billing.drive_identity(p_organization_id);
    end if;
end
$$;

-- billing.end_identity: the cloud is to have it no more; nothing, where there is none.
--
-- Locks   the outbox's row; the caller has locked the organization.
create function billing.end_identity(p_organization_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.identities as i
    set status = 'deleting', failure = null
    where i.organization_id = p_organization_id and i.status not in ('deleting', 'deleted');
    if found then
        perform billing.drive_identity(p_organization_id);
    end if;
end
$$;

-- billing.open_initial_storage: the bucket that comes with a registration, free of charge, once.
-- Whatever speaks against it, the organization is made without it.
--
-- Locks   the wallet; nobody else knows the organization yet, or the caller has locked it.
create function billing.open_initial_storage(p_organization_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform
        billing.open_storage(
            o.id, 'bucket', r.id, l.initial_storage_gb, 'initial', null, 0, null,
            l.initial_storage_gb, 'registration'
        )
    from billing.organizations as o
    inner join billing.plans as l on l.id = o.plan_id
    inner join billing.regions as r on r.kind = 'bucket' and r.is_default and r.is_open
    where o.id = p_organization_id
        and l.initial_storage_gb > 0
        and not exists (
            select from billing.storage as s
            where s.organization_id = o.id and s.created_by = 'registration'
        );
exception
    when others then
        raise warning 'no initial storage for %: %', p_organization_id, sqlerrm;
end
$$;

-- api.get_identity: the caller's identity.
--
-- Raises  FG404 identity_not_found  the plan has none
create function api.get_identity(p_caller jsonb)
returns setof api.identities
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    return query
    select i.* from api.identities as i where i.organization_id = v_caller.organization_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'identity_not_found';
    end if;
end
$$;
grant execute on function api.get_identity to service_role, faregate_functions;
comment on function api.get_identity is
'Reads the service account that the caller''s organization acts as.';

-- billing.lock_identity: an organization's identity, which nobody else changes until the
-- transaction ends.
--
-- Raises  FG404 identity_not_found  there is none
-- Locks   the organization, which may be closed.
create function billing.lock_identity(p_organization_id uuid)
returns billing.identities
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_identity billing.identities;
begin
    perform from billing.organizations as o
    where o.id = p_organization_id
    for no key update;
    select i.* into v_identity
    from billing.identities as i
    where i.organization_id = p_organization_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'identity_not_found';
    end if;
    return v_identity;
end
$$;

-- api.start_identity: what a run of the task is to do: create, delete or nothing, and with what.
--
-- Raises  FG404 identity_not_found, FG503 task_under_way
-- Locks   the organization, the task's row.
create function api.start_identity(p_organization_id uuid, p_task_id uuid)
returns table (
    step text,
    attempt integer,
    account_id text,
    namespace text,
    kubernetes_account text,
    status billing.identity_status
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_identity billing.identities := billing.lock_identity(p_organization_id);
begin
    attempt := billing.begin_attempt(p_organization_id, p_task_id);
    step := case
        when attempt is null then 'nothing'
        when v_identity.status in ('requested', 'provisioning', 'failed') then 'create'
        when v_identity.status = 'deleting' then 'delete'
        else 'nothing'
    end;
    if step = 'create' then
        update billing.identities as i
        set
            asked_at = billing.now(),
            status = case i.status when 'requested' then 'provisioning' else i.status end
        where i.organization_id = p_organization_id
        returning i.* into v_identity;
    elsif step = 'nothing' then
        perform billing.acknowledge(p_organization_id, p_task_id);
    end if;
    account_id := v_identity.account_id;
    namespace := v_identity.namespace;
    kubernetes_account := v_identity.kubernetes_account;
    status := v_identity.status;
    return next;
end
$$;
grant execute on function api.start_identity to service_role, faregate_functions;
comment on function api.start_identity is
'Begins a run of an identity''s task and tells it what to do.';

-- billing.accept_identity: the cloud has it. Storage that does not let it in yet is to do so.
--
-- Locks   the storage, the outbox's rows; the caller has locked the organization.
create function billing.accept_identity(p_organization_id uuid, p_email text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_storage_id uuid;
begin
    update billing.identities as i
    set status = 'ready', email = p_email, failure = null, ready_at = billing.now()
    where i.organization_id = p_organization_id;
    perform billing.notify(p_organization_id, 'identity_ready', '{}');
    for v_storage_id in
        select s.id
        from billing.storage as s
        where s.organization_id = p_organization_id
            and not billing.has_ended(s.status)
            and s.applied_principal is distinct from p_email
        order by s.id
    loop
        perform billing.lock_storage(p_organization_id, v_storage_id);
        perform billing.drive_storage(p_organization_id, v_storage_id);
    end loop;
end
$$;

-- billing.give_up_identity: it could not be made, for a reason that its organization is told. It is
-- tried again in a day: what was missing, a right or a quota, is mended by an operator.
--
-- Locks   nothing new: the caller has locked the organization and the task's row.
create function billing.give_up_identity(p_organization_id uuid, p_reason text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_status billing.identity_status;
begin
    select i.status into strict v_status
    from billing.identities as i
    where i.organization_id = p_organization_id;
    update billing.identities as i
    set status = 'failed', failure = p_reason
    where i.organization_id = p_organization_id;
    perform billing.write_identity_task(p_organization_id, billing.now() + interval '1 day');
    if v_status <> 'failed' then
        perform billing.notify(
            p_organization_id, 'identity_failed', jsonb_build_object('reason', p_reason)
        );
    end if;
end
$$;

-- api.finish_identity: what became of a run's step. Unless is_done, call the task again.
--
-- p_outcome: done; absent: there is nothing to delete; taken: the name belongs to somebody else, so
--            the next attempt has another; refused: repetition does not help; unavailable: any
--            other. An attempt to make it is the last one if it was refused or was the tenth; one
--            to delete it never is.
--
-- Raises  FG404 identity_not_found
-- Locks   the organization, the storage, the task's row.
create function api.finish_identity(
    p_organization_id uuid,
    p_task_id uuid,
    p_attempt integer,
    p_step text,
    p_outcome text,
    p_email text,
    p_reason text
)
returns table (status billing.identity_status, is_done boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_identity billing.identities := billing.lock_identity(p_organization_id);
    v_max_attempts constant integer := 10;
    v_wanted_step text := case v_identity.status when 'deleting' then 'delete' else 'create' end;
    -- A call to make it that was not answered may still be under way at Google.
    v_may_appear boolean := coalesce(
        v_identity.email is null
        and v_identity.asked_at > billing.now() - interval '2 minutes',
        false
    );
begin
    -- Storage before the outbox's rows, as everywhere.
    perform from billing.holds as h
    where h.organization_id = p_organization_id and h.kind = 'storage' and h.due_at is not null
    order by h.id
    for no key update;
    is_done := billing.end_attempt(p_organization_id, p_task_id, p_attempt, p_reason);
    if is_done then
        update billing.identities as i
        set
            email = coalesce(p_email, i.email),
            failure = p_reason,
            account_id = case p_outcome
                when 'taken' then billing.random_name()
                else i.account_id
            end
        where i.organization_id = p_organization_id;
        case
            when v_wanted_step <> p_step then
                -- The organization was closed meanwhile: the next attempt deletes it.
                is_done := false;
            when p_step = 'create' and p_outcome = 'done' then
                perform billing.accept_identity(p_organization_id, p_email);
            when p_step = 'create' and (p_outcome = 'refused' or p_attempt >= v_max_attempts) then
                perform billing.give_up_identity(p_organization_id, p_reason);
            when p_outcome = 'done' or (p_outcome = 'absent' and not v_may_appear) then
                update billing.identities as i
                set status = 'deleted', deleted_at = billing.now()
                where i.organization_id = p_organization_id;
            else
                is_done := false;
        end case;
    end if;
    if is_done then
        perform billing.acknowledge(p_organization_id, p_task_id);
    end if;
    select i.status into strict status
    from billing.identities as i
    where i.organization_id = p_organization_id;
    return next;
end
$$;
grant execute on function api.finish_identity to service_role, faregate_functions;
comment on function api.finish_identity is
'Notes what became of a run of an identity''s task.';
