-- Storage: buckets and file shares that customers rent, where they can be, and how large.
--
-- What is here is what is wanted; billing.storage_work (provisioning) makes the cloud so. How it is
-- paid for is in the next file.

create type billing.storage_kind as enum ('bucket', 'filestore');
comment on type billing.storage_kind is
'bucket: objects at Google or any S3 endpoint. filestore: a file share.';

create type billing.storage_provider as enum ('gcs', 's3', 'filestore');

create type billing.storage_access as enum ('write', 'read');

create type billing.storage_status as enum (
    'requested',
    'provisioning',
    'ready',
    'grace',
    'read_only',
    'deletion_notice',
    'deleting',
    'deleted',
    'failed'
);
comment on type billing.storage_status is
'requested, provisioning: not there yet and not charged. ready: charged. grace, read_only,
deletion_notice: the money has run out. deleting, deleted: given up. failed: it could not be made.';

-- billing.has_ended: whether a storage resource is nobody's any more, whatever the cloud has of it.
create function billing.has_ended(p_status billing.storage_status)
returns boolean
language sql
immutable
return p_status in ('deleting', 'deleted', 'failed');

create table billing.regions (
    kind billing.storage_kind not null,
    id text not null,
    provider billing.storage_provider not null,
    location text not null,
    endpoint text,
    min_gb integer not null default 1,
    step_gb integer not null default 1,
    is_default boolean not null default false,
    is_open boolean not null default true,
    primary key (kind, id),
    constraint regions_id_is_a_word check (id ~ '^[a-z][a-z0-9-]{1,30}$'),
    constraint regions_provider_fits_kind check ((kind = 'filestore') = (provider = 'filestore')),
    constraint regions_endpoint_is_of_s3 check ((provider = 's3') = (endpoint is not null)),
    constraint regions_sizes_positive check (min_gb > 0 and step_gb > 0)
);
alter table billing.regions enable row level security;
create unique index regions_default_key on billing.regions (kind) where is_default;
comment on table billing.regions is
'Where storage can be rented, and who keeps it there. A row more is a region more.';
comment on column billing.regions.kind is 'What can be rented there.';
comment on column billing.regions.id is 'What customers call it.';
comment on column billing.regions.provider is 'Who keeps it: gcs, s3 or filestore.';
comment on column billing.regions.location is
'What the provider calls it: a location of Cloud Storage, a region of S3, a zone of Filestore.';
comment on column billing.regions.endpoint is
'Of s3: under which name the functions'' setting S3_ENDPOINTS has its address and keys.';
comment on column billing.regions.min_gb is 'The smallest size that the provider makes, in GB.';
comment on column billing.regions.step_gb is 'Sizes are multiples of so many GB.';
comment on column billing.regions.is_default is 'Whether it is used where nobody chose.';
comment on column billing.regions.is_open is 'Whether something new can be rented there.';

create table billing.storage_limits (
    plan_id text not null references billing.plans (id),
    kind billing.storage_kind not null,
    max_gb integer not null,
    max_count integer not null,
    primary key (plan_id, kind),
    constraint storage_limits_positive check (max_gb > 0 and max_count > 0)
);
alter table billing.storage_limits enable row level security;
comment on table billing.storage_limits is
'How much storage of a kind a plan allows. No row: none.';
comment on column billing.storage_limits.plan_id is 'The plan.';
comment on column billing.storage_limits.kind is 'The kind of storage.';
comment on column billing.storage_limits.max_gb is 'The largest size of one, in GB.';
comment on column billing.storage_limits.max_count is
'How many an organization may have at a time.';

insert into billing.regions
(kind, id, provider, location, min_gb, step_gb, is_default)
values
('bucket', 'europe-west4', 'gcs', 'EUROPE-WEST4', 1, 1, true),
('bucket', 'us-central1', 'gcs', 'US-CENTRAL1', 1, 1, false),
-- Zonal instances, which can grow and shrink:
-- https://cloud.google.com/filestore/docs/service-tiers
('filestore', 'europe-west4', 'filestore', 'europe-west4-a', 1024, 256, true),
('filestore', 'us-central1', 'filestore', 'us-central1-a', 1024, 256, false);

insert into billing.storage_limits (plan_id, kind, max_gb, max_count)
values
('free', 'bucket', 100, 5),
('pro', 'bucket', 5000, 50), ('pro', 'filestore', 4096, 5),
('enterprise', 'bucket', 100000, 1000), ('enterprise', 'filestore', 9984, 50),
('admin', 'bucket', 100000, 1000), ('admin', 'filestore', 9984, 50);

create table billing.storage (
    organization_id uuid not null,
    id uuid not null,
    kind billing.storage_kind not null,
    region_id text not null,
    name text,
    workspace_id uuid,
    status billing.storage_status not null default 'requested',
    status_since timestamptz not null default billing.now(),
    size_gb integer not null,
    resize_to_gb integer,
    included_gb integer not null default 0,
    soft_delete_days smallint not null default 0,
    delete_after_days smallint,
    resource_name text not null default 'fg-' || translate(gen_random_uuid()::text, '-', ''),
    is_absent boolean not null default true,
    applied_access billing.storage_access,
    applied_size_gb integer,
    applied_principal text,
    mount text,
    task_id uuid,
    operation text,
    failure text,
    failures integer not null default 0,
    used_bytes bigint,
    measured_at timestamptz,
    measure_at timestamptz not null default billing.now(),
    created_by text not null,
    created_at timestamptz not null default billing.now(),
    ready_at timestamptz,
    deleted_at timestamptz,
    primary key (organization_id, id),
    constraint storage_resource_name_key unique (resource_name),
    constraint storage_hold_fkey foreign key (organization_id, id)
    references billing.holds (organization_id, id),
    constraint storage_region_fkey foreign key (kind, region_id)
    references billing.regions (kind, id),
    constraint storage_workspace_fkey foreign key (organization_id, workspace_id)
    references billing.workspaces (organization_id, id),
    constraint storage_resource_name_is_ours check (resource_name ~ '^fg-[0-9a-f]{32}$'),
    constraint storage_name_length check (char_length(name) between 1 and 100),
    constraint storage_sizes_positive check (size_gb > 0 and resize_to_gb > 0 and included_gb >= 0),
    constraint storage_soft_delete_is_possible check (
        soft_delete_days = 0 or soft_delete_days between 7 and 90
    ),
    constraint storage_delete_after_is_possible check (delete_after_days between 1 and 3650),
    constraint storage_options_are_of_buckets check (
        kind = 'bucket' or (soft_delete_days = 0 and delete_after_days is null)
    )
);
alter table billing.storage enable row level security;
create index storage_workspace on billing.storage (workspace_id, organization_id);
create index storage_region on billing.storage (kind, region_id);
create index storage_to_measure on billing.storage (measure_at)
where kind = 'bucket' and status in ('ready', 'grace', 'read_only', 'deletion_notice');
comment on table billing.storage is
'A bucket or file share that an organization rents: what is wanted, and what the cloud has of it.
It is paid for until its hold expires.';
comment on column billing.storage.organization_id is 'The organization it belongs to.';
comment on column billing.storage.id is 'Time-ordered (UUIDv7); its hold has the same.';
comment on column billing.storage.kind is 'bucket or filestore.';
comment on column billing.storage.region_id is 'Where it is.';
comment on column billing.storage.name is
'What its owner calls it. Nothing in the cloud is named after it.';
comment on column billing.storage.workspace_id is
'The workspace that it is attached to; null: none.';
comment on column billing.storage.status is
'requested, provisioning, ready, grace, read_only, deletion_notice, deleting, deleted or failed.';
comment on column billing.storage.status_since is 'Since when (UTC) it has been that.';
comment on column billing.storage.size_gb is
'How many GB (2³⁰ bytes) are rented. Of a bucket it is the quota.';
comment on column billing.storage.resize_to_gb is
'The size in GB that it is being given; null: it keeps the one it has.';
comment on column billing.storage.included_gb is
'How many of its GB cost nothing: what comes with a registration.';
comment on column billing.storage.soft_delete_days is
'For how many days a deleted object can be restored; 0: not at all.';
comment on column billing.storage.delete_after_days is
'After how many days its objects are deleted by themselves; null: never.';
comment on column billing.storage.resource_name is
'Its name in the cloud: random, so that nobody can take it before.';
comment on column billing.storage.is_absent is
'Whether it is certain that the cloud has nothing of that name for it.';
comment on column billing.storage.applied_access is
'What its principal may do in the cloud: write or read; null: it is not there.';
comment on column billing.storage.applied_size_gb is
'The size in GB that the cloud gave it; null: it is not there.';
comment on column billing.storage.applied_principal is
'The service account that the cloud lets in; null: none yet.';
comment on column billing.storage.mount is 'Of a file share: what is mounted, address:/share.';
comment on column billing.storage.task_id is
'The row of the outbox that is to make the cloud so; null: nothing is under way.';
comment on column billing.storage.operation is
'What the cloud is at, as it calls it; null: nothing that takes longer.';
comment on column billing.storage.failure is
'Why it failed, or why the last change did not succeed yet.';
comment on column billing.storage.failures is
'How many attempts in a row to make the cloud so came to nothing.';
comment on column billing.storage.used_bytes is 'What was in it when it was last measured.';
comment on column billing.storage.measured_at is 'When that was (UTC); null: not yet.';
comment on column billing.storage.measure_at is
'When it is to be measured next (UTC), if it is a bucket.';
comment on column billing.storage.created_by is
'Who asked for it: passport:<id>, user:<id> or operator; registration: it came with one.';
comment on column billing.storage.created_at is 'When it was asked for (UTC).';
comment on column billing.storage.ready_at is
'The first second that is charged (UTC); null: it is not there yet.';
comment on column billing.storage.deleted_at is
'When the cloud no longer had it (UTC); null: it may still have it.';

create table billing.storage_periods (
    organization_id uuid not null,
    storage_id uuid not null,
    starts_at timestamptz not null,
    ends_at timestamptz,
    billed_gb integer not null,
    price_id uuid not null,
    gb_month_price_micros bigint not null,
    primary key (organization_id, storage_id, starts_at),
    constraint storage_periods_storage_fkey foreign key (organization_id, storage_id)
    references billing.storage (organization_id, id),
    constraint storage_periods_end_after_start check (ends_at >= starts_at),
    constraint storage_periods_size_not_negative check (billed_gb >= 0)
);
alter table billing.storage_periods enable row level security;
create unique index storage_periods_open_key
on billing.storage_periods (storage_id, organization_id) where ends_at is null;
comment on table billing.storage_periods is
'During which time a storage resource was charged for how many GB at which price. A new size or
price ends one and begins the next at the same moment.';
comment on column billing.storage_periods.organization_id is 'The organization it belongs to.';
comment on column billing.storage_periods.storage_id is 'The storage resource.';
comment on column billing.storage_periods.starts_at is 'From then on (UTC).';
comment on column billing.storage_periods.ends_at is 'Until then (UTC); null: it goes on.';
comment on column billing.storage_periods.billed_gb is
'For how many GB: what is rented or, where that is more, used, less what is included.';
comment on column billing.storage_periods.price_id is 'The row of prices that it froze.';
comment on column billing.storage_periods.gb_month_price_micros is
'What a GB-month (730 hours) costs, in µ$, frozen.';

-- billing.storage_cost: what a storage resource costs from its first second to a moment, in µ$: the
-- sum of GB × exact duration × price over its periods, rounded once, half up. Cumulative, so
-- successive charges never drift. A GB-month is a GB for 730 hours, a twelfth of a year, as in
-- Google's price lists.
-- The linter takes parameters for columns: hence noqa.
create function billing.storage_cost(
    p_organization_id uuid, p_storage_id uuid, p_until timestamptz
)
returns bigint
language sql
stable parallel safe
begin atomic
    select
        coalesce(
            round(sum(
                p.billed_gb * p.gb_month_price_micros
                * extract(
                    epoch from greatest(
                        least(p.ends_at, p_until) - p.starts_at, interval '0' -- noqa: RF03
                    )
                )
            ) / 2628000),
            0
        )::bigint
    from billing.storage_periods as p
    where p.organization_id = p_organization_id and p.storage_id = p_storage_id; -- noqa: RF03
end;

create view api.storage with (security_invoker = true) as
select
    s.id,
    s.organization_id,
    s.kind,
    s.region_id as region,
    s.name,
    s.workspace_id,
    s.status,
    s.status_since,
    s.size_gb,
    s.resize_to_gb,
    s.included_gb,
    s.used_bytes,
    s.measured_at,
    s.soft_delete_days,
    s.delete_after_days,
    (
        select p.gb_month_price_micros
        from billing.storage_periods as p
        where p.organization_id = s.organization_id and p.storage_id = s.id
        order by p.starts_at desc
        limit 1
    ) as gb_month_price_micros,
    h.cost_micros,
    h.captured_micros as charged_micros,
    greatest(h.cost_micros - h.amount_micros, 0) as unpaid_micros,
    h.amount_micros - h.captured_micros as held_micros,
    case when s.ready_at is not null and h.due_at is not null then h.expires_at end as paid_until,
    case when s.applied_access is not null then s.resource_name end as resource_name,
    s.applied_access as access,
    s.mount,
    s.failure,
    s.created_at,
    s.ready_at,
    case when s.ready_at is not null and h.due_at is null then h.captured_until end as ended_at,
    s.deleted_at
from billing.storage as s
cross join lateral (
    select
        r.amount_micros,
        r.captured_micros,
        r.captured_until,
        r.expires_at,
        r.due_at,
        case
            -- What was not paid when it ended is nobody's debt.
            when r.due_at is null then r.captured_micros
            else
                billing.storage_cost(
                    r.organization_id, r.id, greatest(r.captured_until, billing.now())
                )
        end as cost_micros
    from billing.holds as r
    where r.organization_id = s.organization_id and r.id = s.id
    limit 1 -- noqa: AM09
) as h;
comment on view api.storage is 'Rented storage with its cost as of now.';
comment on column api.storage.id is 'Time-ordered (UUIDv7); its hold has the same.';
comment on column api.storage.region is 'Where it is.';
comment on column api.storage.gb_month_price_micros is
'What a GB-month (730 hours) costs, in µ$, at present or at last; null: it is not charged yet.';
comment on column api.storage.cost_micros is
'In µ$: what was charged so far plus what has run since.';
comment on column api.storage.charged_micros is 'What was charged so far, in µ$.';
comment on column api.storage.unpaid_micros is
'What of its cost neither a charge nor a hold covers, in µ$. When it ends, nobody owes it.';
comment on column api.storage.held_micros is 'What is held for it, in µ$.';
comment on column api.storage.paid_until is 'Until when money is held for it (UTC).';
comment on column api.storage.ended_at is
'Up to then it was charged (UTC); null: it still is, or never was.';
comment on column api.storage.resource_name is
'Its name in the cloud: the bucket or the file share''s instance; null: it is not there.';
comment on column api.storage.access is
'What the organization''s service account may do with it: write or read; null: it is not there.';
call billing.inherit_comments('api.storage');

-- billing.find_storage: a storage resource of an organization.
--
-- Raises  FG404 storage_not_found  absent, or another organization's
create function billing.find_storage(p_organization_id uuid, p_storage_id uuid)
returns billing.storage
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_storage billing.storage;
begin
    select s.* into v_storage
    from billing.storage as s
    where s.organization_id = p_organization_id and s.id = p_storage_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'storage_not_found';
    end if;
    return v_storage;
end
$$;

-- billing.require_status: refuse a storage resource that has none of these statuses.
--
-- Raises  FG409 storage_not_ready  detail: storage_status
create function billing.require_status(
    p_storage billing.storage, p_statuses billing.storage_status[]
)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_storage.status <> all(p_statuses) then
        raise exception using
            errcode = 'FG409',
            message = 'storage_not_ready',
            detail = jsonb_build_object('storage_status', p_storage.status)::text;
    end if;
end
$$;

-- billing.lock_storage: a storage resource of an organization, which nobody else changes until the
-- transaction ends.
--
-- Raises  FG404 storage_not_found
-- Locks   its hold, which is what accrual locks, too: after the workspace, before the wallet.
create function billing.lock_storage(p_organization_id uuid, p_storage_id uuid)
returns billing.storage
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform h.id
    from billing.holds as h
    where h.organization_id = p_organization_id and h.id = p_storage_id
    for no key update;
    -- After the lock: whoever held it may have changed the resource.
    return billing.find_storage(p_organization_id, p_storage_id);
end
$$;

-- billing.drive_storage: have a task make the cloud as the row wants it. While one is at it,
-- nothing new is needed: it looks again before it ends. One that waits for its next attempt is
-- replaced, so that nobody waits with it.
--
-- Locks   the outbox's row; the caller has locked the storage resource.
create function billing.drive_storage(p_organization_id uuid, p_storage_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_task_id uuid;
    v_leased_until timestamptz;
begin
    select o.id, o.leased_until into v_task_id, v_leased_until
    from billing.storage as s
    inner join billing.outbox as o on o.organization_id = s.organization_id and o.id = s.task_id
    where s.organization_id = p_organization_id and s.id = p_storage_id
    for no key update of o;
    if v_leased_until > billing.now() then
        return;
    end if;
    perform billing.acknowledge(p_organization_id, v_task_id);
    update billing.storage as s
    set
        task_id = billing.write_task(
            p_organization_id, 'provision_storage',
            jsonb_build_object('organization_id', p_organization_id, 'storage_id', p_storage_id)
        )
    where s.organization_id = p_organization_id and s.id = p_storage_id;
end
$$;
