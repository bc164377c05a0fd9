-- Automatic top-ups: when the balance falls below a threshold, a saved card is charged.
--
-- The cron function only writes a top-up and an outbox row; a task then charges the card under a
-- key derived from the top-up. Whoever hears of the payment first, the task or the webhook, credits
-- it by the same rule, and once.
-- Locks: these settings are the last: nobody who holds them waits for a top-up or a wallet.

create table billing.saved_cards (
    organization_id uuid not null references billing.organizations (id),
    provider billing.payment_provider not null,
    provider_payment_id text not null,
    customer_id text not null,
    payment_method_id text not null,
    created_at timestamptz not null default billing.now(),
    primary key (organization_id, provider, provider_payment_id)
);
alter table billing.saved_cards enable row level security;
comment on table billing.saved_cards is
'Cards that may be charged in their owner''s absence, by the payment they were saved with. The
organization is what the payment''s metadata says: a card counts only beside our own payment with
the same id (billing.saved_card).';
comment on column billing.saved_cards.organization_id is
'What the payment''s metadata says: not to be trusted alone.';
comment on column billing.saved_cards.provider is 'Who keeps the card.';
comment on column billing.saved_cards.provider_payment_id is
'The payment that it was saved with, by the provider''s id.';
comment on column billing.saved_cards.customer_id is 'Its owner, by the provider''s id.';
comment on column billing.saved_cards.payment_method_id is 'The card, by the provider''s id.';
comment on column billing.saved_cards.created_at is 'When this was heard of (UTC).';

create type billing.auto_top_up_status as enum ('active', 'paused');

create table billing.auto_top_ups (
    organization_id uuid primary key references billing.wallets (organization_id),
    threshold_micros billing.amount not null,
    amount_micros bigint not null,
    monthly_cap_micros bigint not null,
    cool_off_seconds integer not null,
    status billing.auto_top_up_status not null default 'active',
    paused_reason text,
    last_top_up_at timestamptz,
    told_capped_at timestamptz,
    set_by text not null,
    updated_at timestamptz not null default billing.now(),
    constraint auto_top_ups_amount_is_whole_cents check (
        amount_micros between 1 and 999999990000 and amount_micros % 10000 = 0
    ),
    -- Else one crossing would be several charges.
    constraint auto_top_ups_amount_reaches_threshold check (amount_micros >= threshold_micros),
    constraint auto_top_ups_cap_in_bounds check (
        monthly_cap_micros between amount_micros and 1000000000000000
    ),
    -- Not 0: of two cron runs the later one must find the earlier one's top-up too recent.
    constraint auto_top_ups_cool_off_in_bounds check (cool_off_seconds between 60 and 2678400),
    constraint auto_top_ups_paused_has_a_reason check (
        (status = 'paused') = (paused_reason is not null)
    )
);
alter table billing.auto_top_ups enable row level security;
comment on table billing.auto_top_ups is
'When and how much an organization wants its saved card charged by itself.';
comment on column billing.auto_top_ups.organization_id is 'The organization it belongs to.';
comment on column billing.auto_top_ups.threshold_micros is
'The card is charged when less than this is available, in µ$.';
comment on column billing.auto_top_ups.amount_micros is
'How much it is charged, in µ$: whole cents.';
comment on column billing.auto_top_ups.monthly_cap_micros is
'The most that is charged in a month (UTC), in µ$.';
comment on column billing.auto_top_ups.cool_off_seconds is
'How many seconds after the last one the next one begins, at the soonest.';
comment on column billing.auto_top_ups.status is
'paused: nothing is charged until it is set again.';
comment on column billing.auto_top_ups.paused_reason is
'Why it is paused: the card''s refusal, money that went back, or no_owner.';
comment on column billing.auto_top_ups.last_top_up_at is
'When the last one began or was paid (UTC).';
comment on column billing.auto_top_ups.told_capped_at is
'When its owner was last told that the monthly cap stopped one (UTC).';
comment on column billing.auto_top_ups.set_by is 'Who set it last: passport:<id> or user:<id>.';
comment on column billing.auto_top_ups.updated_at is
'When it was last set, paused or resumed (UTC).';

create view api.auto_top_ups with (security_invoker = true) as
select
    a.organization_id,
    a.threshold_micros,
    a.amount_micros,
    a.monthly_cap_micros,
    m.charged_micros as charged_this_month_micros,
    m.charged_micros + a.amount_micros > a.monthly_cap_micros as is_capped,
    a.cool_off_seconds,
    a.status,
    a.paused_reason,
    a.last_top_up_at,
    a.updated_at
from billing.auto_top_ups as a
cross join lateral (
    select coalesce(sum(t.amount_micros), 0)::bigint as charged_micros
    from billing.top_ups as t
    where
        t.organization_id = a.organization_id
        and t.kind = 'automatic'
        and t.status not in ('failed', 'expired')
        and t.created_at >= date_trunc('month', billing.now(), 'UTC')
) as m;
comment on view api.auto_top_ups is
'Settings of automatic top-ups and what of the month is used up.';
comment on column api.auto_top_ups.amount_micros is
'How much the card is charged, in µ$: whole cents.';
comment on column api.auto_top_ups.charged_this_month_micros is
'What of the cap is used up in this month (UTC), in µ$.';
comment on column api.auto_top_ups.is_capped is
'Whether the cap leaves no room for another one this month.';
comment on column api.auto_top_ups.status is
'active, or paused: nothing is charged until it is set again.';
call billing.inherit_comments('api.auto_top_ups');

-- billing.saved_card: the organization's card: of its newest payment that saved one. No row: none.
create function billing.saved_card(p_organization_id uuid)
returns setof billing.saved_cards
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select c.*
    from billing.saved_cards as c
    inner join billing.payments as p
        on p.organization_id = c.organization_id
        and p.provider = c.provider
        and p.provider_payment_id = c.provider_payment_id
    where c.organization_id = p_organization_id
    order by p.id desc
    limit 1;
end
$$;

-- api.get_auto_top_up: the caller's settings.
-- Raises  FG404 auto_top_up_not_found  there are none
create function api.get_auto_top_up(p_caller jsonb)
returns setof api.auto_top_ups
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'billing');
begin
    return query
    select a.* from api.auto_top_ups as a where a.organization_id = v_caller.organization_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'auto_top_up_not_found';
    end if;
end
$$;
grant execute on function api.get_auto_top_up to service_role, faregate_functions;
comment on function api.get_auto_top_up is 'Reads the settings of automatic top-ups.';

-- api.set_auto_top_up: have the saved card charged from now on; what was paused goes on.
--
-- Raises  FG400 amount_too_small        below the lowest bracket; detail: minimum_micros
--         FG400 amount_below_threshold  one top-up might leave the balance below the threshold;
--                                       detail: threshold_micros
--         FG400 monthly_cap_too_small   not even one top-up fits; detail: minimum_micros
--         FG409 no_saved_card           no checkout has saved a card yet
--         FG409 organization_closed
-- Locks   the organization, the settings.
create function api.set_auto_top_up(
    p_caller jsonb,
    p_threshold_micros bigint,
    p_amount_micros bigint,
    p_monthly_cap_micros bigint,
    p_cool_off_seconds integer
)
returns setof api.auto_top_ups
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'billing');
begin
    perform billing.lock_organization(v_caller.organization_id);
    perform billing.promise_bonus(p_amount_micros);
    if p_amount_micros < p_threshold_micros then
        raise exception using
            errcode = 'FG400',
            message = 'amount_below_threshold',
            detail = jsonb_build_object('threshold_micros', p_threshold_micros)::text;
    end if;
    if p_monthly_cap_micros < p_amount_micros then
        raise exception using
            errcode = 'FG400',
            message = 'monthly_cap_too_small',
            detail = jsonb_build_object('minimum_micros', p_amount_micros)::text;
    end if;
    perform from billing.saved_card(v_caller.organization_id);
    if not found then
        raise exception using errcode = 'FG409', message = 'no_saved_card';
    end if;
    insert into billing.auto_top_ups (
        organization_id, threshold_micros, amount_micros, monthly_cap_micros, cool_off_seconds,
        last_top_up_at, set_by
    )
    values (
        v_caller.organization_id, p_threshold_micros, p_amount_micros, p_monthly_cap_micros,
        p_cool_off_seconds,
        -- Deleted and set again, they do not forget.
        (
            select max(coalesce(t.paid_at, t.created_at))
            from billing.top_ups as t
            where t.organization_id = v_caller.organization_id and t.kind = 'automatic'
        ),
        v_caller.actor
    )
    on conflict (organization_id) do update
    set
        threshold_micros = excluded.threshold_micros,
        amount_micros = excluded.amount_micros,
        monthly_cap_micros = excluded.monthly_cap_micros,
        cool_off_seconds = excluded.cool_off_seconds,
        status = 'active',
        paused_reason = null,
        set_by = excluded.set_by,
        updated_at = billing.now();
    insert into billing.audit_log (organization_id, actor, action, detail)
    values (
        v_caller.organization_id, v_caller.actor, 'set_auto_top_up',
        jsonb_build_object(
            'threshold_micros', p_threshold_micros,
            'amount_micros', p_amount_micros,
            'monthly_cap_micros', p_monthly_cap_micros,
            'cool_off_seconds', p_cool_off_seconds
        )
    );
    return query
    select a.* from api.auto_top_ups as a where a.organization_id = v_caller.organization_id;
end
$$;
grant execute on function api.set_auto_top_up to service_role, faregate_functions;
comment on function api.set_auto_top_up is
'Has the saved card charged whenever the balance falls below a threshold.';

-- api.delete_auto_top_up: no card is charged any more, unless a charge has begun. False: none was
-- going to be.
--
-- Locks   the settings.
create function api.delete_auto_top_up(p_caller jsonb)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'billing');
begin
    delete from billing.auto_top_ups as a where a.organization_id = v_caller.organization_id;
    if not found then
        return false;
    end if;
    insert into billing.audit_log (organization_id, actor, action)
    values (v_caller.organization_id, v_caller.actor, 'delete_auto_top_up');
    return true;
end
$$;
grant execute on function api.delete_auto_top_up to service_role, faregate_functions;
comment on function api.delete_auto_top_up is 'Ends automatic top-ups.';

-- billing.pause_auto_top_up: charge no card until its owner says so, and tell why. p_top_up_id, if
-- any, is the top-up that went wrong: that is told in any case.
--
-- Locks   the settings.
create function billing.pause_auto_top_up(
    p_organization_id uuid, p_reason text, p_top_up_id uuid, p_amount_micros bigint
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.auto_top_ups as a
    set status = 'paused', paused_reason = p_reason, updated_at = billing.now()
    where a.organization_id = p_organization_id and a.status = 'active';
    if found or p_top_up_id is not null then
        insert into billing.outbox (organization_id, topic, payload)
        values (
            p_organization_id, 'notification',
            jsonb_build_object(
                'kind', 'auto_top_up_paused',
                'reason', p_reason,
                'top_up_id', p_top_up_id,
                'amount_micros', p_amount_micros
            )
        );
    end if;
end
$$;

-- billing.pause_without_owner: trigger of members. Where nobody owns an organization any more (the
-- last owner's login was deleted, which nothing of ours refuses), no card is charged by itself.
-- With its owner's rights, because Supabase Auth deletes users with its own.
--
-- Locks   the settings.
create function billing.pause_without_owner()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from billing.members as m
    where m.organization_id = old.organization_id and m.role = 'owner';
    if not found then
        perform billing.pause_auto_top_up(old.organization_id, 'no_owner', null, null);
    end if;
    return null;
end
$$;
create trigger members_pause_without_owner after delete on billing.members
for each row execute function billing.pause_without_owner();

-- api.start_auto_top_ups: begin the automatic top-ups of up to p_limit organizations whose balance
-- is below their threshold. Call until more is false; two at a time, if you like.
--
-- None begins while another is under way, before the cool-off has passed, beyond the month's cap,
-- or while there is a debt: who disputes a charge is not charged again. That the cap stopped one
-- is told once a month (UTC).
-- Locks   the settings that nobody else has locked.
create function api.start_auto_top_ups(p_limit integer)
returns table (started integer, more boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.now();
    v_due record;
    v_card billing.saved_cards;
    v_bonus_micros bigint;
    v_top_up_id uuid;
    v_picked integer := 0;
begin
    started := 0;
    for v_due in
        select
            a.organization_id, a.amount_micros, a.monthly_cap_micros, a.set_by,
            s.charged_this_month_micros + a.amount_micros > a.monthly_cap_micros as is_capped
        from billing.auto_top_ups as a
        inner join api.auto_top_ups as s on s.organization_id = a.organization_id
        inner join billing.wallets as w on w.organization_id = a.organization_id
        where a.status = 'active'
            -- Read again once locked: of two runs the later one finds it too recent.
            and (
                a.last_top_up_at is null
                or a.last_top_up_at + a.cool_off_seconds * interval '1 second' <= v_now
            )
            and w.settled_micros - w.held_micros < a.threshold_micros
            and w.debt_micros = 0
            and (
                s.charged_this_month_micros + a.amount_micros <= a.monthly_cap_micros
                or a.told_capped_at is null
                or a.told_capped_at < date_trunc('month', v_now, 'UTC')
            )
            and not exists (
                select from billing.top_ups as t
                where t.organization_id = a.organization_id
                    and t.kind = 'automatic'
                    and t.status in ('pending', 'processing')
            )
        order by a.organization_id
        limit p_limit
        for no key update of a skip locked
    loop
        v_picked := v_picked + 1;
        if v_due.is_capped then
            insert into billing.outbox (organization_id, topic, payload)
            values (
                v_due.organization_id, 'notification',
                jsonb_build_object(
                    'kind', 'auto_top_up_capped',
                    'amount_micros', v_due.amount_micros,
                    'monthly_cap_micros', v_due.monthly_cap_micros
                )
            );
            update billing.auto_top_ups as a
            set told_capped_at = v_now
            where a.organization_id = v_due.organization_id;
            continue;
        end if;
        v_bonus_micros := billing.top_up_bonus(v_due.amount_micros);
        if v_bonus_micros is null then
            perform billing.pause_auto_top_up(
                v_due.organization_id, 'amount_too_small', null, v_due.amount_micros
            );
            continue;
        end if;
        select c.* into strict v_card from billing.saved_card(v_due.organization_id) as c;
        v_top_up_id := billing.uuidv7();
        insert into billing.top_ups (
            organization_id, id, kind, amount_micros, bonus_micros,
            customer_id, payment_method_id, created_by
        )
        values (
            v_due.organization_id, v_top_up_id, 'automatic', v_due.amount_micros, v_bonus_micros,
            v_card.customer_id, v_card.payment_method_id, v_due.set_by
        );
        insert into billing.outbox (organization_id, topic, payload)
        values (
            v_due.organization_id, 'charge_top_up',
            jsonb_build_object(
                'organization_id', v_due.organization_id, 'top_up_id', v_top_up_id
            )
        );
        update billing.auto_top_ups as a
        set last_top_up_at = v_now
        where a.organization_id = v_due.organization_id;
        started := started + 1;
    end loop;
    more := v_picked = p_limit;
    return next;
end
$$;
grant execute on function api.start_auto_top_ups to service_role, faregate_functions;
comment on function api.start_auto_top_ups is
'Begins the automatic top-ups of balances below their threshold, for the cron.';

-- billing.lock_automatic_top_up: an automatic top-up.
--
-- Raises  FG404 top_up_not_found
-- Locks   the top-up.
create function billing.lock_automatic_top_up(p_organization_id uuid, p_top_up_id uuid)
returns billing.top_ups
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_top_up billing.top_ups;
begin
    select t.* into v_top_up
    from billing.top_ups as t
    where t.organization_id = p_organization_id and t.id = p_top_up_id and t.kind = 'automatic'
    for no key update;
    if not found then
        raise exception using errcode = 'FG404', message = 'top_up_not_found';
    end if;
    return v_top_up;
end
$$;

create type billing.charge_step as enum ('charge', 'look_up', 'nothing');
comment on type billing.charge_step is
'What the task of an automatic top-up does next: charge the card, look the payment up, or nothing.';

-- api.start_charge: what to do about an automatic top-up now, and with which card and amount.
--
-- The provider forgets an idempotency key after 24 hours. So 20 hours after the first attempt the
-- card is charged no more: the payment is looked up, and after three days a person decides.
-- Before the first attempt: a top-up that is not wanted any more expires. Where there is nothing
-- to do, the task is done.
--
-- Raises  FG404 top_up_not_found
-- Locks   the top-up, the settings, the task's row.
create function api.start_charge(p_organization_id uuid, p_top_up_id uuid, p_task_id uuid)
returns table (
    step billing.charge_step,
    status billing.top_up_status,
    customer_id text,
    payment_method_id text,
    amount_micros bigint
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.now();
    v_top_up billing.top_ups := billing.lock_automatic_top_up(p_organization_id, p_top_up_id);
begin
    step := 'nothing';
    status := v_top_up.status;
    customer_id := v_top_up.customer_id;
    payment_method_id := v_top_up.payment_method_id;
    amount_micros := v_top_up.amount_micros;
    if status not in ('pending', 'processing') then
        null;
    elsif v_top_up.charged_at is null and not exists (
        select from billing.auto_top_ups as a
        inner join billing.wallets as w on w.organization_id = a.organization_id
        where a.organization_id = p_organization_id
            and a.status = 'active'
            and w.settled_micros - w.held_micros < a.threshold_micros
            and w.debt_micros = 0
    ) then
        status := 'expired';
        update billing.top_ups as t set status = 'expired'
        where t.organization_id = p_organization_id and t.id = p_top_up_id;
    elsif v_top_up.charged_at < v_now - interval '3 days' then
        status := 'needs_review';
        perform billing.end_charge(v_top_up, 'needs_review', 'needs_review');
    elsif status = 'processing' or v_top_up.charged_at < v_now - interval '20 hours' then
        step := 'look_up';
    else
        step := 'charge';
        update billing.top_ups as t set charged_at = coalesce(t.charged_at, v_now)
        where t.organization_id = p_organization_id and t.id = p_top_up_id;
    end if;
    if step = 'nothing' then
        perform billing.acknowledge(p_organization_id, p_task_id);
    end if;
    return next;
end
$$;
grant execute on function api.start_charge to service_role, faregate_functions;
comment on function api.start_charge is 'Tells the task of an automatic top-up what to do next.';

-- api.finish_charge: what became of a charge: its payment as the provider has it, else why it made
-- none (p_refusal); neither: nobody knows, and a person decides. Unless the payment is still under
-- way, the task is done.
--
-- Raises  FG404 top_up_not_found
-- Locks   the payment, then the top-up, the wallet, the settings, the task's row.
create function api.finish_charge(
    p_organization_id uuid, p_top_up_id uuid, p_task_id uuid, p_intent jsonb, p_refusal text
)
returns setof api.top_ups
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_top_up billing.top_ups;
    v_end billing.top_up_status := case
        when p_refusal is null then 'needs_review'
        else 'failed'
    end;
begin
    if p_intent is not null then
        perform billing.apply_stripe_object(
            'payment_intent.' || (p_intent ->> 'status'), p_intent, null
        );
    end if;
    v_top_up := billing.lock_automatic_top_up(p_organization_id, p_top_up_id);
    if p_intent is null and v_top_up.status in ('pending', 'processing') then
        perform billing.end_charge(v_top_up, v_end, coalesce(p_refusal, 'needs_review'));
    end if;
    if exists (
        select from billing.top_ups as t
        where t.organization_id = p_organization_id
            and t.id = p_top_up_id
            and t.status not in ('pending', 'processing')
    ) then
        perform billing.acknowledge(p_organization_id, p_task_id);
    end if;
    return query
    select t.*
    from api.top_ups as t
    where t.organization_id = p_organization_id and t.id = p_top_up_id;
end
$$;
grant execute on function api.finish_charge to service_role, faregate_functions;
comment on function api.finish_charge is 'Notes what became of an automatic top-up''s charge.';

-- billing.end_charge: an automatic top-up brought no money, or nobody knows: no more until its
-- owner says so.
--
-- Locks   the settings; the caller has locked the top-up.
create function billing.end_charge(
    p_top_up billing.top_ups, p_status billing.top_up_status, p_reason text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.top_ups as t
    set status = p_status
    where t.organization_id = p_top_up.organization_id and t.id = p_top_up.id;
    perform billing.pause_auto_top_up(
        p_top_up.organization_id, p_reason, p_top_up.id, p_top_up.amount_micros
    );
end
$$;

-- billing.apply_payment_intent: what a payment, as it is now, means for its top-up.
--
-- A checkout's payment is credited with its checkout session: here only its card is kept. That of
-- an automatic top-up must be by the customer whose card was to be charged; it is credited when it
-- has succeeded, whatever was told before.
-- Locks   the top-up, then the running sessions, the wallet, the settings; the caller has locked
--         the payment's id.
create function billing.apply_payment_intent(
    p_intent jsonb, out outcome billing.payment_outcome, out organization_id uuid
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_top_up billing.top_ups := billing.lock_top_up(
        p_intent #>> '{metadata,organization_id}', p_intent #>> '{metadata,top_up_id}'
    );
    v_status text := p_intent ->> 'status';
    v_is_open boolean := v_top_up.status in ('pending', 'processing');
    v_amount_micros bigint := billing.provider_amount(p_intent, 'amount_received');
begin
    organization_id := v_top_up.organization_id;
    if v_top_up.id is null or v_top_up.kind = 'checkout' then
        outcome := billing.note_card(p_intent, organization_id);
    elsif p_intent ->> 'id' is null
        or p_intent ->> 'customer' is distinct from v_top_up.customer_id
    then
        outcome := 'unknown_top_up';
    elsif v_top_up.status = 'paid' then
        outcome := case
            when v_status is distinct from 'succeeded' or exists (
                select from billing.payments as p
                where p.organization_id = v_top_up.organization_id
                    and p.top_up_id = v_top_up.id
                    and p.provider_payment_id = p_intent ->> 'id'
            ) then 'already_credited'
            else 'needs_review'
        end;
    elsif v_status = 'succeeded' then
        outcome := 'needs_review';
        if v_amount_micros > 0 then
            if billing.credit_top_up(v_top_up, null, p_intent ->> 'id', v_amount_micros) then
                outcome := 'credited';
                update billing.auto_top_ups as a set last_top_up_at = billing.now()
                where a.organization_id = v_top_up.organization_id;
            end if;
        end if;
        if outcome = 'needs_review' and v_top_up.status <> 'needs_review' then
            perform billing.end_charge(v_top_up, 'needs_review', 'needs_review');
        end if;
    elsif v_status = 'canceled' or jsonb_typeof(p_intent -> 'last_payment_error') = 'object' then
        outcome := 'payment_failed';
        if v_is_open then
            perform billing.end_charge(v_top_up, 'failed', billing.decline_reason(p_intent));
        end if;
    else
        outcome := 'awaiting_payment';
        if v_status = 'processing' and v_is_open then
            update billing.top_ups as t set status = 'processing'
            where t.organization_id = v_top_up.organization_id and t.id = v_top_up.id;
        end if;
    end if;
end
$$;

-- billing.note_card: keep the card of a checkout's payment, where its owner agreed to it.
create function billing.note_card(p_intent jsonb, p_organization_id uuid)
returns billing.payment_outcome
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_organization_id is null
        or p_intent ->> 'status' is distinct from 'succeeded'
        or p_intent ->> 'setup_future_usage' is distinct from 'off_session'
        or p_intent ->> 'id' is null
        or p_intent ->> 'customer' is null
        or p_intent ->> 'payment_method' is null
    then
        return 'unknown_type';
    end if;
    insert into billing.saved_cards (
        organization_id, provider, provider_payment_id, customer_id, payment_method_id
    )
    values (
        p_organization_id, 'stripe', p_intent ->> 'id',
        p_intent ->> 'customer', p_intent ->> 'payment_method'
    )
    on conflict do nothing;
    return 'card_saved';
end
$$;

-- billing.decline_reason: why a payment failed, in Stripe's word for it. Of its finer words
-- (decline codes) only the one that helps an honest customer: a thief need not know that the card
-- is known to be stolen.
create function billing.decline_reason(p_intent jsonb)
returns text
language sql
immutable
return case
    when p_intent #>> '{last_payment_error,decline_code}' = 'insufficient_funds'
        then 'insufficient_funds'
    when p_intent #>> '{last_payment_error,code}' ~ '^[a-z_]{1,64}$'
        then p_intent #>> '{last_payment_error,code}'
    when p_intent ->> 'status' = 'canceled' then 'canceled'
    else 'card_declined'
end;
