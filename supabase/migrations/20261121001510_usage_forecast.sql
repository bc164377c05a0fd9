-- A forecast: for how long a wallet's money lasts.

-- billing.predict_spending: what a day is expected to cost, by those of these days (one after the
-- other, in µ$) of which p_known are known: half the mean of the last seven, half that of the same
-- weekday in the four weeks before.
create function billing.predict_spending(p_days numeric[], p_known integer, p_day integer)
returns numeric
language sql
immutable parallel safe
return (
    (select avg(d.micros) from unnest(p_days[p_known - 6:p_known]) as d (micros))
    + (
        select avg(p_days[p_day - 7 * w.week])
        from generate_series(1, 4) as w (week)
        where p_day - 7 * w.week > 0
    )
) / 2;

-- api.forecast_usage: what a day costs of late, for how long the available money lasts, and how far
-- off the same forecast would have been: of each past day it is made from the days before that one
-- alone, and error is the sum of what it was off by, divided by what was spent. Spending is all
-- that is metered: sessions, storage, holds and usage; on a day of UTC that is over.
--
-- The forecast is null until there are two weeks of days, the error until it could be tried on
-- another one. days_left is null also where the money lasts for more than two years.
--
-- Raises  FG404 organization_not_found
create function api.forecast_usage(p_caller jsonb, p_organization_id uuid)
returns table (
    organization_id uuid,
    available_micros bigint,
    days integer,
    burn_micros bigint,
    forecast_micros bigint,
    error numeric,
    days_left integer,
    runs_out_on date
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
-- By key, however large an organization's share of the ledger is: the rest is others'.
set enable_seqscan = off
as $$
declare
    v_organization_id uuid := billing.authenticate_reader(p_caller, p_organization_id);
    v_today date := (billing.now() at time zone 'UTC')::date;
    v_period billing.period := billing.find_period(
        v_organization_id,
        (v_today - 56)::timestamp at time zone 'UTC',
        v_today::timestamp at time zone 'UTC'
    );
    v_spent numeric[];
    v_ahead numeric[];
begin
    organization_id := v_organization_id;
    select w.settled_micros - w.held_micros into strict available_micros
    from billing.wallets as w
    where w.organization_id = v_organization_id;
    -- Since the first day with any; days without are zeros.
    with charges as (
        select
            (t.created_at at time zone 'UTC')::date as day,
            sum(
                case when t.credit_account = 'wallet' then -t.amount_micros else t.amount_micros end
            ) as micros
        from billing.transfers as t
        where t.organization_id = v_organization_id
            and t.sequence > v_period.opening_sequence
            and t.sequence <= v_period.closing_sequence
            and t.reason in ('session', 'storage', 'capture', 'usage')
        group by 1
    )
    select coalesce(array_agg(coalesce(c.micros, 0) order by d.day), '{}') into v_spent
    from generate_series(
        (select min(f.day) from charges as f), v_today - 1, interval '1 day'
    ) as d (day)
    left join charges as c on c.day = d.day;
    days := cardinality(v_spent);
    burn_micros := coalesce((select avg(d) from unnest(v_spent[days - 6:]) as d), 0);
    if days >= 14 then
        -- The week to come; every further one is expected to be like it.
        v_ahead := array(
            select billing.predict_spending(v_spent, days, days + a)
            from generate_series(1, 7) as a
            order by a
        );
        forecast_micros := (select avg(d) from unnest(v_ahead) as d);
        select
            round(
                sum(abs(v_spent[d] - billing.predict_spending(v_spent, d - 1, d)))
                / nullif(sum(v_spent[d]), 0),
                4
            )
        into error
        from generate_series(15, days) as d;
        select min(l.number) - 1 into days_left
        from (
            select a as number, sum(v_ahead[(a - 1) % 7 + 1]) over (order by a) as micros
            from generate_series(1, 731) as a
        ) as l
        where l.micros > available_micros;
        runs_out_on := v_today + days_left;
    end if;
    return next;
end
$$;
grant execute on function api.forecast_usage to service_role, faregate_functions;
comment on function api.forecast_usage is
'Tells what a day costs of late and for how long the money lasts, and how wrong that may be.';
