-- Usage to come: what it would cost, and money that is held for it.

-- billing.price_usage: what a rated event costs now, tiers included; null: it waits for a review.
create function billing.price_usage(p_rated billing.rated_usage)
returns numeric
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_rated.review is not null or not p_rated.is_tiered then
        return p_rated.price_usd;
    end if;
    return p_rated.price_usd + (
        billing.tier_prices(
            array[
                row(
                    0, p_rated.organization_id, p_rated.usage_rate_id,
                    date_trunc('month', p_rated.occurred_at at time zone 'UTC'),
                    p_rated.quantities, 1
                )::billing.tiered_usage
            ]
        ) -> '0'
    )::numeric;
end
$$;

-- billing.find_cheaper: up to 20 other models of its provider that would take less than this for
-- the same, the cheapest first: those that are priced for every meter, not deprecated, not given
-- away on trial, and known to take so many tokens. How well they do nobody knows here.
create function billing.find_cheaper(
    p_model billing.provider_models, p_quantities jsonb, p_at timestamptz, p_below_usd numeric
)
returns setof text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_input_tokens numeric := coalesce((p_quantities -> 'input_tokens')::numeric, 0);
    v_tokens numeric := v_input_tokens + coalesce((p_quantities -> 'output_tokens')::numeric, 0);
begin
    return query
    select m.id
    from billing.provider_models as m
    cross join lateral (
        select c.id
        from billing.provider_prices as c
        where c.provider_id = m.provider_id and c.model_id = m.id and c.effective_at <= p_at
        order by c.effective_at desc
        limit 1
    ) as p
    cross join jsonb_each('{"requests": 1}' || p_quantities) as q
    left join lateral (
        select c.adds_usd
        from billing.provider_price_units as c
        where c.price_id = p.id and c.meter = q.key and c.above_input_tokens < v_input_tokens
        order by c.above_input_tokens desc
        limit 1
    ) as u on true
    where m.provider_id = p_model.provider_id
        and m.id <> p_model.id
        and not m.is_deprecated
        and (m.context_tokens >= v_tokens or v_tokens = 0)
    group by m.id
    having count(*) = count(u.adds_usd)
        and sum(q.value::numeric * u.adds_usd) > 0
        and sum(q.value::numeric * u.adds_usd) < p_below_usd
    order by sum(q.value::numeric * u.adds_usd), m.id
    limit 20;
end
$$;

-- api.estimate_usage: what p_usage {feature, provider_id, model, quantities, occurred_at} would
-- cost the caller's organization, or the customer that an operator names, who is told cost and
-- margin: in USD, exactly, as text. review: why it cannot be rated. cheaper_model: the one of the
-- same provider that costs the customer least. Records nothing but what new names of models mean.
--
-- Raises  FG404 organization_not_found
create function api.estimate_usage(p_caller jsonb, p_organization_id uuid, p_usage jsonb)
returns table (
    price_usd text,
    cost_usd text,
    margin_usd text,
    review text,
    cheaper_model text,
    cheaper_price_usd text,
    saving_usd text
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_organization_id uuid := billing.authenticate_reader(p_caller, p_organization_id);
    v_now timestamptz := billing.now();
    v_usage jsonb := p_usage || jsonb_build_object(
        'index', 0, 'organization_id', v_organization_id
    );
    v_rated billing.rated_usage;
    v_price_usd numeric;
begin
    select r.* into strict v_rated
    from billing.rate_usage(jsonb_build_array(v_usage), array[v_organization_id], v_now) as r;
    v_price_usd := billing.price_usage(v_rated);
    price_usd := trim_scale(v_price_usd)::text;
    review := v_rated.review;
    if p_organization_id is not null then
        cost_usd := trim_scale(v_rated.cost_usd)::text;
        margin_usd := trim_scale(v_price_usd - v_rated.cost_usd)::text;
    end if;
    if v_rated.provider_id is not null and v_price_usd is not null then
        select c.model, trim_scale(c.price_usd)::text, trim_scale(v_price_usd - c.price_usd)::text
        into cheaper_model, cheaper_price_usd, saving_usd
        from (
            select r.model, billing.price_usage(r) as price_usd
            from billing.rate_usage(
                (
                    select
                        jsonb_agg(v_usage || jsonb_build_object('index', m.index, 'model', m.id))
                    from billing.find_cheaper(
                        billing.find_model(v_rated.provider_id, v_rated.model),
                        v_rated.quantities, v_rated.occurred_at, v_rated.cost_usd
                    ) with ordinality as m (id, index)
                ),
                array[v_organization_id],
                v_now
            ) as r
        ) as c
        where c.price_usd < v_price_usd
        order by c.price_usd, c.model
        limit 1;
    end if;
    return next;
end
$$;
grant execute on function api.estimate_usage to service_role, faregate_functions;
comment on function api.estimate_usage is 'Tells what usage would cost, and a cheaper model.';

create table billing.usage_authorizations (
    organization_id uuid not null,
    id uuid not null,
    source text not null,
    event_id text not null,
    feature text not null,
    provider_id text,
    model text,
    passport_id uuid,
    quantities jsonb not null,
    max_price_usd numeric not null,
    price_usd numeric,
    captured_at timestamptz,
    primary key (organization_id, id)
);
alter table billing.usage_authorizations enable row level security;
comment on table billing.usage_authorizations is
'Usage that a gateway has asked for before it happens. Its money is held under the same id
(billing.holds), which tells what became of it. No foreign keys, as for holds.';
comment on column billing.usage_authorizations.organization_id is
'The organization it belongs to.';
comment on column billing.usage_authorizations.id is 'Its hold''s, time-ordered (UUIDv7).';
comment on column billing.usage_authorizations.source is 'Who will have sent its event.';
comment on column billing.usage_authorizations.event_id is 'What they will call it.';
comment on column billing.usage_authorizations.feature is 'What of the product is used.';
comment on column billing.usage_authorizations.provider_id is 'Who serves the model; null: none.';
comment on column billing.usage_authorizations.model is 'The model.';
comment on column billing.usage_authorizations.passport_id is
'The customer''s passport that it is used with.';
comment on column billing.usage_authorizations.quantities is 'How much of each meter at most.';
comment on column billing.usage_authorizations.max_price_usd is
'What that would cost, in USD, exactly. Less is held where a debt is allowed for the rest.';
comment on column billing.usage_authorizations.price_usd is
'What was really used and charged, in USD, exactly; null: nothing as yet, or its event waits for a
review.';
comment on column billing.usage_authorizations.captured_at is
'When its event was recorded (UTC); null: it was not.';

create view api.usage_authorizations with (security_invoker = true) as
select
    a.organization_id,
    a.id,
    h.status,
    a.source,
    a.event_id,
    a.feature,
    a.provider_id,
    a.model,
    a.passport_id,
    a.quantities,
    trim_scale(a.max_price_usd)::text as max_price_usd,
    trim_scale(a.price_usd)::text as price_usd,
    h.held_micros,
    h.expires_at
from billing.usage_authorizations as a
inner join api.holds as h on h.organization_id = a.organization_id and h.id = a.id;
comment on view api.usage_authorizations is
'Usage that was asked for before, what is held for it, and what it came to.';
comment on column api.usage_authorizations.id is 'Its hold''s, time-ordered (UUIDv7).';
comment on column api.usage_authorizations.max_price_usd is
'What it costs at most, in USD, exactly, as text.';
comment on column api.usage_authorizations.price_usd is
'What it came to, in USD, exactly, as text; null: nothing as yet.';
call billing.inherit_comments('api.usage_authorizations');

-- billing.find_authorization: one as its view tells it.
--
-- Raises  FG404 authorization_not_found  absent, or another organization's
create function billing.find_authorization(p_organization_id uuid, p_id uuid)
returns api.usage_authorizations
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_authorization api.usage_authorizations;
begin
    select a.* into v_authorization
    from api.usage_authorizations as a
    where a.organization_id = p_organization_id and a.id = p_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'authorization_not_found';
    end if;
    return v_authorization;
end
$$;

-- billing.try_usage: why one piece of usage would be refused if it came now; null: it would not.
-- It is recorded and taken back, so that nothing is asked in another way than when it comes.
create function billing.try_usage(p_rated billing.rated_usage)
returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_outcomes billing.usage_outcome[];
begin
    begin
        select r.outcomes into strict v_outcomes
        from billing.record_usage(
            array[p_rated], array[p_rated.organization_id], p_rated.occurred_at, false
        ) as r;
        raise exception using errcode = 'triggered_action_exception';
    exception
        when triggered_action_exception then
            return coalesce(v_outcomes[1].reason, nullif(v_outcomes[1].status, 'accepted'));
    end;
end
$$;

-- api.authorize_usage: hold a customer's money for usage to come, as p_usage {organization_id,
-- source, event_id, feature, provider_id, model, passport_id, quantities} says that it is at most.
-- Without a source and an event_id its event will be called after the authorization. Refused is
-- whatever ingest would refuse now.
--
-- Raises  FG402 insufficient_credits, FG402 debt_outstanding, FG404 organization_not_found,
--         FG409 organization_closed, FG409 idempotency_conflict
--         FG409 usage_refused  detail: reason, as of an event; or why it cannot be rated
-- Locks   the key, the wallet.
create function api.authorize_usage(
    p_caller jsonb, p_usage jsonb, p_expires_in_seconds integer, p_idempotency_key text
)
returns table (usage_authorization api.usage_authorizations, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_request jsonb := p_usage || jsonb_build_object('expires_in_seconds', p_expires_in_seconds);
    v_organization_id uuid := p_usage ->> 'organization_id';
    v_stored jsonb;
    v_id uuid := billing.uuidv7();
    v_now timestamptz := billing.now();
    v_expires_at timestamptz := v_now + make_interval(secs => p_expires_in_seconds);
    v_wallet billing.wallets;
    v_rated billing.rated_usage;
    v_price_usd numeric;
    v_max_micros bigint;
    v_held_micros bigint;
    v_reason text;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'authorize_usage', v_request
    );
    if v_stored is not null then
        return query
        select jsonb_populate_record(null::api.usage_authorizations, v_stored), true;
        return;
    end if;
    perform billing.find_customer(v_organization_id);
    v_wallet := billing.lock_wallet(v_organization_id);
    select r.* into strict v_rated
    from billing.rate_usage(
        jsonb_build_array(
            jsonb_build_object('index', 0, 'source', 'authorization', 'event_id', v_id) || p_usage
        ),
        array[v_organization_id],
        v_now
    ) as r;
    v_price_usd := billing.price_usage(v_rated);
    v_max_micros := greatest(billing.required_micros(v_price_usd), 0);
    v_reason := billing.try_usage(v_rated);
    if v_reason = 'organization_closed' then
        raise exception using errcode = 'FG409', message = 'organization_closed';
    elsif v_reason in ('insufficient_credits', 'debt_outstanding') then
        -- It says how much is missing.
        perform billing.hold_with_care(v_organization_id, v_max_micros);
    end if;
    if v_reason is not null then
        raise exception using
            errcode = 'FG409',
            message = 'usage_refused',
            detail = jsonb_build_object('reason', v_reason)::text;
    end if;
    v_held_micros := least(v_max_micros, v_wallet.settled_micros - v_wallet.held_micros);
    update billing.wallets as w
    set held_micros = w.held_micros + v_held_micros
    where w.organization_id = v_organization_id;
    insert into billing.holds (
        organization_id, id, kind, amount_micros, expires_at, is_final, due_at, opened_by
    )
    values (
        v_organization_id, v_id, 'usage', v_held_micros, v_expires_at, true, v_expires_at,
        v_caller.actor
    );
    perform billing.check_spending(
        v_caller,
        v_organization_id,
        jsonb_build_object(
            'feature', v_rated.feature,
            'amount_micros', v_max_micros,
            'caller', coalesce('passport:' || v_rated.passport_id, v_caller.actor)
        )
    );
    insert into billing.usage_authorizations (
        organization_id, id, source, event_id, feature, provider_id, model, passport_id,
        quantities, max_price_usd
    )
    values (
        v_organization_id, v_id, v_rated.source, v_rated.event_id, v_rated.feature,
        v_rated.provider_id, v_rated.model, v_rated.passport_id, v_rated.quantities, v_price_usd
    );
    usage_authorization := billing.find_authorization(v_organization_id, v_id);
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'authorize_usage', v_request,
        to_jsonb(usage_authorization)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.authorize_usage to service_role, faregate_functions;
comment on function api.authorize_usage is 'Holds a customer''s money for usage to come.';

-- api.capture_usage: record what was really used, charge it, and give back what else was held.
-- p_usage {provider_id, model, passport_id, quantities, occurred_at}: what it does not say is as it
-- was authorized. The call has happened, so neither limits nor money refuse it: what the money does
-- not cover is owed. Where its event came already, it is not charged again. It may have occurred
-- when any event may: not only since it was authorized, because a gateway whose clock is behind
-- would have made a call then that nobody pays; and whoever captures could send an event as well.
--
-- Raises  FG404 authorization_not_found, FG409 hold_closed, FG409 idempotency_conflict
--         FG409 usage_refused  detail: reason, as of an event
-- Locks   the key, the hold, the wallet.
create function api.capture_usage(
    p_caller jsonb,
    p_organization_id uuid,
    p_authorization_id uuid,
    p_usage jsonb,
    p_idempotency_key text
)
returns table (usage_authorization api.usage_authorizations, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_request jsonb := jsonb_build_array(p_organization_id, p_authorization_id, p_usage);
    v_stored jsonb;
    v_asked billing.usage_authorizations;
    v_rated billing.rated_usage;
    v_recorded record;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'capture_usage', v_request
    );
    if v_stored is not null then
        return query
        select jsonb_populate_record(null::api.usage_authorizations, v_stored), true;
        return;
    end if;
    perform billing.find_authorization(p_organization_id, p_authorization_id);
    perform billing.lock_hold(p_organization_id, p_authorization_id);
    -- What was held is not used up: so no other grant pays than would have.
    perform billing.close_hold(p_organization_id, p_authorization_id, 'captured');
    select a.* into strict v_asked
    from billing.usage_authorizations as a
    where a.organization_id = p_organization_id and a.id = p_authorization_id;
    select r.* into strict v_rated
    from billing.rate_usage(
        jsonb_build_array(to_jsonb(v_asked) || '{"index": 0}' || p_usage),
        array[p_organization_id],
        billing.now()
    ) as r;
    select r.* into strict v_recorded
    from billing.record_usage(
        array[v_rated], array[p_organization_id], billing.oldest_usage(), true
    ) as r;
    if v_recorded.outcomes[1].status = 'rejected' then
        raise exception using
            errcode = 'FG409',
            message = 'usage_refused',
            detail = jsonb_build_object('reason', v_recorded.outcomes[1].reason)::text;
    end if;
    perform billing.settle_batch(
        v_recorded.debits, v_recorded.remainders_usd, v_recorded.owing_ids,
        v_recorded.owed_micros
    );
    update billing.usage_authorizations as a
    set
        captured_at = billing.now(),
        price_usd = (
            select e.price_usd
            from billing.usage_keys as k
            inner join billing.usage_events as e
                on e.organization_id = k.organization_id and e.id = k.id
            where k.organization_id = p_organization_id
                and k.source = v_asked.source
                and k.event_id = v_asked.event_id
        )
    where a.organization_id = p_organization_id and a.id = p_authorization_id;
    usage_authorization := billing.find_authorization(p_organization_id, p_authorization_id);
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'capture_usage', v_request,
        to_jsonb(usage_authorization)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.capture_usage to service_role, faregate_functions;
comment on function api.capture_usage is
'Records and charges what was really used of what was authorized.';

-- api.release_usage: give back what is held for usage that did not happen.
--
-- Raises  FG404 authorization_not_found, FG409 hold_closed, FG409 idempotency_conflict
-- Locks   the key, the hold, the wallet.
create function api.release_usage(
    p_caller jsonb, p_organization_id uuid, p_authorization_id uuid, p_idempotency_key text
)
returns table (usage_authorization api.usage_authorizations, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_request jsonb := jsonb_build_array(p_organization_id, p_authorization_id);
    v_stored jsonb;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'release_usage', v_request
    );
    if v_stored is not null then
        return query
        select jsonb_populate_record(null::api.usage_authorizations, v_stored), true;
        return;
    end if;
    perform billing.find_authorization(p_organization_id, p_authorization_id);
    perform billing.lock_hold(p_organization_id, p_authorization_id);
    perform billing.close_hold(p_organization_id, p_authorization_id, 'released');
    usage_authorization := billing.find_authorization(p_organization_id, p_authorization_id);
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'release_usage', v_request,
        to_jsonb(usage_authorization)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.release_usage to service_role, faregate_functions;
comment on function api.release_usage is 'Gives back what is held for usage.';

-- api.get_usage_authorization: one of the caller's organization, or of the customer that an
-- operator names.
--
-- Raises  FG404 authorization_not_found, FG404 organization_not_found
create function api.get_usage_authorization(
    p_caller jsonb, p_organization_id uuid, p_authorization_id uuid
)
returns setof api.usage_authorizations
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_organization_id uuid := billing.authenticate_reader(p_caller, p_organization_id);
begin
    return next billing.find_authorization(v_organization_id, p_authorization_id);
end
$$;
grant execute on function api.get_usage_authorization to service_role, faregate_functions;
comment on function api.get_usage_authorization is 'Reads one authorization of usage.';
