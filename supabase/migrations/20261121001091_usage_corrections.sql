-- Corrections: an event that said something wrong is followed by the difference.

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
        select g.id, least(d.amount_micros, g.amount_micros - g.remaining_micros) as room_micros
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
        v_back_micros := least(v_left_micros, v_draw.room_micros);
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

-- billing.settle_usage: charge a wallet for one more piece of usage, what is not there as a debt;
-- or give money back, where the price is negative. Whole µ$ move, what is left of one stays on the
-- wallet. Returns the number of the first transfer; null: there is none.
--
-- Raises  FG402 insufficient_credits, FG402 debt_outstanding  so much cannot be owed
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
    if v_due_usd * 1000000 > billing.largest_amount() then
        perform billing.refuse_short_money(
            p_organization_id, billing.required_micros(p_price_usd)
        );
    end if;
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

-- billing.with_words_of: an event with what another one says of itself besides its quantities.
create function billing.with_words_of(p_event billing.usage_events, p_other billing.usage_events)
returns billing.usage_events
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    p_event.occurred_at := p_other.occurred_at;
    p_event.feature := p_other.feature;
    p_event.provider_id := p_other.provider_id;
    p_event.model := p_other.model;
    p_event.passport_id := p_other.passport_id;
    return p_event;
end
$$;

-- billing.find_usage: the event of this name, with the words that it was last stated with; nulls
-- where there is none. A correction is none.
create function billing.find_usage(p_organization_id uuid, p_source text, p_event_id text)
returns billing.usage_events
language plpgsql
stable
set search_path = pg_catalog, pg_temp
-- As billing.sum_up_usage.
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
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
    v_restated billing.usage_events;
begin
    select e.* into v_event
    from billing.usage_events as e
    where e.organization_id = p_organization_id and e.id = v_id and e.corrects_id is null;
    select r.* into v_restated
    from (
        select e.*
        from billing.usage_events as e
        where e.organization_id = p_organization_id and e.corrects_id = v_event.id
        -- Sorted afterwards: the key has this order, too, but of all that was ever used.
        offset 0
    ) as r
    where r.counted = 1
    order by r.id desc
    limit 1;
    if found then
        v_event := billing.with_words_of(v_event, v_restated);
        v_event.quantities := v_restated.quantities;
    end if;
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
