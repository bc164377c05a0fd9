-- The proof: everything the ledger keeps, computed again from its transfers.

create type billing.difference as (
    organization_id uuid,
    rule text,
    subject text,
    expected numeric,
    found numeric
);
comment on type billing.difference is
'A place where the books disagree: the rule, what it expects, what is there.';

create table billing.verified (
    organization_id uuid primary key references billing.organizations (id),
    sequence bigint not null,
    settled_micros bigint not null,
    held_micros bigint not null,
    debt_micros bigint not null,
    provider_micros bigint not null,
    verified_at timestamptz not null default billing.now()
);
alter table billing.verified enable row level security;
comment on table billing.verified is
'A wallet as it was when its books were last found to agree. One that has not moved since needs no
look, and the sums of a large ledger go on from here.';
comment on column billing.verified.organization_id is 'The organization it belongs to.';
comment on column billing.verified.sequence is 'The last transfer that was summed up.';
comment on column billing.verified.settled_micros is 'What the wallet had, in µ$.';
comment on column billing.verified.held_micros is 'What of that was held, in µ$.';
comment on column billing.verified.debt_micros is 'What was owed, in µ$.';
comment on column billing.verified.provider_micros is
'What its account provider_clearing had, in µ$.';
comment on column billing.verified.verified_at is 'When its books agreed (UTC).';

-- billing.verify_books: every place where the books of these organizations (in the order of their
-- ids; null: all) disagree with themselves. It is one statement, so it sees one moment.
--
-- p_start is null, or the checkpoint of the only organization, from which on its transfers are
-- summed. What was before it is immutable and was found right; not looked at again are then: what
-- each grant has left, what each hold captured, each payment brought, refunds of spaces returned
-- and usage came to (all five need every transfer), the days of usage, and the transfers of grants
-- and purchases before it.
create function billing.verify_books(p_organization_ids uuid[], p_start billing.verified)
returns setof billing.difference
language plpgsql
stable
set search_path = pg_catalog, pg_temp
-- It reads everything once: a nested loop, chosen by a bad guess, would read it again and again.
set enable_nestloop = off
-- Planned for this many organizations, whatever the last call asked for.
set plan_cache_mode = force_custom_plan
set work_mem = '64MB'
as $$
declare
    v_after bigint := coalesce(p_start.sequence, 0);
    -- Neighbours are read in one go.
    v_first uuid := coalesce(p_organization_ids[1], '00000000-0000-0000-0000-000000000000');
    v_last uuid := coalesce(
        p_organization_ids[cardinality(p_organization_ids)], 'ffffffff-ffff-ffff-ffff-ffffffffffff'
    );
begin
    return query
    -- Not kept: to read the table again costs less than to write a copy of it.
    with transfers as not materialized (
        select
            t.*,
            case
                when t.credit_account = 'wallet' then t.amount_micros
                when t.debit_account = 'wallet' then -t.amount_micros
                else 0
            end as change_micros
        from billing.transfers as t
        where t.organization_id between v_first and v_last
            and (p_organization_ids is null or t.organization_id = any(p_organization_ids))
            and t.sequence > v_after
    ),
    wrong as (
        select *
        from (
            select
                t.organization_id, t.sequence, t.wallet_balance_micros,
                coalesce(p_start.settled_micros, 0)
                + sum(t.change_micros) over so_far as balance_micros,
                v_after + row_number() over so_far as number
            from transfers as t
            window so_far as (partition by t.organization_id order by t.sequence)
        ) as r
        where r.number <> r.sequence or r.balance_micros <> r.wallet_balance_micros
    ),
    ledger as (
        select
            t.organization_id,
            sum(t.change_micros) as settled_micros,
            sum(case
                when t.debit_account = 'debt' then t.amount_micros
                when t.credit_account = 'debt' then -t.amount_micros
            end) as debt_micros,
            sum(case
                when t.debit_account = 'provider_clearing' then t.amount_micros
                when t.credit_account = 'provider_clearing' then -t.amount_micros
            end) as provider_micros,
            count(*) as transfers
        from transfers as t
        group by t.organization_id
    ),
    grants as (
        select g.*
        from billing.grants as g
        where g.organization_id between v_first and v_last
            and (p_organization_ids is null or g.organization_id = any(p_organization_ids))
    ),
    draw_downs as (
        select d.*
        from billing.draw_downs as d
        where d.organization_id between v_first and v_last
            and (p_organization_ids is null or d.organization_id = any(p_organization_ids))
            and d.sequence > v_after
    ),
    holds as (
        select h.*
        from billing.holds as h
        where h.organization_id between v_first and v_last
            and (p_organization_ids is null or h.organization_id = any(p_organization_ids))
    ),
    sessions as (
        select s.*, h.captured_micros, h.due_at
        from billing.sessions as s
        inner join holds as h on h.organization_id = s.organization_id and h.id = s.id
        where s.organization_id between v_first and v_last
    ),
    storage as (
        select
            s.*, h.kind as hold_kind, h.captured_micros, h.captured_until, h.due_at,
            s.status in ('ready', 'grace', 'read_only', 'deletion_notice') as is_charged
        from billing.storage as s
        inner join holds as h on h.organization_id = s.organization_id and h.id = s.id
        where s.organization_id between v_first and v_last
    ),
    storage_periods as (
        select
            s.status, s.ready_at, s.is_charged, s.captured_micros, s.captured_until, p.*,
            lead(p.starts_at) over (
                partition by p.organization_id, p.storage_id order by p.starts_at
            ) as next_starts_at
        from storage as s
        inner join billing.storage_periods as p
            on p.organization_id = s.organization_id and p.storage_id = s.id
        where p.organization_id between v_first and v_last
    ),
    purchases as (
        select p.*
        from billing.purchases as p
        where p.organization_id between v_first and v_last
            and (p_organization_ids is null or p.organization_id = any(p_organization_ids))
    ),
    -- Those of months that have gone are told by their sums.
    usage as (
        select
            e.organization_id,
            sum(e.price_usd) * 1000000 as amount_micros,
            sum(e.events) filter (where e.is_folded) as folded_events,
            sum(e.cost_usd) filter (where e.is_folded) as folded_cost_usd,
            sum(e.price_usd) filter (where e.is_folded) as folded_price_usd
        from (
            select
                u.organization_id,
                u.price_usd,
                u.cost_usd,
                u.counted as events,
                u.review is null and u.id < (select billing.usage_folded_to()) as is_folded
            from billing.usage_events as u
            union all
            select a.organization_id, a.price_usd, a.cost_usd, a.events, true
            from billing.usage_archives as a
            inner join billing.usage_archived_months as m on m.month = a.month
        ) as e
        where e.organization_id between v_first and v_last
            and (p_organization_ids is null or e.organization_id = any(p_organization_ids))
            and p_start is null
        group by e.organization_id
    ),
    counters as (
        select
            c.organization_id, c.limit_id, c.starts_at, c.quantity,
            l.feature_id, l.passport_id, l.meter, l.period
        from billing.usage_counters as c
        cross join lateral (
            select k.*
            from billing.usage_limits as k
            where k.organization_id = c.organization_id and k.id = c.limit_id
        ) as l
        where c.organization_id between v_first and v_last
            and (p_organization_ids is null or c.organization_id = any(p_organization_ids))
            and p_start is null
            -- A period of a month that has gone is over: what it counted decides nothing any more.
            and (
                l.period = 'ever'
                or not exists (
                    select
                    from billing.usage_archived_months as m
                    where (m.month + interval '1 month') at time zone 'UTC' > c.starts_at
                )
            )
    ),
    usage_days as (
        select
            d.organization_id,
            sum(d.events) filter (where d.feature <> '') as events,
            sum(d.cost_usd) filter (where d.feature <> '') as cost_usd,
            sum(d.price_usd) filter (where d.feature <> '') as price_usd,
            sum(d.events) filter (where d.feature = '') as all_events,
            sum(d.cost_usd) filter (where d.feature = '') as all_cost_usd,
            sum(d.price_usd) filter (where d.feature = '') as all_price_usd
        from billing.usage_days as d
        where d.organization_id between v_first and v_last
            and (p_organization_ids is null or d.organization_id = any(p_organization_ids))
            and p_start is null
        group by d.organization_id
    ),
    wallets as (
        select w.*
        from billing.wallets as w
        where w.organization_id between v_first and v_last
            and (p_organization_ids is null or w.organization_id = any(p_organization_ids))
    ),
    differences (organization_id, rule, subject, expected, found) as (
        select w.organization_id, 'wallet settled = its transfers', null,
            coalesce(p_start.settled_micros, 0) + coalesce(l.settled_micros, 0), w.settled_micros
        from wallets as w
        left join ledger as l on l.organization_id = w.organization_id

        union all
        select w.organization_id, 'wallet sequence = number of transfers', null,
            v_after + coalesce(l.transfers, 0), w.last_sequence
        from wallets as w
        left join ledger as l on l.organization_id = w.organization_id

        union all
        select w.organization_id, 'wallet settled = what its grants have left', null,
            coalesce(sum(g.remaining_micros), 0), w.settled_micros
        from wallets as w
        left join grants as g on g.organization_id = w.organization_id
        group by w.organization_id, w.settled_micros

        union all
        select g.organization_id, 'wallet knows when its grants expire', g.id::text, 1, 0
        from grants as g
        inner join wallets as w on w.organization_id = g.organization_id
        where not g.is_used_up
            and g.expires_at is not null
            and (w.next_expiry_at <= g.expires_at) is not true

        union all
        select w.organization_id, 'wallet debt = its transfers', null,
            coalesce(p_start.debt_micros, 0) + coalesce(l.debt_micros, 0), w.debt_micros
        from wallets as w
        left join ledger as l on l.organization_id = w.organization_id

        union all
        select w.organization_id, 'wallet held = its open holds', null,
            coalesce(sum(h.amount_micros - h.captured_micros), 0), w.held_micros
        from wallets as w
        left join holds as h on h.organization_id = w.organization_id and h.due_at is not null
        group by w.organization_id, w.held_micros

        union all
        select l.organization_id, 'every ledger has a wallet', null, 1, 0
        from ledger as l
        where not exists (select from wallets as w where w.organization_id = l.organization_id)

        union all
        select r.organization_id, 'sequence has no gap', r.sequence::text, r.number, r.sequence
        from wrong as r

        union all
        select r.organization_id, 'balance after = running sum', r.sequence::text,
            r.balance_micros, r.wallet_balance_micros
        from wrong as r

        union all
        select g.organization_id, 'grant remaining = credits − draw-downs', g.id::text,
            coalesce(c.amount_micros, 0) - coalesce(d.amount_micros, 0), g.remaining_micros
        from grants as g
        left join (
            select t.organization_id, t.grant_id, sum(t.change_micros) as amount_micros
            from transfers as t
            where t.grant_id is not null
            group by t.organization_id, t.grant_id
        ) as c on c.organization_id = g.organization_id and c.grant_id = g.id
        left join (
            select r.organization_id, r.grant_id, sum(r.amount_micros) as amount_micros
            from draw_downs as r
            group by r.organization_id, r.grant_id
        ) as d on d.organization_id = g.organization_id and d.grant_id = g.id
        where p_start is null

        union all
        select t.organization_id, 'debit = its draw-downs', t.sequence::text,
            t.amount_micros,
            case when t.grant_id is null then 0 else t.amount_micros end
            + coalesce(d.amount_micros, 0)
        from transfers as t
        left join (
            select r.organization_id, r.sequence, sum(r.amount_micros) as amount_micros
            from draw_downs as r
            group by r.organization_id, r.sequence
        ) as d on d.organization_id = t.organization_id and d.sequence = t.sequence
        -- Here, too: most transfers are debits.
        where t.debit_account = 'wallet'
            and t.amount_micros is distinct from
            case when t.grant_id is null then 0 else t.amount_micros end
            + coalesce(d.amount_micros, 0)

        union all
        select d.organization_id, 'draw-down belongs to a debit', d.sequence::text, 1, 0
        from draw_downs as d
        left join transfers as t
            on t.organization_id = d.organization_id
            and t.sequence = d.sequence
            and t.debit_account = 'wallet'
        where t.sequence is null

        union all
        select g.organization_id, 'grant = the transfer that brought it', g.id::text,
            g.amount_micros, t.amount_micros
        from grants as g
        left join transfers as t
            on t.organization_id = g.organization_id
            and t.sequence = g.sequence
            and t.credit_account = 'wallet'
            and t.grant_id = g.id
        where g.sequence > v_after

        union all
        select t.organization_id, 'grant is brought once', t.sequence::text, g.sequence, t.sequence
        from transfers as t
        inner join grants as g on g.organization_id = t.organization_id and g.id = t.grant_id
        where t.credit_account = 'wallet'
            and t.reason not in ('refund_failed', 'dispute_won', 'usage_refund')

        union all
        select t.organization_id, 'credit has a grant', t.sequence::text, 1, 0
        from transfers as t
        left join grants as g on g.organization_id = t.organization_id and g.id = t.grant_id
        where t.credit_account = 'wallet' and g.id is null

        union all
        select p.organization_id, 'payment = its paid grant', p.id::text,
            p.amount_micros, coalesce(sum(g.amount_micros), 0)
        from billing.payments as p
        left join (
            grants as g
            inner join transfers as t
                on t.organization_id = g.organization_id
                and t.sequence = g.sequence
                and t.reason = 'top_up'
        ) on g.organization_id = p.organization_id and g.payment_id = p.id
        where p.organization_id between v_first and v_last
            and (p_organization_ids is null or p.organization_id = any(p_organization_ids))
            and p_start is null
        group by p.organization_id, p.id, p.amount_micros

        union all
        select p.organization_id, 'money at the provider = payments − returned − fees', null,
            sum(p.amount_micros - p.refunded_micros - p.disputed_micros - p.fee_micros),
            coalesce(p_start.provider_micros, 0) + coalesce(max(l.provider_micros), 0)
        from billing.payments as p
        left join ledger as l on l.organization_id = p.organization_id
        where p.organization_id between v_first and v_last
            and (p_organization_ids is null or p.organization_id = any(p_organization_ids))
        group by p.organization_id

        -- At most what was paid: money that was refunded and then disputed, too, went twice.
        union all
        select p.organization_id, 'payment returned = its refunds and disputes', p.id::text,
            least(p.amount_micros, (
                select
                    greatest(
                        0,
                        greatest(
                            max(r.amount_micros) filter (where r.kind = 'refund_total'),
                            sum(r.amount_micros) filter (where r.kind = 'refund')
                        )
                        - coalesce(
                            sum(r.amount_micros) filter (where r.kind = 'refund' and r.is_undone),
                            0
                        )
                    )
                    + coalesce(
                        sum(r.amount_micros) filter (where r.kind = 'dispute' and not r.is_undone),
                        0
                    )
                from billing.reversals as r
                where r.provider = p.provider and r.provider_payment_id = p.provider_payment_id
            )),
            p.refunded_micros + p.disputed_micros
        from billing.payments as p
        where p.organization_id between v_first and v_last
            and (p_organization_ids is null or p.organization_id = any(p_organization_ids))

        union all
        select g.organization_id, 'paid grant has a payment', g.id::text, 1, 0
        from grants as g
        left join billing.payments as p
            on p.organization_id = g.organization_id and p.id = g.payment_id
        where (g.payment_id is not null or g.category = 'paid') and p.id is null

        union all
        select g.organization_id, 'grant has a wallet', g.id::text, 1, 0
        from grants as g
        where not exists (select from wallets as w where w.organization_id = g.organization_id)

        union all
        select u.organization_id, 'paid top-up = its payment', u.id::text, 1, count(p.id)
        from billing.top_ups as u
        left join billing.payments as p
            on p.organization_id = u.organization_id and p.top_up_id = u.id
        where u.status = 'paid'
            and u.organization_id between v_first and v_last
            and (p_organization_ids is null or u.organization_id = any(p_organization_ids))
        group by u.organization_id, u.id

        union all
        select h.organization_id, 'hold captured = its transfers', h.id::text,
            coalesce(t.amount_micros, 0), h.captured_micros
        from holds as h
        left join (
            select c.organization_id, c.hold_id, sum(c.amount_micros) as amount_micros
            from transfers as c
            where c.hold_id is not null
            group by c.organization_id, c.hold_id
        ) as t on t.organization_id = h.organization_id and t.hold_id = h.id
        where p_start is null

        union all
        select t.organization_id, 'capture has its hold', t.sequence::text, 1, 0
        from transfers as t
        left join holds as h
            on h.organization_id = t.organization_id
            and h.id = t.hold_id
            and h.kind = case t.reason
                when 'session' then 'session'::billing.hold_kind
                when 'storage' then 'storage'
                else 'usage'
            end
        where t.reason in ('session', 'storage', 'capture') and h.id is null

        union all
        select h.organization_id, 'hold has a session', h.id::text, 1, 0
        from holds as h
        left join billing.sessions as s
            on s.organization_id = h.organization_id
            and s.id = h.id
            and s.organization_id between v_first and v_last
        where h.kind = 'session' and s.id is null

        union all
        select s.organization_id, 'closed session charged = exact duration × price', s.id::text,
            billing.session_cost(s.hourly_price_micros, s.started_at, s.ended_at), s.captured_micros
        from sessions as s
        where s.ended_at is not null

        union all
        select s.organization_id, 'hold is open while its session runs', s.id::text,
            case when s.ended_at is null then 1 else 0 end,
            case when s.due_at is not null then 1 else 0 end
        from sessions as s

        union all
        select h.organization_id, 'hold has storage', h.id::text, 1, 0
        from holds as h
        left join storage as s on s.organization_id = h.organization_id and s.id = h.id
        where h.kind = 'storage' and s.id is null

        union all
        select s.organization_id, 'hold is open while its storage is kept', s.id::text,
            case when s.is_charged or s.status in ('requested', 'provisioning') then 1 else 0 end,
            case when s.due_at is not null and s.hold_kind = 'storage' then 1 else 0 end
        from storage as s

        -- Less only where the money had run out.
        union all
        select s.organization_id, 'storage charged = GB × exact duration × price', s.id::text,
            case s.status
                when 'ready' then c.cost_micros
                else least(c.cost_micros, s.captured_micros)
            end,
            s.captured_micros
        from storage as s
        cross join lateral (
            select billing.storage_cost(s.organization_id, s.id, s.captured_until) as cost_micros
        ) as c

        union all
        select s.organization_id, 'storage is charged from its first second', s.id::text,
            extract(epoch from s.ready_at), extract(epoch from min(p.starts_at))
        from storage as s
        left join storage_periods as p
            on p.organization_id = s.organization_id and p.storage_id = s.id
        group by s.organization_id, s.id, s.ready_at

        -- Where the clock went back before the end, the last one is empty.
        union all
        select p.organization_id, 'storage periods adjoin', p.storage_id::text,
            extract(epoch from coalesce(
                p.next_starts_at,
                case when not p.is_charged then greatest(p.starts_at, p.captured_until) end
            )),
            extract(epoch from p.ends_at)
        from storage_periods as p

        union all
        select p.organization_id, 'purchase = its transfer', p.id::text,
            p.price_micros, t.amount_micros
        from purchases as p
        left join transfers as t
            on t.organization_id = p.organization_id
            and t.sequence = p.sequence
            and t.reason = 'space'
            and t.debit_account = 'wallet'
        where p.sequence > v_after

        union all
        select t.organization_id, 'space is charged for a purchase', t.sequence::text, 1, 0
        from transfers as t
        left join purchases as p
            on p.organization_id = t.organization_id and p.sequence = t.sequence
        where t.reason = 'space' and p.id is null

        union all
        select w.organization_id, 'returned for spaces = refunded purchases', null,
            coalesce(p.price_micros, 0), coalesce(t.amount_micros, 0)
        from wallets as w
        left join (
            select r.organization_id, sum(r.price_micros) as price_micros
            from purchases as r
            where r.refunded_at is not null
            group by r.organization_id
        ) as p on p.organization_id = w.organization_id
        left join (
            select r.organization_id, sum(r.amount_micros) as amount_micros
            from transfers as r
            where r.reason = 'space_refund'
            group by r.organization_id
        ) as t on t.organization_id = w.organization_id
        where p_start is null

        union all
        select w.organization_id, 'usage charged = its events', null,
            coalesce(e.amount_micros, 0),
            coalesce(t.amount_micros, 0) + w.usage_remainder_usd * 1000000
        from wallets as w
        left join usage as e on e.organization_id = w.organization_id
        left join (
            select
                r.organization_id,
                sum(
                    case r.reason when 'usage' then r.amount_micros else -r.amount_micros end
                ) as amount_micros
            from transfers as r
            where r.reason in ('usage', 'usage_refund')
            group by r.organization_id
        ) as t on t.organization_id = w.organization_id
        where p_start is null

        union all
        select c.organization_id, 'usage counted = its events', c.limit_id::text,
            billing.used(
                c.organization_id, c.feature_id, c.passport_id, c.meter, c.period, c.starts_at
            ),
            c.quantity
        from counters as c

        union all
        select w.organization_id, 'usage days = their events', v.subject,
            coalesce(v.expected, 0), coalesce(v.found, 0)
        from wallets as w
        left join usage as e on e.organization_id = w.organization_id
        left join usage_days as d on d.organization_id = w.organization_id
        cross join lateral (
            values
            ('events', e.folded_events, d.events),
            ('cost, µ$', e.folded_cost_usd * 1000000, d.cost_usd * 1000000),
            ('price, µ$', e.folded_price_usd * 1000000, d.price_usd * 1000000),
            ('events, all features', e.folded_events, d.all_events),
            ('cost, µ$, all features', e.folded_cost_usd * 1000000, d.all_cost_usd * 1000000),
            ('price, µ$, all features', e.folded_price_usd * 1000000, d.all_price_usd * 1000000)
        ) as v (subject, expected, found)
        where p_start is null

        union all
        select c.organization_id, 'corrected usage is not below zero', c.corrects_id::text, 1, 0
        from (
            select distinct e.organization_id, e.corrects_id
            from billing.usage_events as e
            inner join billing.usage_events as o
                on o.organization_id = e.organization_id and o.id = e.corrects_id
            where e.corrects_id is not null
                and e.organization_id between v_first and v_last
                and (p_organization_ids is null or e.organization_id = any(p_organization_ids))
                and p_start is null
        ) as c
        cross join lateral billing.sum_up_usage(c.organization_id, c.corrects_id) as s
        where s.cost_usd < 0
            -- With tiers an event costs what it adds to the price of all.
            or s.price_usd < 0 and not s.is_tiered
            or s.counted not in (0, 1)
            or jsonb_path_exists(s.quantities, '$.* ? (@ < 0)')
            or s.counted = 0 and (
                s.price_usd > 0 and not s.is_tiered or s.cost_usd > 0 or s.quantities <> '{}'
            )
    )
    select d.organization_id, d.rule, d.subject, d.expected, d.found
    from differences as d
    where d.expected is distinct from d.found;
end
$$;

-- billing.verify: every place where the books disagree with themselves; no row is the only good
-- answer. p_organization_id null: all organizations.
create function billing.verify(p_organization_id uuid default null)
returns setof billing.difference
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select v.*
    from billing.verify_books(
        case when p_organization_id is not null then array[p_organization_id] end, null
    ) as v;
end
$$;
