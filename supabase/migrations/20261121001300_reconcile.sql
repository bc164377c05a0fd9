-- Reconciliation: what the provider says, what our payments say, what the ledger says.
--
-- News that never arrived are applied as their notification would have been. Whatever still
-- disagrees is a discrepancy, which stays open until somebody looked at it again and it agreed.

create type billing.discrepancy_kind as enum (
    'payment_not_credited',
    'payment_unknown_to_provider',
    'amount_differs',
    'refund_differs',
    'dispute_differs',
    'ledger'
);

create table billing.reconciliations (
    id uuid primary key default billing.uuidv7(),
    started_by text not null,
    window_start timestamptz,
    window_end timestamptz,
    started_at timestamptz not null default billing.now(),
    finished_at timestamptz,
    compared bigint not null default 0,
    replayed bigint not null default 0,
    verified bigint not null default 0,
    discrepancies bigint not null default 0,
    constraint reconciliations_window_is_whole check (
        (window_start is null) = (window_end is null) and window_start < window_end
    )
);
alter table billing.reconciliations enable row level security;
comment on table billing.reconciliations is
'A run: what the provider lists, compared with our books, and the ledger with itself.';
comment on column billing.reconciliations.id is 'Time-ordered (UUIDv7).';
comment on column billing.reconciliations.started_by is
'passport:<id> or user:<id> of an operator, or scheduler.';
comment on column billing.reconciliations.window_start is
'The provider was asked for what was made since (UTC); null: only the ledger was verified.';
comment on column billing.reconciliations.window_end is
'And for nothing that was made later (UTC).';
comment on column billing.reconciliations.started_at is 'When it began (UTC).';
comment on column billing.reconciliations.finished_at is
'When it had looked at everything (UTC); null: it goes on, or the provider or we failed.';
comment on column billing.reconciliations.compared is
'How many objects of the provider it looked at.';
comment on column billing.reconciliations.replayed is 'How many news only this run brought.';
comment on column billing.reconciliations.verified is
'How many organizations'' ledgers it looked at.';
comment on column billing.reconciliations.discrepancies is 'How many it saw, new and old.';

create table billing.discrepancies (
    id uuid primary key default billing.uuidv7(),
    kind billing.discrepancy_kind not null,
    organization_id uuid,
    subject text not null,
    ledger_rule text,
    expected_micros bigint,
    found_micros bigint,
    note text,
    first_seen_at timestamptz not null default billing.now(),
    last_seen_at timestamptz not null default billing.now(),
    resolved_at timestamptz
);
alter table billing.discrepancies enable row level security;
create unique index discrepancies_open_key on billing.discrepancies (
    kind, subject, coalesce(organization_id, '00000000-0000-0000-0000-000000000000'),
    coalesce(ledger_rule, '')
)
where resolved_at is null;
create index discrepancies_open_ledger on billing.discrepancies (organization_id)
where resolved_at is null and kind = 'ledger';
comment on table billing.discrepancies is 'Where two sides disagree.';
comment on column billing.discrepancies.id is 'Time-ordered (UUIDv7).';
comment on column billing.discrepancies.kind is 'What disagrees; ledger: the ledger with itself.';
comment on column billing.discrepancies.organization_id is
'Whose money it is about; null: nobody''s that we know.';
comment on column billing.discrepancies.subject is
'The provider''s object, or what the rule of the ledger is about.';
comment on column billing.discrepancies.ledger_rule is
'The rule of billing.verify that does not hold.';
comment on column billing.discrepancies.expected_micros is
'In µ$: what the provider says, or what transfers add up to. A rule that counts does so in
millionths.';
comment on column billing.discrepancies.found_micros is
'What our books say, in µ$ (or millionths).';
comment on column billing.discrepancies.note is
'What the provider says of an amount that is not in whole cents of USD.';
comment on column billing.discrepancies.first_seen_at is 'When a run first saw it (UTC).';
comment on column billing.discrepancies.last_seen_at is 'When a run last saw it (UTC).';
comment on column billing.discrepancies.resolved_at is
'When it was found to agree (UTC); null: it is open.';

create index payments_paid_at on billing.payments (paid_at);

create view api.reconciliations with (security_invoker = true) as
select
    r.id,
    r.started_by,
    r.window_start,
    r.window_end,
    case when r.finished_at is null then 'unfinished' else 'finished' end as status,
    r.compared,
    r.replayed,
    r.verified,
    r.discrepancies,
    r.started_at,
    r.finished_at
from billing.reconciliations as r;
comment on view api.reconciliations is 'Runs of the reconciliation and what each did.';
comment on column api.reconciliations.status is
'finished, or unfinished: it goes on, or the provider or we failed.';
call billing.inherit_comments('api.reconciliations');

create view api.discrepancies with (security_invoker = true) as
select
    d.id,
    d.kind,
    case when d.resolved_at is null then 'open' else 'resolved' end as status,
    d.organization_id,
    d.subject,
    d.ledger_rule,
    d.expected_micros,
    d.found_micros,
    d.found_micros - d.expected_micros as difference_micros,
    d.note,
    extract(epoch from coalesce(d.resolved_at, billing.now()) - d.first_seen_at)::bigint
        as age_seconds,
    d.first_seen_at,
    d.last_seen_at,
    d.resolved_at
from billing.discrepancies as d;
comment on view api.discrepancies is
'Where two sides disagree, with both amounts, and for how long.';
comment on column api.discrepancies.status is 'open or resolved.';
comment on column api.discrepancies.difference_micros is 'found − expected, in µ$ (or millionths).';
comment on column api.discrepancies.age_seconds is 'How many seconds it has been open, or was.';
call billing.inherit_comments('api.discrepancies');

create type billing.disagreement as (
    provider_id text,
    kind billing.discrepancy_kind,
    organization_id uuid,
    expected_micros bigint,
    found_micros bigint,
    note text
);
comment on type billing.disagreement is
'An object of the provider that says something else than our books. provider_id: the
payment, refund or dispute to ask the provider about.';

-- billing.compare_stripe: where objects of Stripe (Checkout Sessions, Payment Intents with their
-- latest charge, refunds, disputes) disagree with our books. Only what is ours counts: a payment
-- of a top-up, and what went back of it.
--
-- A payment that nobody credited and that was given back is settled, too. A charge''s sum of
-- refunds may or may not count those that failed.
create function billing.compare_stripe(p_objects jsonb, p_live_mode boolean)
returns setof billing.disagreement
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    with objects as materialized (
        select
            o.value as object,
            o.value ->> 'object' as kind,
            o.value ->> 'id' as id,
            case
                when o.value ->> 'object' = 'payment_intent' then o.value ->> 'id'
                else o.value ->> 'payment_intent'
            end as payment_id,
            o.value -> 'metadata' ->> 'organization_id' as organization_id,
            coalesce(
                o.value ->> 'client_reference_id', o.value -> 'metadata' ->> 'top_up_id'
            ) as top_up_id,
            billing.provider_amount(
                o.value, case o.value ->> 'object'
                    when 'checkout.session' then 'amount_total'
                    when 'payment_intent' then 'amount_received'
                    else 'amount'
                end
            ) as amount_micros
        from jsonb_array_elements(p_objects) as o
        where o.value -> 'livemode' is distinct from to_jsonb(not p_live_mode)
    ),
    known as (
        select
            o.*,
            p.amount_micros as credited_micros,
            p.refunded_micros,
            p.disputed_micros,
            coalesce(p.organization_id, t.organization_id) as owner_id,
            coalesce(
                billing.provider_amount(o.object -> 'latest_charge', 'amount_refunded'), 0
            ) as total_refunded_micros
        from objects as o
        left join billing.payments as p
            on p.provider = 'stripe' and p.provider_payment_id = o.payment_id
        left join billing.top_ups as t
            on t.organization_id = case
                when pg_input_is_valid(o.organization_id, 'uuid') then o.organization_id::uuid
            end
            and t.id = case
                when pg_input_is_valid(o.top_up_id, 'uuid') then o.top_up_id::uuid
            end
        where o.payment_id is not null
            and (
                p.id is not null
                or t.id is not null and o.kind in ('checkout.session', 'payment_intent')
            )
    ),
    paid as (
        select
            k.*,
            case
                when k.kind = 'payment_intent'
                    and k.object ->> 'status' is distinct from 'succeeded' then 0
                when k.credited_micros is null
                    and k.object #>> '{latest_charge,refunded}' = 'true' then 0
                when k.credited_micros is null then k.amount_micros - k.total_refunded_micros
                else k.amount_micros
            end as expected_micros
        from known as k
        where k.kind = 'payment_intent'
            or k.kind = 'checkout.session' and k.object ->> 'payment_status' = 'paid'
    ),
    gone as (
        select
            k.*,
            r.id as noted_id,
            r.status as noted_status,
            r.amount_micros as noted_micros,
            r.is_undone,
            r.rank,
            (
                select coalesce(sum(d.amount_micros), 0)::bigint
                from billing.reversals as d
                where d.provider = 'stripe' and d.provider_payment_id = k.payment_id
                    and d.kind = 'dispute' and not d.is_undone
            ) as all_disputed_micros
        from known as k
        left join billing.reversals as r
            on r.provider = 'stripe' and r.provider_payment_id = k.payment_id and r.id = k.id
        where k.kind in ('refund', 'dispute')
    ),
    disagreements (provider_id, kind, organization_id, expected_micros, found_micros, object) as (
        select
            p.payment_id,
            case
                when p.credited_micros is null then 'payment_not_credited' else 'amount_differs'
            end,
            p.owner_id, p.expected_micros, coalesce(p.credited_micros, 0), p.object
        from paid as p
        where p.expected_micros is distinct from coalesce(p.credited_micros, 0)

        union all
        select
            p.payment_id, 'refund_differs', p.owner_id, p.total_refunded_micros, p.refunded_micros,
            p.object -> 'latest_charge'
        from paid as p
        where jsonb_typeof(p.object -> 'latest_charge') = 'object'
            and p.total_refunded_micros not between p.refunded_micros and p.refunded_micros + (
                select coalesce(sum(r.amount_micros), 0)
                from billing.reversals as r
                where r.provider = 'stripe' and r.provider_payment_id = p.payment_id
                    and r.kind = 'refund' and r.is_undone
            )

        union all
        select
            g.id, 'refund_differs', g.owner_id, g.amount_micros,
            case when g.is_undone then 0 else coalesce(g.noted_micros, 0) end, g.object
        from gone as g
        where g.kind = 'refund'
            and (
                g.noted_id is null
                or g.noted_status <> g.object ->> 'status'
                or g.noted_micros is distinct from g.amount_micros
            )

        union all
        select
            g.id, 'dispute_differs', g.owner_id,
            case when g.noted_id is null then g.amount_micros else g.all_disputed_micros end,
            g.disputed_micros, g.object
        from gone as g
        where g.kind = 'dispute'
            and (
                g.noted_id is null
                or g.noted_status <> g.object ->> 'status'
                or g.noted_micros is distinct from g.amount_micros
                or g.rank % 1000 < jsonb_array_length(g.object -> 'balance_transactions')
                or g.all_disputed_micros <> g.disputed_micros
            )
    )
    select
        d.provider_id, d.kind::billing.discrepancy_kind, d.organization_id, d.expected_micros,
        d.found_micros,
        case
            when d.expected_micros is null then concat_ws(
                ' ',
                coalesce(
                    d.object ->> 'amount_total', d.object ->> 'amount_received',
                    d.object ->> 'amount'
                ),
                d.object ->> 'currency'
            )
        end
    from disagreements as d;
end
$$;

-- billing.apply_news: act on objects of Stripe as on notifications about them.
--
-- Locks   the payment, then the top-up, the running sessions, the wallet.
create function billing.apply_news(p_objects jsonb, p_told_at text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_object jsonb;
begin
    for v_object in
        select o.value from jsonb_array_elements(p_objects) as o
    loop
        perform billing.apply_stripe_object(
            case v_object ->> 'object'
                when 'checkout.session' then case v_object ->> 'status'
                    when 'complete' then 'checkout.session.completed'
                    when 'expired' then 'checkout.session.expired'
                end
                when 'payment_intent' then case v_object ->> 'status'
                    when 'succeeded' then 'payment_intent.succeeded'
                end
                when 'refund' then 'refund.updated'
                when 'dispute' then 'charge.dispute.updated'
            end,
            v_object, p_told_at
        );
        if v_object -> 'latest_charge' @> '{"object": "charge"}' then
            perform billing.apply_stripe_object(
                'charge.refunded', v_object -> 'latest_charge', p_told_at
            );
        end if;
    end loop;
end
$$;

-- billing.note_discrepancy: keep that two sides disagree, or that they still do.
--
-- Locks   the open discrepancy of this kind and subject.
create function billing.note_discrepancy(
    p_kind billing.discrepancy_kind,
    p_organization_id uuid,
    p_subject text,
    p_ledger_rule text,
    p_expected_micros bigint,
    p_found_micros bigint,
    p_note text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.discrepancies as d (
        kind, organization_id, subject, ledger_rule, expected_micros, found_micros, note
    )
    values (
        p_kind, p_organization_id, p_subject, p_ledger_rule, p_expected_micros, p_found_micros,
        p_note
    )
    on conflict (
        kind, subject, coalesce(organization_id, '00000000-0000-0000-0000-000000000000'),
        coalesce(ledger_rule, '')
    ) where resolved_at is null do update
    set
        expected_micros = excluded.expected_micros,
        found_micros = excluded.found_micros,
        note = excluded.note,
        last_seen_at = greatest(d.last_seen_at, excluded.last_seen_at);
end
$$;

-- api.start_reconciliation: begin a run that an operator asked for. p_window_start null: it only
-- verifies the ledger.
create function api.start_reconciliation(
    p_caller jsonb, p_window_start timestamptz, p_window_end timestamptz
)
returns setof api.reconciliations
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_id uuid := billing.uuidv7();
begin
    insert into billing.reconciliations (id, started_by, window_start, window_end)
    values (v_id, v_caller.actor, p_window_start, p_window_end);
    return query select r.* from api.reconciliations as r where r.id = v_id;
end
$$;
grant execute on function api.start_reconciliation to service_role, faregate_functions;
comment on function api.start_reconciliation is 'Begins a run that an operator asked for.';

-- api.start_scheduled_reconciliation: begin the daily run.
create function api.start_scheduled_reconciliation(
    p_window_start timestamptz, p_window_end timestamptz
)
returns setof api.reconciliations
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id uuid := billing.uuidv7();
begin
    insert into billing.reconciliations (id, started_by, window_start, window_end)
    values (v_id, 'scheduler', p_window_start, p_window_end);
    return query select r.* from api.reconciliations as r where r.id = v_id;
end
$$;
grant execute on function api.start_scheduled_reconciliation to service_role, faregate_functions;
comment on function api.start_scheduled_reconciliation is 'Begins the daily run.';

-- api.finish_reconciliation: everything that a run was to look at was looked at.
create function api.finish_reconciliation(p_reconciliation_id uuid)
returns setof api.reconciliations
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.reconciliations as r
    set finished_at = billing.now()
    where r.id = p_reconciliation_id;
    return query select r.* from api.reconciliations as r where r.id = p_reconciliation_id;
end
$$;
grant execute on function api.finish_reconciliation to service_role, faregate_functions;
comment on function api.finish_reconciliation is 'Ends a run that has looked at everything.';

-- api.list_missed_events: which of these events of Stripe never arrived.
create function api.list_missed_events(p_ids text[])
returns setof text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select i.id
    from unnest(p_ids) as i (id)
    where not exists (
        select from billing.payment_events as e where e.provider = 'stripe' and e.id = i.id
    );
end
$$;
grant execute on function api.list_missed_events to service_role, faregate_functions;
comment on function api.list_missed_events is
'Tells which of these events of Stripe never arrived.';

-- api.replay_stripe_event: receive an event that a run found in Stripe's list. Should it arrive
-- after all, it is a repeated one.
--
-- Locks   the event, the payment, then the top-up, the running sessions, the wallet, the run.
create function api.replay_stripe_event(
    p_reconciliation_id uuid, p_event jsonb, p_live_mode boolean
)
returns table (outcome billing.payment_outcome, duplicate boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    select e.outcome, e.duplicate into outcome, duplicate
    from api.receive_stripe_event(p_event, null, p_live_mode) as e;
    if not duplicate then
        -- Of the news that concern us.
        update billing.reconciliations as r
        set replayed = r.replayed + 1
        from billing.payment_events as e
        where r.id = p_reconciliation_id
            and e.provider = 'stripe'
            and e.id = p_event ->> 'id'
            and e.organization_id is not null;
    end if;
    return next;
end
$$;
grant execute on function api.replay_stripe_event to service_role, faregate_functions;
comment on function api.replay_stripe_event is
'Receives an event that a run found in Stripe''s list.';

-- api.compare_stripe: what to ask Stripe about again, because a page of its lists says something
-- else than our books, or says it of what we do not know. p_page is {"data": objects}.
--
-- Locks   the run.
create function api.compare_stripe(p_reconciliation_id uuid, p_page jsonb, p_live_mode boolean)
returns setof text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.reconciliations as r
    set compared = r.compared + jsonb_array_length(p_page -> 'data')
    where r.id = p_reconciliation_id;
    return query
    select distinct d.provider_id
    from billing.compare_stripe(p_page -> 'data', p_live_mode) as d;
end
$$;
grant execute on function api.compare_stripe to service_role, faregate_functions;
comment on function api.compare_stripe is
'Tells what to ask Stripe about again, because a page of its lists disagrees with our books.';

-- api.reconcile_stripe: settle one subject (a payment, refund or dispute) with what Stripe has of
-- it now: p_page is {"data": objects}, none of them when Stripe does not know it. What was missed
-- is applied; what then still disagrees is a discrepancy; what agrees resolves it.
--
-- Locks   the payment, then the top-up, the running sessions, the wallet, the discrepancies, the
--         run.
create function api.reconcile_stripe(
    p_reconciliation_id uuid,
    p_subject text,
    p_page jsonb,
    p_live_mode boolean,
    p_told_at text
)
returns table (replayed boolean, discrepancies integer)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_payment_id text := coalesce(p_page #>> '{data,0,payment_intent}', p_subject);
    v_before billing.payments;
    v_after billing.payments;
    v_seen billing.disagreement[];
begin
    -- Nobody else brings news of it meanwhile.
    perform pg_advisory_xact_lock(hashtextextended('stripe:' || v_payment_id, 0));
    select p.* into v_before
    from billing.payments as p
    where p.provider = 'stripe' and p.provider_payment_id = v_payment_id;
    if exists (select from billing.compare_stripe(p_page -> 'data', p_live_mode)) then
        perform billing.apply_news(p_page -> 'data', p_told_at);
    end if;
    select p.* into v_after
    from billing.payments as p
    where p.provider = 'stripe' and p.provider_payment_id = v_payment_id;
    -- What a checkout says of its payment, the payment knows better.
    v_seen := array(
        select d
        from billing.compare_stripe(
            jsonb_path_query_array(p_page, '$.data[*] ? (@.object != "checkout.session")'),
            p_live_mode
        ) as d
    );
    if jsonb_array_length(p_page -> 'data') = 0 and v_after.id is not null then
        v_seen := array[row(
            p_subject, 'payment_unknown_to_provider', v_after.organization_id, 0,
            v_after.amount_micros, null
        )::billing.disagreement];
    end if;
    perform billing.note_discrepancy(
        d.kind, d.organization_id, p_subject, null, d.expected_micros, d.found_micros, d.note
    )
    from unnest(v_seen) as d;
    update billing.discrepancies as d
    set resolved_at = billing.now()
    where d.subject = p_subject
        and d.kind <> 'ledger'
        and d.resolved_at is null
        and not exists (select from unnest(v_seen) as s where s.kind = d.kind);
    replayed := v_before is distinct from v_after;
    discrepancies := cardinality(v_seen);
    update billing.reconciliations as r
    set
        replayed = r.replayed + reconcile_stripe.replayed::integer,
        discrepancies = r.discrepancies + reconcile_stripe.discrepancies
    where r.id = p_reconciliation_id;
    return next;
end
$$;
grant execute on function api.reconcile_stripe to service_role, faregate_functions;
comment on function api.reconcile_stripe is
'Settles one payment, refund or dispute with what Stripe has of it now.';

-- api.list_unlisted_payments: our payments since p_window_start that are not among those that the
-- provider listed. No end: whoever moved the sandbox's clock paid later than the provider thinks.
create function api.list_unlisted_payments(p_window_start timestamptz, p_listed text[])
returns setof text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select p.provider_payment_id
    from billing.payments as p
    where p.provider = 'stripe'
        and p.paid_at >= p_window_start
        and p.provider_payment_id <> all(p_listed);
end
$$;
grant execute on function api.list_unlisted_payments to service_role, faregate_functions;
comment on function api.list_unlisted_payments is
'Tells which of our payments the provider did not list.';

-- api.list_unseen_discrepancies: subjects at the provider with an open discrepancy that a run has
-- not come across.
create function api.list_unseen_discrepancies(p_reconciliation_id uuid)
returns setof text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select distinct d.subject
    from billing.discrepancies as d
    inner join billing.reconciliations as r on r.id = p_reconciliation_id
    where d.resolved_at is null and d.kind <> 'ledger' and d.last_seen_at < r.started_at;
end
$$;
grant execute on function api.list_unseen_discrepancies to service_role, faregate_functions;
comment on function api.list_unseen_discrepancies is
'Tells which open discrepancies a run has not come across.';

-- billing.verify_next: verify the next organizations after p_after (null: from the first), as many
-- as a call has time for. Those whose books agree get a checkpoint.
--
-- p_is_full: each organization, whole. Else only those whose wallet is not as their checkpoint has
-- it or that have an open discrepancy, and those with 10 000 transfers or more from it on; who
-- changes rows of a wallet that does not move is found by a full run only.
create function billing.verify_next(p_after uuid, p_is_full boolean)
returns table (organization_ids uuid[], transfers bigint, differences billing.difference[])
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_seen billing.verified[];
    v_is_large boolean;
    v_start billing.verified;
begin
    select
        array_agg(n.id order by n.id), array_agg(n.wallet order by n.id), sum(n.transfers),
        bool_or(n.is_large)
    into organization_ids, v_seen, transfers, v_is_large
    from (
        select
            c.*,
            row_number() over so_far as number,
            sum(c.transfers) over so_far as total,
            count(*) filter (where c.is_large) over so_far as large
        from (
            select
                o.id,
                row(
                    o.id, w.last_sequence, w.settled_micros, w.held_micros, w.debt_micros, 0, null
                )::billing.verified as wallet,
                k.is_large,
                coalesce(w.last_sequence, 0)
                - case when k.is_large then v.sequence else 0 end as transfers
            from billing.organizations as o
            left join billing.wallets as w on w.organization_id = o.id
            left join billing.verified as v on v.organization_id = o.id
            cross join lateral (
                select exists (
                    select from billing.discrepancies as d
                    where d.organization_id = o.id and d.kind = 'ledger' and d.resolved_at is null
                ) as is_suspect
            ) as x
            cross join lateral (
                select
                    coalesce(v.sequence, 0) >= 10000 and not p_is_full and not x.is_suspect
                        as is_large
            ) as k
            where (p_after is null or o.id > p_after)
                and (
                    p_is_full
                    or x.is_suspect
                    or (w.last_sequence, w.settled_micros, w.held_micros, w.debt_micros)
                    is distinct from (v.sequence, v.settled_micros, v.held_micros, v.debt_micros)
                )
            order by o.id
            limit 5000
        ) as c
        window so_far as (order by c.id)
    ) as n
    where n.number = 1 or n.total <= 200000 and n.large = 0;
    if organization_ids is null then
        return;
    end if;
    if v_is_large then
        -- It is alone.
        select v.* into strict v_start
        from billing.verified as v
        where v.organization_id = organization_ids[1];
    end if;
    differences := array(select d from billing.verify_books(organization_ids, v_start) as d);
    -- As the wallets were before: what has come since is looked at the next time.
    insert into billing.verified as v (
        organization_id, sequence, settled_micros, held_micros, debt_micros, provider_micros
    )
    select
        s.organization_id, s.sequence, s.settled_micros, s.held_micros, s.debt_micros,
        coalesce(v_start.provider_micros, 0) + (
            select coalesce(sum(case
                when t.debit_account = 'provider_clearing' then t.amount_micros
                when t.credit_account = 'provider_clearing' then -t.amount_micros
            end), 0)
            from billing.transfers as t
            where t.organization_id = s.organization_id
                and t.sequence > coalesce(v_start.sequence, 0)
                and t.sequence <= s.sequence
        )
    from unnest(v_seen) as s
    where s.sequence is not null
        and not exists (
            select from unnest(differences) as d where d.organization_id = s.organization_id
        )
    on conflict (organization_id) do update
    set
        sequence = excluded.sequence,
        settled_micros = excluded.settled_micros,
        held_micros = excluded.held_micros,
        debt_micros = excluded.debt_micros,
        provider_micros = excluded.provider_micros,
        verified_at = excluded.verified_at;
    return next;
end
$$;

-- billing.note_differences: keep where the ledgers of these organizations disagree with themselves,
-- and what of it was put right.
--
-- Locks   their open discrepancies, the run.
create function billing.note_differences(
    p_reconciliation_id uuid, p_organization_ids uuid[], p_differences billing.difference[]
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.note_discrepancy(
        'ledger', d.organization_id, coalesce(d.subject, 'wallet'), d.rule,
        d.expected::bigint, d.found::bigint, null
    )
    from unnest(p_differences) as d
    -- Of two runs one waits for the other.
    order by d.organization_id, d.rule, d.subject;
    update billing.discrepancies as d
    set resolved_at = billing.now()
    where d.organization_id = any(p_organization_ids)
        and d.kind = 'ledger'
        and d.resolved_at is null
        and not exists (
            select from unnest(p_differences) as s
            where s.organization_id = d.organization_id
                and s.rule = d.ledger_rule
                and coalesce(s.subject, 'wallet') = d.subject
        );
    update billing.reconciliations as r
    set
        verified = r.verified + cardinality(p_organization_ids),
        discrepancies = r.discrepancies + cardinality(p_differences)
    where r.id = p_reconciliation_id;
end
$$;

create type billing.verification as (
    next_after uuid,
    organizations bigint,
    transfers bigint,
    differences billing.difference []
);
comment on type billing.verification is
'What a part of a verification looked at and found; next_after: the last organization of it.';

-- api.verify_next: billing.verify_next as a part of a run, which keeps what disagrees. No row:
-- there is no next one.
--
-- Locks   their open discrepancies, the run.
create function api.verify_next(p_reconciliation_id uuid, p_after uuid, p_is_full boolean)
returns setof billing.verification
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_organization_ids uuid[];
    v_transfers bigint;
    v_differences billing.difference[];
begin
    select n.organization_ids, n.transfers, n.differences
    into v_organization_ids, v_transfers, v_differences
    from billing.verify_next(p_after, p_is_full) as n;
    if found then
        perform billing.note_differences(
            p_reconciliation_id, v_organization_ids, v_differences
        );
        return query
        select max(i.id::text)::uuid, count(*), v_transfers, v_differences
        from unnest(v_organization_ids) as i (id);
    end if;
end
$$;
grant execute on function api.verify_next to service_role, faregate_functions;
comment on function api.verify_next is
'Verifies the ledgers of the next organizations as a part of a run.';

-- api.verify_organization: verify one organization, whole, as a run.
--
-- Raises  FG404 organization_not_found
-- Locks   its open discrepancies, the run.
create function api.verify_organization(p_reconciliation_id uuid, p_organization_id uuid)
returns setof billing.verification
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_differences billing.difference[];
begin
    perform billing.find_customer(p_organization_id);
    v_differences := array(select d from billing.verify(p_organization_id) as d);
    perform billing.note_differences(
        p_reconciliation_id, array[p_organization_id], v_differences
    );
    return query
    select p_organization_id, 1::bigint, w.last_sequence, v_differences
    from billing.wallets as w
    where w.organization_id = p_organization_id;
end
$$;
grant execute on function api.verify_organization to service_role, faregate_functions;
comment on function api.verify_organization is
'Verifies the whole ledger of one organization as a run.';

-- api.list_reconciliations: runs, newest first, from before p_cursor.
create function api.list_reconciliations(p_caller jsonb, p_limit integer, p_cursor uuid)
returns setof api.reconciliations
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.authenticate(p_caller, 'admin');
    return query
    select r.*
    from api.reconciliations as r
    where p_cursor is null or r.id < p_cursor
    order by r.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_reconciliations to service_role, faregate_functions;
comment on function api.list_reconciliations is 'Pages through runs, newest first.';

-- api.list_discrepancies: where two sides disagree, newest first, from before p_cursor; p_status
-- null: all.
create function api.list_discrepancies(
    p_caller jsonb, p_status text, p_limit integer, p_cursor uuid
)
returns setof api.discrepancies
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.authenticate(p_caller, 'admin');
    return query
    select d.*
    from api.discrepancies as d
    where (p_cursor is null or d.id < p_cursor) and (p_status is null or d.status = p_status)
    order by d.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_discrepancies to service_role, faregate_functions;
comment on function api.list_discrepancies is
'Pages through where two sides disagree, newest first.';
