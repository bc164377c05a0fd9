-- The ledger: each organization is one of its own. Wallets, grants, transfers, draw-downs.
--
-- Every transfer goes through billing.post, credit_wallet, debit_wallet or debit_wallets below;
-- nothing else moves money.
-- Locks: idempotency key, then payment, top-up or hold, then wallets in the order of their
-- organization.

create type billing.account as enum (
    'wallet',
    'debt',
    'provider_clearing',
    'provider_fees',
    'promotion',
    'expired',
    'revenue_sessions',
    'revenue_usage',
    'revenue_storage',
    'revenue_spaces'
);
comment on type billing.account is
'An account is (organization, account). The wallet keeps a running balance; any other''s balance is
the sum of its transfers: what it was credited less what it was debited.';

create type billing.reason as enum (
    'registration_bonus',
    'promotion',
    'top_up',
    'top_up_bonus',
    'session',
    'capture',
    'usage',
    'usage_refund',
    'storage',
    'space',
    'space_refund',
    'expiry',
    'refund',
    'refund_failed',
    'dispute',
    'dispute_won',
    'dispute_fee',
    'debt_repayment'
);
comment on type billing.reason is 'What a transfer is for.';

-- billing.largest_amount: a billion dollars, in µ$: no more moves at once, is in a wallet, or is
-- owed for usage, so that sums stay far from the end of a bigint.
create function billing.largest_amount()
returns bigint
language sql
immutable parallel safe
return 1000000000000000;

-- billing.required_micros: a price in whole µ$, for whoever is told what is missing: where it is
-- more than any wallet holds, a number still.
create function billing.required_micros(p_price_usd numeric)
returns bigint
language sql
immutable parallel safe
return least(ceil(p_price_usd * 1000000), 9000000000000000000)::bigint;

create type billing.grant_category as enum ('promotional', 'paid');

-- A domain, where a column allows it: Postgres reads a CHECK anew for each statement, and on the
-- path of every charge that is a third of the time.
create domain billing.amount as bigint
constraint amount_in_bounds check (value between 1 and 1000000000000000);
comment on domain billing.amount is
'A positive amount of money in µ$, at most a billion dollars: sums of them stay far from the end of
a bigint.';

create table billing.wallets (
    organization_id uuid primary key references billing.organizations (id),
    settled_micros bigint not null default 0,
    held_micros bigint not null default 0,
    debt_micros bigint not null default 0,
    usage_remainder_usd numeric not null default 0,
    next_expiry_at timestamptz,
    last_sequence bigint not null default 0,
    constraint wallets_settled_covers_held check (
        settled_micros >= held_micros and held_micros >= 0 and debt_micros >= 0
    ),
    constraint wallets_remainder_below_a_micro check (
        usage_remainder_usd >= 0 and usage_remainder_usd < 0.000001
    )
)
-- The row is rewritten by every movement: room on the page keeps those updates heap-only.
with (fillfactor = 50);
alter table billing.wallets enable row level security;
comment on table billing.wallets is 'The prepaid balance of an organization.';
comment on column billing.wallets.organization_id is 'The organization it belongs to.';
comment on column billing.wallets.settled_micros is
'The balance in µ$: what came in less what went out.';
comment on column billing.wallets.held_micros is
'What of it open holds keep, in µ$. Available is settled − held.';
comment on column billing.wallets.debt_micros is
'Money in µ$ that the provider gave back after it had been spent. While there is any, the
organization is frozen.';
comment on column billing.wallets.usage_remainder_usd is
'What usage came to beyond the whole µ$ that were charged for it, in USD: it counts with the next.';
comment on column billing.wallets.next_expiry_at is
'Before then (UTC) none of its grants expires, so that a hold need not look.';
comment on column billing.wallets.last_sequence is
'The number of its newest transfer; 0: there is none.';

create table billing.grants (
    organization_id uuid not null,
    id uuid not null default billing.uuidv7(),
    category billing.grant_category not null,
    priority smallint not null default 100,
    amount_micros billing.amount not null,
    remaining_micros bigint not null,
    is_used_up boolean not null generated always as (remaining_micros = 0) stored,
    payment_id uuid,
    note text,
    effective_at timestamptz not null default billing.now(),
    expires_at timestamptz,
    sequence bigint,
    primary key (organization_id, id),
    constraint grants_remaining_in_bounds check (remaining_micros between 0 and amount_micros)
)
with (fillfactor = 50);
alter table billing.grants enable row level security;
-- The draw-down order. On the flag, not on the amount: the flag seldom changes, so that a draw-down
-- stays a heap-only update.
create index grants_in_draw_down_order on billing.grants (
    organization_id, priority, expires_at nulls last, category, id
) where not is_used_up;
create index grants_payment on billing.grants (payment_id)
where payment_id is not null;
create index grants_expiring on billing.grants (expires_at)
where not is_used_up and expires_at is not null;
create index grants_scheduled on billing.grants (effective_at) where sequence is null;
comment on table billing.grants is
'A lot of money in a wallet. Draw-down order: priority, earliest expiry (none last), promotional
first, oldest. The sum of what remains is the wallet''s settled balance. No foreign key: whoever
makes a grant has just updated the wallet.';
comment on column billing.grants.organization_id is 'The organization it belongs to.';
comment on column billing.grants.id is 'Time-ordered (UUIDv7).';
comment on column billing.grants.category is
'paid: bought by the customer. promotional: given to them.';
comment on column billing.grants.priority is 'Lower numbers are drawn first.';
comment on column billing.grants.amount_micros is 'What it brought, in µ$.';
comment on column billing.grants.remaining_micros is
'What of that is neither spent nor taken back, in µ$.';
comment on column billing.grants.is_used_up is 'Whether nothing remains.';
comment on column billing.grants.payment_id is
'The payment whose money or bonus it is; null: it came without one.';
comment on column billing.grants.note is 'Why an operator gave it; the customer reads this.';
comment on column billing.grants.effective_at is 'Its money is not there before (UTC).';
comment on column billing.grants.expires_at is
'From then on (UTC) what remains is taken, but not what a hold keeps; null: never.';
comment on column billing.grants.sequence is
'The transfer that brought it; null: it is not effective yet and nothing remains.';

create table billing.transfers (
    organization_id uuid not null,
    sequence bigint not null,
    debit_account billing.account not null,
    credit_account billing.account not null,
    amount_micros billing.amount not null,
    wallet_balance_micros bigint not null,
    reason billing.reason not null,
    grant_id uuid,
    hold_id uuid,
    created_at timestamptz not null default billing.now(),
    primary key (organization_id, sequence),
    constraint transfers_accounts_differ check (debit_account <> credit_account)
);
alter table billing.transfers enable row level security;
comment on table billing.transfers is
'One movement of money: one account debited, one credited, a positive amount. Append-only. No
foreign keys: they would cost more than the row itself, and only this file writes here.
billing.verify checks what they would.';
comment on column billing.transfers.organization_id is 'The organization it belongs to.';
comment on column billing.transfers.sequence is
'Its number within the organization: from 1 on, without a gap.';
comment on column billing.transfers.debit_account is 'Where the money comes from.';
comment on column billing.transfers.credit_account is 'Where it goes.';
comment on column billing.transfers.amount_micros is 'In µ$, always positive.';
comment on column billing.transfers.wallet_balance_micros is
'The wallet''s settled balance after it, in µ$.';
comment on column billing.transfers.reason is 'What the money moved for.';
comment on column billing.transfers.grant_id is
'The grant that a credit went to, or that alone paid a debit; null: several did.';
comment on column billing.transfers.hold_id is
'The hold that it was captured from; that of a session or of storage has its id.';
comment on column billing.transfers.created_at is 'When the money moved (UTC).';

create table billing.draw_downs (
    organization_id uuid not null,
    sequence bigint not null,
    grant_id uuid not null,
    amount_micros billing.amount not null,
    primary key (organization_id, sequence, grant_id)
);
alter table billing.draw_downs enable row level security;
comment on table billing.draw_downs is
'Which grants paid a transfer out of the wallet that more than one grant paid, and how much each.
Append-only.';
comment on column billing.draw_downs.organization_id is 'The organization it belongs to.';
comment on column billing.draw_downs.sequence is 'The transfer that was paid.';
comment on column billing.draw_downs.grant_id is 'One of the grants that paid it.';
comment on column billing.draw_downs.amount_micros is 'How much this grant paid, in µ$.';

create trigger transfers_append_only before update or delete on billing.transfers
for each row execute function billing.refuse_change();
create trigger transfers_no_truncate before truncate on billing.transfers
for each statement execute function billing.refuse_change();
create trigger draw_downs_append_only before update or delete on billing.draw_downs
for each row execute function billing.refuse_change();
create trigger draw_downs_no_truncate before truncate on billing.draw_downs
for each statement execute function billing.refuse_change();

create view billing.draws with (security_invoker = true) as
select
    t.organization_id,
    t.sequence,
    t.grant_id,
    t.amount_micros
from billing.transfers as t
where t.debit_account = 'wallet' and t.grant_id is not null
union all
select
    d.organization_id,
    d.sequence,
    d.grant_id,
    d.amount_micros
from billing.draw_downs as d;
comment on view billing.draws is
'Which grants paid every transfer out of a wallet, one or several.';
comment on column billing.draws.sequence is 'The transfer that was paid.';
comment on column billing.draws.grant_id is 'The grant that paid it, or one of them.';
comment on column billing.draws.amount_micros is 'How much this grant paid, in µ$.';
call billing.inherit_comments('billing.draws');

create view api.wallets with (security_invoker = true) as
select
    w.organization_id,
    w.settled_micros,
    w.held_micros,
    w.settled_micros - w.held_micros as available_micros,
    w.debt_micros
from billing.wallets as w;
comment on view api.wallets is 'The balance: available = settled − held, and what is owed, in µ$.';
comment on column api.wallets.available_micros is
'What can be spent or held now, in µ$: settled − held.';
call billing.inherit_comments('api.wallets');

create view api.transactions with (security_invoker = true) as
select
    t.organization_id,
    t.sequence,
    t.reason,
    case when t.credit_account = 'wallet' then t.amount_micros else -t.amount_micros end
        as amount_micros,
    t.wallet_balance_micros as balance_micros,
    case when t.reason = 'session' then t.hold_id end as session_id,
    case when t.reason = 'storage' then t.hold_id end as storage_id,
    t.hold_id,
    t.grant_id,
    t.created_at
from billing.transfers as t
where 'wallet' in (t.debit_account, t.credit_account);
comment on view api.transactions is
'The ledger as its owner sees it: signed amounts and the balance after each, in µ$.';
comment on column api.transactions.amount_micros is
'In µ$: positive into the wallet, negative out of it.';
comment on column api.transactions.balance_micros is 'The settled balance after it, in µ$.';
comment on column api.transactions.session_id is 'The session that it was charged for.';
comment on column api.transactions.storage_id is 'The storage that it was charged for.';
call billing.inherit_comments('api.transactions');

-- billing.post: move money between two accounts of an organization: one transfer, and the running
-- balances of its wallet and its debt. What a grant has left of it is the caller's to keep.
-- Returns the transfer's number.
--
-- Raises  check violation of the wallet  the money is not there: callers check first
-- Locks   the wallet.
create function billing.post(
    p_organization_id uuid,
    p_debit billing.account,
    p_credit billing.account,
    p_amount_micros bigint,
    p_reason billing.reason,
    p_grant_id uuid
)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_settled_micros bigint;
    v_sequence bigint;
begin
    update billing.wallets as w
    set
        settled_micros = w.settled_micros + case
            when p_credit = 'wallet' then p_amount_micros
            when p_debit = 'wallet' then -p_amount_micros
            else 0
        end,
        debt_micros = w.debt_micros + case
            when p_debit = 'debt' then p_amount_micros
            when p_credit = 'debt' then -p_amount_micros
            else 0
        end,
        last_sequence = w.last_sequence + 1
    where w.organization_id = p_organization_id
    returning w.settled_micros, w.last_sequence into strict v_settled_micros, v_sequence;
    insert into billing.transfers (
        organization_id, sequence, debit_account, credit_account,
        amount_micros, wallet_balance_micros, reason, grant_id
    )
    values (
        p_organization_id, v_sequence, p_debit, p_credit,
        p_amount_micros, v_settled_micros, p_reason, p_grant_id
    );
    return v_sequence;
end
$$;

-- billing.has_room: whether a wallet can take so much more: it holds a billion dollars at most.
--
-- Locks   the wallet, where it can.
create function billing.has_room(p_organization_id uuid, p_amount_micros bigint)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from billing.wallets as w
    where w.organization_id = p_organization_id
        and w.settled_micros + p_amount_micros <= billing.largest_amount()
    for no key update;
    return found;
end
$$;

-- billing.credit_wallet: put money into a wallet as a new grant. A debt is repaid from it at once.
-- Returns the grant's id.
--
-- Locks   the wallet.
create function billing.credit_wallet(
    p_organization_id uuid,
    p_amount_micros bigint,
    p_category billing.grant_category,
    p_from billing.account,
    p_reason billing.reason,
    p_payment_id uuid
)
returns uuid
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_grant_id uuid := billing.uuidv7();
    v_settled_micros bigint;
    v_sequence bigint;
    v_is_in_debt boolean;
begin
    update billing.wallets as w
    set
        settled_micros = w.settled_micros + p_amount_micros,
        last_sequence = w.last_sequence + 1
    where w.organization_id = p_organization_id
    returning w.settled_micros, w.last_sequence, w.debt_micros > 0
    into strict v_settled_micros, v_sequence, v_is_in_debt;
    insert into billing.grants (
        organization_id, id, category, amount_micros, remaining_micros, payment_id, sequence
    )
    values (
        p_organization_id, v_grant_id, p_category, p_amount_micros, p_amount_micros, p_payment_id,
        v_sequence
    );
    insert into billing.transfers (
        organization_id, sequence, debit_account, credit_account,
        amount_micros, wallet_balance_micros, reason, grant_id
    )
    values (
        p_organization_id, v_sequence, p_from, 'wallet',
        p_amount_micros, v_settled_micros, p_reason, v_grant_id
    );
    if v_is_in_debt then
        perform billing.repay_debt(p_organization_id);
    end if;
    return v_grant_id;
end
$$;

create type billing.debit as (
    organization_id uuid,
    amount_micros bigint,
    held_change_micros bigint,
    credit_account billing.account,
    reason billing.reason,
    hold_id uuid
);
comment on type billing.debit is
'Money to take out of a wallet (0: none) and by how much what is held
in it changes at the same moment.';

-- billing.debit_wallet: the debit rule. One debit from one wallet becomes one transfer (none when
-- it is 0) and is drawn from the wallet's grants in draw-down order until it is paid.
--
-- Raises  check violation of the wallet or its transfer  no hold or balance covers the debit:
--                                                      callers check first
-- Locks   the wallet.
create function billing.debit_wallet(p_debit billing.debit, p_now timestamptz)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_settled_micros bigint;
    v_sequence bigint;
    v_grant record;
    v_left_micros bigint := p_debit.amount_micros;
    v_drawn_micros bigint;
    v_only_grant_id uuid;
begin
    update billing.wallets as w
    set
        settled_micros = w.settled_micros - p_debit.amount_micros,
        held_micros = w.held_micros + p_debit.held_change_micros,
        last_sequence = w.last_sequence + sign(p_debit.amount_micros)::bigint
    where w.organization_id = p_debit.organization_id
    returning w.settled_micros, w.last_sequence into strict v_settled_micros, v_sequence;
    if p_debit.amount_micros = 0 then
        return;
    end if;
    -- Mostly the first grant pays it all.
    update billing.grants as g
    set
        remaining_micros = g.remaining_micros - p_debit.amount_micros
    where
        g.organization_id = p_debit.organization_id
        and g.id = (
            select f.id
            from billing.grants as f
            where f.organization_id = p_debit.organization_id and not f.is_used_up
            order by
                f.priority asc, f.expires_at asc nulls last,
                f.category asc, f.id asc
            limit 1
        )
        and g.remaining_micros >= p_debit.amount_micros
    returning g.id into v_only_grant_id;
    if not found then
        for v_grant in
            select g.id, g.remaining_micros
            from billing.grants as g
            where g.organization_id = p_debit.organization_id and not g.is_used_up
            order by
                g.priority asc, g.expires_at asc nulls last,
                g.category asc, g.id asc
        loop
            v_drawn_micros := least(v_left_micros, v_grant.remaining_micros);
            update billing.grants as g
            set
                remaining_micros = g.remaining_micros - v_drawn_micros
            where g.organization_id = p_debit.organization_id and g.id = v_grant.id;
            insert into billing.draw_downs (organization_id, sequence, grant_id, amount_micros)
            values (
                p_debit.organization_id, v_sequence, v_grant.id, v_drawn_micros
            );
            v_left_micros := v_left_micros - v_drawn_micros;
            exit when v_left_micros = 0;
        end loop;
    end if;
    insert into billing.transfers (
        organization_id, sequence, debit_account, credit_account, amount_micros,
        wallet_balance_micros, reason, grant_id, hold_id, created_at
    )
    values (
        p_debit.organization_id, v_sequence, 'wallet', p_debit.credit_account,
        p_debit.amount_micros, v_settled_micros, p_debit.reason, v_only_grant_id,
        p_debit.hold_id, p_now
    );
end
$$;

-- billing.debit_wallets: billing.debit_wallet for many debits at once, with the same result as one
-- by one in the order given, in a small part of the time.
--
-- Think of a wallet's debits and of its grants as two rulers laid side by side: where a piece of
-- one overlaps a piece of the other, that much of this debit is drawn from that grant.
--
-- p_remainders_usd: beside the only debit of each wallet, what usage leaves of a µ$.
--
-- Raises  check violation of the wallet or its transfer  a debit that no hold or balance covers:
--                                                      callers check first
-- Locks   nothing new: the caller holds the wallets' locks, taken in the order of organization_id
--         in an earlier statement, because this one reads the grants as they were when it began.
create function billing.debit_wallets(
    p_debits billing.debit[], p_now timestamptz, p_remainders_usd numeric[] default null
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
-- One plan for ten debits and for a thousand: every join below goes from a row to others
-- by their key.
set plan_cache_mode = force_generic_plan
set enable_seqscan = off
as $$
begin
    with debits as materialized (
        select
            d.organization_id,
            d.amount_micros,
            d.held_change_micros,
            d.credit_account,
            d.reason,
            d.hold_id,
            d.remainder_usd,
            w.settled_micros,
            w.last_sequence,
            (sum(d.amount_micros) over up_to_here)::bigint as end_micros,
            count(*) filter (where d.amount_micros > 0) over up_to_here as number
        from unnest(p_debits, p_remainders_usd) with ordinality as d (
            organization_id, amount_micros, held_change_micros, credit_account, reason, hold_id,
            remainder_usd, position
        )
        inner join billing.wallets as w on w.organization_id = d.organization_id
        window up_to_here as (partition by d.organization_id order by d.position)
    ),
    draws as materialized (
        select
            d.*,
            l.id as grant_id,
            l.end_micros - l.remaining_micros <= d.end_micros - d.amount_micros as is_first,
            least(d.end_micros, l.end_micros)
            - greatest(d.end_micros - d.amount_micros, l.end_micros - l.remaining_micros)
            as drawn_micros
        from debits as d
        cross join lateral (
            select
                g.id,
                g.remaining_micros,
                (sum(g.remaining_micros) over (
                    order by
                        g.priority asc, g.expires_at asc nulls last,
                        g.category asc, g.id asc
                ))::bigint as end_micros
            from billing.grants as g
            where g.organization_id = d.organization_id and not g.is_used_up
        ) as l
        where d.amount_micros > 0
            and l.end_micros > d.end_micros - d.amount_micros
            and l.end_micros - l.remaining_micros < d.end_micros
    ),
    wallets as (
        update billing.wallets as w
        set
            settled_micros = w.settled_micros - t.amount_micros,
            held_micros = w.held_micros + t.held_change_micros,
            usage_remainder_usd = coalesce(t.remainder_usd, w.usage_remainder_usd),
            last_sequence = w.last_sequence + t.count
        from (
            select
                d.organization_id,
                sum(d.amount_micros)::bigint as amount_micros,
                sum(d.held_change_micros)::bigint as held_change_micros,
                max(d.remainder_usd) as remainder_usd,
                max(d.number) as count
            from debits as d
            group by d.organization_id
        ) as t
        where w.organization_id = t.organization_id
    ),
    transfers as (
        insert into billing.transfers (
            organization_id, sequence, debit_account, credit_account, amount_micros,
            wallet_balance_micros, reason, grant_id, hold_id, created_at
        )
        select
            r.organization_id,
            r.last_sequence + r.number,
            'wallet',
            r.credit_account,
            r.amount_micros,
            r.settled_micros - r.end_micros,
            r.reason,
            case when r.drawn_micros = r.amount_micros then r.grant_id end,
            r.hold_id,
            p_now
        from draws as r
        where r.is_first
    ),
    draw_downs as (
        insert into billing.draw_downs (organization_id, sequence, grant_id, amount_micros)
        select r.organization_id, r.last_sequence + r.number, r.grant_id, r.drawn_micros
        from draws as r
        where r.drawn_micros < r.amount_micros
    )
    update billing.grants as g
    set
        remaining_micros = g.remaining_micros - k.amount_micros
    from (
        select r.organization_id, r.grant_id, sum(r.drawn_micros)::bigint as amount_micros
        from draws as r
        group by r.organization_id, r.grant_id
    ) as k
    where g.organization_id = k.organization_id and g.id = k.grant_id;
end
$$;

-- billing.debit_grant: take money out of a wallet, out of one grant alone.
--
-- Raises  check violation of the wallet or the grant  the money is not there: callers check first
-- Locks   the wallet.
create function billing.debit_grant(
    p_organization_id uuid,
    p_grant_id uuid,
    p_amount_micros bigint,
    p_to billing.account,
    p_reason billing.reason
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.post(
        p_organization_id, 'wallet', p_to, p_amount_micros, p_reason, p_grant_id
    );
    update billing.grants as g
    set remaining_micros = g.remaining_micros - p_amount_micros
    where g.organization_id = p_organization_id and g.id = p_grant_id;
end
$$;

-- billing.repay_debt: whatever is available goes first to what is owed.
--
-- Locks   the wallet, where there is a debt.
create function billing.repay_debt(p_organization_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount_micros bigint;
begin
    select least(w.debt_micros, w.settled_micros - w.held_micros) into strict v_amount_micros
    from billing.wallets as w
    where w.organization_id = p_organization_id;
    if v_amount_micros > 0 then
        perform billing.debit_wallet(
            row(
                p_organization_id, v_amount_micros, 0, 'debt', 'debt_repayment', null
            )::billing.debit,
            billing.now()
        );
        update billing.wallets as w
        set debt_micros = w.debt_micros - v_amount_micros
        where w.organization_id = p_organization_id;
    end if;
end
$$;
