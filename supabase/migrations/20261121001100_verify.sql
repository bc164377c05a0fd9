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

-- billing.verify: every place where the books disagree with themselves;
-- no row is the only good answer.
-- p_organization_id null: all organizations. Run it where a consistent snapshot is seen:
-- it is one statement.
create function billing.verify(p_organization_id uuid default null)
returns setof billing.difference
language plpgsql
stable
set search_path = ''
-- It reads everything once: a nested loop, chosen by a bad guess, would read it again and again.
set enable_nestloop = off
as $$
begin
    return query
    with transfers as (
        select
            t.*,
            case
                when t.credit_account = 'wallet' then t.amount_micros
                when t.debit_account = 'wallet' then -t.amount_micros
                else 0
            end as change_micros
        from billing.transfers as t
        where p_organization_id is null or t.organization_id = p_organization_id
    ),
    running as (
        select
            t.organization_id, t.sequence, t.wallet_balance_micros,
            sum(t.change_micros) over so_far as balance_micros,
            row_number() over so_far as number
        from transfers as t
        window so_far as (partition by t.organization_id order by t.sequence)
    ),
    ledger as (
        select
            t.organization_id,
            sum(t.change_micros) as settled_micros,
            sum(case
                when t.debit_account = 'debt' then t.amount_micros
                when t.credit_account = 'debt' then -t.amount_micros
            end) as debt_micros,
            count(*) as transfers
        from transfers as t
        group by t.organization_id
    ),
    grants as (
        select g.*
        from billing.grants as g
        where p_organization_id is null or g.organization_id = p_organization_id
    ),
    draws as (
        select d.*
        from billing.draws as d
        where p_organization_id is null or d.organization_id = p_organization_id
    ),
    holds as (
        select h.*
        from billing.holds as h
        where p_organization_id is null or h.organization_id = p_organization_id
    ),
    sessions as (
        select s.*, h.captured_micros, h.due_at
        from billing.sessions as s
        inner join holds as h on h.organization_id = s.organization_id and h.id = s.id
    ),
    wallets as (
        select w.*
        from billing.wallets as w
        where p_organization_id is null or w.organization_id = p_organization_id
    ),
    differences (organization_id, rule, subject, expected, found) as (
        select w.organization_id, 'wallet settled = its transfers', null,
            coalesce(l.settled_micros, 0), w.settled_micros
        from wallets as w
        left join ledger as l on l.organization_id = w.organization_id

        union all
        select w.organization_id, 'wallet sequence = number of transfers', null,
            coalesce(l.transfers, 0), w.last_sequence
        from wallets as w
        left join ledger as l on l.organization_id = w.organization_id

        union all
        select w.organization_id, 'wallet settled = what its grants have left', null,
            coalesce(sum(g.remaining_micros), 0), w.settled_micros
        from wallets as w
        left join grants as g on g.organization_id = w.organization_id
        group by w.organization_id, w.settled_micros

        union all
        select w.organization_id, 'wallet debt = its transfers', null,
            coalesce(l.debt_micros, 0), w.debt_micros
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
        from running as r

        union all
        select r.organization_id, 'balance after = running sum', r.sequence::text,
            r.balance_micros, r.wallet_balance_micros
        from running as r

        union all
        select g.organization_id, 'grant remaining = credits − draw-downs', g.id::text,
            coalesce(c.amount_micros, 0) - coalesce(d.amount_micros, 0), g.remaining_micros
        from grants as g
        left join (
            select t.organization_id, t.grant_id, sum(t.amount_micros) as amount_micros
            from transfers as t
            where t.credit_account = 'wallet'
            group by t.organization_id, t.grant_id
        ) as c on c.organization_id = g.organization_id and c.grant_id = g.id
        left join (
            select r.organization_id, r.grant_id, sum(r.amount_micros) as amount_micros
            from draws as r
            group by r.organization_id, r.grant_id
        ) as d on d.organization_id = g.organization_id and d.grant_id = g.id

        union all
        select t.organization_id, 'debit = its draw-downs', t.sequence::text,
            t.amount_micros, coalesce(sum(d.amount_micros), 0)
        from transfers as t
        left join draws as d on d.organization_id = t.organization_id and d.sequence = t.sequence
        where t.debit_account = 'wallet'
        group by t.organization_id, t.sequence, t.amount_micros

        union all
        select d.organization_id, 'draw-down belongs to a debit', d.sequence::text, 1, 0
        from draws as d
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
        where g.sequence is not null

        union all
        select t.organization_id, 'grant is brought once', t.sequence::text, g.sequence, t.sequence
        from transfers as t
        inner join grants as g on g.organization_id = t.organization_id and g.id = t.grant_id
        where t.credit_account = 'wallet' and t.reason not in ('refund_failed', 'dispute_won')

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
        where p_organization_id is null or p.organization_id = p_organization_id
        group by p.organization_id, p.id, p.amount_micros

        union all
        select p.organization_id, 'money at the provider = payments − returned − fees', null,
            sum(p.amount_micros - p.refunded_micros - p.disputed_micros - p.fee_micros),
            coalesce(max(c.amount_micros), 0)
        from billing.payments as p
        left join (
            select
                t.organization_id,
                sum(case
                    when t.debit_account = 'provider_clearing' then t.amount_micros
                    when t.credit_account = 'provider_clearing' then -t.amount_micros
                end) as amount_micros
            from transfers as t
            group by t.organization_id
        ) as c on c.organization_id = p.organization_id
        where p_organization_id is null or p.organization_id = p_organization_id
        group by p.organization_id

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
            and (p_organization_id is null or u.organization_id = p_organization_id)
        group by u.organization_id, u.id

        union all
        select h.organization_id, 'hold captured = its transfers', h.id::text,
            coalesce(sum(t.amount_micros), 0), h.captured_micros
        from holds as h
        left join transfers as t on t.organization_id = h.organization_id and t.hold_id = h.id
        group by h.organization_id, h.id, h.captured_micros

        union all
        select t.organization_id, 'capture has its hold', t.sequence::text, 1, 0
        from transfers as t
        left join holds as h
            on h.organization_id = t.organization_id
            and h.id = t.hold_id
            and (h.kind = 'session') = (t.reason = 'session')
        where t.reason in ('session', 'capture') and h.id is null

        union all
        select h.organization_id, 'hold has a session', h.id::text, 1, 0
        from holds as h
        left join billing.sessions as s on s.organization_id = h.organization_id and s.id = h.id
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
    )
    select d.organization_id, d.rule, d.subject, d.expected, d.found
    from differences as d
    where d.expected is distinct from d.found;
end
$$;
