-- Reading the balance: what there is, where it went, what something would cost.

-- api.get_wallet: the caller's balance.
create function api.get_wallet(p_caller jsonb)
returns setof api.wallets
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    return query
    select w.* from api.wallets as w where w.organization_id = v_caller.organization_id;
end
$$;
grant execute on function api.get_wallet to service_role, faregate_functions;
comment on function api.get_wallet is 'Reads the balance of the caller''s organization.';

-- api.list_transactions: the ledger, newest first, from before the sequence p_cursor.
create function api.list_transactions(p_caller jsonb, p_limit integer, p_cursor bigint)
returns setof api.transactions
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    return query
    select t.*
    from api.transactions as t
    where t.organization_id = v_caller.organization_id
        and t.sequence < coalesce(p_cursor, 9223372036854775807)
    order by t.sequence desc
    limit p_limit;
end
$$;
grant execute on function api.list_transactions to service_role, faregate_functions;
comment on function api.list_transactions is
'Pages through the ledger of the caller''s organization, newest first.';

-- api.list_draws: which grants paid a transaction, and how much each, the newest grant first, from
-- before p_cursor. Nothing paid one that brought money.
--
-- Raises  FG404 transaction_not_found  absent, or another organization's
create function api.list_draws(
    p_caller jsonb, p_sequence bigint, p_limit integer, p_cursor uuid
)
returns table (grant_id uuid, amount_micros bigint)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    perform from api.transactions as t
    where t.organization_id = v_caller.organization_id and t.sequence = p_sequence;
    if not found then
        raise exception using errcode = 'FG404', message = 'transaction_not_found';
    end if;
    return query
    select d.grant_id, d.amount_micros::bigint
    from billing.draws as d
    where d.organization_id = v_caller.organization_id
        and d.sequence = p_sequence
        and (p_cursor is null or d.grant_id < p_cursor)
    order by d.grant_id desc
    limit p_limit;
end
$$;
grant execute on function api.list_draws to service_role, faregate_functions;
comment on function api.list_draws is 'Tells which grants paid a transaction, and how much each.';

-- api.estimate_cost: what a quantity of a SKU costs the caller now,
-- and whether the balance covers it.
-- The quantity is in the SKU's unit (hours, GB-months, pieces).
--
-- Raises  FG404 sku_not_found          no price on the caller's plan
--         FG400 amount_out_of_bounds   the cost is beyond what the ledger carries
create function api.estimate_cost(p_caller jsonb, p_sku text, p_quantity numeric)
returns table (
    sku text,
    unit text,
    quantity numeric,
    unit_price_micros bigint,
    cost_micros bigint,
    available_micros bigint,
    affordable boolean
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
    v_price billing.prices;
    v_cost_micros numeric;
begin
    select p.* into v_price
    from billing.price_at(v_caller.plan_id, p_sku, billing.now()) as p;
    if not found then
        raise exception using errcode = 'FG404', message = 'sku_not_found';
    end if;
    v_cost_micros := round(v_price.price_micros * p_quantity);
    if v_cost_micros > billing.largest_amount() then
        raise exception using errcode = 'FG400', message = 'amount_out_of_bounds';
    end if;
    return query
    select
        v_price.sku, v_price.unit, p_quantity, v_price.price_micros, v_cost_micros::bigint,
        w.available_micros, w.available_micros >= v_cost_micros
    from api.wallets as w
    where w.organization_id = v_caller.organization_id;
end
$$;
grant execute on function api.estimate_cost to service_role, faregate_functions;
comment on function api.estimate_cost is
'Tells what a quantity of a SKU costs the caller now, and whether the balance covers it.';
