-- What operators decide about usage: what it costs customers, and what they may owe for it.

-- billing.own_costs: what an operator says that a model takes from this very moment on, {meter: USD
-- for one, as text}; null: nothing.
create function billing.own_costs(
    p_provider_id text, p_model_id text, p_effective_at timestamptz
)
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(
        -- A request of itself is free, said or not.
        jsonb_object_agg(u.meter, u.unit_price_usd::text)
        filter (where u.unit_price_usd > 0 or (u.unit_price_usd = 0 and u.meter <> 'requests')),
        '{}'
    )
    from billing.provider_prices as p
    inner join billing.provider_price_units as u on u.price_id = p.id
    where p.provider_id = p_provider_id
        and p.model_id = p_model_id
        and p.effective_at = p_effective_at
        and p.source = 'operator'
    group by p.id
$$;

create view api.usage_rates with (security_invoker = true) as
select
    r.id,
    r.organization_id,
    r.plan_id,
    r.feature,
    r.provider_id,
    r.model_id,
    r.markup::text as markup,
    (
        select coalesce(jsonb_object_agg(p.meter, p.price), '{}')
        from (
            select
                u.meter,
                to_jsonb(u.unit_price_usd::text) as price
            from billing.usage_rate_units as u
            where u.rate_id = r.id and u.unit_price_usd is not null
            union all
            select
                t.meter,
                case
                    when min(t.kind) = 'package'
                        then
                            jsonb_build_object(
                                'kind', 'package',
                                'size', min(t.package_size),
                                'price', min(t.unit_price_usd)::text
                            )
                    else
                        jsonb_build_object(
                            'kind', min(t.kind),
                            'tiers', jsonb_agg(
                                jsonb_build_object(
                                    'up_to', t.up_to, 'unit_price', t.unit_price_usd::text
                                )
                                order by t.above
                            )
                        )
                end as price
            from (
                select
                    c.*,
                    lead(c.above) over (partition by c.meter order by c.above) as up_to
                from billing.usage_rate_tiers as c
                where c.rate_id = r.id
            ) as t
            group by t.meter
        ) as p
    ) as prices,
    billing.own_costs(r.provider_id, r.model_id, r.effective_at) as costs, -- noqa: RF04
    r.may_be_below_cost,
    r.is_end,
    r.effective_at,
    (
        select min(n.effective_at)
        from billing.usage_rates as n
        where
            n.effective_at > r.effective_at
            and n.organization_id is not distinct from r.organization_id
            and n.plan_id is not distinct from r.plan_id
            and n.feature is not distinct from r.feature
            and n.provider_id is not distinct from r.provider_id
            and n.model_id is not distinct from r.model_id
    ) as replaced_at,
    r.created_by
from billing.usage_rates as r;
comment on view api.usage_rates is 'What usage costs customers, and since when.';
comment on column api.usage_rates.markup is
'What the cost is multiplied by, exactly, as text; null: only its own prices count.';
comment on column api.usage_rates.prices is
'Its own prices: {meter: USD for one, exactly, as text}, or tiers or a package instead of USD.';
comment on column api.usage_rates.costs is
'What an operator says that its model takes from effective_at on: {meter: USD for one, exactly, as
text}; null: nothing.';
comment on column api.usage_rates.replaced_at is
'From then on (UTC) a later one for the same counts; null: there is none.';
call billing.inherit_comments('api.usage_rates');

create view api.usage_policies with (security_invoker = true) as
select
    p.id,
    p.organization_id,
    p.plan_id,
    p.feature,
    p.allow_debt_micros
from billing.usage_policies as p;
comment on view api.usage_policies is 'How much may be owed for usage when the money is short.';
call billing.inherit_comments('api.usage_policies');

-- billing.find_scope: the customer and the plan that an operator decides for.
--
-- Raises  FG404 organization_not_found, FG400 plan_unknown
create function billing.find_scope(p_organization_id uuid, p_plan_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_organization_id is not null then
        perform billing.find_customer(p_organization_id);
    end if;
    perform from billing.plans as p where p.id = p_plan_id;
    if not found and p_plan_id is not null then
        raise exception using errcode = 'FG400', message = 'plan_unknown';
    end if;
end
$$;

-- api.create_usage_rate: what usage costs from now on, or from a later moment. p_rate: a row of
-- billing.usage_rates without its id, with prices as billing.add_usage_rate takes them, and costs
-- as billing.add_own_cost, of a model whose cost nobody else says. Its model is any name that means
-- it; the rate has the provider and the model whose prices count.
--
-- Raises  FG404 organization_not_found, FG400 plan_unknown, FG409 idempotency_conflict
--         FG400 model_unknown           no such provider, or no such model of it
--         FG400 effective_in_the_past   what was used is rated already
--         FG400 below_cost_not_meant, FG400 tiers_overlap, FG400 cost_is_known
--         FG409 rate_exists             one for the same, or another cost of the model, begins at
--                                       that very moment
-- Locks   the key.
create function api.create_usage_rate(p_caller jsonb, p_rate jsonb, p_idempotency_key text)
returns table (rate api.usage_rates, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_rate billing.usage_rates := jsonb_populate_record(null::billing.usage_rates, p_rate);
    v_model billing.provider_models;
    v_now timestamptz := billing.now();
    v_stored jsonb;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'create_usage_rate', p_rate
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.usage_rates, v_stored), true;
        return;
    end if;
    perform billing.find_scope(v_rate.organization_id, v_rate.plan_id);
    if v_rate.effective_at < v_now then
        raise exception using errcode = 'FG400', message = 'effective_in_the_past';
    end if;
    v_rate.effective_at := coalesce(v_rate.effective_at, v_now);
    if p_rate ->> 'costs' is not null then
        begin
            perform billing.add_own_cost(
                v_rate.provider_id, v_rate.model_id, v_rate.effective_at, p_rate -> 'costs'
            );
        exception
            when unique_violation then
                raise exception using errcode = 'FG409', message = 'rate_exists';
        end;
    end if;
    if v_rate.model_id is not null then
        v_model := billing.find_model(v_rate.provider_id, v_rate.model_id);
        v_rate.provider_id := v_model.provider_id;
        v_rate.model_id := v_model.id;
    end if;
    perform from billing.providers as p where p.id = v_rate.provider_id;
    if not found and p_rate ->> 'provider_id' is not null then
        raise exception using errcode = 'FG400', message = 'model_unknown';
    end if;
    v_rate.id := billing.uuidv7();
    v_rate.created_by := v_caller.actor;
    begin
        perform billing.add_usage_rate(v_rate, p_rate -> 'prices');
    exception
        when unique_violation then
            raise exception using errcode = 'FG409', message = 'rate_exists';
    end;
    select v.* into rate
    from api.usage_rates as v
    where v.id = v_rate.id;
    insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
    values (
        coalesce(v_rate.organization_id, v_caller.organization_id), v_caller.actor,
        'create_usage_rate', v_rate.id,
        jsonb_strip_nulls(to_jsonb(rate))
    );
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'create_usage_rate', p_rate, to_jsonb(rate)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.create_usage_rate to service_role, faregate_functions;
comment on function api.create_usage_rate is
'Decides what usage costs from a moment on, for an operator.';

-- api.list_usage_rates: what was decided about what usage costs, newest first, from before
-- p_cursor,
-- of one customer, plan, feature, provider or model where it is named. For operators.
create function api.list_usage_rates(
    p_caller jsonb,
    p_organization_id uuid,
    p_plan_id text,
    p_feature text,
    p_provider_id text,
    p_model_id text,
    p_limit integer,
    p_cursor uuid
)
returns setof api.usage_rates
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.authenticate(p_caller, 'admin');
    return query
    select r.*
    from api.usage_rates as r
    where (p_organization_id is null or r.organization_id = p_organization_id)
        and (p_plan_id is null or r.plan_id = p_plan_id)
        and (p_feature is null or r.feature = p_feature)
        and (p_provider_id is null or r.provider_id = p_provider_id)
        and (p_model_id is null or r.model_id = p_model_id)
        and (p_cursor is null or r.id < p_cursor)
    order by r.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_usage_rates to service_role, faregate_functions;
comment on function api.list_usage_rates is 'Pages through rates of usage, newest first.';

-- api.set_usage_policy: how much may be owed for usage when the money is short, in place of what
-- was decided for the same before. 0: nothing.
--
-- Raises  FG404 organization_not_found, FG400 plan_unknown, FG409 idempotency_conflict
-- Locks   the key, the policy.
create function api.set_usage_policy(
    p_caller jsonb,
    p_organization_id uuid,
    p_plan_id text,
    p_feature text,
    p_allow_debt_micros bigint,
    p_idempotency_key text
)
returns table (policy api.usage_policies, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_request jsonb := jsonb_build_array(
        p_organization_id, p_plan_id, p_feature, p_allow_debt_micros
    );
    v_stored jsonb;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'set_usage_policy', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.usage_policies, v_stored), true;
        return;
    end if;
    perform billing.find_scope(p_organization_id, p_plan_id);
    insert into billing.usage_policies as p (organization_id, plan_id, feature, allow_debt_micros)
    values (p_organization_id, p_plan_id, p_feature, p_allow_debt_micros)
    on conflict on constraint usage_policies_scope_key do update
    set allow_debt_micros = excluded.allow_debt_micros
    returning p.id, p.organization_id, p.plan_id, p.feature, p.allow_debt_micros into policy;
    insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
    values (
        coalesce(p_organization_id, v_caller.organization_id), v_caller.actor,
        'set_usage_policy', policy.id, jsonb_strip_nulls(to_jsonb(policy))
    );
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'set_usage_policy', v_request,
        to_jsonb(policy)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.set_usage_policy to service_role, faregate_functions;
comment on function api.set_usage_policy is
'Decides how much may be owed for usage, for an operator.';

-- api.list_usage_policies: what was decided about short money, newest first, from before p_cursor,
-- of one customer or plan where it is named. For operators.
create function api.list_usage_policies(
    p_caller jsonb, p_organization_id uuid, p_plan_id text, p_limit integer, p_cursor uuid
)
returns setof api.usage_policies
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.authenticate(p_caller, 'admin');
    return query
    select p.*
    from api.usage_policies as p
    where (p_organization_id is null or p.organization_id = p_organization_id)
        and (p_plan_id is null or p.plan_id = p_plan_id)
        and (p_cursor is null or p.id < p_cursor)
    order by p.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_usage_policies to service_role, faregate_functions;
comment on function api.list_usage_policies is
'Pages through how much may be owed for usage, newest first.';
