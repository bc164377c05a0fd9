-- Usage events: recorded once, rated at their own time, charged at once.

create schema partitions;
comment on schema partitions is
'The months of partitioned tables, which are read and written through these alone.';

create table billing.usage_keys (
    organization_id uuid not null,
    source text collate "C" not null,
    event_id text collate "C" not null,
    id uuid not null,
    fingerprint bigint not null,
    primary key (organization_id, source, event_id)
);
alter table billing.usage_keys enable row level security;
comment on table billing.usage_keys is
'The natural key of every event that was accepted, forever: whoever sends one again is told so. A
table of its own, because a partitioned one cannot hold a key across its months. No foreign keys, as
in the ledger.';
comment on column billing.usage_keys.organization_id is 'The organization it belongs to.';
comment on column billing.usage_keys.source is 'Who sent it, as they call themselves.';
comment on column billing.usage_keys.event_id is 'What they call it.';
comment on column billing.usage_keys.id is 'What we call it.';
comment on column billing.usage_keys.fingerprint is
'A hash of what it said: the same key with other words is no repetition.';

create type billing.usage_review as enum (
    'unknown_model', 'cost_unknown', 'rate_unknown', 'below_cost'
);
comment on type billing.usage_review is
'Why an event could not be rated. unknown_model: no provider sells it. cost_unknown: it has no price
for a meter. rate_unknown: no rate says what the customer pays. below_cost: that is less than the
cost, and the rate does not say that this is meant.';

-- By id, which is time-ordered (UUIDv7), so by the month in which it came: the key needs no second
-- column, and a month that is over gets no row any more, however late an event is.
create table billing.usage_events (
    organization_id uuid not null,
    id uuid not null default billing.uuidv7(),
    source text not null,
    event_id text not null,
    occurred_at timestamptz not null,
    feature text not null,
    provider_id text,
    model text,
    passport_id uuid,
    quantities jsonb not null,
    cost_usd numeric,
    price_usd numeric,
    provider_price_id uuid,
    usage_rate_id uuid,
    sequence bigint,
    review billing.usage_review,
    priced_by text,
    corrects_id uuid,
    counted smallint not null default 1,
    primary key (organization_id, id),
    constraint usage_events_are_rated_or_reviewed check (
        (price_usd is null) = (review is not null)
        and (cost_usd is not null or review is not null or priced_by is not null)
    ),
    constraint usage_events_only_corrections_are_signed check (
        case
            when corrects_id is null then counted = 1 and (cost_usd >= 0) is not false
            else counted between -1 and 1 and price_usd is not null
        end
    )
)
partition by range (id);
alter table billing.usage_events enable row level security;
create index usage_events_in_review on billing.usage_events (id) where review is not null;
create index usage_events_corrections on billing.usage_events (organization_id, corrects_id)
where corrects_id is not null;
comment on table billing.usage_events is
'What was consumed, what it cost and what it was charged. A rated event never changes; one that
waits for a person is rated once. A correction is one more row that says the difference: so sums are
plain sums.';
comment on column billing.usage_events.organization_id is 'The organization it belongs to.';
comment on column billing.usage_events.id is 'Time-ordered (UUIDv7): when it came.';
comment on column billing.usage_events.source is 'Who sent it, as they call themselves.';
comment on column billing.usage_events.event_id is 'What they call it.';
comment on column billing.usage_events.occurred_at is 'When it was consumed (UTC).';
comment on column billing.usage_events.feature is 'What of the product was used.';
comment on column billing.usage_events.provider_id is
'Who served the model, as the event says; null: none did.';
comment on column billing.usage_events.model is 'The model, as the event says.';
comment on column billing.usage_events.passport_id is
'The customer''s passport that it was used with, as the event says.';
comment on column billing.usage_events.quantities is
'How much of each meter; wholes include their parts (billing.meter_parts).';
comment on column billing.usage_events.cost_usd is
'What the provider takes, in USD, exactly; null: it is not known.';
comment on column billing.usage_events.price_usd is
'What the customer pays, in USD, exactly; null: it waits for a review.';
comment on column billing.usage_events.provider_price_id is
'The price by which the cost was reckoned; null: nothing was bought.';
comment on column billing.usage_events.usage_rate_id is
'The rate by which the price was reckoned; null: no rate did.';
comment on column billing.usage_events.sequence is
'The first of the transfers that charged it, with others of its batch, or gave money back; null: it
was free, in review, came to less than a µ$, or a backfill corrected it.';
comment on column billing.usage_events.review is 'Why it is not rated yet; null: it is.';
comment on column billing.usage_events.priced_by is
'Who named its price, or 0 for never charging it, where no rate could (passport:<id>, user:<id>);
null: a rate did.';
comment on column billing.usage_events.corrects_id is
'The event whose quantities, cost and price it changes by its own, which may be negative; null: it
is an event itself.';
comment on column billing.usage_events.counted is
'By how many events there are more for it: 1; a correction: 0 where it changes one, -1 where it
voids one, 1 where it brings one back.';

create trigger usage_events_rated_append_only before update on billing.usage_events
for each row when (old.review is null) execute function billing.refuse_change();
create trigger usage_events_append_only before delete on billing.usage_events
for each row execute function billing.refuse_change();
create trigger usage_events_no_truncate before truncate on billing.usage_events
for each statement execute function billing.refuse_change();
create trigger usage_keys_append_only before update or delete on billing.usage_keys
for each row execute function billing.refuse_change();
create trigger usage_keys_no_truncate before truncate on billing.usage_keys
for each statement execute function billing.refuse_change();

-- billing.first_id_of: the first id that can be made at a moment.
create function billing.first_id_of(p_at timestamptz)
returns uuid
language sql
immutable parallel safe
return rpad(
    encode(substring(int8send((extract(epoch from p_at) * 1000)::bigint) from 3), 'hex'), 32, '0'
)::uuid;

-- billing.begin_usage: the moment, to the millisecond, that the ids of events begin with which are
-- recorded from now on. Whoever inserts events asks for it.
--
-- It takes a lock that is shared by all who make ids, and kept until they have committed.
-- billing.usage_is_complete_until waits for it: what had its ids by then is there for all to see,
-- and what comes later gets later ids. So no event ever appears behind one that was counted.
--
-- Locks   ids of usage, shared.
create function billing.begin_usage()
returns timestamptz
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_advisory_xact_lock_shared(hashtextextended('usage ids', 0));
    return date_trunc('milliseconds', billing.now());
end
$$;

-- billing.create_usage_months: make the partitions of so many months, where they are missing.
create procedure billing.create_usage_months(p_first date, p_months integer)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_month timestamp;
    v_name text;
begin
    for v_month in
        select date_trunc('month', p_first::timestamp) + make_interval(months => m)
        from generate_series(0, p_months - 1) as m
    loop
        v_name := 'usage_events_' || to_char(v_month, 'YYYY_MM');
        continue when to_regclass(format('partitions.%I', v_name)) is not null;
        execute format(
            'create table partitions.%I partition of billing.usage_events
            for values from (%L) to (%L)',
            v_name,
            billing.first_id_of(v_month at time zone 'UTC'),
            billing.first_id_of((v_month + interval '1 month') at time zone 'UTC')
        );
        execute format('alter table partitions.%I enable row level security', v_name);
        -- Partitions inherit the triggers of rows, but not those of statements.
        execute format(
            'create trigger %I before truncate on partitions.%I
            for each statement execute function billing.refuse_change()',
            v_name || '_no_truncate', v_name
        );
    end loop;
end
$$;
call billing.create_usage_months((now() at time zone 'UTC')::date, 13);

create type billing.usage_outcome as (
    index integer,
    status text,
    reason text
);
comment on type billing.usage_outcome is
'What became of the event at an index of its batch, where that is not simply accepted: accepted
(and in review, for this reason), duplicate, or rejected for this reason.';

create type billing.usage_take as (
    index integer,
    number integer,
    quantity numeric
);
comment on type billing.usage_take is
'How much the event at an index of its batch takes of a limit, which its number tells apart from the
others of its organization.';

-- billing.refuse_usage: why each of a wallet's events is refused (null: it is not): its limits have
-- no room for it, or its money, and the debt that its policies allow, do not pay for it. In order
-- of arrival, whatever still fits. p_tiered_ids: the rates of those whose price depends on the ones
-- before: after one that is refused, all of its rate are.
create function billing.refuse_usage(
    p_indexes integer[],
    p_prices_usd numeric[],
    p_tiered_ids uuid[],
    p_allow_debt_micros bigint[],
    p_remainder_usd numeric,
    p_available_micros bigint,
    p_debt_micros bigint,
    p_limits billing.usage_limit[],
    p_takes billing.usage_take[]
)
returns text[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_refusals text[] := '{}';
    v_refusal text;
    v_due_usd numeric := p_remainder_usd;
    v_short_micros numeric;
    v_ended_ids uuid[] := '{}';
    v_ended_refusals text[] := '{}';
    -- What every limit has left; null: it refuses nothing.
    v_rooms numeric[] := array(select l.room from unnest(p_limits) as l order by l.number);
    v_take billing.usage_take;
    v_first integer;
    v_next integer := 1;
begin
    for i in 1..cardinality(p_indexes) loop
        v_refusal := null;
        v_first := v_next;
        while (p_takes[v_next]).index = p_indexes[i] loop
            v_take := p_takes[v_next];
            if v_take.quantity > 0 and v_take.quantity > v_rooms[v_take.number] then
                v_refusal := coalesce(
                    v_refusal,
                    case
                        when (p_limits[v_take.number]).feature_id is null then 'spend_cap_reached'
                        else 'limit_reached'
                    end
                );
            end if;
            v_next := v_next + 1;
        end loop;
        v_short_micros := greatest(
            floor((v_due_usd + p_prices_usd[i]) * 1000000) - p_available_micros, 0
        );
        v_refusal := coalesce(
            v_refusal, v_ended_refusals[array_position(v_ended_ids, p_tiered_ids[i])]
        );
        if v_refusal is null
            and p_prices_usd[i] > 0
            and p_debt_micros + v_short_micros > p_allow_debt_micros[i]
        then
            v_refusal := case
                when p_debt_micros > 0 then 'debt_outstanding' else 'insufficient_credits'
            end;
        end if;
        if v_refusal is not null and p_tiered_ids[i] is not null then
            v_ended_ids := v_ended_ids || p_tiered_ids[i];
            v_ended_refusals := v_ended_refusals || v_refusal;
        end if;
        if v_refusal is null then
            v_due_usd := v_due_usd + p_prices_usd[i];
            for k in v_first..v_next - 1 loop
                v_take := p_takes[k];
                v_rooms[v_take.number] := v_rooms[v_take.number] - v_take.quantity;
            end loop;
        end if;
        v_refusals := v_refusals || v_refusal;
    end loop;
    return v_refusals;
end
$$;

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
            coalesce(f.price_provider_id, (f.new_model).provider_id) as price_provider_id,
            coalesce(f.price_model_id, (f.new_model).id) as price_model_id
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
        cross join lateral jsonb_each(c.quantities) as q
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

-- billing.record_usage: record each of these events, if it is new and its wallet can pay. Gives how
-- many were recorded, what became of those of which there is more to say, and what is to be done:
-- one debit a wallet with what is left of a µ$ (0 or more, below 1), in the order of their
-- organizations, and for whom how much of it is not there and becomes a debt, or below 0 how much
-- is given back. p_first_at: none may be older; null: they may be of any age, and neither money nor
-- a limit refuses any: the caller looks at what is owed then.
--
-- Its settings hold for whatever it calls, too: so it moves no money itself.
--
-- Locks   nothing new: the caller has locked the wallets.
create function billing.record_usage(
    p_rated billing.rated_usage[], p_organization_ids uuid[], p_first_at timestamptz
)
returns table (
    accepted integer,
    outcomes billing.usage_outcome[],
    debits billing.debit[],
    remainders_usd numeric[],
    owing_ids uuid[],
    owed_micros bigint[]
)
language plpgsql
set search_path = pg_catalog, pg_temp
-- As those of billing.rate_usage.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
set enable_nestloop = off
set enable_mergejoin = off
set enable_sort = off
set jit = off
as $$
#variable_conflict use_column
declare
    -- UUIDv7 with the index where its randomness begins: ids are in the order of arrival.
    v_now timestamptz := billing.begin_usage();
    v_id_begins text := left(replace(billing.first_id_of(v_now)::text, '-', ''), 12) || '7';
    v_id_ends text := substr(gen_random_uuid()::text, 20);
    v_limits billing.usage_limit[];
    v_counts billing.usage_count[];
begin
    -- Asked first, so that it costs nothing where nothing is limited.
    if exists (select from billing.features)
        or exists (
            select from billing.spend_caps as c where c.organization_id = any(p_organization_ids)
        )
    then
        v_limits := billing.find_limits(
            p_organization_ids,
            array(select distinct e.feature from unnest(p_rated) as e),
            array(select distinct e.passport_id from unnest(p_rated) as e),
            v_now
        );
    end if;
    with accounts as materialized (
        select
            w.organization_id,
            w.settled_micros - w.held_micros as available_micros,
            w.debt_micros,
            w.usage_remainder_usd,
            w.last_sequence
        from unnest(p_organization_ids) as i (organization_id)
        cross join lateral (
            select c.*
            from billing.wallets as c
            where c.organization_id = i.organization_id
            limit 1 -- noqa: AM09
        ) as w
    ),
    events as materialized (
        select r.*
        from unnest(p_rated) as r
    ),
    limits as materialized (
        select l.*
        from unnest(v_limits) as l
    ),
    repeated as materialized (
        select e.organization_id, e.source, e.event_id, min(e.index) as first_index
        from events as e
        group by e.organization_id, e.source, e.event_id
        having count(*) > 1
    ),
    checked as materialized (
        select
            e.*,
            r.first_index,
            case
                when e.plan_id = '' then 'organization_not_found'
                when k.fingerprint = e.fingerprint then 'duplicate'
                when k.fingerprint is not null then 'event_conflict'
                when r.first_index < e.index then 'repeated'
                when e.closed_at is not null then 'organization_closed'
                when l.organization_id is not null and p_first_at is not null
                    then 'feature_not_granted'
                when e.occurred_at < p_first_at then 'too_late'
                when e.occurred_at > v_now + interval '5 minutes' then 'in_the_future'
            end as refusal
        from events as e
        left join repeated as r
            on r.organization_id = e.organization_id
            and r.source = e.source
            and r.event_id = e.event_id
        left join lateral (
            select c.fingerprint
            from billing.usage_keys as c
            where c.organization_id = e.organization_id
                and c.source = e.source
                and c.event_id = e.event_id
            limit 1 -- noqa: AM09
        ) as k on true
        left join limits as l
            on l.organization_id = e.organization_id
            and l.feature_id = e.feature
            and l.id is null
    ),
    -- Asked for by those alone that have tiers.
    tiered as materialized (
        select
            billing.tier_prices(
                array_agg(
                    row(
                        c.index, c.organization_id, c.usage_rate_id,
                        date_trunc('month', c.occurred_at at time zone 'UTC'), c.quantities, 1
                    )::billing.tiered_usage
                )
            ) as prices
        from checked as c
        where c.is_tiered and c.refusal is null and c.review is null
    ),
    priced as not materialized (
        select
            c.*,
            case
                when c.is_tiered
                    then (select (t.prices -> c.index::text)::numeric from tiered as t)
                else 0
            end + c.price_usd as full_price_usd
        from checked as c
        where c.refusal is null
    ),
    takes as materialized (
        select
            c.organization_id,
            l.id as limit_id,
            l.number,
            l.room,
            c.index,
            billing.counted(l.meter, c.quantities, c.full_price_usd) as quantity
        from priced as c
        inner join limits as l
            on l.organization_id = c.organization_id
            and coalesce(l.feature_id, c.feature) = c.feature
            and coalesce(l.passport_id = c.passport_id, l.passport_id is null)
        where c.review is null and l.id is not null
    ),
    crowded as (
        select t.organization_id
        from takes as t
        group by t.organization_id, t.limit_id, t.room
        having sum(t.quantity) > t.room
    ),
    wanted as (
        select p.organization_id, sum(p.full_price_usd) as price_usd
        from priced as p
        where p.review is null
        group by p.organization_id
    ),
    -- Of these not everything fits.
    short as materialized (
        select a.organization_id, a.available_micros, a.debt_micros, a.usage_remainder_usd
        from wanted as n
        inner join accounts as a on a.organization_id = n.organization_id
        where p_first_at is not null
            and (
                a.debt_micros > 0
                or floor((a.usage_remainder_usd + n.price_usd) * 1000000) > a.available_micros
                or a.organization_id in (select c.organization_id from crowded as c)
            )
    ),
    refused as materialized (
        select u.index, u.refusal
        from short as s
        inner join (
            select
                c.organization_id,
                array_agg(c.index order by c.index) as indexes,
                array_agg(c.full_price_usd order by c.index) as prices_usd,
                array_agg(case when c.is_tiered then c.usage_rate_id end order by c.index)
                    as tiered_ids,
                array_agg(c.allow_debt_micros order by c.index) as allow_debt_micros
            from priced as c
            where c.review is null
                and c.organization_id in (select k.organization_id from short as k)
            group by c.organization_id
        ) as e on e.organization_id = s.organization_id
        left join (
            select
                t.organization_id,
                array_agg(
                    row(t.index, t.number, t.quantity)::billing.usage_take
                    order by t.index, t.number
                ) as takes
            from takes as t
            group by t.organization_id
        ) as t on t.organization_id = s.organization_id
        left join (
            select l.organization_id, array_agg(l order by l.number) as limits
            from unnest(v_limits) as l
            where l.id is not null
            group by l.organization_id
        ) as l on l.organization_id = s.organization_id
        cross join lateral unnest(
            e.indexes,
            billing.refuse_usage(
                e.indexes, e.prices_usd, e.tiered_ids, e.allow_debt_micros,
                s.usage_remainder_usd, s.available_micros, s.debt_micros, l.limits, t.takes
            )
        ) as u (index, refusal)
        where u.refusal is not null
    ),
    decided as materialized (
        select
            c.*,
            (v_id_begins || lpad(to_hex(c.index), 3, '0') || v_id_ends)::uuid as id,
            r.refusal as late_refusal
        from priced as c
        left join refused as r on r.index = c.index
    ),
    charges as materialized (
        select
            c.*,
            c.due_micros - greatest(least(c.due_micros, c.available_micros), 0) as owed_micros,
            case when c.due_micros <> 0 then c.last_sequence + 1 end as sequence
        from (
            select
                a.organization_id,
                a.available_micros,
                a.last_sequence,
                a.usage_remainder_usd + s.price_usd as due_usd,
                -- More than any wallet holds, and a number still.
                least(
                    floor((a.usage_remainder_usd + s.price_usd) * 1000000), 9000000000000000000
                )::bigint as due_micros
            from (
                select d.organization_id, sum(d.full_price_usd) as price_usd
                from decided as d
                where d.late_refusal is null and d.full_price_usd <> 0
                group by d.organization_id
            ) as s
            inner join accounts as a on a.organization_id = s.organization_id
        ) as c
    ),
    keys as (
        insert into billing.usage_keys (organization_id, source, event_id, id, fingerprint)
        select d.organization_id, d.source, d.event_id, d.id, d.fingerprint
        from decided as d
        where d.late_refusal is null
    ),
    recorded as (
        insert into billing.usage_events (
            organization_id, id, source, event_id, occurred_at, feature, provider_id, model,
            passport_id, quantities, cost_usd, price_usd, provider_price_id, usage_rate_id,
            sequence, review
        )
        select
            d.organization_id, d.id, d.source, d.event_id, d.occurred_at, d.feature,
            d.provider_id, d.model, d.passport_id, d.quantities,
            d.cost_usd, d.full_price_usd, d.provider_price_id, d.usage_rate_id,
            case when d.full_price_usd <> 0 then c.sequence end, d.review
        from decided as d
        left join charges as c on c.organization_id = d.organization_id
        where d.late_refusal is null
    ),
    counted as (
        insert into billing.rate_totals as t (
            organization_id, rate_id, meter, month_start, quantity
        )
        select a.organization_id, a.rate_id, a.meter, a.month_start, sum(a.quantity)
        from (
            select
                array_agg(
                    row(
                        d.index, d.organization_id, d.usage_rate_id,
                        date_trunc('month', d.occurred_at at time zone 'UTC'), d.quantities, 1
                    )::billing.tiered_usage
                ) as events
            from decided as d
            where d.is_tiered and d.late_refusal is null and d.review is null
        ) as e
        cross join lateral billing.tiered_amounts(e.events) as a
        group by a.organization_id, a.rate_id, a.meter, a.month_start
        on conflict (organization_id, rate_id, meter, month_start) do update
        set quantity = t.quantity + excluded.quantity
    ),
    outcomes as (
        select
            c.index,
            c.first_index,
            c.fingerprint,
            coalesce(c.refusal, d.late_refusal) as refusal,
            d.review
        from checked as c
        left join decided as d on d.index = c.index
        where c.refusal is not null
            or d.late_refusal is not null
            or d.review is not null
            or c.index in (select r.first_index from repeated as r)
    ),
    -- An event that is in its batch twice fares as the first does.
    told as (
        select
            o.index,
            case
                when o.refusal is distinct from 'repeated' then o.refusal
                when f.fingerprint <> o.fingerprint then 'event_conflict'
                else coalesce(f.refusal, 'duplicate')
            end as refusal,
            o.review
        from outcomes as o
        left join outcomes as f on f.index = o.first_index
    )
    select
        (select count(*) from decided as d where d.late_refusal is null),
        (
            select
                array_agg(
                    row(n.organization_id, n.limit_id, n.quantity)::billing.usage_count
                    order by n.organization_id, n.limit_id
                )
            from (
                select t.organization_id, t.limit_id, sum(t.quantity) as quantity
                from takes as t
                where t.index not in (select r.index from refused as r)
                group by t.organization_id, t.limit_id
            ) as n
        ),
        (
            select
                array_agg(
                    row(
                        t.index,
                        case
                            when t.refusal = 'duplicate' then 'duplicate'
                            when t.refusal is null then 'accepted'
                            else 'rejected'
                        end,
                        coalesce(nullif(t.refusal, 'duplicate'), t.review::text)
                    )::billing.usage_outcome
                    order by t.index
                )
            from told as t
            where t.refusal is not null or t.review is not null
        ),
        array_agg(
            row(
                c.organization_id, c.due_micros - c.owed_micros, 0, 'revenue_usage', 'usage', null
            )::billing.debit
            order by c.organization_id
        ),
        array_agg(c.due_usd - c.due_micros * 0.000001 order by c.organization_id),
        array_agg(c.organization_id order by c.organization_id) filter (where c.owed_micros <> 0),
        array_agg(c.owed_micros order by c.organization_id) filter (where c.owed_micros <> 0)
    into accepted, v_counts, outcomes, debits, remainders_usd, owing_ids, owed_micros
    from charges as c;
    if v_counts is not null then
        perform billing.add_to_counters(v_counts);
    end if;
    return next;
end
$$;

create type billing.usage_total as (
    quantities jsonb,
    cost_usd numeric,
    price_usd numeric,
    counted integer,
    usage_rate_id uuid,
    is_tiered boolean,
    sequences bigint []
);
comment on type billing.usage_total is
'What an event comes to with its corrections; counted is 0 where it is void. usage_rate_id: the
rate of its price, is_tiered: whether that has tiers. sequences: the transfers that charged it.';

-- billing.sum_up_usage: what an event comes to with its corrections.
create function billing.sum_up_usage(p_organization_id uuid, p_id uuid)
returns billing.usage_total
language plpgsql
stable
set search_path = pg_catalog, pg_temp
-- Looked up by key, whatever is known of this month's table yet.
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_rows billing.usage_events[] := array(
        select e
        from billing.usage_events as e
        where e.organization_id = p_organization_id and e.id = p_id
        union all
        select e
        from billing.usage_events as e
        where e.organization_id = p_organization_id and e.corrects_id = p_id
    );
    v_sum billing.usage_total;
begin
    select
        coalesce(sum(r.cost_usd), 0),
        sum(r.price_usd),
        sum(r.counted),
        (
            array_agg(r.usage_rate_id order by r.id desc)
            filter (where r.usage_rate_id is not null)
        )[1],
        array_agg(r.sequence) filter (where r.sequence is not null)
    into
        v_sum.cost_usd, v_sum.price_usd, v_sum.counted, v_sum.usage_rate_id, v_sum.sequences
    from unnest(v_rows) as r;
    v_sum.is_tiered := exists (
        select
        from billing.usage_rates as r
        where r.id = v_sum.usage_rate_id and r.is_tiered
    );
    select coalesce(jsonb_object_agg(m.meter, m.quantity), '{}')
    into v_sum.quantities
    from (
        select q.key as meter, sum(q.value::numeric) as quantity
        from unnest(v_rows) as r
        cross join lateral jsonb_each(r.quantities) as q
        group by q.key
        having sum(q.value::numeric) <> 0
    ) as m;
    return v_sum;
end
$$;

-- billing.subtract_usage: quantities less others; what does not differ is left out.
create function billing.subtract_usage(p_quantities jsonb, p_others jsonb)
returns jsonb
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select coalesce(jsonb_object_agg(m.meter, m.quantity), '{}')
        from (
            select q.meter, sum(q.quantity) as quantity
            from (
                select a.key as meter, a.value::numeric as quantity
                from jsonb_each(p_quantities) as a
                union all
                select b.key, -b.value::numeric
                from jsonb_each(p_others) as b
            ) as q
            group by q.meter
            having sum(q.quantity) <> 0
        ) as m
    );
end
$$;

-- billing.return_usage: give money for usage back. A debt is repaid first; the rest goes into the
-- grants that paid these transfers, what was drawn last first, and what has no room there, because
-- other grants repaid a debt since, into any that have.
--
-- Locks   the wallet.
create function billing.return_usage(
    p_organization_id uuid, p_amount_micros bigint, p_sequences bigint[]
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_left_micros bigint := p_amount_micros;
    v_back_micros bigint;
    v_draw record;
begin
    select least(w.debt_micros, v_left_micros) into strict v_back_micros
    from billing.wallets as w
    where w.organization_id = p_organization_id;
    if v_back_micros > 0 then
        perform billing.post(
            p_organization_id, 'revenue_usage', 'debt', v_back_micros, 'usage_refund', null
        );
        v_left_micros := v_left_micros - v_back_micros;
    end if;
    for v_draw in
        select g.id, d.amount_micros
        from billing.grants as g
        left join (
            select r.grant_id, sum(r.amount_micros)::bigint as amount_micros
            from billing.draws as r
            where r.organization_id = p_organization_id and r.sequence = any(p_sequences)
            group by r.grant_id
        ) as d on d.grant_id = g.id
        where g.organization_id = p_organization_id and g.remaining_micros < g.amount_micros
        order by
            d.grant_id is null asc, g.priority desc, g.expires_at desc nulls first,
            g.category desc, g.id desc
    loop
        exit when v_left_micros = 0;
        select least(v_left_micros, v_draw.amount_micros, g.amount_micros - g.remaining_micros)
        into v_back_micros
        from billing.grants as g
        where g.organization_id = p_organization_id and g.id = v_draw.id;
        perform billing.post(
            p_organization_id, 'revenue_usage', 'wallet', v_back_micros, 'usage_refund', v_draw.id
        );
        update billing.grants as g
        set remaining_micros = g.remaining_micros + v_back_micros
        where g.organization_id = p_organization_id and g.id = v_draw.id;
        perform billing.note_expiry(p_organization_id, v_draw.id);
        v_left_micros := v_left_micros - v_back_micros;
    end loop;
    if v_left_micros > 0 then
        perform billing.credit_wallet(
            p_organization_id, v_left_micros, 'promotional', 'revenue_usage', 'usage_refund', null
        );
    end if;
end
$$;

-- billing.settle_batch: move the money that billing.record_usage says.
--
-- Locks   the wallets.
create function billing.settle_batch(
    p_debits billing.debit[],
    p_remainders_usd numeric[],
    p_owing_ids uuid[],
    p_owed_micros bigint[]
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_debits is not null then
        perform billing.debit_wallets(p_debits, billing.now(), p_remainders_usd);
    end if;
    for i in 1..coalesce(cardinality(p_owing_ids), 0) loop
        if p_owed_micros[i] > 0 then
            perform billing.post(
                p_owing_ids[i], 'debt', 'revenue_usage', p_owed_micros[i], 'usage', null
            );
        else
            perform billing.return_usage(p_owing_ids[i], -p_owed_micros[i], null);
        end if;
    end loop;
end
$$;

-- billing.lock_wallet: a wallet for somebody who moves its money now; what has expired is gone.
--
-- Locks   the wallet.
create function billing.lock_wallet(p_organization_id uuid)
returns billing.wallets
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_wallet billing.wallets;
begin
    perform from billing.wallets as w
    where w.organization_id = p_organization_id
    for no key update;
    perform billing.expire_wallet(p_organization_id);
    select w.* into strict v_wallet
    from billing.wallets as w
    where w.organization_id = p_organization_id;
    return v_wallet;
end
$$;

-- billing.settle_usage: charge a wallet for one more piece of usage, what is not there as a debt;
-- or give money back, where the price is negative. Whole µ$ move, what is left of one stays on the
-- wallet. Returns the number of the first transfer; null: there is none.
--
-- Locks   the wallet.
create function billing.settle_usage(
    p_organization_id uuid, p_price_usd numeric, p_sequences bigint[]
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_wallet billing.wallets;
    v_due_usd numeric;
    v_due_micros bigint;
    v_paid_micros bigint;
begin
    select w.* into strict v_wallet
    from billing.wallets as w
    where w.organization_id = p_organization_id
    for no key update;
    v_due_usd := v_wallet.usage_remainder_usd + p_price_usd;
    v_due_micros := floor(v_due_usd * 1000000)::bigint;
    v_paid_micros := least(v_due_micros, v_wallet.settled_micros - v_wallet.held_micros);
    update billing.wallets as w
    set usage_remainder_usd = v_due_usd - v_due_micros * 0.000001
    where w.organization_id = p_organization_id;
    if v_due_micros < 0 then
        perform billing.return_usage(p_organization_id, -v_due_micros, p_sequences);
    elsif v_paid_micros > 0 then
        perform billing.debit_wallet(
            row(
                p_organization_id, v_paid_micros, 0, 'revenue_usage', 'usage', null
            )::billing.debit,
            billing.now()
        );
    end if;
    if v_due_micros > v_paid_micros then
        perform billing.post(
            p_organization_id, 'debt', 'revenue_usage', v_due_micros - v_paid_micros, 'usage', null
        );
    end if;
    return case when v_due_micros <> 0 then v_wallet.last_sequence + 1 end;
end
$$;

-- billing.refuse_price: why a wallet cannot pay a price; null: it can.
create function billing.refuse_price(
    p_organization_id uuid, p_price_usd numeric, p_allow_debt_micros bigint
)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_wallet billing.wallets;
begin
    select w.* into strict v_wallet
    from billing.wallets as w
    where w.organization_id = p_organization_id;
    return (
        billing.refuse_usage(
            array[1], array[p_price_usd], array[null::uuid], array[p_allow_debt_micros],
            v_wallet.usage_remainder_usd, v_wallet.settled_micros - v_wallet.held_micros,
            v_wallet.debt_micros, null, null
        )
    )[1];
end
$$;

-- billing.tiers_of_correction: what rates with tiers count no more, and instead, for a correction:
-- p_rated says what the event comes to now, p_was what it came to.
create function billing.tiers_of_correction(
    p_event billing.usage_events, p_was billing.usage_total, p_rated billing.rated_usage
)
returns billing.tiered_usage[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select array_agg(
        row(
            t.index, p_event.organization_id, t.rate_id,
            date_trunc('month', p_event.occurred_at at time zone 'UTC'), t.quantities, t.counted
        )::billing.tiered_usage
    )
    from (
        values
        (0, p_was.usage_rate_id, p_was.is_tiered, p_was.quantities, -1),
        (
            1, p_rated.usage_rate_id, p_rated.is_tiered and p_rated.price_usd is not null,
            p_rated.quantities, 1
        )
    ) as t (index, rate_id, is_tiered, quantities, counted)
    where t.is_tiered
$$;

-- billing.reprice_usage: by how much a correction changes the price of an event. p_rated: what it
-- comes to now; its price_usd null: nothing.
create function billing.reprice_usage(
    p_event billing.usage_events, p_was billing.usage_total, p_rated billing.rated_usage
)
returns numeric
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_change_usd numeric := coalesce(p_rated.price_usd, 0) - p_was.price_usd;
begin
    if p_was.is_tiered then
        -- What tiers said of it depends on what has been used since. What else it cost does not.
        select coalesce(p_rated.price_usd, 0) - coalesce(r.price_usd, 0) into strict v_change_usd
        from billing.rate_usage(
            jsonb_build_array(
                to_jsonb(p_event) || jsonb_build_object('index', 0, 'quantities', p_was.quantities)
            ),
            array[p_event.organization_id],
            billing.now()
        ) as r;
    end if;
    if p_was.is_tiered or p_rated.is_tiered then
        v_change_usd := v_change_usd + (
            select coalesce(sum(p.value::numeric), 0)
            from jsonb_each(
                billing.tier_prices(billing.tiers_of_correction(p_event, p_was, p_rated))
            ) as p
        );
    end if;
    return v_change_usd;
end
$$;

-- billing.count_tiers: have these count by rates with tiers.
--
-- Locks   nothing new: the caller has locked the wallets.
create function billing.count_tiers(p_events billing.tiered_usage[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.rate_totals as t (organization_id, rate_id, meter, month_start, quantity)
    select a.organization_id, a.rate_id, a.meter, a.month_start, 0
    from billing.tiered_amounts(p_events) as a
    on conflict do nothing;
    update billing.rate_totals as t
    set quantity = t.quantity + a.quantity
    from (
        select
            c.organization_id, c.rate_id, c.meter, c.month_start, sum(c.quantity) as quantity
        from billing.tiered_amounts(p_events) as c
        group by c.organization_id, c.rate_id, c.meter, c.month_start
    ) as a
    where t.organization_id = a.organization_id
        and t.rate_id = a.rate_id
        and t.meter = a.meter
        and t.month_start = a.month_start;
end
$$;

-- billing.add_correction: record a correction, which the transfer p_sequence settled, if any.
-- p_correction says the natural key, the fingerprint, and what the event comes to now: its
-- quantities, cost and price (nulls: it is void) with the rows that it was rated by. p_was: what it
-- came to before. p_price_usd: what billing.reprice_usage says. Tiers and limits count it, but no
-- limit refuses it: it says what has been consumed.
--
-- Locks   nothing new: the caller has locked the wallet.
create function billing.add_correction(
    p_original billing.usage_events,
    p_was billing.usage_total,
    p_correction billing.rated_usage,
    p_price_usd numeric,
    p_sequence bigint
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    -- UUIDv7 of the time that limits and reports go by.
    v_id uuid := overlay(
        billing.uuidv7()::text
        placing left(billing.first_id_of(billing.begin_usage())::text, 13) from 1
    )::uuid;
begin
    insert into billing.usage_keys (organization_id, source, event_id, id, fingerprint)
    values (
        p_original.organization_id, p_correction.source, p_correction.event_id, v_id,
        p_correction.fingerprint
    );
    insert into billing.usage_events (
        organization_id, id, source, event_id, occurred_at, feature, provider_id, model,
        passport_id, quantities, cost_usd, price_usd, provider_price_id, usage_rate_id,
        sequence, corrects_id, counted
    )
    values (
        p_original.organization_id, v_id, p_correction.source, p_correction.event_id,
        p_original.occurred_at, p_original.feature, p_original.provider_id, p_original.model,
        p_original.passport_id,
        billing.subtract_usage(p_correction.quantities, p_was.quantities),
        coalesce(p_correction.cost_usd, 0) - p_was.cost_usd,
        p_price_usd,
        p_correction.provider_price_id, p_correction.usage_rate_id,
        p_sequence,
        p_original.id,
        (p_correction.price_usd is not null)::integer - p_was.counted
    );
    if p_was.is_tiered or p_correction.is_tiered then
        perform billing.count_tiers(
            billing.tiers_of_correction(p_original, p_was, p_correction)
        );
    end if;
    if exists (
        select
        from billing.usage_counters as c
        where c.organization_id = p_original.organization_id
    ) then
        perform billing.count_usage(array[p_original.organization_id], array[v_id]);
    end if;
end
$$;

create type billing.usage_correction as (
    index integer,
    organization_id uuid,
    source text,
    event_id text,
    corrects_source text,
    corrects_event_id text,
    occurred_at timestamptz,
    feature text,
    provider_id text,
    model text,
    passport_id uuid,
    quantities jsonb
);
comment on type billing.usage_correction is
'What an event comes to instead of what it said; quantities null: it is void. Whatever else it says
must be what the event said.';

-- billing.find_usage: the event of this name, nulls where there is none. A correction is none.
create function billing.find_usage(p_organization_id uuid, p_source text, p_event_id text)
returns billing.usage_events
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id uuid := (
        select k.id
        from billing.usage_keys as k
        where k.organization_id = p_organization_id
            and k.source = p_source
            and k.event_id = p_event_id
    );
    v_event billing.usage_events;
begin
    select e.* into v_event
    from billing.usage_events as e
    where e.organization_id = p_organization_id and e.id = v_id and e.corrects_id is null;
    return v_event;
end
$$;

-- billing.correct_event: record one correction, rated already if it is no void, unless there is a
-- reason against it, which is returned: duplicate where it was recorded before. p_is_settled: its
-- price is settled at once, if the money is there; otherwise the caller settles all of them.
--
-- Locks   nothing new: the caller has locked the wallet.
create function billing.correct_event(
    p_correction billing.usage_correction, p_rated billing.rated_usage, p_is_settled boolean
)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_organization billing.organizations;
    v_fingerprint bigint := hash_record_extended(
        row(
            p_correction.corrects_source, p_correction.corrects_event_id,
            p_correction.occurred_at, p_correction.feature, p_correction.provider_id,
            p_correction.model, p_correction.passport_id, p_correction.quantities
        ),
        0
    );
    v_known bigint;
    v_original billing.usage_events;
    v_was billing.usage_total;
    v_price_usd numeric;
    v_sequence bigint;
    v_reason text;
begin
    select o.* into v_organization
    from billing.organizations as o
    where o.id = p_correction.organization_id;
    if not found then
        return 'organization_not_found';
    end if;
    select k.fingerprint into v_known
    from billing.usage_keys as k
    where k.organization_id = p_correction.organization_id
        and k.source = p_correction.source
        and k.event_id = p_correction.event_id;
    if found then
        return case when v_known = v_fingerprint then 'duplicate' else 'event_conflict' end;
    elsif v_organization.closed_at is not null then
        return 'organization_closed';
    end if;
    v_original := billing.find_usage(
        p_correction.organization_id, p_correction.corrects_source, p_correction.corrects_event_id
    );
    if v_original.id is null then
        return 'event_not_found';
    elsif p_correction.occurred_at <> v_original.occurred_at
        or p_correction.feature <> v_original.feature
        or p_correction.provider_id <> coalesce(v_original.provider_id, '')
        or p_correction.model <> coalesce(v_original.model, '')
        or p_correction.passport_id is distinct from v_original.passport_id
        and p_correction.passport_id is not null
        -- An event is a request, unless it says how many: no difference tells one from the other.
        or p_correction.quantities ? 'requests' <> (v_original.quantities ? 'requests')
    then
        return 'correction_mismatch';
    elsif v_original.review is not null then
        return 'event_in_review';
    end if;
    v_was := billing.sum_up_usage(v_original.organization_id, v_original.id);
    if v_was.counted = 0 then
        return 'event_voided';
    elsif p_correction.quantities is not null and v_original.priced_by is not null then
        return 'price_was_named';
    elsif p_rated.review is not null then
        return p_rated.review;
    end if;
    p_rated.source := p_correction.source;
    p_rated.event_id := p_correction.event_id;
    p_rated.fingerprint := v_fingerprint;
    p_rated.quantities := coalesce(p_correction.quantities, '{}');
    v_price_usd := billing.reprice_usage(v_original, v_was, p_rated);
    if p_is_settled then
        v_reason := billing.refuse_price(
            v_original.organization_id, v_price_usd, coalesce(p_rated.allow_debt_micros, 0)
        );
        if v_reason is not null then
            return v_reason;
        end if;
        v_sequence := billing.settle_usage(
            v_original.organization_id, v_price_usd, v_was.sequences
        );
    end if;
    perform billing.add_correction(v_original, v_was, p_rated, v_price_usd, v_sequence);
    return null;
end
$$;

-- billing.correct_usage: record these corrections one after the other; each is settled by transfers
-- of its own. Says what became of those that were not simply accepted.
--
-- Locks   nothing new: the caller has locked the wallets.
create function billing.correct_usage(
    p_corrections jsonb, p_organization_ids uuid[], p_now timestamptz
)
returns billing.usage_outcome[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amended jsonb := (
        select jsonb_agg(
            jsonb_build_object(
                'index', c.index, 'organization_id', c.organization_id,
                'occurred_at', e.occurred_at, 'feature', e.feature,
                'provider_id', e.provider_id, 'model', e.model, 'quantities', c.quantities
            )
        )
        from jsonb_populate_recordset(null::billing.usage_correction, p_corrections) as c
        cross join lateral billing.find_usage(
            c.organization_id, c.corrects_source, c.corrects_event_id
        ) as e
        where e.id is not null and c.quantities is not null
    );
    v_each record;
    v_reason text;
    v_outcomes billing.usage_outcome[] := '{}';
begin
    for v_each in
        select c as correction, r as rated, c.index
        from jsonb_populate_recordset(null::billing.usage_correction, p_corrections) as c
        left join billing.rate_usage(v_amended, p_organization_ids, p_now) as r
            on r.index = c.index
        order by c.index
    loop
        v_reason := billing.correct_event(v_each.correction, v_each.rated, true);
        if v_reason = 'duplicate' then
            v_outcomes := v_outcomes
                || row(v_each.index, 'duplicate', null)::billing.usage_outcome;
        elsif v_reason is not null then
            v_outcomes := v_outcomes
                || row(v_each.index, 'rejected', v_reason)::billing.usage_outcome;
        end if;
    end loop;
    return v_outcomes;
end
$$;

-- billing.refuse_by_policies: the events of a batch that policies refuse, each asked about by
-- itself, in order of arrival for a feature of an organization: limits take a token each. What was
-- recorded before is not asked about again.
--
-- Locks   the buckets; the caller has locked the wallets.
create function billing.refuse_by_policies(
    p_caller billing.caller, p_rated billing.rated_usage[]
)
returns billing.usage_outcome[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_event billing.rated_usage;
    v_refused billing.usage_outcome[] := '{}';
begin
    if p_caller.facts is null
        or not exists (select from billing.policies as p where p.is_enabled and p.is_about_spending)
    then
        return v_refused;
    end if;
    for v_event in
        select e.*
        from unnest(p_rated) as e
        where e.plan_id <> ''
            and not exists (
                select
                from billing.usage_keys as k
                where k.organization_id = e.organization_id
                    and k.source = e.source
                    and k.event_id = e.event_id
            )
        order by e.feature, e.organization_id, e.index
    loop
        begin
            perform billing.check_policies(
                p_caller.facts || jsonb_build_object(
                    'organization', v_event.organization_id,
                    'plan', v_event.plan_id,
                    'caller', coalesce('passport:' || v_event.passport_id, p_caller.actor),
                    'feature', v_event.feature,
                    'amount_micros', ceil(v_event.price_usd * 1000000)
                ),
                true
            );
        exception
            when sqlstate 'FG403' or sqlstate 'FG429' then
                v_refused := v_refused
                || row(v_event.index, 'rejected', sqlerrm)::billing.usage_outcome;
        end;
    end loop;
    return v_refused;
end
$$;

-- api.ingest_usage: record up to 1000 events of customers, each at most once, rate them at their
-- own time and charge every wallet once. p_batch: {"events": [{index, organization_id, source,
-- event_id, occurred_at, feature, provider_id, model, passport_id, quantities}], "corrections":
-- [{the same, corrects_source, corrects_event_id}]}, the latter only where there are any; they come
-- after the events. p_is_whole: all or none.
--
-- Whole µ$ of what a wallet owes are charged; what is left of a µ$ stays on the wallet.
--
-- Raises  FG409 batch_rejected  p_is_whole, and an event was; detail: rejected (their outcomes)
-- Locks   the wallets in the order of organization_id: so batches of an organization queue, and no
--         two look for one key at a time.
create function api.ingest_usage(p_caller jsonb, p_batch jsonb, p_is_whole boolean)
returns table (
    accepted integer, duplicates integer, rejected integer, outcomes billing.usage_outcome[]
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_events jsonb := p_batch -> 'events';
    v_corrections jsonb := p_batch -> 'corrections';
    v_corrected billing.usage_outcome[];
    v_organization_ids uuid[];
    v_rated billing.rated_usage[];
    v_refused billing.usage_outcome[];
    v_debits billing.debit[];
    v_remainders_usd numeric[];
    v_owing_ids uuid[];
    v_owed_micros bigint[];
begin
    v_organization_ids := array(
        select distinct e.organization_id
        from jsonb_to_recordset(
            case when v_corrections is null then v_events else v_events || v_corrections end
        ) as e (organization_id uuid)
        order by e.organization_id
    );
    perform w.organization_id
    from billing.wallets as w
    where w.organization_id = any(v_organization_ids)
    order by w.organization_id
    for no key update;
    perform billing.expire_wallet(w.organization_id)
    from billing.wallets as w
    where w.organization_id = any(v_organization_ids) and w.next_expiry_at <= billing.now();
    v_rated := array(
        select e
        from billing.rate_usage(v_events, v_organization_ids, billing.now()) as e
    );
    v_refused := billing.refuse_by_policies(v_caller, v_rated);
    if v_refused <> '{}' then
        v_rated := array(
            select e
            from unnest(v_rated) as e
            where e.index not in (select f.index from unnest(v_refused) as f)
        );
    end if;
    select
        r.accepted, coalesce(r.outcomes, '{}') || v_refused, r.debits, r.remainders_usd,
        r.owing_ids, r.owed_micros
    into strict
        accepted, outcomes, v_debits, v_remainders_usd, v_owing_ids, v_owed_micros
    from billing.record_usage(
        v_rated, v_organization_ids, billing.now() - interval '35 days'
    ) as r;
    perform billing.settle_batch(v_debits, v_remainders_usd, v_owing_ids, v_owed_micros);
    if v_corrections is not null then
        v_corrected := billing.correct_usage(v_corrections, v_organization_ids, billing.now());
        accepted := accepted + jsonb_array_length(v_corrections) - cardinality(v_corrected);
        outcomes := outcomes || v_corrected;
    end if;
    select
        count(*) filter (where o.status = 'duplicate'),
        count(*) filter (where o.status = 'rejected')
    into duplicates, rejected
    from unnest(outcomes) as o;
    if p_is_whole and rejected > 0 then
        raise exception using
            errcode = 'FG409',
            message = 'batch_rejected',
            detail = jsonb_build_object(
                'rejected', (
                    select jsonb_agg(
                        jsonb_build_object('index', o.index, 'reason', o.reason) order by o.index
                    )
                    from unnest(outcomes) as o
                    where o.status = 'rejected'
                )
            )::text;
    end if;
    return next;
end
$$;
grant execute on function api.ingest_usage to service_role, faregate_functions;
comment on function api.ingest_usage is
'Records, rates and charges up to 1000 usage events, or corrects some.';

create view api.usage_reviews with (security_invoker = true) as
select
    e.organization_id,
    e.id,
    e.source,
    e.event_id,
    e.occurred_at,
    e.feature,
    e.provider_id,
    e.model,
    e.quantities,
    e.cost_usd,
    e.review
from billing.usage_events as e
where e.review is not null;
comment on view api.usage_reviews is 'Usage events that could not be rated and wait for a person.';
call billing.inherit_comments('api.usage_reviews');

-- api.list_usage_reviews: events of all customers that could not be rated, newest first, from
-- before p_cursor. For operators.
create function api.list_usage_reviews(p_caller jsonb, p_limit integer, p_cursor uuid)
returns setof api.usage_reviews
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.authenticate(p_caller, 'admin');
    return query
    select r.*
    from api.usage_reviews as r
    where p_cursor is null or r.id < p_cursor
    order by r.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_usage_reviews to service_role, faregate_functions;
comment on function api.list_usage_reviews is
'Pages through usage events that wait for a person, newest first.';

create view api.rated_reviews with (security_invoker = true) as
select
    e.organization_id,
    e.id,
    e.source,
    e.event_id,
    round(e.cost_usd, greatest(scale(trim_scale(e.cost_usd)), 6))::text as cost_usd,
    round(e.price_usd, greatest(scale(trim_scale(e.price_usd)), 6))::text as price_usd,
    e.priced_by,
    e.provider_price_id,
    e.usage_rate_id,
    e.sequence
from billing.usage_events as e
where e.review is null;
comment on view api.rated_reviews is 'What became of usage events that waited for a person.';
call billing.inherit_comments('api.rated_reviews');

-- billing.close_review: charge an event that waits for a person: by the rates of its own time, as
-- they are known now, or what the person names (0: nothing). Once: whoever asks for the same again
-- is told what became of it.
--
-- Raises  FG404 organization_not_found, FG404 usage_event_not_found, FG402 insufficient_credits,
--         FG402 debt_outstanding, FG409 organization_closed
--         FG409 usage_not_ratable  no rate says what it costs, still; detail: reason
--         FG409 review_closed      it was decided otherwise
-- Locks   the organization, the wallet.
create function billing.close_review(
    p_caller billing.caller,
    p_organization_id uuid,
    p_id uuid,
    p_price_usd numeric,
    p_action text
)
returns setof api.rated_reviews
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_event billing.usage_events;
    v_rated billing.rated_usage;
    v_was billing.usage_total;
    v_price_usd numeric;
    v_reason text;
begin
    perform billing.find_customer(p_organization_id);
    perform billing.lock_organization(p_organization_id);
    perform billing.lock_wallet(p_organization_id);
    select e.* into v_event
    from billing.usage_events as e
    where e.organization_id = p_organization_id and e.id = p_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'usage_event_not_found';
    elsif v_event.review is not null then
        select r.* into strict v_rated
        from billing.rate_usage(
            jsonb_build_array(to_jsonb(v_event) || '{"index": 0}'),
            array[p_organization_id], billing.now()
        ) as r;
        if p_price_usd is not null then
            v_rated.price_usd := p_price_usd;
            v_rated.usage_rate_id := null;
            v_rated.is_tiered := false;
        elsif v_rated.review is not null then
            raise exception using
                errcode = 'FG409',
                message = 'usage_not_ratable',
                detail = jsonb_build_object('reason', v_rated.review)::text;
        end if;
        v_was.price_usd := 0;
        v_price_usd := billing.reprice_usage(v_event, v_was, v_rated);
        v_reason := billing.refuse_price(
            p_organization_id, v_price_usd, v_rated.allow_debt_micros
        );
        if v_reason is not null then
            perform billing.refuse_short_money(
                p_organization_id, least(ceil(v_price_usd * 1000000), 9000000000000000000)::bigint
            );
        end if;
        update billing.usage_events as e
        set
            cost_usd = v_rated.cost_usd,
            price_usd = v_price_usd,
            provider_price_id = v_rated.provider_price_id,
            usage_rate_id = v_rated.usage_rate_id,
            sequence = billing.settle_usage(p_organization_id, v_price_usd, null),
            review = null,
            priced_by = case when p_price_usd is not null then p_caller.actor end
        where e.organization_id = p_organization_id and e.id = p_id;
        insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
        values (
            p_organization_id, p_caller.actor, p_action, p_id,
            jsonb_build_object('review', v_event.review, 'price_usd', v_price_usd::text)
        );
        if v_rated.is_tiered then
            perform billing.count_tiers(billing.tiers_of_correction(v_event, v_was, v_rated));
        end if;
        perform billing.count_usage(array[p_organization_id], array[p_id]);
    elsif p_price_usd is distinct from (
            case when v_event.priced_by is not null then v_event.price_usd end
        )
    then
        raise exception using errcode = 'FG409', message = 'review_closed';
    end if;
    return query
    select r.*
    from api.rated_reviews as r
    where r.organization_id = p_organization_id and r.id = p_id;
end
$$;

-- api.charge_usage_review: an operator has an event charged that could not be rated: by the rates
-- that are there now, or at a price of their own.
--
-- Raises  FG404 organization_not_found, FG404 usage_event_not_found, FG402 insufficient_credits,
--         FG402 debt_outstanding, FG409 organization_closed, FG409 usage_not_ratable,
--         FG409 review_closed
-- Locks   the organization, the wallet.
create function api.charge_usage_review(
    p_caller jsonb, p_organization_id uuid, p_id uuid, p_price_micros bigint
)
returns setof api.rated_reviews
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
begin
    return query
    select r.*
    from billing.close_review(
        v_caller, p_organization_id, p_id, p_price_micros * 0.000001, 'charge_usage_review'
    ) as r;
end
$$;
grant execute on function api.charge_usage_review to service_role, faregate_functions;
comment on function api.charge_usage_review is
'Charges a usage event that could not be rated when it came, for an operator.';

-- api.dismiss_usage_review: an operator has an event that could not be rated never be charged.
--
-- Raises  FG404 organization_not_found, FG404 usage_event_not_found, FG409 organization_closed,
--         FG409 review_closed
-- Locks   the organization, the wallet.
create function api.dismiss_usage_review(p_caller jsonb, p_organization_id uuid, p_id uuid)
returns setof api.rated_reviews
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
begin
    return query
    select r.*
    from billing.close_review(
        v_caller, p_organization_id, p_id, 0, 'dismiss_usage_review'
    ) as r;
end
$$;
grant execute on function api.dismiss_usage_review to service_role, faregate_functions;
comment on function api.dismiss_usage_review is
'Closes the review of a usage event without charging it, for an operator.';
