-- Sessions: a running resource, paid ahead window by window, charged to the second.

create table billing.sessions (
    organization_id uuid not null,
    id uuid not null,
    name text,
    workspace_id uuid,
    preset text,
    tier text not null,
    price_id uuid not null,
    hourly_price_micros bigint not null,
    window_seconds integer not null,
    started_at timestamptz not null,
    expires_at timestamptz,
    heartbeat_timeout_seconds integer,
    last_heartbeat_at timestamptz not null,
    ended_at timestamptz,
    close_reason text,
    started_by text not null,
    primary key (organization_id, id),
    constraint sessions_hold_fkey foreign key (organization_id, id)
    references billing.holds (organization_id, id),
    constraint sessions_workspace_fkey foreign key (organization_id, workspace_id)
    references billing.workspaces (organization_id, id),
    constraint sessions_name_length check (char_length(name) between 1 and 100),
    constraint sessions_tier_is_known check (tier in ('small', 'medium', 'large', 'xlarge', 'gpu')),
    constraint sessions_close_reason_is_known check (
        close_reason in ('stopped', 'exhausted', 'lost', 'expired', 'failed', 'frozen')
    ),
    constraint sessions_end_has_a_reason check ((ended_at is null) = (close_reason is null)),
    constraint sessions_expire_after_start check (expires_at > started_at),
    constraint sessions_end_after_start check (ended_at >= started_at)
);
alter table billing.sessions enable row level security;
create index sessions_workspace on billing.sessions (workspace_id, organization_id, id)
where workspace_id is not null;
create index sessions_running_in_workspace on billing.sessions (workspace_id, organization_id)
where workspace_id is not null and ended_at is null;
comment on table billing.sessions is 'A compute session. It is paid for until its hold expires.';
comment on column billing.sessions.organization_id is 'The organization it belongs to.';
comment on column billing.sessions.id is 'Time-ordered (UUIDv7); its hold has the same.';
comment on column billing.sessions.name is 'What its owner calls it.';
comment on column billing.sessions.workspace_id is 'The workspace that it runs in; null: none.';
comment on column billing.sessions.preset is
'By which preset it was started; null: by a tier. No foreign key: it tells of presets that are gone,
too.';
comment on column billing.sessions.tier is 'How large the resource is.';
comment on column billing.sessions.price_id is 'The row of prices that it froze.';
comment on column billing.sessions.hourly_price_micros is
'What an hour costs, in µ$, frozen at its start.';
comment on column billing.sessions.window_seconds is 'How many seconds ahead money is held for it.';
comment on column billing.sessions.started_at is 'The first second that is charged (UTC).';
comment on column billing.sessions.expires_at is
'Its owner wants it to end then (UTC); null: whenever it is stopped.';
comment on column billing.sessions.heartbeat_timeout_seconds is
'It is lost when no heartbeat came for so many seconds; null: it sends none.';
comment on column billing.sessions.last_heartbeat_at is
'When the resource last said that it is alive (UTC); before that, its start.';
comment on column billing.sessions.ended_at is 'Up to then it was charged (UTC); null: it runs.';
comment on column billing.sessions.close_reason is
'stopped, exhausted (no money), lost (no heartbeat), expired, failed or frozen (a debt).';
comment on column billing.sessions.started_by is 'Who started it: passport:<id> or user:<id>.';

-- billing.session_cost: what a session costs from its start to a moment: exact duration × hourly
-- price, rounded once, half up, to µ$. Cumulative, so successive captures never drift.
create function billing.session_cost(
    p_hourly_price_micros bigint, p_started_at timestamptz, p_until timestamptz
)
returns bigint
language sql
immutable parallel safe
return greatest(
    round(p_hourly_price_micros * extract(epoch from p_until - p_started_at) / 3600), 0
)::bigint;

-- billing.affordable_seconds: the most whole seconds of a session whose cost, rounded,
-- an amount covers.
-- round(s × price / 3600) <= amount  is  s < (amount + ½) × 3600 / price.
-- Null when the price is 0: no end.
create function billing.affordable_seconds(p_hourly_price_micros bigint, p_amount_micros bigint)
returns bigint
language sql
immutable parallel safe
return case
    when p_hourly_price_micros > 0 then least(
        ceil((p_amount_micros + 0.5) * 3600 / p_hourly_price_micros) - 1, 9223372036854775807
    )
end::bigint;

create view api.sessions with (security_invoker = true) as
select
    s.id,
    s.organization_id,
    s.name,
    s.workspace_id,
    s.preset,
    s.tier,
    case when s.ended_at is null then 'running' else 'closed' end as status,
    s.close_reason,
    s.hourly_price_micros,
    case
        when s.ended_at is not null then h.captured_micros
        else billing.session_cost(
            s.hourly_price_micros, s.started_at,
            greatest(h.captured_until, least(billing.now(), h.expires_at))
        )
    end as cost_micros,
    h.captured_micros as charged_micros,
    h.amount_micros - h.captured_micros as held_micros,
    s.started_at,
    h.expires_at as paid_until,
    h.is_final as is_last_window,
    s.expires_at,
    s.heartbeat_timeout_seconds,
    s.last_heartbeat_at,
    s.ended_at
from billing.sessions as s
cross join lateral (
    select
        r.amount_micros,
        r.captured_micros,
        r.captured_until,
        r.expires_at,
        r.is_final
    from billing.holds as r
    where r.organization_id = s.organization_id and r.id = s.id
    limit 1 -- noqa: AM09
) as h;
comment on view api.sessions is 'Sessions with their cost as of now.';
comment on column api.sessions.id is 'Time-ordered (UUIDv7).';
comment on column api.sessions.status is 'running or closed.';
comment on column api.sessions.cost_micros is
'In µ$: what was charged so far plus what has run since.';
comment on column api.sessions.charged_micros is 'What was charged so far, in µ$.';
comment on column api.sessions.held_micros is 'What is still held for it, in µ$.';
comment on column api.sessions.paid_until is 'Until when money is held for it (UTC).';
comment on column api.sessions.is_last_window is
'Nothing can be held beyond paid_until: unless money arrives, it ends on that second.';
comment on column api.sessions.expires_at is
'Its owner wants it to end then (UTC); null: whenever it is stopped.';
call billing.inherit_comments('api.sessions');

-- billing.tier_price: the price row of a tier on the caller's plan.
--
-- Raises  FG403 tier_not_allowed  the plan does not include it; detail: tier, allowed_tiers
create function billing.tier_price(p_plan billing.plans, p_tier text, p_now timestamptz)
returns billing.prices
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_price billing.prices;
begin
    select p.* into v_price
    from billing.price_at(p_plan.id, 'session.' || p_tier, p_now) as p;
    if not found or not p_tier = any(p_plan.allowed_tiers) then
        raise exception using
            errcode = 'FG403',
            message = 'tier_not_allowed',
            detail = jsonb_build_object(
                'tier', p_tier, 'allowed_tiers', p_plan.allowed_tiers
            )::text;
    end if;
    return v_price;
end
$$;

-- billing.require_tier_or_preset: a session is of a tier or of a preset.
--
-- Raises  FG400 tier_or_preset  neither is named, or both are
create function billing.require_tier_or_preset(p_tier text, p_preset text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if num_nonnulls(p_tier, p_preset) <> 1 then
        raise exception using errcode = 'FG400', message = 'tier_or_preset';
    end if;
end
$$;

-- api.estimate_session: what a session of so many seconds costs, what must be there to start it,
-- and how long the balance would last (affordable_seconds; null where the price is 0).
--
-- p_seconds null: all of the preset, or an hour. Of a preset, what is required includes the storage
-- and the space that its workspace, or without one the organization, does not have yet.
--
-- Raises  FG400 tier_or_preset, FG404 workspace_not_found, FG403 tier_not_allowed,
--         FG404 preset_not_found, FG400 preset_exceeded, FG400 region_not_offered,
--         FG403 storage_not_allowed, FG400 size_not_allowed
create function api.estimate_session(
    p_caller jsonb, p_tier text, p_preset text, p_workspace_id uuid, p_seconds integer
)
returns table (
    tier text,
    seconds integer,
    hourly_price_micros bigint,
    cost_micros bigint,
    preset text,
    storage_kind text,
    storage_gb integer,
    storage_month_cost_micros bigint,
    storage_required_micros bigint,
    space text,
    space_price_micros bigint,
    required_micros bigint,
    available_micros bigint,
    affordable_seconds bigint
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
    v_now timestamptz := billing.now();
    v_plan billing.plans;
    v_price billing.prices;
    v_extra_micros bigint := 0;
begin
    perform billing.require_tier_or_preset(p_tier, p_preset);
    if p_workspace_id is not null then
        perform billing.find_workspace(v_caller.organization_id, p_workspace_id);
    end if;
    select l.* into strict v_plan from billing.plans as l where l.id = v_caller.plan_id;
    tier := p_tier;
    preset := p_preset;
    seconds := coalesce(p_seconds, 3600);
    if p_preset is not null then
        select p.* into strict
            tier, seconds, storage_kind, storage_gb, storage_month_cost_micros,
            storage_required_micros, space, space_price_micros
        from billing.estimate_preset(
            v_caller.organization_id, p_workspace_id, v_plan, p_preset, p_seconds, v_now
        ) as p;
        v_extra_micros := coalesce(storage_required_micros, 0) + coalesce(space_price_micros, 0);
    end if;
    v_price := billing.tier_price(v_plan, tier, v_now);
    hourly_price_micros := v_price.price_micros;
    cost_micros := billing.session_cost(
        v_price.price_micros, v_now, v_now + make_interval(secs => seconds)
    );
    required_micros := v_extra_micros + billing.session_cost(
        v_price.price_micros, v_now,
        v_now + make_interval(secs => least(v_plan.session_window_seconds, seconds))
    );
    select w.available_micros into strict available_micros
    from api.wallets as w
    where w.organization_id = v_caller.organization_id;
    affordable_seconds := billing.affordable_seconds(
        v_price.price_micros, greatest(available_micros - v_extra_micros, 0)
    );
    return next;
end
$$;
grant execute on function api.estimate_session to service_role, faregate_functions;
comment on function api.estimate_session is
'Tells what a session would cost and how long the balance would last.';

-- api.start_session: hold the first window's money and start.
--
-- p_max_seconds ends the session by itself (expired); with p_heartbeat_timeout_seconds it is closed
-- as lost when no heartbeat has come for so long. Null: neither.
--
-- p_workspace_id: in which it runs; null: in none. A preset gives the tier and, unless a shorter
-- time is asked for, the end; its workspace must have what it names.
--
-- Raises  FG402 insufficient_credits  the first window is not covered; detail: required_micros,
--                                     available_micros
--         FG402 debt_outstanding      the organization is frozen; detail: debt_micros
--         FG400 tier_or_preset, FG403 tier_not_allowed, FG404 workspace_not_found,
--         FG404 preset_not_found, FG400 preset_exceeded, FG409 preset_incomplete,
--         FG409 organization_closed, FG409 idempotency_conflict
-- Locks   the key, the workspace, the wallet.
create function api.start_session(
    p_caller jsonb,
    p_tier text,
    p_preset text,
    p_name text,
    p_workspace_id uuid,
    p_max_seconds integer,
    p_heartbeat_timeout_seconds integer,
    p_idempotency_key text
)
returns table (session api.sessions, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_request jsonb := jsonb_build_array(
        p_tier, p_preset, p_name, p_workspace_id, p_max_seconds, p_heartbeat_timeout_seconds
    );
    v_stored jsonb;
    v_id uuid := billing.uuidv7();
    v_now timestamptz;
    v_plan billing.plans;
    v_price billing.prices;
    v_preset record;
    v_expires_at timestamptz;
    v_paid_until timestamptz;
    v_is_last_window boolean;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'start_session', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.sessions, v_stored), true;
        return;
    end if;
    if p_workspace_id is not null then
        perform billing.lock_workspace(v_caller.organization_id, p_workspace_id);
    end if;
    perform billing.require_tier_or_preset(p_tier, p_preset);
    if p_preset is not null then
        v_preset := billing.find_preset(p_preset, p_max_seconds);
        p_tier := v_preset.tier;
        p_max_seconds := coalesce(p_max_seconds, v_preset.minutes * 60);
    end if;
    perform from billing.wallets as w
    where w.organization_id = v_caller.organization_id
    for no key update;
    -- After the lock: nobody pays for having waited.
    v_now := billing.now();
    v_expires_at := v_now + make_interval(secs => p_max_seconds);
    select l.* into v_plan
    from billing.organizations as o
    inner join billing.plans as l on l.id = o.plan_id
    where o.id = v_caller.organization_id and o.closed_at is null;
    if not found then
        raise exception using errcode = 'FG409', message = 'organization_closed';
    end if;
    v_price := billing.tier_price(v_plan, p_tier, v_now);
    if p_preset is not null then
        perform billing.require_preset_contents(
            v_caller.organization_id, p_workspace_id, p_preset
        );
    end if;
    v_paid_until := least(
        v_now + make_interval(secs => v_plan.session_window_seconds), v_expires_at
    );
    v_is_last_window := v_paid_until is not distinct from v_expires_at;
    perform billing.open_hold(
        v_caller.organization_id,
        v_id,
        'session',
        billing.session_cost(v_price.price_micros, v_now, v_paid_until),
        v_paid_until,
        v_is_last_window,
        billing.session_due_at(
            v_paid_until, v_is_last_window, v_plan.session_window_seconds,
            v_now + make_interval(secs => p_heartbeat_timeout_seconds)
        )
    );
    perform billing.check_spending(
        v_caller,
        v_caller.organization_id,
        jsonb_build_object(
            'tier', p_tier,
            'amount_micros', billing.session_cost(v_price.price_micros, v_now, v_paid_until)
        )
    );
    insert into billing.sessions (
        organization_id, id, name, workspace_id, preset, tier, price_id, hourly_price_micros,
        window_seconds, started_at, expires_at, heartbeat_timeout_seconds, last_heartbeat_at,
        started_by
    )
    values (
        v_caller.organization_id, v_id, p_name, p_workspace_id, p_preset, p_tier, v_price.id,
        v_price.price_micros, v_plan.session_window_seconds,
        v_now, v_expires_at, p_heartbeat_timeout_seconds, v_now, v_caller.actor
    );
    if v_is_last_window then
        insert into billing.outbox (organization_id, topic, payload, run_at)
        values (
            v_caller.organization_id, 'stop_session',
            billing.stop_session_payload(v_caller.organization_id, v_id, v_paid_until),
            v_paid_until
        );
    end if;
    select v.* into session
    from api.sessions as v
    where v.organization_id = v_caller.organization_id and v.id = v_id;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'start_session', v_request, to_jsonb(session)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.start_session to service_role, faregate_functions;
comment on function api.start_session is
'Starts a session and holds the money of its first window.';

-- billing.require_idle_workspace: nothing runs in a workspace: what is attached to it may go.
--
-- Raises  FG409 workspace_busy  detail: running_sessions
-- Locks   nothing: the caller has locked the workspace, so that nothing starts in it.
create function billing.require_idle_workspace(p_organization_id uuid, p_workspace_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_running bigint := billing.running_sessions(p_organization_id, p_workspace_id);
begin
    if v_running > 0 then
        raise exception using
            errcode = 'FG409',
            message = 'workspace_busy',
            detail = jsonb_build_object('running_sessions', v_running)::text;
    end if;
end
$$;

-- billing.running_sessions: how many sessions run in a workspace.
create function billing.running_sessions(p_organization_id uuid, p_workspace_id uuid)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select count(*)
        from billing.sessions as s
        where s.organization_id = p_organization_id
            and s.workspace_id = p_workspace_id
            and s.ended_at is null
    );
end
$$;

-- billing.session_due_at: when a sweep must look again: half a window before the money held ends,
-- at its very end when nothing can be held beyond it, and in any case when a heartbeat is overdue.
create function billing.session_due_at(
    p_paid_until timestamptz,
    p_is_last_window boolean,
    p_window_seconds integer,
    p_lost_at timestamptz
)
returns timestamptz
language sql
stable parallel safe
return least(
    p_paid_until
    - case
        when p_is_last_window then interval '0'
        else p_window_seconds * interval '0.5 second'
    end,
    p_lost_at
);

-- billing.stop_session_payload: what the task at a session's known end is told.
create function billing.stop_session_payload(
    p_organization_id uuid, p_session_id uuid, p_paid_until timestamptz
)
returns jsonb
language sql
stable parallel safe
return jsonb_build_object(
    'organization_id', p_organization_id, 'session_id', p_session_id, 'paid_until', p_paid_until
);

-- billing.settle_sessions: the rule of every sweep, stop and end. For each session: charge what has
-- run since the last charge, then either hold the next window, or, when the money does not reach
-- that far, hold all that is left and know the exact second of the end, or close it.
--
-- With p_stop_reason the sessions end now; without, each ends only where its money, its time or its
-- heartbeats ended, also when that was a while ago: then up to that second and not up to now. So a
-- late sweep, a double one and a stop beside one all charge the same. Sessions of one wallet are
-- served in the order they started.
-- Returns how many ended.
--
-- Locks   the wallets in the order of organization_id; the caller has locked the sessions.
create function billing.settle_sessions(
    p_organization_ids uuid[], p_session_ids uuid[], p_stop_reason text
)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
-- One plan for one session and for a thousand: every join below goes from a row to others
-- by their key.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
declare
    v_now timestamptz;
    v_debits billing.debit[];
    v_closed integer;
begin
    perform w.organization_id
    from billing.wallets as w
    where w.organization_id = any(p_organization_ids)
    order by w.organization_id
    for no key update;
    -- After the lock: whoever held it charged up to a moment before this one.
    v_now := billing.now();

    with due as (
        select
            s.organization_id,
            s.id,
            s.hourly_price_micros as price_micros,
            s.started_at,
            s.window_seconds,
            s.expires_at,
            h.captured_micros,
            h.amount_micros - h.captured_micros as held_micros,
            h.expires_at as paid_until,
            h.is_final,
            w.settled_micros - w.held_micros as available_micros,
            greatest(v_now, h.captured_until) as now_at,
            s.last_heartbeat_at + s.heartbeat_timeout_seconds * interval '1 second' as lost_at
        from unnest(p_organization_ids, p_session_ids) as i (organization_id, session_id)
        inner join billing.holds as h
            on h.organization_id = i.organization_id and h.id = i.session_id
        inner join billing.sessions as s
            on s.organization_id = i.organization_id and s.id = i.session_id
        inner join billing.wallets as w on w.organization_id = i.organization_id
    ),
    limited as (
        select
            d.*,
            -- A heartbeat can still come in time: only one that is overdue limits the session.
            least(d.expires_at, case when d.lost_at <= d.now_at then d.lost_at end) as limit_at
        from due as d
    ),
    -- Materialized: inlined, the cost would be computed anew wherever it is read.
    wanted as materialized (
        select
            l.*,
            t.target_at,
            billing.session_cost(l.price_micros, l.started_at, t.target_at) as target_micros
        from limited as l
        cross join lateral (
            select
                least(
                    l.limit_at,
                    case
                        when p_stop_reason is null
                            then l.now_at + l.window_seconds * interval '1 second'
                        else l.now_at
                    end
                ) as target_at
        ) as t
    ),
    funded as (
        select
            n.*,
            n.captured_micros + n.held_micros + least(
                x.missing_micros,
                greatest(
                    n.available_micros
                    - ((sum(x.missing_micros) over in_order)::bigint - x.missing_micros),
                    0
                )
            ) as funded_micros
        from wanted as n
        cross join lateral (
            select
                n.target_micros - n.captured_micros - n.held_micros as missing_micros
        ) as x
        -- First those that give back.
        window in_order as (partition by n.organization_id order by x.missing_micros > 0, n.id)
    ),
    timed as (
        select
            f.*,
            f.funded_micros >= f.target_micros as is_covered,
            case
                when f.funded_micros >= f.target_micros then f.target_at
                -- Never before what is paid already, which may end within a second.
                else greatest(
                    f.paid_until,
                    f.started_at + make_interval(
                        secs => billing.affordable_seconds(f.price_micros, f.funded_micros)
                    )
                )
            end as new_paid_until
        from funded as f
    ),
    charged as (
        select
            t.*,
            t.new_paid_until <= t.now_at as is_over,
            not t.is_covered or t.new_paid_until = t.limit_at is true as is_new_final,
            least(t.now_at, t.new_paid_until) as new_captured_until,
            billing.session_cost(
                t.price_micros, t.started_at, least(t.now_at, t.new_paid_until)
            ) as new_captured_micros
        from timed as t
    ),
    settled as materialized (
        select
            c.organization_id,
            c.id,
            c.captured_micros,
            c.held_micros,
            c.is_over,
            c.is_new_final,
            c.new_captured_micros,
            c.new_captured_until,
            c.new_paid_until,
            -- Covered: hold just the window. Not covered: hold all that is left.
            case
                when c.is_over then c.new_captured_micros
                when c.is_covered then c.target_micros
                else c.funded_micros
            end as new_amount_micros,
            case
                when not c.is_over
                    then billing.session_due_at(
                        c.new_paid_until, c.is_new_final, c.window_seconds, c.lost_at
                    )
            end as new_due_at,
            case
                when not c.is_over then null
                when not c.is_covered then 'exhausted'
                when c.new_paid_until = c.lost_at then 'lost'
                when c.new_paid_until = c.expires_at then 'expired'
                else p_stop_reason
            end as close_reason,
            c.is_new_final and not c.is_over
            and (not c.is_final or c.new_paid_until <> c.paid_until) as is_end_news
        from charged as c
    ),
    holds as (
        update billing.holds as h
        set
            amount_micros = s.new_amount_micros,
            captured_micros = s.new_captured_micros,
            captured_until = s.new_captured_until,
            expires_at = s.new_paid_until,
            is_final = s.is_new_final,
            due_at = s.new_due_at
        from settled as s
        where h.organization_id = s.organization_id and h.id = s.id
    ),
    sessions as (
        update billing.sessions as x
        set ended_at = s.new_paid_until, close_reason = s.close_reason
        from settled as s
        where s.is_over and x.organization_id = s.organization_id and x.id = s.id
    ),
    outbox as (
        insert into billing.outbox (organization_id, topic, payload, run_at)
        select
            s.organization_id, 'stop_session',
            billing.stop_session_payload(s.organization_id, s.id, s.new_paid_until),
            s.new_paid_until
        from settled as s
        where s.is_end_news
    )
    select
        array_agg(
            row(
                s.organization_id,
                s.new_captured_micros - s.captured_micros,
                s.new_amount_micros - s.new_captured_micros - s.held_micros,
                'revenue_sessions',
                'session',
                s.id
            )::billing.debit
            order by s.id
        ),
        count(*) filter (where s.is_over)
    into v_debits, v_closed
    from settled as s;

    if cardinality(v_debits) = 1 then
        perform billing.debit_wallet(v_debits[1], v_now);
    else
        perform billing.debit_wallets(v_debits, v_now);
    end if;
    return v_closed;
end
$$;

-- billing.lock_sessions: the ids of an organization's running sessions.
--
-- Locks   their holds, which is what sweeps lock, too.
create function billing.lock_sessions(p_organization_id uuid)
returns uuid[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return array(
        select h.id
        from billing.holds as h
        where h.organization_id = p_organization_id and h.kind = 'session' and h.due_at is not null
        order by h.id
        for no key update
    );
end
$$;

-- billing.stop_sessions: end sessions of an organization now and charge to this moment. Where a
-- sweep would have ended one, a stop that comes first ends it there, too.
--
-- Locks   the wallet; the caller has locked the sessions.
create function billing.stop_sessions(
    p_organization_id uuid, p_session_ids uuid[], p_reason text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.now();
    v_due uuid[];
    v_open uuid[];
begin
    v_due := array(
        select h.id
        from billing.holds as h
        where h.organization_id = p_organization_id
            and h.id = any(p_session_ids)
            and h.due_at <= v_now
    );
    if cardinality(v_due) > 0 then
        perform billing.settle_sessions(
            array_fill(p_organization_id, array[cardinality(v_due)]), v_due, null
        );
    end if;
    v_open := array(
        select h.id
        from billing.holds as h
        where h.organization_id = p_organization_id
            and h.id = any(p_session_ids)
            and h.due_at is not null
    );
    if cardinality(v_open) > 0 then
        perform billing.settle_sessions(
            array_fill(p_organization_id, array[cardinality(v_open)]), v_open, p_reason
        );
    end if;
end
$$;

-- billing.lock_session: a session of an organization.
--
-- Raises  FG404 session_not_found  absent, or another organization's
-- Locks   the session's hold, which is what sweeps lock, too.
create function billing.lock_session(p_organization_id uuid, p_session_id uuid)
returns billing.sessions
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_session billing.sessions;
begin
    perform h.id
    from billing.holds as h
    where h.organization_id = p_organization_id and h.id = p_session_id
    for no key update;
    -- After the lock: whoever held it may have ended the session.
    select s.* into v_session
    from billing.sessions as s
    where s.organization_id = p_organization_id and s.id = p_session_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'session_not_found';
    end if;
    return v_session;
end
$$;

-- api.get_session: one session, with its cost as of now.
-- Raises  FG404 session_not_found
create function api.get_session(p_caller jsonb, p_session_id uuid)
returns setof api.sessions
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    return query
    select s.*
    from api.sessions as s
    where s.organization_id = v_caller.organization_id and s.id = p_session_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'session_not_found';
    end if;
end
$$;
grant execute on function api.get_session to service_role, faregate_functions;
comment on function api.get_session is 'Reads one session, with its cost as of now.';

-- api.list_sessions: the organization's sessions, newest first, from before p_cursor;
-- p_status, p_workspace_id null: all.
create function api.list_sessions(
    p_caller jsonb, p_status text, p_workspace_id uuid, p_limit integer, p_cursor uuid
)
returns setof api.sessions
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    return query
    select s.*
    from api.sessions as s
    where s.organization_id = v_caller.organization_id
        and (p_cursor is null or s.id < p_cursor)
        and (p_status is null or s.status = p_status)
        and (p_workspace_id is null or s.workspace_id = p_workspace_id)
    order by s.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_sessions to service_role, faregate_functions;
comment on function api.list_sessions is
'Pages through the sessions of the caller''s organization, newest first.';

-- api.heartbeat_session: the resource is alive.
--
-- Raises  FG404 session_not_found
--         FG409 session_closed     it has ended; detail: close_reason, ended_at
-- Locks   the session.
create function api.heartbeat_session(p_caller jsonb, p_session_id uuid)
returns setof api.sessions
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_session billing.sessions := billing.lock_session(v_caller.organization_id, p_session_id);
begin
    if v_session.ended_at is not null then
        raise exception using
            errcode = 'FG409',
            message = 'session_closed',
            detail = jsonb_build_object(
                'close_reason', v_session.close_reason, 'ended_at', v_session.ended_at
            )::text;
    end if;
    update billing.sessions as s
    set last_heartbeat_at = greatest(s.last_heartbeat_at, billing.now())
    where s.organization_id = v_caller.organization_id and s.id = p_session_id;
    return query
    select s.*
    from api.sessions as s
    where s.organization_id = v_caller.organization_id and s.id = p_session_id;
end
$$;
grant execute on function api.heartbeat_session to service_role, faregate_functions;
comment on function api.heartbeat_session is 'Notes that a session''s resource is alive.';

-- api.stop_session: end a session now and charge it to this moment.
-- Stopping a closed one answers how it ended.
--
-- p_reason: stopped, or failed when the resource broke.
-- Raises  FG404 session_not_found, FG409 idempotency_conflict
-- Locks   the key, the session, the wallet.
create function api.stop_session(
    p_caller jsonb, p_session_id uuid, p_reason text, p_idempotency_key text
)
returns table (session api.sessions, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_request jsonb := jsonb_build_array(p_session_id, p_reason);
    v_stored jsonb;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'stop_session', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.sessions, v_stored), true;
        return;
    end if;
    perform billing.lock_session(v_caller.organization_id, p_session_id);
    perform billing.stop_sessions(v_caller.organization_id, array[p_session_id], p_reason);
    select v.* into session
    from api.sessions as v
    where v.organization_id = v_caller.organization_id and v.id = p_session_id;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'stop_session', v_request, to_jsonb(session)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.stop_session to service_role, faregate_functions;
comment on function api.stop_session is 'Ends a session now and charges it to this moment.';

-- api.sweep_sessions: settle up to p_limit sessions that are due. Call until more is false; two at
-- a time, if you like. Does not wait for the disk: a crash may lose the last moments of sweeping,
-- and the next sweep charges the same seconds to the same amount.
--
-- Locks   the sessions that nobody else has locked, the wallets in order.
create function api.sweep_sessions(p_limit integer)
returns table (swept integer, closed integer, more boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.now();
    v_organization_ids uuid[];
    v_session_ids uuid[];
begin
    perform set_config('synchronous_commit', 'off', true);
    select array_agg(d.organization_id), array_agg(d.id)
    into v_organization_ids, v_session_ids
    from (
        select h.organization_id, h.id
        from billing.holds as h
        where h.kind = 'session' and h.due_at <= v_now
        order by h.due_at
        limit p_limit
        for no key update skip locked
    ) as d;
    swept := coalesce(cardinality(v_session_ids), 0);
    closed := 0;
    if swept > 0 then
        closed := billing.settle_sessions(v_organization_ids, v_session_ids, null);
    end if;
    more := swept > 0 and swept = p_limit;
    return next;
end
$$;
grant execute on function api.sweep_sessions to service_role, faregate_functions;
comment on function api.sweep_sessions is
'Charges and renews the sessions that are due, for the cron.';

-- api.sweep_session: settle one session at the end that was foreseen for it, p_paid_until.
-- Repeated, late or outdated (money came, the end has moved),
-- it changes nothing that the next sweep would not. In any case its task is done.
--
-- Raises  FG503 not_yet_due  the queue's clock is ahead of ours: call again
--         FG404 session_not_found
-- Locks   the session, the wallet, the task's row.
create function api.sweep_session(
    p_organization_id uuid, p_session_id uuid, p_paid_until timestamptz, p_task_id uuid
)
returns setof api.sessions
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.lock_session(p_organization_id, p_session_id);
    if exists (
        select from billing.holds as h
        where h.organization_id = p_organization_id
            and h.id = p_session_id
            and h.due_at is not null
            and h.expires_at = p_paid_until
    ) then
        if p_paid_until > billing.now() then
            raise exception using errcode = 'FG503', message = 'not_yet_due';
        end if;
        perform billing.settle_sessions(array[p_organization_id], array[p_session_id], null);
    end if;
    perform billing.acknowledge(p_organization_id, p_task_id);
    return query
    select s.*
    from api.sessions as s
    where s.organization_id = p_organization_id and s.id = p_session_id;
end
$$;
grant execute on function api.sweep_session to service_role, faregate_functions;
comment on function api.sweep_session is
'Settles one session at the end that was foreseen for it, for its task.';
