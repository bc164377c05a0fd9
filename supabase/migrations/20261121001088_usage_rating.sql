-- What a piece of usage costs: by the prices and the rates of its own time.

create type billing.usage_review as enum (
    'unknown_model', 'cost_unknown', 'rate_unknown', 'below_cost'
);
comment on type billing.usage_review is
'Why an event could not be rated. unknown_model: no provider sells it. cost_unknown: it has no price
for a meter. rate_unknown: no rate says what the customer pays. below_cost: that is less than the
cost, and the rate does not say that this is meant.';

create type billing.usage_group as (
    special_id uuid,
    plan_id text,
    feature text,
    provider_id text,
    model text
);
comment on type billing.usage_group is
'What decides about the price of an event besides its time, so that it is looked up once for all
that have it in common. special_id: the organization, where it has rates or policies of its own,
otherwise zeros. Without a provider and a model: ''''.';

-- billing.find_tariffs: the price and the rate of each group, for each stretch of time from
-- p_first_at to p_last_at in which neither changes. Learns what the names of models mean that are
-- new.
create function billing.find_tariffs(
    p_groups billing.usage_group[], p_first_at timestamptz, p_last_at timestamptz
)
returns table (
    number bigint,
    special_id uuid,
    plan_id text,
    feature text,
    provider_id text,
    model text,
    starts_at timestamptz,
    ends_at timestamptz,
    is_known boolean,
    provider_price_id uuid,
    request_cost_usd numeric,
    usage_rate_id uuid,
    request_price_usd numeric,
    markup numeric,
    may_be_below_cost boolean,
    is_tiered boolean,
    allow_debt_micros bigint
)
language plpgsql
rows 100
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    return query
    with found as materialized (
        select
            g.*,
            n.price_provider_id,
            n.price_model_id,
            o.provider_id as own_provider_id,
            o.id as own_model_id,
            p.allow_debt_micros,
            n.name is null and g.provider_id <> '' as is_new_name,
            case
                when n.name is null and g.provider_id <> ''
                    then billing.find_model(g.provider_id, g.model)
            end as new_model
        from unnest(p_groups) as g
        left join lateral (
            select k.name, k.price_provider_id, k.price_model_id
            from billing.model_names as k
            where k.provider_id = g.provider_id and k.name = g.model
            limit 1 -- noqa: AM09
        ) as n on true
        -- An operator may have said what it costs since it was asked for.
        left join lateral (
            select m.provider_id, m.id
            from billing.provider_models as m
            where n.price_model_id is null
                and m.provider_id = lower(g.provider_id)
                and m.id = lower(g.model)
                and m.is_own
            limit 1 -- noqa: AM09
        ) as o on true
        left join lateral (
            select c.allow_debt_micros
            from billing.usage_policies as c
            where (c.organization_id is null or c.organization_id = g.special_id)
                and (c.plan_id is null or c.plan_id = g.plan_id)
                and (c.feature is null or c.feature = g.feature)
            order by
                c.organization_id is not null desc, c.plan_id is not null desc,
                c.feature is not null desc
            limit 1
        ) as p on true
    ),
    groups as materialized (
        select
            f.special_id,
            f.plan_id,
            f.feature,
            f.provider_id,
            f.model,
            f.allow_debt_micros,
            f.is_new_name,
            coalesce(
                f.price_provider_id, (f.new_model).provider_id, f.own_provider_id
            ) as price_provider_id,
            coalesce(f.price_model_id, (f.new_model).id, f.own_model_id) as price_model_id
        from found as f
    ),
    -- Names that were asked for the first time; in order, as others learn the same.
    learned as (
        insert into billing.model_names (provider_id, name, price_provider_id, price_model_id)
        select g.provider_id, g.model, g.price_provider_id, g.price_model_id
        from groups as g
        where g.is_new_name
        group by g.provider_id, g.model, g.price_provider_id, g.price_model_id
        order by g.provider_id, g.model
        on conflict do nothing
    )
    select
        row_number() over (),
        g.special_id,
        g.plan_id,
        g.feature,
        g.provider_id,
        g.model,
        t.starts_at,
        t.ends_at,
        g.price_model_id is not null,
        p.id,
        p.request_usd,
        r.id,
        r.request_usd,
        r.markup,
        r.may_be_below_cost,
        r.is_tiered,
        coalesce(g.allow_debt_micros, 0)
    from groups as g
    cross join lateral (
        select
            m.starts_at,
            lead(m.starts_at, 1, 'infinity') over (order by m.starts_at) as ends_at
        from (
            select p_first_at as starts_at
            union
            select c.effective_at
            from billing.provider_prices as c
            where c.provider_id = g.price_provider_id
                and c.model_id = g.price_model_id
                and c.effective_at > p_first_at
                and c.effective_at <= p_last_at
            union
            select c.effective_at
            from billing.usage_rates as c
            where c.effective_at > p_first_at
                and c.effective_at <= p_last_at
                and (c.organization_id is null or c.organization_id = g.special_id)
        ) as m
    ) as t
    left join lateral (
        select
            c.id,
            (
                select u.adds_usd
                from billing.provider_price_units as u
                where u.price_id = c.id and u.meter = 'requests'
                limit 1 -- noqa: AM09
            ) as request_usd
        from billing.provider_prices as c
        where c.provider_id = g.price_provider_id
            and c.model_id = g.price_model_id
            and c.effective_at <= t.starts_at
        order by c.effective_at desc
        limit 1
    ) as p on true
    left join lateral (
        select
            c.id,
            c.markup,
            c.may_be_below_cost,
            c.is_tiered,
            (
                select u.adds_usd
                from billing.usage_rate_units as u
                where u.rate_id = c.id and u.meter = 'requests'
            ) as request_usd
        from billing.usage_rates as c
        where (c.organization_id is null or c.organization_id = g.special_id)
            and (c.plan_id is null or c.plan_id = g.plan_id)
            and (c.model_id is null or c.model_id = g.price_model_id)
            and (c.provider_id is null or c.provider_id = g.price_provider_id)
            and (c.feature is null or c.feature = g.feature)
            and c.effective_at <= t.starts_at
            and not c.is_end
            and not exists (
                select
                from billing.usage_rates as n
                where n.is_end
                    and n.effective_at > c.effective_at
                    and n.effective_at <= t.starts_at
                    and n.organization_id is not distinct from c.organization_id
                    and n.plan_id is not distinct from c.plan_id
                    and n.feature is not distinct from c.feature
                    and n.provider_id is not distinct from c.provider_id
                    and n.model_id is not distinct from c.model_id
            )
            -- A markup on nothing is no price.
            and (
                g.provider_id <> ''
                or exists (select from billing.usage_rate_units as u where u.rate_id = c.id)
            )
        order by
            c.organization_id is not null desc, c.plan_id is not null desc,
            c.model_id is not null desc, c.provider_id is not null desc,
            c.feature is not null desc, c.effective_at desc
        limit 1
    ) as r on true;
end
$$;

create type billing.rated_usage as (
    index integer,
    organization_id uuid,
    source text,
    event_id text,
    occurred_at timestamptz,
    feature text,
    provider_id text,
    model text,
    passport_id uuid,
    quantities jsonb,
    fingerprint bigint,
    plan_id text,
    special_id uuid,
    closed_at timestamptz,
    cost_usd numeric,
    price_usd numeric,
    provider_price_id uuid,
    usage_rate_id uuid,
    is_tiered boolean,
    review billing.usage_review,
    allow_debt_micros bigint
);
comment on type billing.rated_usage is
'An event as it was sent, with all that must be known to record it: what it costs, and what it was
rated with. fingerprint: a hash of what it says. plan_id, closed_at: those of its organization,
nulls where there is none. is_tiered: its price depends on what was used before, too, and
price_usd is only the rest of it. review: why it has no price. allow_debt_micros: how much its
policy lets the organization owe after it.';

-- billing.rate_usage: what each event costs by the prices and rates of its own time. Records
-- nothing but what new names of models mean.
create function billing.rate_usage(
    p_events jsonb, p_organization_ids uuid[], p_now timestamptz
)
returns setof billing.rated_usage
language plpgsql
rows 1000
set search_path = pg_catalog, pg_temp
-- One plan for ten events and for a thousand. What is looked up by key is a lateral query;
-- everything else is joined by hash.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_nestloop = off
set enable_mergejoin = off
set enable_sort = off
-- What is switched off looks too dear to the planner, and what is dear would be compiled each time.
set jit = off
as $$
#variable_conflict use_column
declare
    -- Those that have rates or policies of their own.
    v_special_ids uuid[] := array(
        select r.organization_id
        from billing.usage_rates as r
        where r.organization_id = any(p_organization_ids)
        union
        select p.organization_id
        from billing.usage_policies as p
        where p.organization_id = any(p_organization_ids)
    );
begin
    return query
    with organizations as materialized (
        select
            i.organization_id,
            o.plan_id,
            o.closed_at,
            case
                when i.organization_id = any(v_special_ids) then i.organization_id
                else '00000000-0000-0000-0000-000000000000'
            end as special_id
        from unnest(p_organization_ids) as i (organization_id)
        cross join lateral (
            select c.plan_id, c.closed_at
            from billing.organizations as c
            where c.id = i.organization_id
            limit 1 -- noqa: AM09
        ) as o
    ),
    events as materialized (
        select
            e.index,
            e.organization_id,
            e.source,
            e.event_id,
            coalesce(e.occurred_at, p_now) as occurred_at,
            e.feature,
            coalesce(e.provider_id, '') as provider_id,
            coalesce(e.model, '') as model,
            e.passport_id,
            e.quantities,
            hash_record_extended(
                row(
                    e.occurred_at, e.feature, e.provider_id, e.model, e.passport_id, e.quantities
                ),
                0
            ) as fingerprint,
            coalesce(o.plan_id, '') as plan_id,
            coalesce(o.special_id, '00000000-0000-0000-0000-000000000000') as special_id,
            o.closed_at
        from jsonb_to_recordset(p_events) as e (
            index integer,
            organization_id uuid,
            source text,
            event_id text,
            occurred_at timestamptz,
            feature text,
            provider_id text,
            model text,
            passport_id uuid,
            quantities jsonb
        )
        left join organizations as o on o.organization_id = e.organization_id
    ),
    tariffs as materialized (
        select t.*
        from (
            select
                array_agg(
                    row(
                        g.special_id, g.plan_id, g.feature, g.provider_id, g.model
                    )::billing.usage_group
                ) as groups,
                min(g.first_at) as first_at,
                max(g.last_at) as last_at
            from (
                select
                    e.special_id, e.plan_id, e.feature, e.provider_id, e.model,
                    min(e.occurred_at) as first_at,
                    max(e.occurred_at) as last_at
                from events as e
                group by e.special_id, e.plan_id, e.feature, e.provider_id, e.model
            ) as g
        ) as a
        cross join lateral billing.find_tariffs(a.groups, a.first_at, a.last_at) as t
    ),
    units as materialized (
        select
            coalesce(c.number, p.number) as number,
            coalesce(c.meter, p.meter) as meter,
            coalesce(c.above, -1) as above,
            coalesce(c.up_to, 'infinity') as up_to,
            c.adds_usd as cost_adds_usd,
            p.adds_usd as price_adds_usd
        from (
            select
                t.number,
                u.meter,
                u.above_input_tokens::numeric as above,
                lead(u.above_input_tokens) over (
                    partition by t.number, u.meter order by u.above_input_tokens
                )::numeric as up_to,
                u.adds_usd
            from tariffs as t
            cross join lateral (
                select c.*
                from billing.provider_price_units as c
                where c.price_id = t.provider_price_id
                offset 0
            ) as u
        ) as c
        full join (
            select t.number, u.meter, u.adds_usd
            from tariffs as t
            cross join lateral (
                select c.*
                from billing.usage_rate_units as c
                where c.rate_id = t.usage_rate_id
                offset 0
            ) as u
        ) as p on p.number = c.number and p.meter = c.meter
    ),
    placed as materialized (
        select
            e.*,
            t.number,
            t.is_known,
            t.allow_debt_micros,
            t.provider_price_id,
            t.usage_rate_id,
            t.is_tiered,
            t.markup,
            t.may_be_below_cost,
            -- An event is a request, unless it says how many.
            case
                when e.quantities ? 'requests' then 0 else coalesce(t.request_cost_usd, 0)
            end as request_cost_usd,
            case
                when e.quantities ? 'requests' then 0 else coalesce(t.request_price_usd, 0)
            end as request_price_usd,
            coalesce((e.quantities -> 'input_tokens')::numeric, 0) as input_tokens
        from events as e
        inner join tariffs as t
            on t.special_id = e.special_id
            and t.plan_id = e.plan_id
            and t.feature = e.feature
            and t.provider_id = e.provider_id
            and t.model = e.model
            and t.starts_at <= e.occurred_at
            and t.ends_at > e.occurred_at
    ),
    sums as (
        select
            c.index,
            count(*) = count(u.cost_adds_usd) as has_cost,
            count(*) = count(u.price_adds_usd) as has_price,
            coalesce(sum(q.value::numeric * u.cost_adds_usd), 0) as cost_usd,
            coalesce(sum(q.value::numeric * u.price_adds_usd), 0) as own_price_usd
        from placed as c
        -- No requests need no price.
        inner join lateral jsonb_each(c.quantities) as q on q.value <> '0'
        left join units as u
            on u.number = c.number
            and u.meter = q.key
            and u.above < c.input_tokens
            and u.up_to >= c.input_tokens
        group by c.index
    ),
    reckoned as (
        select
            c.*,
            case
                when c.provider_id = '' then 0
                when s.has_cost is not false then coalesce(s.cost_usd, 0) + c.request_cost_usd
            end as cost_usd,
            case
                when c.markup is not null and c.provider_id <> '' or s.has_price is not false
                    then coalesce(s.own_price_usd, 0) + c.request_price_usd
            end as own_price_usd
        from placed as c
        left join sums as s on s.index = c.index
    ),
    priced as (
        select r.*, r.own_price_usd + coalesce(r.markup, 0) * r.cost_usd as price_usd
        from reckoned as r
    ),
    reviewed as (
        select
            p.*,
            case
                when not p.is_known and p.provider_id <> '' then 'unknown_model'
                when p.cost_usd is null then 'cost_unknown'
                when p.usage_rate_id is null or p.price_usd is null then 'rate_unknown'
                when p.price_usd < p.cost_usd and not p.may_be_below_cost then 'below_cost'
            end::billing.usage_review as review
        from priced as p
    )
    select
        r.index,
        r.organization_id,
        r.source,
        r.event_id,
        r.occurred_at,
        r.feature,
        nullif(r.provider_id, ''),
        nullif(r.model, ''),
        r.passport_id,
        r.quantities,
        r.fingerprint,
        r.plan_id,
        r.special_id,
        r.closed_at,
        r.cost_usd,
        case when r.review is null then r.price_usd end,
        r.provider_price_id,
        r.usage_rate_id,
        r.is_tiered,
        r.review,
        r.allow_debt_micros
    from reviewed as r;
end
$$;
