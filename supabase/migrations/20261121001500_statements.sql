-- Statements: what a period did to a wallet, in lines that add up; its ledger; receipts.
--
-- A period is a stretch of the ledger: from one transfer's number to another's. So statements of
-- adjoining periods always fit: what one closes with, the next opens with.

create type billing.statement_kind as enum (
    'purchases',
    'bonuses',
    'sessions',
    'storage',
    'spaces',
    'usage',
    'refunds',
    'disputes',
    'expired',
    'debt_repaid'
);
comment on type billing.statement_kind is
'The lines of a statement, in their order. sessions, storage, spaces and usage are what was
consumed.';

create type billing.statement_line as (
    kind billing.statement_kind,
    amount_micros bigint,
    count bigint
);
comment on type billing.statement_line is
'What the transfers of a kind brought into the wallet (or took out of it: negative).';

create type billing.usage_day as (
    day date,
    kind billing.statement_kind,
    amount_micros bigint,
    count bigint
);
comment on type billing.usage_day is
'What was consumed of a kind on one day (UTC): a statement''s line, day by day.';

create type billing.period as (
    begins_at timestamptz,
    ends_at timestamptz,
    opening_sequence bigint,
    closing_sequence bigint
);
comment on type billing.period is
'A stretch of an organization''s ledger: begins_at is in it, ends_at is not. opening_sequence is the
last transfer before it (0: none), closing_sequence the last one in it.';

-- billing.statement_kind: the line that a transfer of the wallet stands on. Every reason has one.
-- No cast at the end: from text it would not be immutable, and called for each row, not inlined.
create function billing.statement_kind(p_reason billing.reason)
returns billing.statement_kind
language sql
immutable parallel safe
return case p_reason
    when 'top_up' then 'purchases'::billing.statement_kind
    when 'registration_bonus' then 'bonuses'
    when 'promotion' then 'bonuses'
    when 'top_up_bonus' then 'bonuses'
    when 'session' then 'sessions'
    when 'storage' then 'storage'
    when 'space' then 'spaces'
    when 'space_refund' then 'spaces'
    when 'capture' then 'usage'
    when 'usage' then 'usage'
    when 'usage_refund' then 'usage'
    when 'refund' then 'refunds'
    when 'refund_failed' then 'refunds'
    when 'dispute' then 'disputes'
    when 'dispute_won' then 'disputes'
    when 'dispute_fee' then 'disputes'
    when 'expiry' then 'expired'
    when 'debt_repayment' then 'debt_repaid'
end;

-- billing.is_consumption: whether a transfer is for what was consumed, or gives some of that back.
create function billing.is_consumption(p_reason billing.reason)
returns boolean
language sql
immutable parallel safe
return p_reason in (
    'session', 'storage', 'space', 'space_refund', 'capture', 'usage', 'usage_refund'
);

-- billing.last_transfer_before: the number of the last transfer that was made before a moment; 0
-- when none was.
--
-- The ledger needs no index by time for it, which every charge would pay for (a sixth on top of
-- its insert, half the table's size again): numbers rise with time, so the number is found bit by
-- bit from the highest, which is 41 looks by key and a quarter of a millisecond, however many
-- transfers there are.
-- Where the clock was set back, the ledger lived through the same time twice. A moment of that time
-- then means one of the places where it fits; which one may change while the clock catches up, and
-- not after. Whatever the clock did, periods that adjoin in time adjoin in numbers.
create function billing.last_transfer_before(p_organization_id uuid, p_at timestamptz)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_found bigint := 0;
    v_step bigint := 1::bigint << 40;
begin
    while v_step > 0 loop
        perform from billing.transfers as t
        where t.organization_id = p_organization_id
            and t.sequence = v_found + v_step
            and t.created_at < p_at;
        if found then
            v_found := v_found + v_step;
        end if;
        v_step := v_step >> 1;
    end loop;
    return v_found;
end
$$;

-- billing.find_period: the part of the ledger from p_from up to p_to; it never ends before it
-- begins. p_to null: up to now. p_from null: from the beginning of the month (UTC) it ends in.
create function billing.find_period(
    p_organization_id uuid, p_from timestamptz, p_to timestamptz
)
returns billing.period
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_to timestamptz := greatest(coalesce(p_to, billing.now()), p_from);
    v_from timestamptz := coalesce(
        p_from, date_trunc('month', v_to - interval '1 microsecond', 'UTC')
    );
begin
    return row(
        v_from,
        v_to,
        billing.last_transfer_before(p_organization_id, v_from),
        billing.last_transfer_before(p_organization_id, v_to)
    )::billing.period;
end
$$;

-- api.get_statement: what a period did to the caller's wallet: opening + its lines = closing.
-- The lines are sums of transfers, the balances are those that the ledger kept beside them, so that
-- whoever adds up checks one with the other. debt_micros is what was owed at the end.
create function api.get_statement(p_caller jsonb, p_from timestamptz, p_to timestamptz)
returns table (
    organization_id uuid,
    begins_at timestamptz,
    ends_at timestamptz,
    opening_micros bigint,
    closing_micros bigint,
    debt_micros bigint,
    lines billing.statement_line[]
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
-- By key, however large an organization's share of the ledger is: the rest is others'.
set enable_seqscan = off
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
    v_period billing.period := billing.find_period(v_caller.organization_id, p_from, p_to);
begin
    organization_id := v_caller.organization_id;
    begins_at := v_period.begins_at;
    ends_at := v_period.ends_at;
    select
        coalesce(max(t.wallet_balance_micros)
            filter (where t.sequence = v_period.opening_sequence), 0),
        coalesce(max(t.wallet_balance_micros)
            filter (where t.sequence = v_period.closing_sequence), 0)
    into opening_micros, closing_micros
    from billing.transfers as t
    where t.organization_id = v_caller.organization_id
        and t.sequence in (v_period.opening_sequence, v_period.closing_sequence);
    -- From today's debt backwards: most statements are of late.
    select
        w.debt_micros - coalesce(sum(
            case when t.debit_account = 'debt' then t.amount_micros else -t.amount_micros end
        ), 0)
    into debt_micros
    from billing.wallets as w
    left join billing.transfers as t
        on t.organization_id = w.organization_id
        and t.sequence > v_period.closing_sequence
        and 'debt' in (t.debit_account, t.credit_account)
    where w.organization_id = v_caller.organization_id
    group by w.debt_micros;
    with sums as (
        select
            billing.statement_kind(t.reason) as kind,
            sum(t.amount_micros) as amount_micros,
            count(*) as count
        from api.transactions as t
        where t.organization_id = v_caller.organization_id
            and t.sequence > v_period.opening_sequence
            and t.sequence <= v_period.closing_sequence
        group by 1
    )
    select
        array_agg(
            row(k.kind, coalesce(s.amount_micros, 0), coalesce(s.count, 0))::billing.statement_line
            order by k.kind
        )
    into lines
    from unnest(enum_range(null::billing.statement_kind)) as k (kind)
    left join sums as s on s.kind = k.kind;
    return next;
end
$$;
grant execute on function api.get_statement to service_role, faregate_functions;
comment on function api.get_statement is
'Sums up what a period did to the caller''s wallet, in lines that add up.';

-- api.list_usage_days: what the caller consumed in a period, by day (UTC) and kind; a day without
-- usage has no row. One answer holds it all, so a period has an end.
--
-- Raises  FG400 period_too_long  more than 400 days; detail: maximum_days
create function api.list_usage_days(p_caller jsonb, p_from timestamptz, p_to timestamptz)
returns table (begins_at timestamptz, ends_at timestamptz, days billing.usage_day[])
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
-- By key, however large an organization's share of the ledger is: the rest is others'.
set enable_seqscan = off
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
    v_period billing.period := billing.find_period(v_caller.organization_id, p_from, p_to);
begin
    if v_period.ends_at - v_period.begins_at > interval '400 days' then
        raise exception using
            errcode = 'FG400',
            message = 'period_too_long',
            detail = jsonb_build_object('maximum_days', 400)::text;
    end if;
    return query
    select
        v_period.begins_at,
        v_period.ends_at,
        array(
            select
                row(
                    date_trunc('day', t.created_at, 'UTC') at time zone 'UTC',
                    billing.statement_kind(t.reason),
                    sum(t.amount_micros),
                    count(*)
                )::billing.usage_day
            from api.transactions as t
            where t.organization_id = v_caller.organization_id
                and t.sequence > v_period.opening_sequence
                and t.sequence <= v_period.closing_sequence
                and billing.is_consumption(t.reason)
            group by
                date_trunc('day', t.created_at, 'UTC'), billing.statement_kind(t.reason)
            order by 1
        );
end
$$;
grant execute on function api.list_usage_days to service_role, faregate_functions;
comment on function api.list_usage_days is
'Tells what the caller consumed in a period, by day (UTC) and kind.';

-- api.get_period: which transfers of the caller's ledger a period has. Its numbers are what
-- api.list_period takes, so that the pages of an export have one end, whatever happens meanwhile.
create function api.get_period(p_caller jsonb, p_from timestamptz, p_to timestamptz)
returns table (
    organization_id uuid,
    begins_at timestamptz,
    ends_at timestamptz,
    opening_sequence bigint,
    closing_sequence bigint
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    return query
    select v_caller.organization_id, p.*
    from billing.find_period(v_caller.organization_id, p_from, p_to) as p;
end
$$;
grant execute on function api.get_period to service_role, faregate_functions;
comment on function api.get_period is 'Tells which transfers of the caller''s ledger a period has.';

-- api.list_period: the caller's ledger, oldest first, after one transfer's number up to another's.
create function api.list_period(
    p_caller jsonb, p_opening_sequence bigint, p_closing_sequence bigint, p_limit integer
)
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
        and t.sequence > p_opening_sequence
        and t.sequence <= p_closing_sequence
    order by t.sequence
    limit p_limit;
end
$$;
grant execute on function api.list_period to service_role, faregate_functions;
comment on function api.list_period is
'Pages through a stretch of the caller''s ledger, oldest first.';

create view api.receipts with (security_invoker = true) as
select
    p.organization_id,
    p.top_up_id,
    'R' || to_char(p.paid_at at time zone 'UTC', 'YYYYMMDD') || '-'
    || upper(right(p.id::text, 12)) as number,
    o.name as customer_name,
    o.billing_email,
    p.paid_at,
    p.amount_micros,
    coalesce(
        (
            select g.amount_micros
            from billing.grants as g
            where
                g.organization_id = p.organization_id
                and g.payment_id = p.id
                and g.category = 'promotional'
            order by g.id
            limit 1
        ),
        0
    ) as bonus_micros,
    p.refunded_micros,
    p.disputed_micros,
    p.amount_micros - p.refunded_micros - p.disputed_micros as kept_micros,
    p.provider,
    p.provider_payment_id
from billing.payments as p
inner join billing.organizations as o on o.id = p.organization_id;
comment on view api.receipts is 'What a receipt says of a payment, as of now.';
comment on column api.receipts.organization_id is 'The organization it belongs to.';
comment on column api.receipts.number is
'The day it was paid (UTC) and the 48 random bits that its id ends with.';
comment on column api.receipts.customer_name is 'The organization''s name.';
comment on column api.receipts.amount_micros is 'What was paid, in µ$.';
comment on column api.receipts.bonus_micros is 'What came on top as promotional credits, in µ$.';
comment on column api.receipts.kept_micros is 'What of it has not gone back, in µ$.';
call billing.inherit_comments('api.receipts');

-- api.get_receipt: the receipt of a paid top-up.
--
-- Raises  FG404 top_up_not_found  absent, or another organization's
--         FG409 top_up_not_paid   there is no payment; detail: top_up_status
create function api.get_receipt(p_caller jsonb, p_top_up_id uuid)
returns setof api.receipts
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'billing');
    v_status billing.top_up_status;
begin
    select t.status into v_status
    from billing.top_ups as t
    where t.organization_id = v_caller.organization_id and t.id = p_top_up_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'top_up_not_found';
    end if;
    return query
    select r.*
    from api.receipts as r
    where r.organization_id = v_caller.organization_id and r.top_up_id = p_top_up_id;
    if not found then
        raise exception using
            errcode = 'FG409',
            message = 'top_up_not_paid',
            detail = jsonb_build_object('top_up_status', v_status)::text;
    end if;
end
$$;
grant execute on function api.get_receipt to service_role, faregate_functions;
comment on function api.get_receipt is 'Reads the receipt of a paid top-up.';

create view api.usage with (security_invoker = true) as
select
    t.organization_id,
    (date_trunc('day', t.created_at, 'UTC') at time zone 'UTC')::date as day,
    billing.statement_kind(t.reason) as kind,
    sum(
        case when t.debit_account = 'wallet' then t.amount_micros else -t.amount_micros end
    )::bigint as amount_micros,
    count(*) as charges
from billing.transfers as t
where billing.is_consumption(t.reason)
group by t.organization_id, day, kind;
comment on view api.usage is 'What was consumed by day and kind.';
comment on column api.usage.day is 'In UTC, from midnight to midnight.';
comment on column api.usage.kind is
'sessions, storage, spaces, or usage: events, and what was captured from holds.';
comment on column api.usage.amount_micros is
'The sum of its charges, less what was given back, in µ$.';
comment on column api.usage.charges is 'How many transfers there were.';
call billing.inherit_comments('api.usage');
