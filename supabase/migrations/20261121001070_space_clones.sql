-- Clones: a space's objects copied into a bucket that its buyer rents like any other.
--
--   clone ─→ requested ─ its bucket is ready → copying ─ the last object → done
--               │                                 │
--               └── the bucket could not be made, │ ended, or ten runs in a row copied nothing
--                                                 └→ failed: the purchase can be cloned again
--
-- A task copies page by page and tells after each how far it is; when its time is up another one
-- goes on. A page that is copied twice is the same objects, and is counted once.

create type billing.clone_status as enum ('requested', 'copying', 'done', 'failed');
comment on type billing.clone_status is
'requested: its bucket is being made. copying: objects are. done: all are there. failed: it was
given up, and its bucket with it.';

create table billing.clones (
    organization_id uuid not null,
    id uuid not null default billing.uuidv7(),
    purchase_id uuid not null,
    slug text not null,
    storage_id uuid not null,
    source_organization_id uuid not null,
    source_storage_id uuid not null,
    source_bytes bigint,
    status billing.clone_status not null default 'requested',
    bookmark text,
    copied_objects bigint not null default 0,
    copied_bytes bigint not null default 0,
    failures integer not null default 0,
    failure text,
    requested_by text not null,
    created_at timestamptz not null default billing.now(),
    finished_at timestamptz,
    ended_at timestamptz,
    primary key (organization_id, id),
    constraint clones_storage_key unique (organization_id, storage_id),
    constraint clones_purchase_fkey foreign key (organization_id, purchase_id)
    references billing.purchases (organization_id, id),
    constraint clones_storage_fkey foreign key (organization_id, storage_id)
    references billing.storage (organization_id, id),
    constraint clones_source_fkey foreign key (source_organization_id, source_storage_id)
    references billing.storage (organization_id, id),
    constraint clones_end_is_known check (
        (status in ('done', 'failed')) = (finished_at is not null)
        and (status = 'failed') <= (ended_at is not null)
    )
);
alter table billing.clones enable row level security;
create unique index clones_live_key on billing.clones (purchase_id, organization_id)
where ended_at is null;
create index clones_purchase on billing.clones (purchase_id, organization_id);
create index clones_source on billing.clones (source_storage_id, source_organization_id);
comment on table billing.clones is
'A copy of a space in a bucket of its buyer''s. Each purchase has one at a time.';
comment on column billing.clones.organization_id is 'The organization it belongs to.';
comment on column billing.clones.id is 'Time-ordered (UUIDv7).';
comment on column billing.clones.purchase_id is 'The purchase that it was made for.';
comment on column billing.clones.slug is 'What the space is called.';
comment on column billing.clones.storage_id is 'The bucket that it is copied into.';
comment on column billing.clones.source_organization_id is 'Whose bucket it is copied from.';
comment on column billing.clones.source_storage_id is 'The bucket that it is copied from.';
comment on column billing.clones.source_bytes is
'What that bucket held when it was last measured before; null: it was not.';
comment on column billing.clones.status is 'requested, copying, done or failed.';
comment on column billing.clones.bookmark is
'Where the next page begins, in the words of who copies; null: at the first object.';
comment on column billing.clones.copied_objects is 'How many objects are there so far.';
comment on column billing.clones.copied_bytes is 'How many bytes these have.';
comment on column billing.clones.failures is
'How many runs in a row began and copied nothing.';
comment on column billing.clones.failure is 'Why it failed, or why the last run did.';
comment on column billing.clones.requested_by is 'Who asked for it: passport:<id> or user:<id>.';
comment on column billing.clones.created_at is 'When they did (UTC).';
comment on column billing.clones.finished_at is 'When it was done or had failed (UTC).';
comment on column billing.clones.ended_at is
'Since when (UTC) the purchase can be cloned again, because the clone failed or its bucket was given
up; null: it cannot.';

create view api.clones with (security_invoker = true) as
select
    c.id,
    c.organization_id,
    c.slug as space,
    c.purchase_id,
    c.storage_id,
    c.status,
    c.copied_objects,
    c.copied_bytes,
    c.source_bytes,
    c.failure,
    c.created_at,
    c.finished_at,
    c.ended_at
from billing.clones as c;
comment on view api.clones is
'Copies of spaces in an organization''s buckets, and how far they are.';
comment on column api.clones.space is 'What the space is called.';
call billing.inherit_comments('api.clones');

-- billing.refuse_refund: a purchase whose clone was made or is being made cannot be given back.
--
-- Raises  FG409 purchase_cloned  detail: clone_id
create function billing.refuse_refund(p_organization_id uuid, p_purchase_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_clone_id uuid;
begin
    select c.id into v_clone_id
    from billing.clones as c
    where c.organization_id = p_organization_id
        and c.purchase_id = p_purchase_id
        and c.status <> 'failed'
    order by c.id
    limit 1;
    if found then
        raise exception using
            errcode = 'FG409',
            message = 'purchase_cloned',
            detail = jsonb_build_object('clone_id', v_clone_id)::text;
    end if;
end
$$;

-- billing.purchase_to_clone: the oldest purchase of a space that has no clone.
--
-- Raises  FG409 space_not_owned  nothing was bought
--         FG409 purchase_cloned  every purchase has its clone; detail: clone_id, of the latest
-- Locks   nothing: the caller has locked the organization.
create function billing.purchase_to_clone(p_organization_id uuid, p_space_id uuid)
returns uuid
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_purchase record;
begin
    select p.id, c.id as clone_id into v_purchase
    from billing.purchases as p
    left join billing.clones as c
        on c.organization_id = p.organization_id
        and c.purchase_id = p.id
        and c.ended_at is null
    where p.organization_id = p_organization_id
        and p.space_id = p_space_id
        and p.refunded_at is null
    order by c.id desc nulls first, p.id
    limit 1;
    if not found then
        raise exception using errcode = 'FG409', message = 'space_not_owned';
    elsif v_purchase.clone_id is not null then
        raise exception using
            errcode = 'FG409',
            message = 'purchase_cloned',
            detail = jsonb_build_object('clone_id', v_purchase.clone_id)::text;
    end if;
    return v_purchase.id;
end
$$;

-- api.clone_space: rent a bucket of the size of a space that the caller's organization bought, and
-- have the space's objects copied into it. p_region null: the default one; p_name null: the
-- space's title.
--
-- Raises  FG404 space_not_found, FG404 workspace_not_found, FG409 organization_closed,
--         FG409 space_not_cloneable, FG409 space_not_owned, FG409 purchase_cloned,
--         FG409 idempotency_conflict; and what billing.open_storage raises
-- Locks   the key, the organization, the workspace, the wallet.
create function api.clone_space(
    p_caller jsonb,
    p_slug text,
    p_workspace_id uuid,
    p_region text,
    p_name text,
    p_idempotency_key text
)
returns table (clone api.clones, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_request jsonb := jsonb_build_array(p_slug, p_workspace_id, p_region, p_name);
    v_stored jsonb;
    v_space billing.spaces;
    v_purchase_id uuid;
    v_id uuid := billing.uuidv7();
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'clone_space', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.clones, v_stored), true;
        return;
    end if;
    -- The turnstile: of a clone and a refund, or two clones, one sees the other.
    perform billing.lock_organization(v_caller.organization_id);
    if p_workspace_id is not null then
        perform billing.lock_workspace(v_caller.organization_id, p_workspace_id);
    end if;
    v_space := billing.find_space(v_caller, p_slug);
    v_purchase_id := billing.purchase_to_clone(v_caller.organization_id, v_space.id);
    if not v_space.is_cloneable then
        raise exception using errcode = 'FG409', message = 'space_not_cloneable';
    end if;
    insert into billing.clones (
        organization_id, id, purchase_id, slug, storage_id, source_organization_id,
        source_storage_id, source_bytes, requested_by
    )
    select
        v_caller.organization_id, v_id, v_purchase_id, v_space.slug,
        billing.open_storage(
            v_caller.organization_id,
            'bucket',
            coalesce(
                p_region,
                (select r.id from billing.regions as r where r.kind = 'bucket' and r.is_default)
            ),
            v_space.size_gb,
            coalesce(p_name, v_space.title),
            p_workspace_id,
            0, null, 0,
            v_caller.actor
        ),
        s.organization_id, s.id, s.used_bytes, v_caller.actor
    from billing.storage as s
    where s.organization_id = v_space.source_organization_id and s.id = v_space.source_storage_id;
    perform billing.check_storage_spending(v_caller, c.storage_id)
    from billing.clones as c
    where c.organization_id = v_caller.organization_id and c.id = v_id;
    select v.* into clone
    from api.clones as v
    where v.organization_id = v_caller.organization_id and v.id = v_id;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'clone_space', v_request, to_jsonb(clone)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.clone_space to service_role, faregate_functions;
comment on function api.clone_space is
'Copies a space that the caller''s organization bought into a bucket that it rents.';

-- api.list_clones: the clones of the caller's organization, newest first, from before p_cursor.
create function api.list_clones(p_caller jsonb, p_limit integer, p_cursor uuid)
returns setof api.clones
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    return query
    select c.*
    from api.clones as c
    where c.organization_id = v_caller.organization_id and (p_cursor is null or c.id < p_cursor)
    order by c.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_clones to service_role, faregate_functions;
comment on function api.list_clones is
'Pages through the clones of the caller''s organization, newest first.';

-- api.get_clone: how far a clone is.
--
-- Raises  FG404 clone_not_found  absent, or another organization's
create function api.get_clone(p_caller jsonb, p_clone_id uuid)
returns setof api.clones
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    return query
    select c.*
    from api.clones as c
    where c.organization_id = v_caller.organization_id and c.id = p_clone_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'clone_not_found';
    end if;
end
$$;
grant execute on function api.get_clone to service_role, faregate_functions;
comment on function api.get_clone is 'Tells how far a clone is.';

-- billing.drive_clone: have a task copy.
create function billing.drive_clone(p_organization_id uuid, p_clone_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.write_task(
        p_organization_id, 'clone_space',
        jsonb_build_object('organization_id', p_organization_id, 'clone_id', p_clone_id)
    );
end
$$;

-- billing.start_clones: a bucket is ready: what is to be copied into it can be.
--
-- Locks   the clone; the caller has locked the storage resource.
create function billing.start_clones(p_organization_id uuid, p_storage_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_clone_id uuid;
begin
    update billing.clones as c
    set status = 'copying'
    where c.organization_id = p_organization_id
        and c.storage_id = p_storage_id
        and c.status = 'requested'
    returning c.id into v_clone_id;
    if found then
        perform billing.drive_clone(p_organization_id, v_clone_id);
    end if;
end
$$;

-- billing.end_clones: a bucket ends: what was to be copied into it has failed, and what was copied
-- goes with it.
--
-- Locks   the clone; the caller has locked the storage resource.
create function billing.end_clones(p_organization_id uuid, p_storage_id uuid, p_reason text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.now();
    v_clone billing.clones;
begin
    select c.* into v_clone
    from billing.clones as c
    where c.organization_id = p_organization_id
        and c.storage_id = p_storage_id
        and c.ended_at is null
    for no key update;
    if not found then
        return;
    end if;
    update billing.clones as c
    set ended_at = v_now
    where c.organization_id = p_organization_id and c.id = v_clone.id and c.status = 'done';
    if found then
        return;
    end if;
    update billing.clones as c
    set status = 'failed', failure = p_reason, finished_at = v_now, ended_at = v_now
    where c.organization_id = p_organization_id and c.id = v_clone.id;
    perform billing.notify(
        p_organization_id, 'clone_failed',
        jsonb_build_object(
            'space', v_clone.slug, 'storage_id', p_storage_id, 'reason', p_reason
        )
    );
end
$$;

-- billing.lock_clone: a clone that a task is at, and its bucket.
--
-- Raises  FG404 clone_not_found
-- Locks   the storage resource, the clone.
create function billing.lock_clone(p_organization_id uuid, p_clone_id uuid)
returns billing.clones
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_clone billing.clones;
begin
    perform billing.lock_storage(c.organization_id, c.storage_id)
    from billing.clones as c
    where c.organization_id = p_organization_id and c.id = p_clone_id;
    select c.* into v_clone
    from billing.clones as c
    where c.organization_id = p_organization_id and c.id = p_clone_id
    for no key update;
    if not found then
        raise exception using errcode = 'FG404', message = 'clone_not_found';
    end if;
    return v_clone;
end
$$;

-- billing.give_up_clone: a clone has failed for good, and its bucket, which would be charged for
-- nothing, is given up.
--
-- Locks   the wallet; the caller has locked the clone and its bucket.
create function billing.give_up_clone(p_clone billing.clones, p_reason text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.end_clones(p_clone.organization_id, p_clone.storage_id, p_reason);
    perform billing.end_storage(
        p_clone.organization_id, p_clone.storage_id, 'deleting', 'clone_failed'
    );
end
$$;

-- billing.storage_place: where a storage resource is in the cloud; null: it is not, or ends.
create function billing.storage_place(p_organization_id uuid, p_storage_id uuid)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select
            jsonb_build_object(
                'provider', r.provider,
                'location', r.location,
                'endpoint', r.endpoint,
                'resource_name', s.resource_name
            )
        from billing.storage as s
        inner join billing.regions as r on r.kind = s.kind and r.id = s.region_id
        where s.organization_id = p_organization_id
            and s.id = p_storage_id
            and s.status in ('ready', 'grace', 'read_only', 'deletion_notice')
    );
end
$$;

-- api.start_clone: what a task is to copy, from where to where, and from which object on. Without
-- an attempt there is nothing to do.
--
-- Raises  FG404 clone_not_found
--         FG503 task_under_way   another run is on it: call again
-- Locks   the storage resource, the clone, the wallet, the task's row.
create function api.start_clone(p_organization_id uuid, p_clone_id uuid, p_task_id uuid)
returns table (
    status text,
    attempt integer,
    source jsonb,
    target jsonb,
    bookmark text
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    c_max_failures constant integer := 10;
    v_clone billing.clones := billing.lock_clone(p_organization_id, p_clone_id);
begin
    attempt := billing.begin_attempt(p_organization_id, p_task_id);
    source := billing.storage_place(v_clone.source_organization_id, v_clone.source_storage_id);
    target := billing.storage_place(p_organization_id, v_clone.storage_id);
    if v_clone.status = 'copying' and attempt is not null then
        if source is null then
            perform billing.give_up_clone(v_clone, 'source_ended');
        elsif v_clone.failures >= c_max_failures then
            perform billing.give_up_clone(v_clone, coalesce(v_clone.failure, 'timed_out'));
        end if;
    end if;
    -- Counted where it begins: also a run that dies is one. What is copied sets it back.
    update billing.clones as c
    set failures = c.failures + (c.status = 'copying' and attempt is not null)::integer
    where c.organization_id = p_organization_id and c.id = p_clone_id
    returning c.status, c.bookmark into status, bookmark;
    if status <> 'copying' then
        perform billing.acknowledge(p_organization_id, p_task_id);
        attempt := null;
    end if;
    return next;
end
$$;
grant execute on function api.start_clone to service_role, faregate_functions;
comment on function api.start_clone is 'Tells a task what of a space it is to copy.';

-- api.note_clone: a task copied a page: so many objects and bytes; p_bookmark is where the next
-- one begins, null: that was all. is_going: the task may go on with it.
--
-- A run that another has overtaken changes nothing, nor does one whose clone has ended.
--
-- Raises  FG404 clone_not_found
-- Locks   the storage resource, the clone, the task's row.
create function api.note_clone(
    p_organization_id uuid,
    p_clone_id uuid,
    p_task_id uuid,
    p_attempt integer,
    p_bookmark text,
    p_objects integer,
    p_bytes bigint
)
returns table (status text, is_going boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_clone billing.clones := billing.lock_clone(p_organization_id, p_clone_id);
begin
    status := v_clone.status;
    is_going := status = 'copying'
        and billing.extend_attempt(p_organization_id, p_task_id, p_attempt);
    if is_going then
        update billing.clones as c
        set
            bookmark = p_bookmark,
            copied_objects = c.copied_objects + p_objects,
            copied_bytes = c.copied_bytes + p_bytes,
            failures = 0,
            failure = null
        where c.organization_id = p_organization_id and c.id = p_clone_id;
        if p_bookmark is null then
            perform billing.finish_clone(v_clone);
            perform billing.acknowledge(p_organization_id, p_task_id);
            status := 'done';
            is_going := false;
        end if;
    end if;
    return next;
end
$$;
grant execute on function api.note_clone to service_role, faregate_functions;
comment on function api.note_clone is 'Notes how far a task has copied a space.';

-- billing.finish_clone: every object is there.
--
-- Locks   nothing new: the caller has locked the clone.
create function billing.finish_clone(p_clone billing.clones)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.clones as c
    set status = 'done', finished_at = billing.now()
    where c.organization_id = p_clone.organization_id and c.id = p_clone.id;
    perform billing.notify(
        p_clone.organization_id, 'clone_done',
        jsonb_build_object('space', p_clone.slug, 'storage_id', p_clone.storage_id)
    );
end
$$;

-- api.pause_clone: a run is over before everything is copied. Without p_failure its time was up,
-- and another task goes on at once; with p_is_final it is given up; else this one is called again
-- (is_going).
--
-- Raises  FG404 clone_not_found
-- Locks   the storage resource, the clone, the wallet, the task's row.
create function api.pause_clone(
    p_organization_id uuid,
    p_clone_id uuid,
    p_task_id uuid,
    p_attempt integer,
    p_failure text,
    p_is_final boolean
)
returns table (status text, is_going boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_clone billing.clones := billing.lock_clone(p_organization_id, p_clone_id);
begin
    if billing.end_attempt(p_organization_id, p_task_id, p_attempt, p_failure)
        and v_clone.status = 'copying'
    then
        update billing.clones as c
        set failure = p_failure
        where c.organization_id = p_organization_id and c.id = p_clone_id;
        if p_is_final then
            perform billing.give_up_clone(v_clone, p_failure);
            perform billing.acknowledge(p_organization_id, p_task_id);
        elsif p_failure is null then
            perform billing.acknowledge(p_organization_id, p_task_id);
            perform billing.drive_clone(p_organization_id, p_clone_id);
        end if;
    end if;
    return query
    select c.status::text, c.status = 'copying' and p_failure is not null
    from billing.clones as c
    where c.organization_id = p_organization_id and c.id = p_clone_id;
end
$$;
grant execute on function api.pause_clone to service_role, faregate_functions;
comment on function api.pause_clone is
'Notes that a task stopped copying a space before its end, and why.';
