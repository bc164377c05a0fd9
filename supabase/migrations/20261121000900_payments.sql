-- Payments: the provider's notifications, stored before anything else, and what they did.

create type billing.payment_provider as enum ('stripe');

create type billing.payment_outcome as enum (
    'credited', 'already_credited', 'awaiting_payment', 'payment_failed', 'checkout_expired',
    'refund_recorded', 'dispute_recorded', 'card_saved',
    'needs_review', 'unknown_type', 'unknown_top_up', 'foreign_account', 'foreign_mode'
);

create table billing.payment_events (
    provider billing.payment_provider not null,
    id text not null,
    type text not null,
    payload jsonb not null,
    outcome billing.payment_outcome not null,
    organization_id uuid,
    received_at timestamptz not null default billing.now(),
    primary key (provider, id)
);
alter table billing.payment_events enable row level security;
create index payment_events_to_review on billing.payment_events (received_at)
where outcome = 'needs_review';
comment on table billing.payment_events is
'Every genuine notification of a payment provider, once, and what became of it.';
comment on column billing.payment_events.provider is 'Who sent it.';
comment on column billing.payment_events.id is
'The provider''s id: the same one again does nothing.';
comment on column billing.payment_events.type is 'What it is about, in the provider''s word.';
comment on column billing.payment_events.payload is 'All of it, as it was sent.';
comment on column billing.payment_events.outcome is
'What it did here. needs_review: money that was paid but not credited, because of its currency or
amount or because it was credited elsewhere; a person decides.';
comment on column billing.payment_events.organization_id is
'The organization whose money it is about; null: none of ours.';
comment on column billing.payment_events.received_at is 'When it was stored (UTC).';

create table billing.payments (
    organization_id uuid not null,
    id uuid not null default billing.uuidv7(),
    top_up_id uuid not null,
    provider billing.payment_provider not null,
    provider_payment_id text not null,
    amount_micros billing.amount not null,
    refunded_micros bigint not null default 0,
    disputed_micros bigint not null default 0,
    bonus_returned_micros bigint not null default 0,
    fee_micros bigint not null default 0,
    paid_at timestamptz not null,
    primary key (organization_id, id),
    constraint payments_top_up_fkey foreign key (organization_id, top_up_id)
    references billing.top_ups (organization_id, id),
    constraint payments_top_up_key unique (top_up_id, organization_id),
    constraint payments_provider_payment_key unique (provider, provider_payment_id),
    constraint payments_returned_in_bounds check (
        refunded_micros >= 0
        and disputed_micros >= 0
        and refunded_micros + disputed_micros <= amount_micros
    )
);
alter table billing.payments enable row level security;
comment on table billing.payments is
'Money that arrived at a provider. What has gone back since is what the ledger has followed so far
(billing.follow_reversals).';
comment on column billing.payments.organization_id is 'The organization it belongs to.';
comment on column billing.payments.id is 'Time-ordered (UUIDv7).';
comment on column billing.payments.top_up_id is 'The top-up that it paid.';
comment on column billing.payments.provider is 'Who took the money.';
comment on column billing.payments.provider_payment_id is
'The provider''s id, a permanent key: one payment is credited once.';
comment on column billing.payments.amount_micros is 'What the provider says was paid, in µ$.';
comment on column billing.payments.refunded_micros is 'What of it was refunded, in µ$.';
comment on column billing.payments.disputed_micros is
'What of it is disputed or was lost in a dispute, in µ$.';
comment on column billing.payments.bonus_returned_micros is
'What of its bonus was taken back in proportion, in µ$.';
comment on column billing.payments.fee_micros is
'What the provider took for its disputes, in µ$: the operator''s loss.';
comment on column billing.payments.paid_at is 'When it was credited (UTC).';

create trigger payments_append_only
before delete or update of
organization_id, id, top_up_id, provider, provider_payment_id, amount_micros, paid_at
on billing.payments
for each row execute function billing.refuse_change();
create trigger payments_no_truncate before truncate on billing.payments
for each statement execute function billing.refuse_change();

-- billing.credit_top_up: the money of a paid checkout becomes grants;
-- the plan moves up on the first one. False: this payment has been credited before, elsewhere.
--
-- The amount is the provider's. The promised bonus is for the promised amount:
-- paid something else, no bonus.
-- Locks   the organization, the running sessions, the wallet; the caller has locked the top-up.
create function billing.credit_top_up(
    p_top_up billing.top_ups,
    p_checkout_session_id text,
    p_provider_payment_id text,
    p_amount_micros bigint
)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.now();
    v_payment_id uuid := billing.uuidv7();
    v_plan_id text;
    v_is_reversed boolean := exists (
        select from billing.reversals as r
        where r.provider = 'stripe' and r.provider_payment_id = p_provider_payment_id
    );
begin
    insert into billing.payments (
        organization_id, id, top_up_id, provider, provider_payment_id, amount_micros, paid_at
    )
    values (
        p_top_up.organization_id, v_payment_id, p_top_up.id, 'stripe',
        p_provider_payment_id, p_amount_micros, v_now
    )
    on conflict (provider, provider_payment_id) do nothing;
    if not found then
        return false;
    end if;
    -- The organization before its sessions, and both before the wallet, as everybody does.
    update billing.organizations as o
    set plan_id = l.plan_after_top_up_id
    from billing.plans as l
    where o.id = p_top_up.organization_id
        and l.id = o.plan_id
        and l.plan_after_top_up_id is not null
    returning o.plan_id into v_plan_id;
    if found then
        insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
        values (
            p_top_up.organization_id, 'stripe', 'change_plan', p_top_up.id,
            jsonb_build_object('plan', v_plan_id)
        );
    end if;
    if v_is_reversed then
        perform billing.lock_sessions(p_top_up.organization_id);
    end if;
    perform billing.credit_wallet(
        p_top_up.organization_id, p_amount_micros, 'paid', 'provider_clearing', 'top_up',
        v_payment_id
    );
    if p_top_up.bonus_micros > 0 and p_amount_micros = p_top_up.amount_micros then
        perform billing.credit_wallet(
            p_top_up.organization_id, p_top_up.bonus_micros,
            'promotional', 'promotion', 'top_up_bonus', v_payment_id
        );
    end if;
    update billing.top_ups as t
    set status = 'paid', paid_at = v_now, checkout_session_id = p_checkout_session_id
    where t.organization_id = p_top_up.organization_id and t.id = p_top_up.id;
    if v_is_reversed then
        perform billing.follow_reversals('stripe', p_provider_payment_id);
    end if;
    return true;
end
$$;

-- billing.provider_amount: an amount of a Stripe object in µ$; null when it is not whole cents of
-- USD, or more than Stripe charges at once. Other currencies, which may have no decimals or three,
-- are nobody's to convert.
create function billing.provider_amount(p_object jsonb, p_name text)
returns bigint
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_amount text := p_object ->> p_name;
begin
    if p_object ->> 'currency' = 'usd'
        and pg_input_is_valid(v_amount, 'bigint')
        and v_amount::numeric between -99999999 and 99999999
    then
        return v_amount::bigint * 10000;
    end if;
    return null;
end
$$;

-- billing.lock_top_up: the top-up that an object of Stripe names; null when it is none of ours.
-- What it names, which we set, only tells where to look.
-- Locks   the top-up.
create function billing.lock_top_up(p_organization_id text, p_top_up_id text)
returns billing.top_ups
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_top_up billing.top_ups;
begin
    if pg_input_is_valid(p_organization_id, 'uuid') and pg_input_is_valid(p_top_up_id, 'uuid') then
        select t.* into v_top_up
        from billing.top_ups as t
        where t.organization_id = p_organization_id::uuid and t.id = p_top_up_id::uuid
        for no key update;
    end if;
    return v_top_up;
end
$$;

-- billing.lock_checkout: the top-up that a checkout session belongs to; null when it is none of
-- ours. It must know the same session, or none yet (the answer of its creation was lost).
-- Locks   the top-up.
create function billing.lock_checkout(p_checkout jsonb)
returns billing.top_ups
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_top_up billing.top_ups := billing.lock_top_up(
        p_checkout #>> '{metadata,organization_id}', p_checkout ->> 'client_reference_id'
    );
begin
    if coalesce(v_top_up.checkout_session_id, p_checkout ->> 'id') = p_checkout ->> 'id' then
        return v_top_up;
    end if;
    return null;
end
$$;

-- billing.apply_checkout: what a Stripe checkout session's notification does to its top-up.
-- Whatever the order in which notifications come, a paid top-up stays paid,
-- and one that was paid after all becomes it.
-- Returns the outcome.
-- Locks   the top-up, then the wallet.
create function billing.apply_checkout(p_type text, p_checkout jsonb, p_top_up billing.top_ups)
returns billing.payment_outcome
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_payment_id text := p_checkout ->> 'payment_intent';
    v_amount_micros bigint := billing.provider_amount(p_checkout, 'amount_total');
    v_status billing.top_up_status := 'needs_review';
begin
    if p_top_up.status = 'paid' then
        return 'already_credited';
    elsif p_type = 'checkout.session.expired' then
        v_status := 'expired';
    elsif p_type = 'checkout.session.async_payment_failed' then
        v_status := 'failed';
    elsif p_checkout ->> 'payment_status' is distinct from 'paid' then
        v_status := 'processing';
    elsif v_amount_micros > 0 and v_payment_id is not null then
        if billing.credit_top_up(p_top_up, p_checkout ->> 'id', v_payment_id, v_amount_micros) then
            return 'credited';
        end if;
    end if;
    -- Late news does not undo newer: only a paid checkout leaves an end state,
    -- and money under review stays seen.
    update billing.top_ups as t
    set status = v_status, checkout_session_id = p_checkout ->> 'id'
    where t.organization_id = p_top_up.organization_id
        and t.id = p_top_up.id
        and t.status <> 'needs_review'
        and (t.status in ('pending', 'processing') or v_status = 'needs_review');
    return case v_status
        when 'expired' then 'checkout_expired'
        when 'failed' then 'payment_failed'
        when 'processing' then 'awaiting_payment'
        else 'needs_review'
    end;
end
$$;

-- api.receive_stripe_event: store a genuine Stripe event, then act on it;
-- a repeated one does nothing.
--
-- payment_intent.succeeded tells of the same money as its checkout session, which is what is
-- credited, and of the card; only an automatic top-up, which has no checkout, is credited by it.
-- p_account is our own account id where events of connected accounts can arrive, else null.
-- Locks   the event, the payment, then the top-up, the running sessions, the wallet.
create function api.receive_stripe_event(p_event jsonb, p_account text, p_live_mode boolean)
returns table (outcome billing.payment_outcome, duplicate boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_organization_id uuid;
begin
    -- Of two deliveries of one event the second waits here, and then finds the first's row.
    perform pg_advisory_xact_lock(hashtextextended('stripe:' || (p_event ->> 'id'), 0));
    select e.outcome into outcome
    from billing.payment_events as e
    where e.provider = 'stripe' and e.id = p_event ->> 'id';
    duplicate := found;
    if duplicate then
        return next;
        return;
    end if;

    if (p_event ->> 'account') is not null and p_event ->> 'account' is distinct from p_account then
        outcome := 'foreign_account';
    elsif (p_event -> 'livemode') is distinct from to_jsonb(p_live_mode) then
        outcome := 'foreign_mode';
    else
        select a.outcome, a.organization_id into outcome, v_organization_id
        from billing.apply_stripe_object(
            p_event ->> 'type', p_event #> '{data,object}', p_event ->> 'created'
        ) as a;
    end if;
    insert into billing.payment_events (provider, id, type, payload, outcome, organization_id)
    values (
        'stripe', p_event ->> 'id', p_event ->> 'type', p_event, outcome, v_organization_id
    );
    return next;
end
$$;
grant execute on function api.receive_stripe_event to service_role, faregate_functions;
comment on function api.receive_stripe_event is
'Stores a genuine event of Stripe and acts on it, once.';

-- billing.apply_stripe_object: what an object of Stripe means for the ledger, whether an event
-- brought it or a look into Stripe's lists. Told again or late, it changes nothing.
--
-- Locks   the payment, then the top-up, the running sessions, the wallet.
create function billing.apply_stripe_object(
    p_type text,
    p_object jsonb,
    p_told_at text,
    out outcome billing.payment_outcome,
    out organization_id uuid
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_payment_id text := case p_object ->> 'object'
        when 'payment_intent' then p_object ->> 'id'
        else p_object ->> 'payment_intent'
    end;
    v_top_up billing.top_ups;
begin
    -- News of one payment come one after the other, whatever object they are about.
    perform pg_advisory_xact_lock(hashtextextended('stripe:' || v_payment_id, 0));
    case
        when p_type in (
            'checkout.session.completed', 'checkout.session.async_payment_succeeded',
            'checkout.session.async_payment_failed', 'checkout.session.expired'
        ) then
            v_top_up := billing.lock_checkout(p_object);
            organization_id := v_top_up.organization_id;
            outcome := case
                when v_top_up.id is null then 'unknown_top_up'
                else billing.apply_checkout(p_type, p_object, v_top_up)
            end;
        when p_type in (
            'refund.created', 'refund.updated', 'refund.failed', 'charge.refund.updated',
            'charge.refunded', 'charge.dispute.created', 'charge.dispute.updated',
            'charge.dispute.closed', 'charge.dispute.funds_withdrawn',
            'charge.dispute.funds_reinstated'
        ) then
            outcome := billing.note_reversal(p_object, v_payment_id, p_told_at);
            organization_id := billing.follow_reversals('stripe', v_payment_id);
        when p_type like 'payment\_intent.%' then
            select a.outcome, a.organization_id into outcome, organization_id
            from billing.apply_payment_intent(p_object) as a;
        else
            outcome := 'unknown_type';
    end case;
end
$$;
