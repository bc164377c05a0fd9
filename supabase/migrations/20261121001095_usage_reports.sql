-- Reports on usage: what was folded into days, and what came since.
--
-- Events are summed up by day when they have come, up to a moment (usage_folds.folded_until). A
-- report is the days and the events since then: so it is exact at any moment, and next to no event
-- is looked at twice.

-- Arrival is the order of the rows on disk, so a summary of each few pages finds a stretch of it;
-- a tree would cost each event as much as its key does.
create index usage_events_arrival on billing.usage_events
using brin (id) with (pages_per_range = 32, autosummarize = on);

create table billing.usage_folds (
    is_only boolean primary key default true,
    folded_until timestamptz not null default '2000-01-01T00:00:00Z',
    complete_until timestamptz not null default '2000-01-01T00:00:00Z',
    constraint usage_folds_is_one_row check (is_only),
    constraint usage_folds_in_order check (folded_until <= complete_until)
);
alter table billing.usage_folds enable row level security;
insert into billing.usage_folds default values;
comment on table billing.usage_folds is 'How far events are summed up: one row.';
comment on column billing.usage_folds.is_only is 'True.';
comment on column billing.usage_folds.folded_until is
'Events that came before are in usage_days, those since then are not (UTC, whole milliseconds).';
comment on column billing.usage_folds.complete_until is
'No event will appear any more that came before (UTC, whole milliseconds).';

-- Text that is compared byte by byte, and no nulls: so that a day's row is found by its key.
create table billing.usage_days (
    organization_id uuid not null,
    day date not null,
    feature text collate "C" not null,
    provider_id text collate "C" not null,
    model text collate "C" not null,
    passport_id uuid not null,
    events bigint not null,
    quantities jsonb not null,
    cost_usd numeric not null,
    price_usd numeric not null,
    primary key (organization_id, day, feature, provider_id, model, passport_id)
);
alter table billing.usage_days enable row level security;
create index usage_days_of_all_features on billing.usage_days (day, organization_id)
where feature = '';
comment on table billing.usage_days is
'The sums of events that were folded, by the day on which they occurred. Those that wait for a
person count as nothing until they are charged. The sums of all organizations stand under the
organization of zeros, without passports; those of all that an organization used with a passport
under no feature. No foreign keys, as in the ledger.';
comment on column billing.usage_days.organization_id is
'The organization it belongs to; zeros: all of them.';
comment on column billing.usage_days.day is 'In UTC, from midnight to midnight.';
comment on column billing.usage_days.feature is
'What of the product was used; empty: all of it, whichever feature and model.';
comment on column billing.usage_days.provider_id is 'Who served the model; empty: none did.';
comment on column billing.usage_days.model is 'The model, as the events say; empty: none.';
comment on column billing.usage_days.passport_id is
'The customer''s passport that it was used with; zeros: none was named.';
comment on column billing.usage_days.events is 'How many there were; none that is void.';
comment on column billing.usage_days.quantities is 'How much of each meter.';
comment on column billing.usage_days.cost_usd is 'What the providers take, in USD, exactly.';
comment on column billing.usage_days.price_usd is 'What the customer pays, in USD, exactly.';

-- billing.zeros: the id of nobody.
create function billing.zeros()
returns uuid
language sql
immutable parallel safe
return '00000000-0000-0000-0000-000000000000'::uuid;

-- billing.usage_folded_to: the first id that is not in usage_days. Views of readers ask it, who may
-- not look where it does.
create function billing.usage_folded_to()
returns uuid
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select billing.first_id_of(f.folded_until) from billing.usage_folds as f);
end
$$;

-- billing.usage_parts: what is to be summed of an event or a day: one row without a meter for how
-- many and how much money, and one for each meter.
create function billing.usage_parts(
    p_events bigint, p_cost_usd numeric, p_price_usd numeric, p_quantities jsonb
)
returns table (
    meter text, events bigint, cost_usd numeric, price_usd numeric, quantity numeric
)
language sql
immutable parallel safe
begin atomic
    select
        '' as meter,
        p_events as events,
        p_cost_usd as cost_usd,
        p_price_usd as price_usd,
        0::numeric as quantity
    union all
    select
        q.key as meter,
        0 as events,
        0 as cost_usd,
        0 as price_usd,
        q.value::numeric as quantity
    from jsonb_each(p_quantities) as q;
end;

-- billing.usd: an amount in USD as answers write it: exactly, and with six decimals at least.
create function billing.usd(p_usd numeric)
returns text
language sql
immutable parallel safe
return round(p_usd, greatest(scale(trim_scale(p_usd)), 6))::text;

-- billing.fold_usage_events: add the events with these ids, and those between them, to their days.
--
-- Locks   the days. The caller has locked usage_folds: nobody else folds.
create function billing.fold_usage_events(p_first_id uuid, p_last_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
-- A stretch of arrival is found by its summary: the key, which also has the id, would be read
-- from end to end.
set enable_seqscan = off
set enable_indexscan = off
set work_mem = '64MB'
set jit = off
set plan_cache_mode = force_custom_plan
as $$
begin
    with events as materialized (
        select
            e.organization_id,
            (e.occurred_at at time zone 'UTC')::date as day,
            e.feature collate "C" as feature,
            coalesce(e.provider_id, '') collate "C" as provider_id,
            coalesce(e.model, '') collate "C" as model,
            coalesce(e.passport_id, billing.zeros()) as passport_id,
            p.meter,
            sum(p.events) as events,
            sum(p.cost_usd) as cost_usd,
            sum(p.price_usd) as price_usd,
            sum(p.quantity) as quantity
        from billing.usage_events as e
        cross join lateral billing.usage_parts(
            e.counted, e.cost_usd, e.price_usd, e.quantities
        ) as p
        where e.id between p_first_id and p_last_id and e.review is null
        group by 1, 2, 3, 4, 5, 6, 7
    ),
    added as materialized (
        select e.*
        from events as e
        union all
        select
            billing.zeros(), e.day, e.feature, e.provider_id, e.model, billing.zeros(), e.meter,
            sum(e.events), sum(e.cost_usd), sum(e.price_usd), sum(e.quantity)
        from events as e
        group by e.day, e.feature, e.provider_id, e.model, e.meter
        union all
        select
            e.organization_id, e.day, '', '', '', e.passport_id, e.meter,
            sum(e.events), sum(e.cost_usd), sum(e.price_usd), sum(e.quantity)
        from events as e
        group by e.organization_id, e.day, e.passport_id, e.meter
    ),
    parts as (
        select a.*
        from added as a
        union all
        select
            d.organization_id, d.day, d.feature, d.provider_id, d.model, d.passport_id, p.meter,
            p.events, p.cost_usd, p.price_usd, p.quantity
        from added as a
        cross join lateral (
            select c.*
            from billing.usage_days as c
            where c.organization_id = a.organization_id
                and c.day = a.day
                and c.feature = a.feature
                and c.provider_id = a.provider_id
                and c.model = a.model
                and c.passport_id = a.passport_id
            limit 1 -- noqa: AM09
        ) as d
        cross join lateral billing.usage_parts(
            d.events, d.cost_usd, d.price_usd, d.quantities
        ) as p
        where a.meter = ''
    ),
    sums as (
        select
            p.organization_id, p.day, p.feature, p.provider_id, p.model, p.passport_id, p.meter,
            sum(p.events)::bigint as events,
            sum(p.cost_usd) as cost_usd,
            sum(p.price_usd) as price_usd,
            sum(p.quantity) as quantity
        from parts as p
        group by 1, 2, 3, 4, 5, 6, 7
    )
    insert into billing.usage_days as d (
        organization_id, day, feature, provider_id, model, passport_id, events, cost_usd,
        price_usd, quantities
    )
    select
        s.organization_id, s.day, s.feature, s.provider_id, s.model, s.passport_id,
        sum(s.events), sum(s.cost_usd), sum(s.price_usd),
        coalesce(jsonb_object_agg(s.meter, s.quantity) filter (where s.meter <> ''), '{}')
    from sums as s
    group by 1, 2, 3, 4, 5, 6
    on conflict on constraint usage_days_pkey do update set
        events = excluded.events,
        quantities = excluded.quantities,
        cost_usd = excluded.cost_usd,
        price_usd = excluded.price_usd;
end
$$;

-- billing.fold_reviewed: trigger of usage_events. An event that waited for a person counts from
-- then on: where its like were folded already, it follows them. Whoever folds at this moment has
-- passed it by, and is waited for.
create function billing.fold_reviewed()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_folded_until timestamptz;
begin
    select f.folded_until into v_folded_until
    from billing.usage_folds as f
    for no key update;
    if new.id < billing.first_id_of(v_folded_until) then
        perform billing.fold_usage_events(new.id, new.id);
    end if;
    return null;
end
$$;
create trigger usage_events_reviewed_are_folded after update on billing.usage_events
for each row when (old.review is not null and new.review is null)
execute function billing.fold_reviewed();

-- billing.usage_is_complete_until: the moment before which no event will appear any more.
--
-- Ids are made under a lock that their makers share until they have committed
-- (billing.begin_usage). Here it is had alone, for an instant: so what has its ids by now can
-- be seen, and what comes later reads the clock later. Ten seconds less, for a clock that is set
-- back a little, or another machine's that takes over.
--
-- Locks   ids of usage, alone, until the transaction ends: call nothing else in it. Whoever waits
--         for more than a second for one that makes ids gives up: others wait behind it.
create function billing.usage_is_complete_until()
returns timestamptz
language plpgsql
set search_path = pg_catalog, pg_temp
set lock_timeout = '1s'
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended('usage ids', 0));
    return date_trunc('milliseconds', billing.now()) - interval '10 seconds';
exception
    when lock_not_available then
        return '-infinity';
end
$$;

-- api.start_folding: find out up to when events can be folded: those that came in by now.
--
-- A call of its own, so that its lock ends with it: a batch of events waits for milliseconds.
--
-- Locks   usage_folds, ids of usage.
create function api.start_folding()
returns setof timestamptz
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    update billing.usage_folds as f
    set complete_until = greatest(f.complete_until, billing.usage_is_complete_until())
    returning f.complete_until;
end
$$;
grant execute on function api.start_folding to service_role, faregate_functions;
comment on function api.start_folding is 'Finds out up to when events can be folded into days.';

-- api.fold_usage: add about p_limit events, in the order of their arrival, to their days.
--
-- Locks   usage_folds, the days.
create function api.fold_usage(p_limit integer)
returns table (folded bigint, more boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
-- As for billing.fold_usage_events.
set enable_seqscan = off
set enable_indexscan = off
set enable_indexonlyscan = off
set jit = off
set plan_cache_mode = force_custom_plan
as $$
declare
    v_from timestamptz;
    v_until timestamptz;
    v_complete_until timestamptz;
begin
    select f.folded_until, f.complete_until into v_from, v_complete_until
    from billing.usage_folds as f
    for no key update;
    -- Half as long a stretch, until it is no more than can be done at once; empty ones are passed.
    v_until := v_complete_until;
    loop
        select count(*) into folded
        from (
            select
            from billing.usage_events as e
            where e.id >= billing.first_id_of(v_from) and e.id < billing.first_id_of(v_until)
            limit p_limit + 1 -- noqa: AM09
        ) as e;
        if folded > p_limit and v_until - v_from > interval '1 millisecond' then
            v_until := v_from + greatest(
                date_trunc('milliseconds', (v_until - v_from) / 2), interval '1 millisecond'
            );
        elsif folded = 0 and v_until < v_complete_until then
            v_from := v_until;
            v_until := v_complete_until;
        else
            exit;
        end if;
    end loop;
    if folded > 0 then
        -- No event has the first id of a moment itself: it is no UUIDv7.
        perform billing.fold_usage_events(
            billing.first_id_of(v_from), billing.first_id_of(v_until)
        );
    end if;
    update billing.usage_folds set folded_until = v_until;
    more := v_until < v_complete_until;
    return next;
end
$$;
grant execute on function api.fold_usage to service_role, faregate_functions;
comment on function api.fold_usage is 'Adds events to their days, in the order of their arrival.';

create type billing.usage_sum as (
    organization_id uuid,
    day date,
    feature text,
    provider_id text,
    model text,
    passport_id uuid,
    events bigint,
    quantities jsonb,
    cost_usd numeric,
    price_usd numeric
);
comment on type billing.usage_sum is
'The sums of a group of events. What they are not grouped by, or do not have, is null.';

-- billing.sum_usage: the sums of an organization's events (null: of all) that occurred from one day
-- up to another, in groups by any of organization, day, feature, model and passport. They are the
-- days that were folded and the events since then, of one moment.
create function billing.sum_usage(
    p_organization_id uuid, p_from date, p_to date, p_group_by text[]
)
returns setof billing.usage_sum
language plpgsql
-- It sees one moment: that of the query which calls it.
stable
set search_path = pg_catalog, pg_temp
-- Planned for this organization and these days, and for where the events begin that are not folded.
set plan_cache_mode = force_custom_plan
set work_mem = '64MB'
set jit = off
as $$
declare
    v_folded_to uuid := billing.usage_folded_to();
    -- The sums of all organizations are there already, but without these two.
    v_is_of_all boolean := p_organization_id is null
        and not p_group_by && array['organization', 'passport'];
    -- So are an organization's, but without these two. What decides how long a report takes is how
    -- many days it reads: to unpack the quantities of 300 000 takes seconds.
    v_is_of_all_features boolean := not v_is_of_all
        and not p_group_by && array['feature', 'model'];
begin
    return query
    with rows as (
        select
            d.organization_id, d.day, d.feature, d.provider_id, d.model, d.passport_id,
            d.events, d.quantities, d.cost_usd, d.price_usd
        from billing.usage_days as d
        where not v_is_of_all_features
            and d.day >= p_from
            and d.day < p_to
            and d.feature <> ''
            and case
                when v_is_of_all then d.organization_id = billing.zeros()
                when p_organization_id is null then d.organization_id <> billing.zeros()
                else d.organization_id = p_organization_id
            end
        union all
        select
            d.organization_id, d.day, d.feature, d.provider_id, d.model, d.passport_id,
            d.events, d.quantities, d.cost_usd, d.price_usd
        from billing.usage_days as d
        where v_is_of_all_features
            and d.day >= p_from
            and d.day < p_to
            and d.feature = ''
            and (p_organization_id is null or d.organization_id = p_organization_id)
        union all
        select
            e.organization_id, (e.occurred_at at time zone 'UTC')::date, e.feature,
            coalesce(e.provider_id, ''), coalesce(e.model, ''),
            coalesce(e.passport_id, billing.zeros()), e.counted, e.quantities, e.cost_usd,
            e.price_usd
        from billing.usage_events as e
        where e.id >= v_folded_to
            and (p_organization_id is null or e.organization_id = p_organization_id)
            and e.review is null
            and e.occurred_at >= p_from::timestamp at time zone 'UTC'
            and e.occurred_at < p_to::timestamp at time zone 'UTC'
    ),
    parts as (
        select
            case when 'organization' = any(p_group_by) then r.organization_id end as o,
            case when 'day' = any(p_group_by) then r.day end as d,
            case when 'feature' = any(p_group_by) then r.feature end as f,
            case when 'model' = any(p_group_by) then nullif(r.provider_id, '') end as p,
            case when 'model' = any(p_group_by) then nullif(r.model, '') end as m,
            case
                when 'passport' = any(p_group_by) then nullif(r.passport_id, billing.zeros())
            end as k,
            p.meter,
            sum(p.events) as events,
            sum(p.cost_usd) as cost_usd,
            sum(p.price_usd) as price_usd,
            sum(p.quantity) as quantity
        from rows as r
        cross join lateral billing.usage_parts(
            r.events, r.cost_usd, r.price_usd, r.quantities
        ) as p
        group by 1, 2, 3, 4, 5, 6, 7
    )
    select
        s.o, s.d, s.f, s.p, s.m, s.k,
        sum(s.events)::bigint,
        coalesce(jsonb_object_agg(s.meter, s.quantity) filter (where s.meter <> ''), '{}'),
        sum(s.cost_usd),
        sum(s.price_usd)
    from parts as s
    group by 1, 2, 3, 4, 5, 6
    order by 2, 1, 3, 4, 5, 6;
end
$$;

-- billing.authenticate_analyst: who asks for reports on usage: a customer for its own, an operator
-- for any customer's (p_organization_id) or all (p_is_all), and the cost with it.
create function billing.authenticate_analyst(
    p_caller jsonb, p_organization_id uuid, p_is_all boolean
)
returns table (organization_id uuid, sees_cost boolean)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(
        p_caller, case when p_is_all or p_organization_id is not null then 'admin' else 'read' end
    );
begin
    if p_organization_id is not null then
        perform billing.find_customer(p_organization_id);
    end if;
    organization_id := case
        when not p_is_all then coalesce(p_organization_id, v_caller.organization_id)
    end;
    sees_cost := 'admin' = any(v_caller.permissions);
    return next;
end
$$;

create type billing.usage_line as (
    organization_id uuid,
    day date,
    feature text,
    provider_id text,
    model text,
    passport_id uuid,
    events bigint,
    quantities jsonb,
    price_usd text,
    cost_usd text,
    margin_usd text
);
comment on type billing.usage_line is
'The sums of a group of events, as an answer tells them: money as text, exactly; cost and margin are
null for whoever may not see them.';

-- api.analyze_usage: what was used from one day up to another (UTC), in groups by any of
-- organization, day, feature, model and passport. p_to null: today included. p_from null: from the
-- beginning of its month. An operator names a customer, or all; only operators see cost and margin.
-- Events that wait for a person count as nothing. One answer holds it all, so it has an end.
--
-- Raises  FG400 period_too_long         more than 400 days; detail: maximum_days
--         FG400 too_many_groups         more than 10000; detail: maximum_groups
--         FG404 organization_not_found
create function api.analyze_usage(
    p_caller jsonb,
    p_organization_id uuid,
    p_is_all boolean,
    p_from date,
    p_to date,
    p_group_by text[]
)
returns table (from_day date, to_day date, groups billing.usage_line[])
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_analyst record;
begin
    select a.* into strict v_analyst
    from billing.authenticate_analyst(p_caller, p_organization_id, p_is_all) as a;
    to_day := coalesce(p_to, (billing.now() at time zone 'UTC')::date + 1);
    from_day := coalesce(p_from, date_trunc('month', to_day - 1)::date);
    if to_day - from_day > 400 then
        raise exception using
            errcode = 'FG400',
            message = 'period_too_long',
            detail = jsonb_build_object('maximum_days', 400)::text;
    end if;
    groups := array(
        select
            row(
                s.organization_id, s.day, s.feature, s.provider_id, s.model, s.passport_id,
                s.events, s.quantities, billing.usd(s.price_usd),
                case when v_analyst.sees_cost then billing.usd(s.cost_usd) end,
                case when v_analyst.sees_cost then billing.usd(s.price_usd - s.cost_usd) end
            )::billing.usage_line
        from billing.sum_usage(v_analyst.organization_id, from_day, to_day, p_group_by) as s
        limit 10001
    );
    if cardinality(groups) > 10000 then
        raise exception using
            errcode = 'FG400',
            message = 'too_many_groups',
            detail = jsonb_build_object('maximum_groups', 10000)::text;
    end if;
    return next;
end
$$;
grant execute on function api.analyze_usage to service_role, faregate_functions;
comment on function api.analyze_usage is
'Sums up usage by day, model, feature, passport or organization.';

-- api.list_usage_events: an organization's events, newest first, from before p_cursor; only
-- operators see the cost. From p_from up to p_to they occurred.
--
-- Raises  FG404 organization_not_found
create function api.list_usage_events(
    p_caller jsonb,
    p_organization_id uuid,
    p_feature text,
    p_model text,
    p_passport_id uuid,
    p_from timestamptz,
    p_to timestamptz,
    p_limit integer,
    p_cursor uuid
)
returns table (
    id uuid,
    organization_id uuid,
    source text,
    event_id text,
    occurred_at timestamptz,
    feature text,
    provider_id text,
    model text,
    passport_id uuid,
    quantities jsonb,
    price_usd text,
    cost_usd text,
    margin_usd text,
    review billing.usage_review,
    corrects_id uuid
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
-- By key, in the order of it.
set enable_seqscan = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_analyst record;
begin
    select a.* into strict v_analyst
    from billing.authenticate_analyst(p_caller, p_organization_id, false) as a;
    return query
    select
        e.id, e.organization_id, e.source, e.event_id, e.occurred_at, e.feature, e.provider_id,
        e.model, e.passport_id, e.quantities, billing.usd(e.price_usd),
        case when v_analyst.sees_cost then billing.usd(e.cost_usd) end,
        case when v_analyst.sees_cost then billing.usd(e.price_usd - e.cost_usd) end,
        e.review, e.corrects_id
    from billing.usage_events as e
    where e.organization_id = v_analyst.organization_id
        and (p_cursor is null or e.id < p_cursor)
        and (p_feature is null or e.feature = p_feature)
        and (p_model is null or e.model = p_model)
        and (p_passport_id is null or e.passport_id = p_passport_id)
        -- None comes more than five minutes before it occurs.
        and (p_from is null or e.id >= billing.first_id_of(p_from - interval '5 minutes'))
        and (p_from is null or e.occurred_at >= p_from)
        and (p_to is null or e.occurred_at < p_to)
    order by e.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_usage_events to service_role, faregate_functions;
comment on function api.list_usage_events is 'Pages through what was used, newest first.';

create view api.usage_events with (security_invoker = true) as
select
    e.organization_id,
    e.id,
    e.source,
    e.event_id,
    e.occurred_at,
    e.feature,
    e.provider_id,
    e.model,
    e.passport_id,
    e.quantities,
    e.price_usd,
    e.review,
    e.corrects_id
from billing.usage_events as e;
comment on view api.usage_events is 'What was used, and what it was charged.';
call billing.inherit_comments('api.usage_events');

create view api.usage_days with (security_invoker = true) as
with parts as (
    select
        r.organization_id,
        r.day,
        r.feature,
        r.provider_id,
        r.model,
        r.passport_id,
        p.meter,
        sum(p.events) as events,
        sum(p.price_usd) as price_usd,
        sum(p.quantity) as quantity
    from (
        select
            d.organization_id,
            d.day,
            d.feature,
            nullif(d.provider_id, '') as provider_id,
            nullif(d.model, '') as model,
            nullif(d.passport_id, billing.zeros()) as passport_id,
            d.events,
            d.price_usd,
            d.quantities
        from billing.usage_days as d
        where d.feature <> ''
        union all
        select
            e.organization_id,
            (e.occurred_at at time zone 'UTC')::date,
            e.feature,
            e.provider_id,
            e.model,
            e.passport_id,
            e.counted as events,
            e.price_usd,
            e.quantities
        from billing.usage_events as e
        where e.id >= (select billing.usage_folded_to()) and e.review is null
    ) as r
    cross join lateral billing.usage_parts(r.events, 0, r.price_usd, r.quantities) as p
    group by
        r.organization_id, r.day, r.feature, r.provider_id, r.model, r.passport_id, p.meter
)

select
    p.organization_id,
    p.day,
    p.feature,
    p.provider_id,
    p.model,
    p.passport_id,
    sum(p.events)::bigint as events,
    coalesce(jsonb_object_agg(p.meter, p.quantity) filter (where p.meter <> ''), '{}')
        as quantities,
    sum(p.price_usd) as price_usd
from parts as p
group by p.organization_id, p.day, p.feature, p.provider_id, p.model, p.passport_id;
comment on view api.usage_days is
'What was used, by day, feature, model and passport: exact as of now. Events that wait for a person
count as nothing until they are charged.';
comment on column api.usage_days.organization_id is 'The organization it belongs to.';
comment on column api.usage_days.feature is 'What of the product was used.';
comment on column api.usage_days.provider_id is 'Who served the model; null: none did.';
comment on column api.usage_days.model is 'The model, as the events say; null: none.';
comment on column api.usage_days.passport_id is
'The customer''s passport that it was used with; null: none was named.';
comment on column api.usage_days.events is 'How many there were; none that is void.';
comment on column api.usage_days.quantities is 'How much of each meter.';
comment on column api.usage_days.price_usd is 'What the customer pays, in USD, exactly.';
call billing.inherit_comments('api.usage_days');
