-- How storage is paid for: a hold for a window ahead, charged by the second and renewed; and what
-- happens when the money has run out.
--
--   create           the cloud has it             money came: all that is owed and a window ahead
--     │                    │                      ┌───────────────────────────────────────────┐
--     ▼                    ▼                      ▼                                           │
--  requested → provisioning → ready ─ cost not covered → grace → read_only → deletion_notice ─┘
--     │             │           │                          │         │              │
--     └──── gave up ┘           └──── its owner deletes ───┴─────────┴──── notice over
--              ▼                                  ▼
--           failed                            deleting → deleted
--
-- What is owed is never taken from money that is not there: cost that no hold and no balance covers
-- waits, and is charged first when money comes. When the storage ends unpaid, it is written off.
-- Each step counts from the moment the one before was taken and told, not from when it might have
-- been: an accrual that comes late shortens nobody's notice.

-- billing.storage_price: the price row of a kind of storage on an organization's plan; no row where
-- there is none.
create function billing.storage_price(
    p_organization_id uuid, p_kind billing.storage_kind, p_now timestamptz
)
returns setof billing.prices
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select p.*
    from billing.organizations as o
    cross join lateral billing.price_at(o.plan_id, 'storage.' || p_kind, p_now) as p
    where o.id = p_organization_id;
end
$$;

-- billing.window_cost: what so many GB cost for so many seconds, in µ$, rounded half up.
create function billing.window_cost(
    p_gb integer, p_gb_month_price_micros bigint, p_seconds integer
)
returns bigint
language sql
immutable parallel safe
return round(p_gb * p_gb_month_price_micros * p_seconds::numeric / 2628000)::bigint;

-- billing.billed_gb: how many GB are charged: what is rented or, where that is more, what is used,
-- less what is included.
create function billing.billed_gb(p_size_gb integer, p_used_bytes bigint, p_included_gb integer)
returns integer
language sql
immutable parallel safe
return greatest(
    greatest(p_size_gb, ceil(coalesce(p_used_bytes, 0) / 1073741824.0)) - p_included_gb, 0
)::integer;

-- billing.begin_storage_period: from p_at on, charge for so many GB at this price. The same as
-- before changes nothing.
--
-- Locks   nothing new: the caller has locked the storage resource.
create function billing.begin_storage_period(
    p_organization_id uuid,
    p_storage_id uuid,
    p_at timestamptz,
    p_billed_gb integer,
    p_price billing.prices
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_open billing.storage_periods;
    v_at timestamptz;
begin
    select p.* into v_open
    from billing.storage_periods as p
    where p.organization_id = p_organization_id
        and p.storage_id = p_storage_id
        and p.ends_at is null;
    if v_open.billed_gb = p_billed_gb and v_open.price_id = p_price.id then
        return;
    end if;
    -- Where the clock was set back, after what began already.
    v_at := greatest(p_at, v_open.starts_at);
    update billing.storage_periods as p
    set ends_at = v_at
    where p.organization_id = p_organization_id
        and p.storage_id = p_storage_id
        and p.ends_at is null;
    insert into billing.storage_periods (
        organization_id, storage_id, starts_at, billed_gb, price_id, gb_month_price_micros
    )
    values (
        p_organization_id, p_storage_id, v_at, p_billed_gb, p_price.id, p_price.price_micros
    )
    -- One that ends in the moment in which it began never was.
    on conflict (organization_id, storage_id, starts_at) do update
    set
        ends_at = null,
        billed_gb = excluded.billed_gb,
        price_id = excluded.price_id,
        gb_month_price_micros = excluded.gb_month_price_micros;
end
$$;

-- billing.enter_storage_period: from p_at on, charge for the size that it has now (or what it uses,
-- where that is more) at the price of its plan. A new price counts from its own moment on, however
-- late this is called; nothing changes what was charged already. A plan without a price keeps the
-- one that was charged last.
--
-- Locks   nothing new: the caller has locked the storage resource.
create function billing.enter_storage_period(
    p_organization_id uuid, p_storage_id uuid, p_at timestamptz
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_storage billing.storage;
    v_captured_until timestamptz;
    v_at timestamptz;
    v_billed_gb integer;
    v_price billing.prices;
    v_next billing.prices;
begin
    select s.* into strict v_storage
    from billing.storage as s
    where s.organization_id = p_organization_id and s.id = p_storage_id;
    select h.captured_until into strict v_captured_until
    from billing.holds as h
    where h.organization_id = p_organization_id and h.id = p_storage_id;
    v_at := greatest(p_at, v_captured_until);
    select p.billed_gb into v_billed_gb
    from billing.storage_periods as p
    where p.organization_id = p_organization_id
        and p.storage_id = p_storage_id
        and p.ends_at is null;
    select r.* into v_price
    from billing.storage_periods as p
    inner join billing.prices as r on r.id = p.price_id
    where p.organization_id = p_organization_id
        and p.storage_id = p_storage_id
        and p.ends_at is null;
    for v_next in
        select r.*
        from billing.prices as r
        where r.plan_id = v_price.plan_id
            and r.sku = v_price.sku
            and r.effective_at > v_price.effective_at
            and r.effective_at <= v_at
        order by r.effective_at
    loop
        perform billing.begin_storage_period(
            p_organization_id, p_storage_id, greatest(v_next.effective_at, v_captured_until),
            v_billed_gb, v_next
        );
        v_price := v_next;
    end loop;
    select p.* into v_next
    from billing.storage_price(p_organization_id, v_storage.kind, v_at) as p;
    perform billing.begin_storage_period(
        p_organization_id, p_storage_id, v_at,
        billing.billed_gb(v_storage.size_gb, v_storage.used_bytes, v_storage.included_gb),
        case when found then v_next else v_price end
    );
end
$$;

-- billing.storage_next_status: the step of the diagram above that is due; the same status where
-- none is.
create function billing.storage_next_status(
    p_storage billing.storage,
    p_plan billing.plans,
    p_is_paid boolean,
    p_is_covered boolean,
    p_now timestamptz
)
returns billing.storage_status
language sql
stable parallel safe
return case
    when p_storage.status = 'ready' and not p_is_paid then 'grace'
    when p_storage.status in ('grace', 'read_only', 'deletion_notice') and p_is_covered
        then 'ready'
    when p_now < p_storage.status_since + make_interval(
        secs => case p_storage.status
            when 'grace' then p_plan.storage_grace_seconds
            when 'read_only' then p_plan.storage_read_only_seconds
            when 'deletion_notice' then p_plan.storage_notice_seconds
        end
    ) then p_storage.status
    when p_storage.status = 'grace' then 'read_only'
    when p_storage.status = 'read_only' then 'deletion_notice'
    when p_storage.status = 'deletion_notice' then 'deleting'
    else p_storage.status
end;

-- billing.settle_storage: the rule of accrual. Charge what a storage resource has cost since the
-- last charge, hold the next window or what there is of it, and take the step that is due. For a
-- size that it is being given, the money is held already. One that has ended stays as it is.
--
-- p_is_end: charge up to now and hold nothing more; whatever is not covered is written off.
--
-- Locks   the wallet; the caller has locked the hold.
create function billing.settle_storage(
    p_organization_id uuid, p_storage_id uuid, p_is_end boolean
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_storage billing.storage;
    v_hold billing.holds;
    v_plan billing.plans;
    v_wallet billing.wallets;
    v_now timestamptz;
    v_free_micros bigint;
    v_ahead_micros bigint := 0;
    v_owed_micros bigint;
    v_held_micros bigint;
    v_paid_micros bigint;
    v_kept_micros bigint;
    v_is_covered boolean;
    v_paid_until timestamptz;
    v_status billing.storage_status;
begin
    v_wallet := billing.lock_wallet(p_organization_id);
    select s.* into strict v_storage
    from billing.storage as s
    where s.organization_id = p_organization_id and s.id = p_storage_id;
    select h.* into strict v_hold
    from billing.holds as h
    where h.organization_id = p_organization_id and h.id = p_storage_id;
    if v_hold.due_at is null then
        return;
    end if;
    select l.* into strict v_plan
    from billing.organizations as o
    inner join billing.plans as l on l.id = o.plan_id
    where o.id = p_organization_id;
    -- After the lock: whoever held it charged up to a moment before this one.
    v_now := greatest(billing.now(), v_hold.captured_until);
    v_free_micros := case
        when v_wallet.debt_micros = 0 then v_wallet.settled_micros - v_wallet.held_micros
        else 0
    end;

    if v_storage.ready_at is not null then
        perform billing.enter_storage_period(p_organization_id, p_storage_id, v_now);
    end if;
    if not p_is_end then
        select
            billing.window_cost(
                billing.billed_gb(
                    greatest(v_storage.size_gb, v_storage.resize_to_gb),
                    v_storage.used_bytes,
                    v_storage.included_gb
                ),
                p.gb_month_price_micros,
                v_plan.storage_window_seconds
            )
        into strict v_ahead_micros
        from billing.storage_periods as p
        where p.organization_id = p_organization_id
            and p.storage_id = p_storage_id
            and p.ends_at is null;
    end if;
    v_owed_micros := billing.storage_cost(p_organization_id, p_storage_id, v_now)
    - v_hold.captured_micros;
    v_held_micros := v_hold.amount_micros - v_hold.captured_micros;
    v_paid_micros := least(v_owed_micros, v_held_micros + v_free_micros);
    v_kept_micros := least(v_ahead_micros, v_held_micros + v_free_micros - v_paid_micros);
    v_is_covered := v_paid_micros = v_owed_micros and v_kept_micros = v_ahead_micros;
    v_paid_until := case
        when v_is_covered then v_now + make_interval(secs => v_plan.storage_window_seconds)
        when v_paid_micros < v_owed_micros then least(v_hold.expires_at, v_now)
        else
            v_now + make_interval(
                secs => floor(
                    v_plan.storage_window_seconds * v_kept_micros::numeric / v_ahead_micros
                )::double precision
            )
    end;
    update billing.holds as h
    set
        amount_micros = h.captured_micros + v_paid_micros + v_kept_micros,
        captured_micros = h.captured_micros + v_paid_micros,
        captured_until = v_now,
        expires_at = v_paid_until,
        is_final = not v_is_covered,
        due_at = case
            when v_is_covered
                then v_now + v_plan.storage_window_seconds * interval '0.5 second'
            -- Each hour's run looks whether money came or a step is due.
            else greatest(v_paid_until, v_now + interval '30 minutes')
        end
    where h.organization_id = p_organization_id and h.id = p_storage_id;
    perform billing.debit_wallet(
        row(
            p_organization_id, v_paid_micros, v_kept_micros - v_held_micros,
            'revenue_storage', 'storage', p_storage_id
        )::billing.debit,
        v_now
    );
    if v_wallet.debt_micros > 0 then
        perform billing.repay_debt(p_organization_id);
    end if;
    if p_is_end then
        return;
    end if;

    v_status := billing.storage_next_status(
        v_storage, v_plan, v_paid_micros = v_owed_micros, v_is_covered, v_now
    );
    if v_status = 'deleting' then
        perform billing.end_storage(p_organization_id, p_storage_id, 'deleting', 'unpaid');
    elsif v_status <> v_storage.status then
        perform billing.set_storage_status(p_organization_id, p_storage_id, v_status, null);
        perform billing.drive_storage(p_organization_id, p_storage_id);
    end if;
end
$$;

-- billing.set_storage_status: a storage resource is something else from now on, and its
-- organization is told.
--
-- Locks   nothing new: the caller has locked the storage resource.
create function billing.set_storage_status(
    p_organization_id uuid,
    p_storage_id uuid,
    p_status billing.storage_status,
    p_reason text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.now();
    v_seconds integer;
begin
    update billing.storage as s
    set
        status = p_status,
        status_since = v_now,
        failure = p_reason,
        ready_at = case
            when p_status = 'ready' then coalesce(s.ready_at, v_now)
            else s.ready_at
        end,
        deleted_at = case when p_status = 'deleted' then v_now end
    where s.organization_id = p_organization_id and s.id = p_storage_id;
    select
        case p_status
            when 'grace' then l.storage_grace_seconds
            when 'read_only' then l.storage_read_only_seconds
            when 'deletion_notice' then l.storage_notice_seconds
        end
    into strict v_seconds
    from billing.organizations as o
    inner join billing.plans as l on l.id = o.plan_id
    where o.id = p_organization_id;
    perform billing.notify(
        p_organization_id,
        'storage_' || p_status,
        jsonb_strip_nulls(jsonb_build_object(
            'storage_id', p_storage_id,
            'reason', p_reason,
            'until', v_now + make_interval(secs => v_seconds)
        ))
    );
end
$$;

-- billing.end_storage: a storage resource is charged up to now and never again; what its hold keeps
-- is given back; the cloud is to have it no more.
--
-- p_status: deleting, or failed for one that never was ready.
--
-- Locks   the wallet; the caller has locked the storage resource.
create function billing.end_storage(
    p_organization_id uuid,
    p_storage_id uuid,
    p_status billing.storage_status,
    p_reason text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_is_absent boolean;
begin
    perform billing.settle_storage(p_organization_id, p_storage_id, true);
    update billing.storage_periods as p
    set ends_at = greatest(p.starts_at, h.captured_until)
    from billing.holds as h
    where p.organization_id = p_organization_id
        and p.storage_id = p_storage_id
        and p.ends_at is null
        and h.organization_id = p_organization_id
        and h.id = p_storage_id;
    perform billing.close_hold(p_organization_id, p_storage_id, 'released');
    update billing.storage as s
    set workspace_id = null, resize_to_gb = null
    where s.organization_id = p_organization_id and s.id = p_storage_id
    returning s.is_absent into strict v_is_absent;
    if p_status = 'deleting' and v_is_absent then
        p_status := 'deleted';
    end if;
    perform billing.set_storage_status(p_organization_id, p_storage_id, p_status, p_reason);
    perform billing.end_clones(
        p_organization_id, p_storage_id, coalesce(p_reason, 'storage_ended')
    );
    perform billing.end_sources(p_organization_id, p_storage_id);
    -- Also where nothing is there: whoever was about to make it is to learn that it ends.
    perform billing.drive_storage(p_organization_id, p_storage_id);
end
$$;

-- billing.start_storage: the cloud has it: from now on it is charged.
--
-- Locks   the wallet; the caller has locked the storage resource.
create function billing.start_storage(p_organization_id uuid, p_storage_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ready_at timestamptz;
begin
    perform billing.set_storage_status(p_organization_id, p_storage_id, 'ready', null);
    select s.ready_at into strict v_ready_at
    from billing.storage as s
    where s.organization_id = p_organization_id and s.id = p_storage_id;
    update billing.holds as h
    set captured_until = v_ready_at
    where h.organization_id = p_organization_id and h.id = p_storage_id;
    perform billing.enter_storage_period(p_organization_id, p_storage_id, v_ready_at);
    perform billing.settle_storage(p_organization_id, p_storage_id, false);
    perform billing.start_clones(p_organization_id, p_storage_id);
end
$$;

-- api.accrue_storage: settle up to p_limit storage resources that are due. Call until more is
-- false; two at a time, if you like. One that the cloud has not made within its hour has failed.
--
-- Locks   the holds that nobody else has locked, then the wallets in order.
create function api.accrue_storage(p_limit integer)
returns table (accrued integer, more boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    -- A variable, because no index is asked for what a volatile function may answer anew.
    v_now timestamptz := billing.now();
    v_due billing.holds[];
    v_hold billing.holds;
begin
    select array_agg(d.hold order by (d.hold).organization_id, (d.hold).id) into v_due
    from (
        select h as hold
        from billing.holds as h
        where h.kind = 'storage' and h.due_at <= v_now
        order by h.due_at
        limit p_limit
        for no key update skip locked
    ) as d;
    accrued := coalesce(cardinality(v_due), 0);
    foreach v_hold in array coalesce(v_due, '{}') loop
        if exists (
            select from billing.storage as s
            where s.organization_id = v_hold.organization_id
                and s.id = v_hold.id
                and s.ready_at is null
        ) then
            perform billing.end_storage(
                v_hold.organization_id, v_hold.id, 'failed', 'timed_out'
            );
        else
            perform billing.settle_storage(v_hold.organization_id, v_hold.id, false);
        end if;
    end loop;
    more := accrued > 0 and accrued = p_limit;
    return next;
end
$$;
grant execute on function api.accrue_storage to service_role, faregate_functions;
comment on function api.accrue_storage is
'Charges and renews the storage that is due, for the cron.';
