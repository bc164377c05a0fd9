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
    primary key (organization_id, id),
    constraint usage_events_are_rated_or_reviewed check (
        (price_usd is null) = (review is not null)
        and (cost_usd is not null or review is not null)
        and cost_usd >= 0
        and price_usd >= 0
    )
)
partition by range (id);
alter table billing.usage_events enable row level security;
create index usage_events_in_review on billing.usage_events (id) where review is not null;
comment on table billing.usage_events is
'What was consumed, what it cost and what it was charged. A rated event never changes; one that
waits for a person is rated once.';
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
'The rate by which the price was reckoned.';
comment on column billing.usage_events.sequence is
'The first of the transfers that charged it, with others of its batch; null: it was free, in review,
or the batch came to less than a µ$.';
comment on column billing.usage_events.review is 'Why it is not rated yet; null: it is.';

-- billing.refuse_rated_change: trigger of usage_events.
create function billing.refuse_rated_change()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception '% is append-only: a correction is a new row', tg_relid::regclass
        using errcode = 'restrict_violation';
end
$$;
create trigger usage_events_rated_never_change before update on billing.usage_events
for each row when (old.review is null) execute function billing.refuse_rated_change();
create trigger usage_events_never_go before delete on billing.usage_events
for each row execute function billing.refuse_rated_change();
create trigger usage_events_no_truncate before truncate on billing.usage_events
for each statement execute function billing.refuse_rated_change();
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

-- billing.usage_that_fits: the indexes of a wallet's events that its money, and the debt that their
-- policies allow, pay for: in order of arrival, whatever still fits.
create function billing.usage_that_fits(
    p_indexes integer[],
    p_prices_usd numeric[],
    p_allow_debt_micros bigint[],
    p_remainder_usd numeric,
    p_available_micros bigint,
    p_debt_micros bigint
)
returns integer[]
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_fitting integer[] := '{}';
    v_due_usd numeric := p_remainder_usd;
    v_short_micros bigint;
begin
    for i in 1..cardinality(p_indexes) loop
        v_short_micros := greatest(
            floor((v_due_usd + p_prices_usd[i]) * 1000000) - p_available_micros, 0
        );
        if p_prices_usd[i] = 0
            or p_debt_micros + v_short_micros <= p_allow_debt_micros[i]
        then
            v_fitting := v_fitting || p_indexes[i];
            v_due_usd := v_due_usd + p_prices_usd[i];
        end if;
    end loop;
    return v_fitting;
end
$$;

-- billing.record_usage: find each event's price and rate and record it, if it is new and its wallet
-- can pay. Gives how many were recorded, what became of those of which there is more to say, and
-- what is to be done: one debit a wallet with what is left of a µ$ (0 or more, below 1), in the
-- order of their organizations, and for whom how much of it is not there and becomes a debt.
--
-- Its settings hold for whatever it calls, too: so it moves no money itself.
--
-- Locks   nothing new: the caller has locked the wallets.
create function billing.record_usage(
    p_events jsonb, p_organization_ids uuid[], p_now timestamptz
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
    v_first_at timestamptz := p_now - interval '35 days';
    -- UUIDv7 with the index where its randomness begins: ids are in the order of arrival.
    v_id_begins text := left(
        replace(billing.first_id_of(clock_timestamp())::text, '-', ''), 12
    ) || '7';
    v_id_ends text := substr(gen_random_uuid()::text, 20);
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
    with accounts as materialized (
        select
            i.organization_id,
            o.plan_id,
            o.closed_at,
            w.settled_micros - w.held_micros as available_micros,
            w.debt_micros,
            w.usage_remainder_usd,
            w.last_sequence,
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
        cross join lateral (
            select c.*
            from billing.wallets as c
            where c.organization_id = i.organization_id
            limit 1 -- noqa: AM09
        ) as w
    ),
    events as materialized (
        select
            e.*,
            hash_record_extended(
                row(
                    e.occurred_at, e.feature, e.provider_id, e.model, e.passport_id, e.quantities
                ),
                0
            ) as fingerprint
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
    ),
    repeated as materialized (
        select e.organization_id, e.source, e.event_id, min(e.index) as first_index
        from events as e
        group by e.organization_id, e.source, e.event_id
        having count(*) > 1
    ),
    checked as materialized (
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
            e.fingerprint,
            a.plan_id,
            a.special_id,
            k.id as known_id,
            r.first_index,
            case
                when a.organization_id is null then 'organization_not_found'
                when k.fingerprint = e.fingerprint then 'duplicate'
                when k.id is not null then 'event_conflict'
                when r.first_index < e.index then 'repeated'
                when a.closed_at is not null then 'organization_closed'
                when e.occurred_at < v_first_at then 'too_late'
                when e.occurred_at > p_now + interval '5 minutes' then 'in_the_future'
            end as refusal
        from events as e
        left join accounts as a on a.organization_id = e.organization_id
        left join repeated as r
            on r.organization_id = e.organization_id
            and r.source = e.source
            and r.event_id = e.event_id
        left join lateral (
            select c.id, c.fingerprint
            from billing.usage_keys as c
            where c.organization_id = e.organization_id
                and c.source = e.source
                and c.event_id = e.event_id
            limit 1 -- noqa: AM09
        ) as k on true
    ),
    -- What the events have in common, so that it is looked up once.
    found as materialized (
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
        from (
            select distinct c.special_id, c.plan_id, c.feature, c.provider_id, c.model
            from checked as c
            where c.refusal is null
        ) as g
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
    ),
    -- The price and the rate of a group, for each stretch of time in which neither changes.
    tariffs as materialized (
        select
            row_number() over () as number,
            g.special_id,
            g.plan_id,
            g.feature,
            g.provider_id,
            g.model,
            coalesce(g.allow_debt_micros, 0) as allow_debt_micros,
            g.price_model_id is not null as is_known,
            t.starts_at,
            t.ends_at,
            p.id as provider_price_id,
            p.request_usd as request_cost_usd,
            r.id as usage_rate_id,
            r.request_usd as request_price_usd,
            r.markup,
            r.may_be_below_cost
        from groups as g
        cross join lateral (
            select
                m.starts_at,
                lead(m.starts_at, 1, 'infinity') over (order by m.starts_at) as ends_at
            from (
                select v_first_at as starts_at
                union
                select c.effective_at
                from billing.provider_prices as c
                where c.provider_id = g.price_provider_id
                    and c.model_id = g.price_model_id
                    and c.effective_at > v_first_at
                union
                select c.effective_at
                from billing.usage_rates as c
                where c.effective_at > v_first_at
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
        ) as r on true
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
            c.*,
            t.number,
            t.is_known,
            t.allow_debt_micros,
            t.provider_price_id,
            t.usage_rate_id,
            t.markup,
            t.may_be_below_cost,
            -- An event is a request, unless it says how many.
            case
                when c.quantities ? 'requests' then 0 else coalesce(t.request_cost_usd, 0)
            end as request_cost_usd,
            case
                when c.quantities ? 'requests' then 0 else coalesce(t.request_price_usd, 0)
            end as request_price_usd,
            coalesce((c.quantities -> 'input_tokens')::numeric, 0) as input_tokens
        from checked as c
        inner join tariffs as t
            on t.special_id = c.special_id
            and t.plan_id = c.plan_id
            and t.feature = c.feature
            and t.provider_id = c.provider_id
            and t.model = c.model
            and t.starts_at <= c.occurred_at
            and t.ends_at > c.occurred_at
        where c.refusal is null
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
    marked_up as (
        select r.*, r.own_price_usd + coalesce(r.markup, 0) * r.cost_usd as full_price_usd
        from reckoned as r
    ),
    rated as materialized (
        select
            r.*,
            case
                when not r.is_known and r.provider_id <> '' then 'unknown_model'
                when r.cost_usd is null then 'cost_unknown'
                when r.usage_rate_id is null or r.full_price_usd is null then 'rate_unknown'
                when r.full_price_usd < r.cost_usd and not r.may_be_below_cost then 'below_cost'
            end::billing.usage_review as review
        from marked_up as r
    ),
    wanted as (
        select r.organization_id, sum(r.full_price_usd) as price_usd
        from rated as r
        where r.review is null
        group by r.organization_id
    ),
    short as materialized (
        select a.organization_id, a.available_micros, a.debt_micros, a.usage_remainder_usd
        from wanted as n
        inner join accounts as a on a.organization_id = n.organization_id
        where a.debt_micros > 0
            or floor((a.usage_remainder_usd + n.price_usd) * 1000000) > a.available_micros
    ),
    fitting as (
        select
            s.organization_id,
            s.debt_micros > 0 as is_in_debt,
            billing.usage_that_fits(
                array_agg(r.index order by r.index),
                array_agg(r.full_price_usd order by r.index),
                array_agg(r.allow_debt_micros order by r.index),
                s.usage_remainder_usd,
                s.available_micros,
                s.debt_micros
            ) as indexes
        from rated as r
        inner join short as s on s.organization_id = r.organization_id
        where r.review is null
        group by s.organization_id, s.available_micros, s.debt_micros, s.usage_remainder_usd
    ),
    decided as materialized (
        select
            r.*,
            case when r.review is null then r.full_price_usd end as price_usd,
            (v_id_begins || lpad(to_hex(r.index), 3, '0') || v_id_ends)::uuid as id,
            case
                when f.organization_id is null or r.review is not null then null
                when r.index = any(f.indexes) then null
                when f.is_in_debt then 'debt_outstanding'
                else 'insufficient_credits'
            end as money_refusal
        from rated as r
        left join fitting as f on f.organization_id = r.organization_id
    ),
    charges as materialized (
        select
            c.*,
            c.due_micros - least(c.due_micros, c.available_micros) as owed_micros,
            case when c.due_micros > 0 then c.last_sequence + 1 end as sequence
        from (
            select
                a.organization_id,
                a.available_micros,
                a.last_sequence,
                a.usage_remainder_usd + s.price_usd as due_usd,
                floor((a.usage_remainder_usd + s.price_usd) * 1000000)::bigint as due_micros
            from (
                select d.organization_id, sum(d.price_usd) as price_usd
                from decided as d
                where d.money_refusal is null and d.price_usd > 0
                group by d.organization_id
            ) as s
            inner join accounts as a on a.organization_id = s.organization_id
        ) as c
    ),
    keys as (
        insert into billing.usage_keys (organization_id, source, event_id, id, fingerprint)
        select d.organization_id, d.source, d.event_id, d.id, d.fingerprint
        from decided as d
        where d.money_refusal is null
    ),
    recorded as (
        insert into billing.usage_events (
            organization_id, id, source, event_id, occurred_at, feature, provider_id, model,
            passport_id, quantities, cost_usd, price_usd, provider_price_id, usage_rate_id,
            sequence, review
        )
        select
            d.organization_id, d.id, d.source, d.event_id, d.occurred_at, d.feature,
            nullif(d.provider_id, ''), nullif(d.model, ''), d.passport_id, d.quantities,
            d.cost_usd, d.price_usd, d.provider_price_id, d.usage_rate_id,
            case when d.price_usd > 0 then c.sequence end, d.review
        from decided as d
        left join charges as c on c.organization_id = d.organization_id
        where d.money_refusal is null
    ),
    outcomes as (
        select
            c.index,
            c.first_index,
            c.fingerprint,
            coalesce(c.refusal, d.money_refusal) as refusal,
            d.review
        from checked as c
        left join decided as d on d.index = c.index
        where c.refusal is not null
            or d.money_refusal is not null
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
        (select count(*) from decided as d where d.money_refusal is null),
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
        array_agg(c.organization_id order by c.organization_id) filter (where c.owed_micros > 0),
        array_agg(c.owed_micros order by c.organization_id) filter (where c.owed_micros > 0)
    into accepted, outcomes, debits, remainders_usd, owing_ids, owed_micros
    from charges as c;
    return next;
end
$$;

-- api.ingest_usage: record up to 1000 events of customers, each at most once, rate them at their
-- own time and charge every wallet once. p_batch: {"events": [{index, organization_id, source,
-- event_id, occurred_at, feature, provider_id, model, passport_id, quantities}]}. p_is_whole: all
-- or none.
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
    v_events jsonb := p_batch -> 'events';
    v_organization_ids uuid[];
    v_debits billing.debit[];
    v_remainders_usd numeric[];
    v_owing_ids uuid[];
    v_owed_micros bigint[];
begin
    perform billing.authenticate(p_caller, 'admin');
    v_organization_ids := array(
        select distinct (e ->> 'organization_id')::uuid
        from jsonb_array_elements(v_events) as e
        order by 1
    );
    perform w.organization_id
    from billing.wallets as w
    where w.organization_id = any(v_organization_ids)
    order by w.organization_id
    for no key update;
    perform billing.expire_wallet(w.organization_id)
    from billing.wallets as w
    where w.organization_id = any(v_organization_ids) and w.next_expiry_at <= billing.now();
    select
        r.accepted, coalesce(r.outcomes, '{}'), r.debits, r.remainders_usd, r.owing_ids,
        r.owed_micros
    into strict
        accepted, outcomes, v_debits, v_remainders_usd, v_owing_ids, v_owed_micros
    from billing.record_usage(v_events, v_organization_ids, billing.now()) as r;
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
    if v_debits is not null then
        perform billing.debit_wallets(v_debits, billing.now(), v_remainders_usd);
    end if;
    for i in 1..coalesce(cardinality(v_owing_ids), 0) loop
        perform billing.post(
            v_owing_ids[i], 'debt', 'revenue_usage', v_owed_micros[i], 'usage', null
        );
    end loop;
    return next;
end
$$;
grant execute on function api.ingest_usage to service_role, faregate_functions;
comment on function api.ingest_usage is
'Records, rates and charges up to 1000 usage events.';

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
