-- Reviews: events that could not be rated, and what a person decides about them.

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
-- they are known now; where none was there then, by those that are there now; or what the person
-- names (0: nothing). Once: whoever asks for the same again is told what became of it.
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
    v_moment timestamptz;
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
        foreach v_moment in array array[v_event.occurred_at, billing.now()] loop
            select r.* into strict v_rated
            from billing.rate_usage(
                jsonb_build_array(
                    to_jsonb(v_event) || jsonb_build_object('index', 0, 'occurred_at', v_moment)
                ),
                array[p_organization_id], billing.now()
            ) as r;
            exit when v_rated.review is null or p_price_usd is not null;
        end loop;
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
                p_organization_id, billing.required_micros(v_price_usd)
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

-- api.charge_usage_review: an operator has an event charged that could not be rated: by rates that
-- are known by now, or at a price of their own.
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
