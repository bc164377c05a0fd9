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

-- billing.oldest_usage: when the oldest usage occurred that can still be reported otherwise than by
-- a backfill.
create function billing.oldest_usage()
returns timestamptz
language sql
return billing.now() - interval '35 days';

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

-- billing.record_usage: record each of these events, if it is new and its wallet can pay. Gives how
-- many were recorded, what became of those of which there is more to say, and what is to be done:
-- one debit a wallet with what is left of a µ$ (0 or more, below 1), in the order of their
-- organizations, and for whom how much of it is not there and becomes a debt, or below 0 how much
-- is given back. p_first_at: none may be older; null: they may be of any age. p_is_owed: they have
-- happened, so neither money nor a limit refuses any: what is not there is owed, up to the largest
-- amount that a transfer can have.
--
-- Its settings hold for whatever it calls, too: so it moves no money itself.
--
-- Locks   nothing new: the caller has locked the wallets.
create function billing.record_usage(
    p_rated billing.rated_usage[],
    p_organization_ids uuid[],
    p_first_at timestamptz,
    p_is_owed boolean
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
    -- Passports that the organization never had: one that is revoked is its own still.
    strangers as materialized (
        select n.organization_id, n.passport_id
        from (
            select distinct e.organization_id, e.passport_id
            from events as e
            where e.passport_id is not null
        ) as n
        left join lateral (
            select c.id
            from billing.passports as c
            where c.organization_id = n.organization_id and c.id = n.passport_id
            limit 1 -- noqa: AM09
        ) as p on true
        where p.id is null
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
                when s.passport_id is not null then 'passport_not_found'
                when l.organization_id is not null and not p_is_owed then 'feature_not_granted'
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
        left join strangers as s
            on s.organization_id = e.organization_id and s.passport_id = e.passport_id
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
        where floor((a.usage_remainder_usd + n.price_usd) * 1000000)
            > a.available_micros
            + case when p_is_owed then billing.largest_amount() - a.debt_micros else 0 end
            or not p_is_owed and (
                a.debt_micros > 0
                or a.organization_id in (select c.organization_id from crowded as c)
            )
    ),
    refused as materialized (
        select
            u.index,
            case when p_is_owed then 'debt_too_large' else u.refusal end as refusal
        from short as s
        inner join (
            select
                c.organization_id,
                array_agg(c.index order by c.index) as indexes,
                array_agg(c.full_price_usd order by c.index) as prices_usd,
                array_agg(case when c.is_tiered then c.usage_rate_id end order by c.index)
                    as tiered_ids,
                array_agg(
                    case when p_is_owed then billing.largest_amount() else c.allow_debt_micros end
                    order by c.index
                ) as allow_debt_micros
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
            where l.id is not null and not p_is_owed
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
                floor((a.usage_remainder_usd + s.price_usd) * 1000000)::bigint as due_micros
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

-- billing.refuse_by_policies: the events of a batch that policies refuse, each asked about by
-- itself, in order of arrival for a feature of an organization: limits take a token each, and the
-- answer tells of the emptiest bucket of each. What was recorded before is not asked about again.
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
    v_detail text;
    v_told jsonb[] := '{}';
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
            v_told := v_told || billing.check_policies(
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
                get stacked diagnostics v_detail = pg_exception_detail;
                v_told := v_told
                || jsonb_build_object('taken', coalesce(v_detail::jsonb -> 'headers', '[]'));
        end;
    end loop;
    perform billing.tell_headers(billing.fewest_left(v_told));
    return v_refused;
end
$$;

-- billing.refuse_batch: refuse a whole batch because of those of its events that are rejected.
--
-- Raises  FG409 batch_rejected  always; detail: rejected (their outcomes)
create function billing.refuse_batch(p_outcomes billing.usage_outcome[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = 'FG409',
        message = 'batch_rejected',
        detail = jsonb_build_object(
            'rejected', (
                select jsonb_agg(
                    jsonb_build_object('index', o.index, 'reason', o.reason) order by o.index
                )
                from unnest(p_outcomes) as o
                where o.status = 'rejected'
            )
        )::text;
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
        v_rated, v_organization_ids, billing.oldest_usage(), false
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
        perform billing.refuse_batch(outcomes);
    end if;
    return next;
end
$$;
grant execute on function api.ingest_usage to service_role, faregate_functions;
comment on function api.ingest_usage is
'Records, rates and charges up to 1000 usage events, or corrects some.';
