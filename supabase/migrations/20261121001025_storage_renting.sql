-- Renting storage: what customers ask for, and what speaks against it.

-- billing.refuse_size: whatever speaks against a size of storage on a plan in a region.
--
-- Raises  FG403 storage_not_allowed  the plan has none of this kind; detail: kind
--         FG400 size_not_allowed     detail: min_gb, max_gb, step_gb
create function billing.refuse_size(
    p_plan_id text, p_kind billing.storage_kind, p_region_id text, p_size_gb integer
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_limits record;
begin
    select r.min_gb, l.max_gb, r.step_gb into v_limits
    from billing.regions as r
    inner join billing.storage_limits as l on l.kind = r.kind
    cross join lateral billing.price_at(l.plan_id, 'storage.' || l.kind, billing.now()) as p
    where r.kind = p_kind and r.id = p_region_id and l.plan_id = p_plan_id;
    if not found then
        raise exception using
            errcode = 'FG403',
            message = 'storage_not_allowed',
            detail = jsonb_build_object('kind', p_kind)::text;
    end if;
    if p_size_gb not between v_limits.min_gb and v_limits.max_gb
        or p_size_gb % v_limits.step_gb <> 0
    then
        raise exception using
            errcode = 'FG400', message = 'size_not_allowed', detail = to_jsonb(v_limits)::text;
    end if;
end
$$;

-- billing.refuse_storage: whatever speaks against storage of a size in a region, one by one.
--
-- Raises  FG400 region_not_offered    detail: region, regions
--         FG403 storage_not_allowed, FG400 size_not_allowed
create function billing.refuse_storage(
    p_plan_id text, p_kind billing.storage_kind, p_region_id text, p_size_gb integer
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from billing.regions as r
    where r.kind = p_kind and r.id = p_region_id and r.is_open;
    if not found then
        raise exception using
            errcode = 'FG400',
            message = 'region_not_offered',
            detail = jsonb_build_object(
                'region', p_region_id,
                'regions', (
                    select coalesce(jsonb_agg(r.id order by r.id), '[]')
                    from billing.regions as r
                    where r.kind = p_kind and r.is_open
                )
            )::text;
    end if;
    perform billing.refuse_size(p_plan_id, p_kind, p_region_id, p_size_gb);
end
$$;

-- billing.open_storage: hold the first window's money and have the cloud make a storage resource.
-- It is given an hour for that. Returns its id, which is its hold's, too.
--
-- p_included_gb: how many GB cost nothing.
--
-- Raises  FG400 region_not_offered, FG403 storage_not_allowed, FG400 size_not_allowed
--         FG403 storage_limit_reached  the plan's number of this kind is used up; detail: max_count
--         FG402 insufficient_credits, FG402 debt_outstanding
-- Locks   the wallet; the caller has locked the organization and the workspace.
create function billing.open_storage(
    p_organization_id uuid,
    p_kind billing.storage_kind,
    p_region_id text,
    p_size_gb integer,
    p_name text,
    p_workspace_id uuid,
    p_soft_delete_days integer,
    p_delete_after_days integer,
    p_included_gb integer,
    p_created_by text
)
returns uuid
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id uuid := billing.uuidv7();
    v_now timestamptz := billing.now();
    v_plan billing.plans;
    v_price billing.prices;
    v_max_count integer;
begin
    select l.* into strict v_plan
    from billing.organizations as o
    inner join billing.plans as l on l.id = o.plan_id
    where o.id = p_organization_id;
    perform billing.refuse_storage(v_plan.id, p_kind, p_region_id, p_size_gb);
    select l.max_count into strict v_max_count
    from billing.storage_limits as l
    where l.plan_id = v_plan.id and l.kind = p_kind;
    if v_max_count <= (
        select count(*)
        from billing.storage as s
        where s.organization_id = p_organization_id
            and s.kind = p_kind
            and not billing.has_ended(s.status)
    ) then
        raise exception using
            errcode = 'FG403',
            message = 'storage_limit_reached',
            detail = jsonb_build_object('max_count', v_max_count)::text;
    end if;
    select p.* into strict v_price
    from billing.storage_price(p_organization_id, p_kind, v_now) as p;
    perform billing.open_hold(
        p_organization_id,
        v_id,
        'storage',
        billing.window_cost(
            greatest(p_size_gb - p_included_gb, 0), v_price.price_micros,
            v_plan.storage_window_seconds
        ),
        v_now + interval '1 hour',
        false,
        v_now + interval '1 hour'
    );
    insert into billing.storage (
        organization_id, id, kind, region_id, name, workspace_id, size_gb, included_gb,
        soft_delete_days, delete_after_days, created_by
    )
    values (
        p_organization_id, v_id, p_kind, p_region_id, p_name, p_workspace_id, p_size_gb,
        p_included_gb, coalesce(p_soft_delete_days, 0), p_delete_after_days, p_created_by
    );
    perform billing.drive_storage(p_organization_id, v_id);
    return v_id;
end
$$;

-- billing.check_storage_spending: ask the policies about what is held for a storage resource.
--
-- Raises  as billing.check_policies
create function billing.check_storage_spending(p_caller billing.caller, p_storage_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.check_spending(
        p_caller,
        p_caller.organization_id,
        jsonb_build_object('amount_micros', h.amount_micros - h.captured_micros)
    )
    from billing.holds as h
    where h.organization_id = p_caller.organization_id and h.id = p_storage_id;
end
$$;

-- billing.default_region: where storage of a kind is rented when nobody chose.
create function billing.default_region(p_kind billing.storage_kind)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select r.id from billing.regions as r where r.kind = p_kind and r.is_default);
end
$$;

-- api.list_regions: where the caller's plan may rent what, for how much, and how large.
create function api.list_regions(p_caller jsonb)
returns table (
    kind text,
    region text,
    provider text,
    is_default boolean,
    gb_month_price_micros bigint,
    min_gb integer,
    max_gb integer,
    step_gb integer,
    max_count integer
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    return query
    select
        r.kind::text, r.id, r.provider::text, r.is_default, p.price_micros,
        r.min_gb, l.max_gb, r.step_gb, l.max_count
    from billing.regions as r
    inner join billing.storage_limits as l on l.kind = r.kind and l.plan_id = v_caller.plan_id
    cross join lateral billing.price_at(l.plan_id, 'storage.' || l.kind, billing.now()) as p
    where r.is_open
    order by r.kind, r.id;
end
$$;
grant execute on function api.list_regions to service_role, faregate_functions;
comment on function api.list_regions is
'Lists where storage can be rented on the caller''s plan, for how much, and how large.';

-- api.estimate_storage: what storage of a size costs in a month of 730 hours, and what must be
-- available to rent it; p_region null: the default one.
--
-- Raises  FG400 region_not_offered, FG403 storage_not_allowed, FG400 size_not_allowed
create function api.estimate_storage(
    p_caller jsonb, p_kind text, p_region text, p_size_gb integer
)
returns table (
    kind text,
    region text,
    size_gb integer,
    gb_month_price_micros bigint,
    month_cost_micros bigint,
    required_micros bigint,
    available_micros bigint
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
    v_kind billing.storage_kind := p_kind;
    v_region text := coalesce(p_region, billing.default_region(v_kind));
begin
    perform billing.refuse_storage(v_caller.plan_id, v_kind, v_region, p_size_gb);
    return query
    select
        p_kind, v_region, p_size_gb, p.price_micros,
        billing.window_cost(p_size_gb, p.price_micros, 730 * 3600),
        billing.window_cost(p_size_gb, p.price_micros, l.storage_window_seconds),
        w.available_micros
    from billing.storage_price(v_caller.organization_id, v_kind, billing.now()) as p
    cross join api.wallets as w
    inner join billing.plans as l on l.id = v_caller.plan_id
    where w.organization_id = v_caller.organization_id;
end
$$;
grant execute on function api.estimate_storage to service_role, faregate_functions;
comment on function api.estimate_storage is
'Tells what storage would cost and what must be available to rent it.';

-- api.create_storage: hold the first window's money and have the cloud make it. p_region null: the
-- default one; p_workspace_id null: attached to none; the days null: no such option.
--
-- Raises  FG400 region_not_offered, FG403 storage_not_allowed, FG400 size_not_allowed,
--         FG403 storage_limit_reached, FG402 insufficient_credits, FG402 debt_outstanding,
--         FG404 workspace_not_found, FG409 organization_closed, FG409 idempotency_conflict
-- Locks   the key, the organization, the workspace, the wallet.
create function api.create_storage(
    p_caller jsonb,
    p_kind text,
    p_region text,
    p_size_gb integer,
    p_name text,
    p_workspace_id uuid,
    p_soft_delete_days integer,
    p_delete_after_days integer,
    p_idempotency_key text
)
returns table (storage api.storage, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_request jsonb := jsonb_build_array(
        p_kind, p_region, p_size_gb, p_name, p_workspace_id, p_soft_delete_days,
        p_delete_after_days
    );
    v_stored jsonb;
    v_kind billing.storage_kind := p_kind;
    v_id uuid;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'create_storage', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.storage, v_stored), true;
        return;
    end if;
    -- The turnstile: of two calls one counts after the other's insert.
    perform billing.lock_organization(v_caller.organization_id);
    if p_workspace_id is not null then
        perform billing.lock_workspace(v_caller.organization_id, p_workspace_id);
    end if;
    v_id := billing.open_storage(
        v_caller.organization_id, v_kind, coalesce(p_region, billing.default_region(v_kind)),
        p_size_gb, p_name, p_workspace_id, p_soft_delete_days, p_delete_after_days, 0,
        v_caller.actor
    );
    perform billing.check_storage_spending(v_caller, v_id);
    insert into billing.audit_log (organization_id, actor, action, subject_id)
    values (v_caller.organization_id, v_caller.actor, 'create_storage', v_id);
    select v.* into storage
    from api.storage as v
    where v.organization_id = v_caller.organization_id and v.id = v_id;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'create_storage', v_request, to_jsonb(storage)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.create_storage to service_role, faregate_functions;
comment on function api.create_storage is
'Rents a bucket or a file share: holds its first window''s money and has the cloud make it.';

-- api.get_storage: one storage resource, with its cost as of now.
-- Raises  FG404 storage_not_found
create function api.get_storage(p_caller jsonb, p_storage_id uuid)
returns setof api.storage
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    perform billing.find_storage(v_caller.organization_id, p_storage_id);
    return query
    select s.*
    from api.storage as s
    where s.organization_id = v_caller.organization_id and s.id = p_storage_id;
end
$$;
grant execute on function api.get_storage to service_role, faregate_functions;
comment on function api.get_storage is 'Reads one storage resource, with its cost as of now.';

-- api.list_storage: the organization's storage, newest first, from before p_cursor; p_kind,
-- p_status, p_workspace_id null: all.
create function api.list_storage(
    p_caller jsonb,
    p_kind text,
    p_status text,
    p_workspace_id uuid,
    p_limit integer,
    p_cursor uuid
)
returns setof api.storage
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    return query
    select s.*
    from api.storage as s
    where s.organization_id = v_caller.organization_id
        and (p_cursor is null or s.id < p_cursor)
        and (p_kind is null or s.kind = p_kind::billing.storage_kind)
        and (p_status is null or s.status = p_status::billing.storage_status)
        and (p_workspace_id is null or s.workspace_id = p_workspace_id)
    order by s.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_storage to service_role, faregate_functions;
comment on function api.list_storage is
'Pages through the storage of the caller''s organization, newest first.';

-- billing.refuse_resize: whatever speaks against another size of a storage resource that is charged
-- up to now, one by one.
--
-- Raises  FG409 storage_not_ready  it is not there, or not paid for
--         FG403 storage_not_allowed, FG400 size_not_allowed
--         FG409 storage_in_use     more than this is in it, or may come into it by signed
--                                  addresses; detail: used_bytes, measured_at
create function billing.refuse_resize(
    p_organization_id uuid, p_storage_id uuid, p_plan_id text, p_size_gb integer
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_storage billing.storage := billing.find_storage(p_organization_id, p_storage_id);
    v_taken_bytes bigint;
begin
    perform billing.require_status(v_storage, '{ready}');
    perform billing.refuse_size(p_plan_id, v_storage.kind, v_storage.region_id, p_size_gb);
    v_taken_bytes := billing.taken_bytes(v_storage, null);
    if v_taken_bytes > p_size_gb * 1073741824::bigint then
        raise exception using
            errcode = 'FG409',
            message = 'storage_in_use',
            detail = jsonb_build_object(
                'used_bytes', v_taken_bytes, 'measured_at', v_storage.measured_at
            )::text;
    end if;
end
$$;

-- billing.hold_storage_size: hold the window ahead of a storage resource for a size that it is to
-- have.
--
-- Raises  FG402 insufficient_credits, FG402 debt_outstanding
-- Locks   the wallet; the caller has locked the storage resource.
create function billing.hold_storage_size(
    p_organization_id uuid, p_storage_id uuid, p_size_gb integer
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_missing_micros bigint;
begin
    select
        billing.window_cost(
            billing.billed_gb(p_size_gb, s.used_bytes, s.included_gb),
            p.gb_month_price_micros,
            l.storage_window_seconds
        )
        - (h.amount_micros - h.captured_micros)
    into strict v_missing_micros
    from billing.storage as s
    inner join billing.holds as h on h.organization_id = s.organization_id and h.id = s.id
    inner join billing.storage_periods as p
        on p.organization_id = s.organization_id and p.storage_id = s.id and p.ends_at is null
    inner join billing.organizations as o on o.id = s.organization_id
    inner join billing.plans as l on l.id = o.plan_id
    where s.organization_id = p_organization_id and s.id = p_storage_id;
    if v_missing_micros > 0 then
        perform billing.hold_with_care(p_organization_id, v_missing_micros);
        update billing.holds as h
        set amount_micros = h.amount_micros + v_missing_micros
        where h.organization_id = p_organization_id and h.id = p_storage_id;
    end if;
end
$$;

-- api.resize_storage: another size. A bucket has it at once; a file share when the cloud has given
-- it (resize_to_gb until then), and is charged for it from then on. A larger one must be paid for
-- now, for the window ahead.
--
-- Raises  FG404 storage_not_found
--         FG409 storage_not_ready, FG403 storage_not_allowed, FG400 size_not_allowed,
--         FG409 storage_in_use, FG402 insufficient_credits, FG402 debt_outstanding,
--         FG409 idempotency_conflict
-- Locks   the key, the storage resource, the wallet.
create function api.resize_storage(
    p_caller jsonb, p_storage_id uuid, p_size_gb integer, p_idempotency_key text
)
returns table (storage api.storage, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_request jsonb := jsonb_build_array(p_storage_id, p_size_gb);
    v_stored jsonb;
    v_storage billing.storage;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'resize_storage', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.storage, v_stored), true;
        return;
    end if;
    v_storage := billing.lock_storage(v_caller.organization_id, p_storage_id);
    if v_storage.ready_at is not null then
        perform billing.settle_storage(v_caller.organization_id, p_storage_id, false);
    end if;
    perform billing.refuse_resize(
        v_caller.organization_id, p_storage_id, v_caller.plan_id, p_size_gb
    );
    if p_size_gb > v_storage.size_gb then
        perform billing.hold_storage_size(v_caller.organization_id, p_storage_id, p_size_gb);
        perform billing.check_storage_spending(v_caller, p_storage_id);
    end if;
    update billing.storage as s
    set
        size_gb = case when s.kind = 'bucket' then p_size_gb else s.size_gb end,
        resize_to_gb = case when s.kind = 'filestore' then nullif(p_size_gb, s.size_gb) end
    where s.organization_id = v_caller.organization_id and s.id = p_storage_id;
    perform billing.settle_storage(v_caller.organization_id, p_storage_id, false);
    if v_storage.kind = 'filestore' then
        perform billing.drive_storage(v_caller.organization_id, p_storage_id);
    end if;
    insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
    values (
        v_caller.organization_id, v_caller.actor, 'resize_storage', p_storage_id,
        jsonb_build_object('from_gb', v_storage.size_gb, 'to_gb', p_size_gb)
    );
    select v.* into storage
    from api.storage as v
    where v.organization_id = v_caller.organization_id and v.id = p_storage_id;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'resize_storage', v_request, to_jsonb(storage)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.resize_storage to service_role, faregate_functions;
comment on function api.resize_storage is 'Gives storage another size.';

-- api.delete_storage: charge it up to now and have the cloud delete it, with all that is in it. One
-- that has ended answers as it is.
--
-- Raises  FG404 storage_not_found
--         FG409 storage_attached   detach it first; detail: workspace_id
--         FG409 storage_is_source  a space comes from it; detail: space
-- Locks   the storage resource, the wallet, the spaces.
create function api.delete_storage(p_caller jsonb, p_storage_id uuid)
returns setof api.storage
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_storage billing.storage := billing.lock_storage(v_caller.organization_id, p_storage_id);
begin
    if not billing.has_ended(v_storage.status) then
        if v_storage.workspace_id is not null then
            raise exception using
                errcode = 'FG409',
                message = 'storage_attached',
                detail = jsonb_build_object('workspace_id', v_storage.workspace_id)::text;
        end if;
        perform billing.refuse_source_deletion(v_caller.organization_id, p_storage_id);
        perform billing.end_storage(v_caller.organization_id, p_storage_id, 'deleting', null);
        insert into billing.audit_log (organization_id, actor, action, subject_id)
        values (v_caller.organization_id, v_caller.actor, 'delete_storage', p_storage_id);
    end if;
    return query
    select s.*
    from api.storage as s
    where s.organization_id = v_caller.organization_id and s.id = p_storage_id;
end
$$;
grant execute on function api.delete_storage to service_role, faregate_functions;
comment on function api.delete_storage is
'Charges storage up to now and has the cloud delete it, with all that is in it.';

-- api.attach_storage: storage belongs to a workspace from now on. To the one it belongs to already
-- changes nothing.
--
-- Raises  FG404 storage_not_found, FG404 workspace_not_found
--         FG409 storage_attached   it belongs to another one; detail: workspace_id
--         FG409 storage_not_ready  it has ended
-- Locks   the workspace, the storage resource.
create function api.attach_storage(p_caller jsonb, p_storage_id uuid, p_workspace_id uuid)
returns setof api.storage
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_storage billing.storage := billing.find_storage(v_caller.organization_id, p_storage_id);
begin
    perform billing.lock_workspace(v_caller.organization_id, p_workspace_id);
    v_storage := billing.lock_storage(v_caller.organization_id, p_storage_id);
    perform billing.require_status(
        v_storage, '{requested, provisioning, ready, grace, read_only, deletion_notice}'
    );
    if v_storage.workspace_id <> p_workspace_id then
        raise exception using
            errcode = 'FG409',
            message = 'storage_attached',
            detail = jsonb_build_object('workspace_id', v_storage.workspace_id)::text;
    end if;
    update billing.storage as s
    set workspace_id = p_workspace_id
    where s.organization_id = v_caller.organization_id and s.id = p_storage_id;
    return query
    select s.*
    from api.storage as s
    where s.organization_id = v_caller.organization_id and s.id = p_storage_id;
end
$$;
grant execute on function api.attach_storage to service_role, faregate_functions;
comment on function api.attach_storage is 'Attaches storage to a workspace.';

-- api.detach_storage: storage belongs to no workspace from now on.
--
-- Raises  FG404 storage_not_found
--         FG409 workspace_busy     sessions run in its workspace; detail: running_sessions
-- Locks   the workspace, the storage resource.
create function api.detach_storage(p_caller jsonb, p_storage_id uuid)
returns setof api.storage
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_storage billing.storage := billing.find_storage(v_caller.organization_id, p_storage_id);
begin
    if v_storage.workspace_id is not null then
        perform billing.lock_workspace(v_caller.organization_id, v_storage.workspace_id);
        perform billing.lock_storage(v_caller.organization_id, p_storage_id);
        perform billing.require_idle_workspace(v_caller.organization_id, v_storage.workspace_id);
        -- One that went to another workspace meanwhile had been detached before.
        update billing.storage as s
        set workspace_id = null
        where s.organization_id = v_caller.organization_id
            and s.id = p_storage_id
            and s.workspace_id = v_storage.workspace_id;
    end if;
    return query
    select s.*
    from api.storage as s
    where s.organization_id = v_caller.organization_id and s.id = p_storage_id;
end
$$;
grant execute on function api.detach_storage to service_role, faregate_functions;
comment on function api.detach_storage is 'Takes storage out of its workspace.';
