-- How storage gets into the cloud and out of it.
--
-- A row of billing.storage says what is wanted and, in is_absent and applied_*, what the cloud is
-- known to have. One task compares the two and takes the step between: start_provisioning tells it
-- which, finish_provisioning what became of it. Whatever happens in between (the task dies, runs
-- twice, is overtaken, what is wanted changes), the next comparison begins from what is true.
--
--   wanted    the cloud has   step
--   present   not yet         create   until it is there, or given up
--   present   another         update   until it is so; a size that is refused is given up
--   absent    perhaps         delete   until it is certain that nothing is left; never given up

-- billing.storage_principal: the service account that an organization's buckets let in; null: there
-- is none yet.
create function billing.storage_principal(p_organization_id uuid)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select i.email
        from billing.identities as i
        where i.organization_id = p_organization_id and i.status = 'ready'
    );
end
$$;

-- billing.storage_wanted: what the cloud should have of a storage resource: how large, who is let
-- in, and what they may do. A file share lets in a network, not an account.
create function billing.storage_wanted(
    p_storage billing.storage,
    out size_gb integer,
    out access billing.storage_access,
    out principal text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    size_gb := coalesce(p_storage.resize_to_gb, p_storage.size_gb);
    access := case
        when p_storage.status in ('read_only', 'deletion_notice') then 'read'
        else 'write'
    end;
    if p_storage.kind = 'bucket' then
        principal := billing.storage_principal(p_storage.organization_id);
    end if;
end
$$;

-- billing.storage_step: what there is to do in the cloud: create, update, delete or nothing.
create function billing.storage_step(p_storage billing.storage)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_wanted record := billing.storage_wanted(p_storage);
begin
    return case
        when billing.has_ended(p_storage.status)
            then case when p_storage.is_absent then 'nothing' else 'delete' end
        when p_storage.applied_access is null then 'create'
        when p_storage.applied_access <> v_wanted.access
            or p_storage.applied_size_gb <> v_wanted.size_gb
            or p_storage.applied_principal is distinct from v_wanted.principal
            then 'update'
        else 'nothing'
    end;
end
$$;

-- api.start_provisioning: what a task is to do in the cloud now, and everything it needs to know
-- for that. `nothing`: the task is done. From the moment in which the cloud may be asked to make
-- something it counts as possibly there.
--
-- Raises  FG404 storage_not_found
--         FG503 task_under_way     another run is on it: call again
-- Locks   the storage resource, then the task's row.
create function api.start_provisioning(
    p_organization_id uuid, p_storage_id uuid, p_task_id uuid
)
returns table (
    status text,
    step text,
    attempt integer,
    provider text,
    location text,
    endpoint text,
    resource_name text,
    size_gb integer,
    access text,
    principal text,
    soft_delete_days integer,
    delete_after_days integer,
    operation text
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_storage billing.storage := billing.lock_storage(p_organization_id, p_storage_id);
    v_region billing.regions;
    v_wanted record;
begin
    status := v_storage.status;
    step := 'nothing';
    if v_storage.task_id = p_task_id then
        attempt := billing.begin_attempt(p_organization_id, p_task_id);
    end if;
    if attempt is null then
        return next;
        return;
    end if;
    step := billing.storage_step(v_storage);
    if step = 'nothing' then
        perform billing.acknowledge(p_organization_id, p_task_id);
        return next;
        return;
    end if;
    if step = 'create' then
        update billing.storage as s
        set is_absent = false
        where s.organization_id = p_organization_id and s.id = p_storage_id;
        if v_storage.status = 'requested' then
            perform billing.set_storage_status(
                p_organization_id, p_storage_id, 'provisioning', null
            );
            status := 'provisioning';
        end if;
    end if;
    select r.* into strict v_region
    from billing.regions as r
    where r.kind = v_storage.kind and r.id = v_storage.region_id;
    v_wanted := billing.storage_wanted(v_storage);
    provider := v_region.provider;
    location := v_region.location;
    endpoint := v_region.endpoint;
    resource_name := v_storage.resource_name;
    size_gb := v_wanted.size_gb;
    access := v_wanted.access;
    principal := v_wanted.principal;
    soft_delete_days := v_storage.soft_delete_days;
    delete_after_days := v_storage.delete_after_days;
    operation := v_storage.operation;
    return next;
end
$$;
grant execute on function api.start_provisioning to service_role, faregate_functions;
comment on function api.start_provisioning is
'Tells a task what it is to do in the cloud for a storage resource.';

-- billing.forget_storage: it is certain that the cloud has nothing of it.
--
-- Locks   nothing new: the caller has locked the storage resource.
create function billing.forget_storage(p_storage billing.storage)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.storage as s
    set
        is_absent = true,
        applied_access = null,
        applied_size_gb = null,
        applied_principal = null,
        mount = null
    where s.organization_id = p_storage.organization_id and s.id = p_storage.id;
    if p_storage.status = 'deleting' then
        perform billing.set_storage_status(
            p_storage.organization_id, p_storage.id, 'deleted', p_storage.failure
        );
    end if;
end
$$;

-- billing.finish_storage_creation: what became of an attempt to create. A name that is another's is
-- replaced. What is refused or has failed ten times is given up: its money is given back, and the
-- task goes on deleting what may have been made.
--
-- Locks   the wallet; the caller has locked the storage resource.
create function billing.finish_storage_creation(
    p_storage billing.storage, p_outcome text, p_reason text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    c_max_failures constant integer := 10;
begin
    if p_outcome = 'taken' then
        perform billing.forget_storage(p_storage);
        update billing.storage as s
        set resource_name = 'fg-' || translate(gen_random_uuid()::text, '-', '')
        where s.organization_id = p_storage.organization_id and s.id = p_storage.id;
    end if;
    if p_storage.status <> 'provisioning' then
        -- Meanwhile nobody wants it any more.
        return;
    elsif p_outcome = 'done' then
        perform billing.start_storage(p_storage.organization_id, p_storage.id);
    elsif p_outcome = 'refused'
        or (p_outcome <> 'pending' and p_storage.failures + 1 >= c_max_failures) then
        perform billing.end_storage(
            p_storage.organization_id, p_storage.id, 'failed', p_reason
        );
    end if;
end
$$;

-- billing.finish_storage_update: what became of an attempt to change what is there. What is as it
-- was wanted is charged so from now on. A size that the cloud refuses is wanted no more; who may do
-- what is never given up.
--
-- Locks   the wallet; the caller has locked the storage resource.
create function billing.finish_storage_update(
    p_storage billing.storage, p_outcome text, p_reason text, p_size_gb integer
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_storage.resize_to_gb is distinct from p_size_gb then
        return;
    elsif p_outcome = 'done' then
        update billing.storage as s
        set size_gb = p_size_gb, resize_to_gb = null, failure = null
        where s.organization_id = p_storage.organization_id and s.id = p_storage.id;
        perform billing.settle_storage(p_storage.organization_id, p_storage.id, false);
        perform billing.notify(
            p_storage.organization_id,
            'storage_resized',
            jsonb_build_object('storage_id', p_storage.id)
        );
    elsif p_outcome = 'refused' then
        update billing.storage as s
        set resize_to_gb = null, failure = p_reason
        where s.organization_id = p_storage.organization_id and s.id = p_storage.id;
        -- The larger window is no longer held.
        perform billing.settle_storage(p_storage.organization_id, p_storage.id, false);
        perform billing.notify(
            p_storage.organization_id,
            'storage_resize_failed',
            jsonb_build_object('storage_id', p_storage.id, 'reason', p_reason)
        );
    end if;
end
$$;

-- billing.finish_storage_deletion: the cloud was seen to have nothing of it. Where a creation never
-- told how it ended, it may still be on its way: nothing is certain before five minutes have passed
-- since the cloud was last asked for it.
--
-- Locks   nothing new: the caller has locked the storage resource.
create function billing.finish_storage_deletion(p_storage billing.storage)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_storage.applied_access is null
        and billing.now() < p_storage.status_since + interval '5 minutes' then
        return;
    end if;
    perform billing.forget_storage(p_storage);
end
$$;

-- api.finish_provisioning: what became of a step. is_done: the cloud is as it is wanted, and the
-- task is acknowledged; else call again.
--
-- p_outcome: done, pending (the cloud is at it), taken (the name is another's), refused (for good)
--   or unavailable (perhaps it was done, perhaps not).
-- p_reason: of refused, taken and unavailable, a word.
-- p_size_gb, p_access, p_principal: what start_provisioning said was wanted, and now is if done.
-- p_mount: of a file share that is there.
-- p_operation: of pending, what the cloud calls that which it is at, where it has a name for it.
--
-- An attempt that another has overtaken changes nothing.
--
-- Raises  FG404 storage_not_found
-- Locks   the storage resource, the wallet, the task's row. Attempts are counted under the first.
create function api.finish_provisioning(
    p_organization_id uuid,
    p_storage_id uuid,
    p_task_id uuid,
    p_attempt integer,
    p_step text,
    p_outcome text,
    p_reason text,
    p_size_gb integer,
    p_access text,
    p_principal text,
    p_mount text,
    p_operation text
)
returns table (status text, is_done boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_storage billing.storage := billing.lock_storage(p_organization_id, p_storage_id);
begin
    if v_storage.task_id = p_task_id and exists (
        select from billing.outbox as o
        where o.organization_id = p_organization_id
            and o.id = p_task_id
            and o.attempts = p_attempt
            and o.acknowledged_at is null
    ) then
        update billing.storage as s
        set
            failures = case p_outcome
                when 'done' then 0
                when 'pending' then s.failures
                else s.failures + 1
            end,
            operation = p_operation
        where s.organization_id = p_organization_id and s.id = p_storage_id;
        if p_step in ('create', 'update') and p_outcome = 'done' then
            update billing.storage as s
            set
                applied_access = p_access::billing.storage_access,
                applied_size_gb = p_size_gb,
                applied_principal = p_principal,
                mount = p_mount
            where s.organization_id = p_organization_id and s.id = p_storage_id;
        end if;
        if p_step = 'create' then
            perform billing.finish_storage_creation(v_storage, p_outcome, p_reason);
        elsif p_step = 'update' then
            perform billing.finish_storage_update(v_storage, p_outcome, p_reason, p_size_gb);
        elsif p_outcome = 'done' then
            perform billing.finish_storage_deletion(v_storage);
        end if;
        select s.* into strict v_storage
        from billing.storage as s
        where s.organization_id = p_organization_id and s.id = p_storage_id;
        perform billing.end_attempt(p_organization_id, p_task_id, p_attempt, p_reason);
        if billing.storage_step(v_storage) = 'nothing' then
            perform billing.acknowledge(p_organization_id, v_storage.task_id);
        end if;
    end if;
    status := v_storage.status;
    -- Also of a task that was replaced: the new one is told of on its own.
    is_done := not exists (
        select from billing.outbox as o
        where o.organization_id = p_organization_id
            and o.id = p_task_id
            and o.acknowledged_at is null
    );
    return next;
end
$$;
grant execute on function api.finish_provisioning to service_role, faregate_functions;
comment on function api.finish_provisioning is
'Records what became of a task''s step in the cloud for a storage resource.';

-- What goes into buckets: by addresses that are signed for a quarter of an hour.

create table billing.uploads (
    organization_id uuid not null,
    storage_id uuid not null,
    object_name text not null,
    size_bytes bigint not null,
    signed_by text not null,
    signed_at timestamptz not null default billing.now(),
    primary key (organization_id, storage_id, object_name),
    constraint uploads_storage_fkey foreign key (organization_id, storage_id)
    references billing.storage (organization_id, id),
    constraint uploads_size_not_negative check (size_bytes >= 0)
);
alter table billing.uploads enable row level security;
comment on table billing.uploads is
'Uploads that were signed for and that no measurement has seen yet: they count as used.';
comment on column billing.uploads.organization_id is 'The organization it belongs to.';
comment on column billing.uploads.storage_id is 'The bucket.';
comment on column billing.uploads.object_name is 'The object''s name.';
comment on column billing.uploads.size_bytes is
'The most that was signed for since the bucket was measured, in bytes.';
comment on column billing.uploads.signed_by is
'Who last asked: passport:<id>, user:<id> or operator.';
comment on column billing.uploads.signed_at is 'When that was (UTC).';

-- billing.bucket_place: where a bucket is that has one of these statuses.
--
-- Raises  FG409 bucket_required    it is a file share
--         FG409 storage_not_ready  it has another status
create function billing.bucket_place(
    p_storage billing.storage,
    p_statuses billing.storage_status[],
    out provider text,
    out location text,
    out endpoint text,
    out resource_name text
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_storage.kind <> 'bucket' then
        raise exception using errcode = 'FG409', message = 'bucket_required';
    end if;
    perform billing.require_status(p_storage, p_statuses);
    select r.provider, r.location, r.endpoint into strict provider, location, endpoint
    from billing.regions as r
    where r.kind = p_storage.kind and r.id = p_storage.region_id;
    resource_name := p_storage.resource_name;
end
$$;

-- billing.taken_bytes: what is in a storage resource, and what may come into it by the addresses
-- that were signed since it was measured, but for one object's.
create function billing.taken_bytes(p_storage billing.storage, p_except_object text)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(p_storage.used_bytes, 0) + coalesce((
        select sum(u.size_bytes)
        from billing.uploads as u
        where u.organization_id = p_storage.organization_id
            and u.storage_id = p_storage.id
            and u.object_name is distinct from p_except_object
    ), 0);
end
$$;

-- api.sign_upload: where an object of p_size_bytes may go. It counts as used until a measurement
-- sees what became of it. Signed twice, it counts once.
--
-- Raises  see authenticate (needs write)
--         FG404 storage_not_found
--         FG409 bucket_required, storage_not_ready
--         FG409 storage_full       detail: size_bytes, free_bytes, measured_at
-- Locks   the storage resource.
create function api.sign_upload(
    p_caller jsonb, p_storage_id uuid, p_object text, p_size_bytes bigint
)
returns table (provider text, location text, endpoint text, resource_name text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_storage billing.storage := billing.lock_storage(v_caller.organization_id, p_storage_id);
    v_free_bytes bigint;
begin
    select b.* into strict provider, location, endpoint, resource_name
    from billing.bucket_place(v_storage, '{ready, grace}') as b;
    v_free_bytes
        := v_storage.size_gb * 1073741824::bigint - billing.taken_bytes(v_storage, p_object);
    if p_size_bytes > v_free_bytes then
        raise exception using
            errcode = 'FG409',
            message = 'storage_full',
            detail = jsonb_build_object(
                'size_bytes', p_size_bytes, 'free_bytes', greatest(v_free_bytes, 0),
                'measured_at', v_storage.measured_at
            )::text;
    end if;
    insert into billing.uploads (organization_id, storage_id, object_name, size_bytes, signed_by)
    values (
        v_storage.organization_id, p_storage_id, p_object, p_size_bytes, v_caller.actor
    )
    on conflict (organization_id, storage_id, object_name) do update
    set
        size_bytes = greatest(uploads.size_bytes, excluded.size_bytes),
        signed_by = excluded.signed_by,
        signed_at = excluded.signed_at;
    return next;
end
$$;
grant execute on function api.sign_upload to service_role, faregate_functions;
comment on function api.sign_upload is
'Tells where an object may be uploaded to, and counts it as used.';

-- api.find_bucket: where a bucket's objects are, for whoever may read them (p_permission read) or
-- delete them (write): also while nothing more may be put into it.
--
-- Raises  see authenticate (needs p_permission)
--         FG404 storage_not_found
--         FG409 bucket_required, storage_not_ready
create function api.find_bucket(p_caller jsonb, p_storage_id uuid, p_permission text)
returns table (provider text, location text, endpoint text, resource_name text)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, p_permission);
    v_storage billing.storage;
begin
    select s.* into v_storage
    from billing.storage as s
    where s.organization_id = v_caller.organization_id and s.id = p_storage_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'storage_not_found';
    end if;
    return query
    select b.*
    from billing.bucket_place(v_storage, '{ready, grace, read_only, deletion_notice}') as b;
end
$$;
grant execute on function api.find_bucket to service_role, faregate_functions;
comment on function api.find_bucket is
'Tells where a bucket''s objects are, for whoever may read or delete them.';

-- api.start_measuring: up to p_limit buckets that are due to be measured, longest due first. Each
-- is due again a day after it was measured, or in an hour if it was not.
--
-- Locks   the storage resources that nobody else has locked.
create function api.start_measuring(p_limit integer)
returns table (
    organization_id uuid,
    storage_id uuid,
    started_at timestamptz,
    provider text,
    location text,
    endpoint text,
    resource_name text,
    soft_delete_days integer
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    -- A variable, because no index is asked for what a volatile function may answer anew.
    v_now timestamptz := billing.now();
begin
    return query
    with due as (
        select s.organization_id, s.id
        from billing.storage as s
        where s.kind = 'bucket'
            and s.status in ('ready', 'grace', 'read_only', 'deletion_notice')
            and s.measure_at <= v_now
        order by s.measure_at
        limit p_limit
        for no key update skip locked
    ),

    claimed as (
        update billing.storage as s
        set measure_at = v_now + interval '1 hour'
        from due as d
        where s.organization_id = d.organization_id and s.id = d.id
        returning
            s.organization_id, s.id, s.kind, s.region_id, s.resource_name, s.soft_delete_days
    )

    select
        c.organization_id,
        c.id,
        v_now,
        r.provider::text,
        r.location,
        r.endpoint,
        c.resource_name,
        c.soft_delete_days::integer
    from claimed as c
    inner join billing.regions as r on r.kind = c.kind and r.id = c.region_id;
end
$$;
grant execute on function api.start_measuring to service_role, faregate_functions;
comment on function api.start_measuring is
'Lists buckets that are due to be measured, longest due first, and puts them off.';

-- api.record_storage_usage: how much was in a bucket when its measuring began. From now on it is
-- charged for that, where it is more than was rented; its organization is told when it becomes so.
-- Uploads whose addresses had expired by then are part of it, and count no longer.
--
-- Raises  FG404 storage_not_found
-- Locks   the storage resource.
create function api.record_storage_usage(
    p_organization_id uuid, p_storage_id uuid, p_started_at timestamptz, p_used_bytes bigint
)
returns table (used_bytes bigint, is_over_quota boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_storage billing.storage := billing.lock_storage(p_organization_id, p_storage_id);
    v_quota_bytes bigint := v_storage.size_gb * 1073741824::bigint;
begin
    used_bytes := p_used_bytes;
    is_over_quota := p_used_bytes > v_quota_bytes;
    if v_storage.status in ('ready', 'grace', 'read_only', 'deletion_notice') then
        update billing.storage as s
        set
            used_bytes = p_used_bytes,
            measured_at = p_started_at,
            measure_at = p_started_at + interval '1 day'
        where s.organization_id = p_organization_id and s.id = p_storage_id;
        delete from billing.uploads as u
        where u.organization_id = p_organization_id
            and u.storage_id = p_storage_id
            and u.signed_at < p_started_at - interval '15 minutes';
        perform billing.enter_storage_period(p_organization_id, p_storage_id, billing.now());
        if is_over_quota and coalesce(v_storage.used_bytes, 0) <= v_quota_bytes then
            perform billing.notify(
                p_organization_id,
                'storage_over_quota',
                jsonb_build_object('storage_id', p_storage_id)
            );
        end if;
    end if;
    return next;
end
$$;
grant execute on function api.record_storage_usage to service_role, faregate_functions;
comment on function api.record_storage_usage is
'Records how much was in a bucket when its measuring began.';
