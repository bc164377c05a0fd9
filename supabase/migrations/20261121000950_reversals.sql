-- Money that goes back: refunds and disputes.
--
-- The provider's objects are kept as they last were; the ledger follows them. So it does not matter
-- in which order the news come, or whether some come before the payment itself.

create type billing.reversal_kind as enum ('refund', 'refund_total', 'dispute');

create table billing.reversals (
    provider billing.payment_provider not null,
    provider_payment_id text not null,
    id text not null,
    kind billing.reversal_kind not null,
    status text not null,
    amount_micros bigint not null,
    fee_micros bigint not null,
    is_undone boolean not null,
    rank integer not null,
    told_at timestamptz not null,
    primary key (provider, provider_payment_id, id),
    constraint reversals_amount_in_bounds check (amount_micros between 0 and 1000000000000)
);
alter table billing.reversals enable row level security;
comment on table billing.reversals is 'Refunds and disputes as the provider last told of them.';
comment on column billing.reversals.provider is 'Who told of it.';
comment on column billing.reversals.provider_payment_id is
'The payment that it is about, by the provider''s id; it may not have arrived here yet.';
comment on column billing.reversals.id is 'The refund, charge or dispute, by the provider''s id.';
comment on column billing.reversals.kind is
'refund, dispute, or refund_total: the sum of a charge''s refunds, which some notifications tell
instead of the refunds.';
comment on column billing.reversals.status is 'In the provider''s word.';
comment on column billing.reversals.amount_micros is 'What goes back, in µ$.';
comment on column billing.reversals.fee_micros is
'The provider''s fees for it, less those it gave back, in µ$.';
comment on column billing.reversals.is_undone is
'The refund failed, the dispute was won or is only an inquiry: the money is ours.';
comment on column billing.reversals.rank is
'Of two states of one object the higher is the later, whenever it was told.';
comment on column billing.reversals.told_at is
'When the provider told it (UTC): of two states of one rank, the later one stays.';

-- billing.note_reversal: keep a refund, a refunded charge or a dispute of Stripe as it is now.
--
-- A pending refund has left our balance already. A dispute''s funds leave when it is opened; an
-- inquiry (warning_…) takes none. https://docs.stripe.com/disputes/how-disputes-work
create function billing.note_reversal(p_object jsonb, p_payment_id text, p_told_at text)
returns billing.payment_outcome
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_kind billing.reversal_kind := case p_object ->> 'object'
        when 'refund' then 'refund'
        when 'charge' then 'refund_total'
        when 'dispute' then 'dispute'
    end;
    v_amount_micros bigint := billing.provider_amount(
        p_object, case v_kind when 'refund_total' then 'amount_refunded' else 'amount' end
    );
    v_status text := coalesce(p_object ->> 'status', '');
    v_is_undone boolean := case v_kind
        when 'refund' then v_status in ('failed', 'canceled')
        when 'dispute' then v_status in ('won', 'prevented') or v_status like 'warning%'
        else false
    end;
    v_fee_micros bigint := 0;
    v_rank integer := 0;
begin
    if v_kind is null or v_amount_micros >= 0 is not true
        or p_payment_id is null or p_object ->> 'id' is null
    then
        return 'needs_review';
    end if;
    if v_kind = 'refund' then
        v_rank := v_is_undone::integer;
    elsif v_kind = 'dispute' then
        -- Each of its movements on our balance is listed with its fee, which may be given back.
        select coalesce(sum(billing.provider_amount(t.value, 'fee')), 0)::bigint, count(*)::integer
        into v_fee_micros, v_rank
        from jsonb_path_query(p_object, '$.balance_transactions[*]') as t (value);
        if v_status in ('won', 'lost', 'prevented', 'warning_closed') then
            v_rank := v_rank + 1000;
        end if;
    end if;
    insert into billing.reversals as r (
        provider, provider_payment_id, id, kind, status, amount_micros, fee_micros, is_undone,
        rank, told_at
    )
    values (
        'stripe', p_payment_id, p_object ->> 'id', v_kind, v_status, v_amount_micros, v_fee_micros,
        v_is_undone, v_rank,
        case
            when pg_input_is_valid(p_told_at, 'bigint') then to_timestamp(p_told_at::bigint)
            else billing.now()
        end
    )
    on conflict (provider, provider_payment_id, id) do update
    set
        status = excluded.status,
        -- A charge's sum only grows; what failed of it is counted by the refunds themselves.
        amount_micros = case excluded.kind
            when 'refund_total' then greatest(r.amount_micros, excluded.amount_micros)
            else excluded.amount_micros
        end,
        fee_micros = excluded.fee_micros,
        is_undone = excluded.is_undone,
        rank = excluded.rank,
        told_at = excluded.told_at
    where (excluded.rank, excluded.told_at) >= (r.rank, r.told_at);
    return case v_kind when 'dispute' then 'dispute_recorded' else 'refund_recorded' end;
end
$$;

-- billing.follow_reversals: make the ledger say of a payment what its refunds and disputes say.
--
-- What went back is taken out of the very grants that the payment brought, its bonus in proportion;
-- what of it was spent becomes a debt, which any other available money repays at once. Where money
-- is short, running sessions are stopped and charged first. A debt where there was none freezes the
-- organization, which is told. A failed refund or a won dispute gives back what was taken. The
-- provider's fee is the operator's loss, not the customer's.
-- Returns the organization; null while the payment has not arrived.
--
-- Locks   the payment, the running sessions, the wallet, the settings of automatic top-ups; the
--         caller has locked the payment's id.
create function billing.follow_reversals(
    p_provider billing.payment_provider, p_provider_payment_id text
)
returns uuid
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_payment billing.payments;
    v_paid_grant_id uuid;
    v_bonus_grant_id uuid;
    v_bonus_micros bigint;
    v_refunded_micros bigint;
    v_disputed_micros bigint;
    v_fee_micros bigint;
    v_bonus_returned_micros bigint;
    v_available_micros bigint;
    v_debt_micros bigint;
    v_reason billing.reason := 'refund';
    v_reason_back billing.reason := 'refund_failed';
begin
    select p.* into v_payment
    from billing.payments as p
    where p.provider = p_provider and p.provider_payment_id = p_provider_payment_id
    for no key update;
    if not found then
        return null;
    end if;

    select
        least(
            v_payment.amount_micros,
            greatest(
                coalesce(max(r.amount_micros) filter (where r.kind = 'refund_total'), 0),
                coalesce(sum(r.amount_micros) filter (where r.kind = 'refund'), 0)
            )
            - coalesce(
                sum(r.amount_micros) filter (where r.kind = 'refund' and r.is_undone), 0
            )
        ),
        coalesce(sum(r.amount_micros) filter (where r.kind = 'dispute' and not r.is_undone), 0),
        coalesce(sum(r.fee_micros), 0)
    into v_refunded_micros, v_disputed_micros, v_fee_micros
    from billing.reversals as r
    where r.provider = p_provider and r.provider_payment_id = p_provider_payment_id;
    v_refunded_micros := greatest(v_refunded_micros, 0);
    v_disputed_micros := least(v_disputed_micros, v_payment.amount_micros - v_refunded_micros);

    select g.id into strict v_paid_grant_id
    from billing.grants as g
    where g.organization_id = v_payment.organization_id
        and g.payment_id = v_payment.id
        and g.category = 'paid'
    order by g.id
    limit 1;
    select g.id, g.amount_micros into v_bonus_grant_id, v_bonus_micros
    from billing.grants as g
    where g.organization_id = v_payment.organization_id
        and g.payment_id = v_payment.id
        and g.category = 'promotional'
    order by g.id
    limit 1;
    v_bonus_returned_micros := coalesce(round(
        v_bonus_micros::numeric * (v_refunded_micros + v_disputed_micros) / v_payment.amount_micros
    ), 0);

    perform billing.lock_sessions(v_payment.organization_id);
    select w.settled_micros - w.held_micros, w.debt_micros
    into strict v_available_micros, v_debt_micros
    from billing.wallets as w
    where w.organization_id = v_payment.organization_id
    for no key update;
    if v_available_micros < v_refunded_micros - v_payment.refunded_micros
        + v_disputed_micros - v_payment.disputed_micros
        + v_bonus_returned_micros - v_payment.bonus_returned_micros
    then
        -- Again: one may have started while this waited for the wallet.
        perform billing.stop_sessions(
            v_payment.organization_id, billing.lock_sessions(v_payment.organization_id), 'frozen'
        );
    end if;
    perform billing.follow_amount(
        v_payment.organization_id, v_paid_grant_id,
        v_refunded_micros - v_payment.refunded_micros,
        'provider_clearing', 'refund', 'refund_failed'
    );
    perform billing.follow_amount(
        v_payment.organization_id, v_paid_grant_id,
        v_disputed_micros - v_payment.disputed_micros,
        'provider_clearing', 'dispute', 'dispute_won'
    );
    if v_disputed_micros <> v_payment.disputed_micros then
        v_reason := 'dispute';
        v_reason_back := 'dispute_won';
    end if;
    perform billing.follow_amount(
        v_payment.organization_id, v_bonus_grant_id,
        v_bonus_returned_micros - v_payment.bonus_returned_micros,
        'promotion',
        v_reason, v_reason_back
    );
    perform billing.repay_debt(v_payment.organization_id);
    insert into billing.outbox (organization_id, topic, payload)
    select
        w.organization_id,
        'notification',
        jsonb_build_object('kind', 'organization_frozen', 'debt_micros', w.debt_micros)
    from billing.wallets as w
    where w.organization_id = v_payment.organization_id
        and w.debt_micros > 0
        and v_debt_micros = 0;
    if v_fee_micros > v_payment.fee_micros then
        perform billing.post(
            v_payment.organization_id, 'provider_fees', 'provider_clearing',
            v_fee_micros - v_payment.fee_micros, 'dispute_fee', null
        );
    elsif v_fee_micros < v_payment.fee_micros then
        perform billing.post(
            v_payment.organization_id, 'provider_clearing', 'provider_fees',
            v_payment.fee_micros - v_fee_micros, 'dispute_fee', null
        );
    end if;
    update billing.payments as p
    set
        refunded_micros = v_refunded_micros,
        disputed_micros = v_disputed_micros,
        bonus_returned_micros = v_bonus_returned_micros,
        fee_micros = v_fee_micros
    where p.organization_id = v_payment.organization_id and p.id = v_payment.id;
    if v_refunded_micros + v_disputed_micros
        > v_payment.refunded_micros + v_payment.disputed_micros
    then
        -- Who gets money back is not charged for what the balance then lacks.
        perform billing.pause_auto_top_up(
            v_payment.organization_id, 'money_returned', null, null
        );
    end if;
    return v_payment.organization_id;
end
$$;

-- billing.follow_amount: take so much of a grant back to where it came from; negative: give it
-- back.
--
-- Locks   nothing new: the caller has locked the wallet.
create function billing.follow_amount(
    p_organization_id uuid,
    p_grant_id uuid,
    p_amount_micros bigint,
    p_account billing.account,
    p_reason billing.reason,
    p_reason_back billing.reason
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_wallet billing.wallets;
    v_grant billing.grants;
    v_wallet_micros bigint;
    v_debt_micros bigint;
begin
    select w.* into strict v_wallet
    from billing.wallets as w
    where w.organization_id = p_organization_id;
    select g.* into v_grant
    from billing.grants as g
    where g.organization_id = p_organization_id and g.id = p_grant_id;
    if p_amount_micros > 0 then
        v_wallet_micros := least(
            p_amount_micros,
            v_grant.remaining_micros,
            v_wallet.settled_micros - v_wallet.held_micros
        );
        v_debt_micros := p_amount_micros - v_wallet_micros;
        if v_wallet_micros > 0 then
            perform billing.debit_grant(
                p_organization_id, p_grant_id, v_wallet_micros, p_account, p_reason
            );
        end if;
        if v_debt_micros > 0 then
            perform billing.post(
                p_organization_id, 'debt', p_account, v_debt_micros, p_reason, p_grant_id
            );
        end if;
    elsif p_amount_micros < 0 then
        v_debt_micros := least(-p_amount_micros, v_wallet.debt_micros);
        -- More than the grant ever was: another one repaid the debt that this one had left.
        v_wallet_micros := least(
            -p_amount_micros - v_debt_micros, v_grant.amount_micros - v_grant.remaining_micros
        );
        if v_debt_micros > 0 then
            perform billing.post(
                p_organization_id, p_account, 'debt', v_debt_micros, p_reason_back, p_grant_id
            );
        end if;
        if v_wallet_micros > 0 then
            perform billing.post(
                p_organization_id, p_account, 'wallet', v_wallet_micros, p_reason_back, p_grant_id
            );
            update billing.grants as g
            set remaining_micros = g.remaining_micros + v_wallet_micros
            where g.organization_id = p_organization_id and g.id = p_grant_id;
            perform billing.note_expiry(p_organization_id, p_grant_id);
        end if;
        if -p_amount_micros > v_debt_micros + v_wallet_micros then
            perform billing.credit_wallet(
                p_organization_id, -p_amount_micros - v_debt_micros - v_wallet_micros,
                v_grant.category, p_account, p_reason_back, v_grant.payment_id
            );
        end if;
    end if;
end
$$;
