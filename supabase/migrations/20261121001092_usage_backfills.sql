-- Backfills: usage of the past, staged, recorded all at once, and taken back if it was wrong.

create type billing.backfill_status as enum ('open', 'closed', 'reverted');

create table billing.backfills (
    organization_id uuid not null references billing.organizations (id),
    id uuid not null default billing.uuidv7(),
    starts_at timestamptz not null,
    ends_at timestamptz not null,
    replaces_existing boolean not null,
    status billing.backfill_status not null default 'open',
    staged integer not null default 0,
    recorded integer not null default 0,
    amended integer not null default 0,
    unchanged integer not null default 0,
    voided integer not null default 0,
    rejected integer not null default 0,
    created_by text not null,
    created_at timestamptz not null default billing.now(),
    closed_at timestamptz,
    reverted_at timestamptz,
    primary key (organization_id, id),
    constraint backfills_end_after_they_start check (ends_at > starts_at),
    constraint backfills_say_when check (
        case status
            when 'open' then closed_at is null and reverted_at is null
            when 'closed' then closed_at is not null and reverted_at is null
            when 'reverted' then reverted_at is not null
        end
    )
);
alter table billing.backfills enable row level security;
create unique index backfills_id on billing.backfills (id);
comment on table billing.backfills is
'Usage of a time frame that is reported later. While it is open, its events are only staged; when
it is closed, all of them are recorded and charged at once; when it is reverted, nothing of it
counts.';
comment on column billing.backfills.organization_id is 'Whose usage it is.';
comment on column billing.backfills.id is 'Time-ordered (UUIDv7).';
comment on column billing.backfills.starts_at is 'Its events are of this moment (UTC) or later.';
comment on column billing.backfills.ends_at is 'They are from before this moment (UTC).';
comment on column billing.backfills.replaces_existing is
'Whether events of the time frame that it does not name are voided when it is closed.';
comment on column billing.backfills.status is
'open: events are staged. closed: they are recorded. reverted: they are dropped, or count no
more.';
comment on column billing.backfills.staged is 'How many events were staged.';
comment on column billing.backfills.recorded is 'How many of them were new when it was closed.';
comment on column billing.backfills.amended is 'How many were known otherwise.';
comment on column billing.backfills.unchanged is 'How many were known as they are.';
comment on column billing.backfills.voided is 'How many that it did not name were voided.';
comment on column billing.backfills.rejected is 'How many could not be recorded.';
comment on column billing.backfills.created_by is
'Who opened it: passport:<id> or user:<id>.';
comment on column billing.backfills.created_at is 'When it was opened (UTC).';
comment on column billing.backfills.closed_at is 'When it was closed (UTC).';
comment on column billing.backfills.reverted_at is 'When it was reverted (UTC).';

create table billing.backfill_events (
    organization_id uuid not null,
    backfill_id uuid not null,
    source text collate "C" not null,
    event_id text collate "C" not null,
    event jsonb, -- noqa: RF04
    fingerprint bigint,
    outcome text,
    reason text,
    usage_id uuid,
    primary key (organization_id, backfill_id, source, event_id),
    constraint backfill_events_belong_to_one foreign key (organization_id, backfill_id)
    references billing.backfills (organization_id, id),
    constraint backfill_events_outcome_is_known check (
        outcome in ('recorded', 'amended', 'unchanged', 'voided', 'rejected')
        and (outcome = 'rejected') = (reason is not null)
    )
);
alter table billing.backfill_events enable row level security;
comment on table billing.backfill_events is
'The events of a backfill as they were sent, and what became of each.';
comment on column billing.backfill_events.organization_id is 'Whose usage it is.';
comment on column billing.backfill_events.backfill_id is 'The backfill that it belongs to.';
comment on column billing.backfill_events.source is 'Who sent it, as they call themselves.';
comment on column billing.backfill_events.event_id is 'What they call it.';
comment on column billing.backfill_events.event is
'What it says; null: it was recorded before, and the backfill does not name it.';
comment on column billing.backfill_events.fingerprint is
'A hash of what it says: the same name with other words is no repetition.';
comment on column billing.backfill_events.outcome is
'What became of it when the backfill was closed; null: it is open.';
comment on column billing.backfill_events.reason is 'Why it was rejected.';
comment on column billing.backfill_events.usage_id is 'The event that it became or changed.';

create view api.backfills with (security_invoker = true) as
select
    b.organization_id,
    b.id,
    b.starts_at,
    b.ends_at,
    b.replaces_existing,
    b.status,
    b.staged,
    b.recorded,
    b.amended,
    b.unchanged,
    b.voided,
    b.rejected,
    b.created_by,
    b.created_at,
    b.closed_at,
    b.reverted_at
from billing.backfills as b;
comment on view api.backfills is 'Usage of the past that is reported later, and how far that is.';
call billing.inherit_comments('api.backfills');

create view api.backfill_rejections with (security_invoker = true) as
select
    e.organization_id,
    e.backfill_id,
    e.source,
    e.event_id,
    e.reason
from billing.backfill_events as e
where e.outcome = 'rejected';
comment on view api.backfill_rejections is 'Events that a backfill could not record, and why.';
call billing.inherit_comments('api.backfill_rejections');

-- billing.lock_backfill: a backfill, for somebody who goes on with it; not where its organization
-- is closed.
--
-- Raises  FG404 backfill_not_found, FG409 organization_closed
-- Locks   the organization, the backfill.
create function billing.lock_backfill(p_id uuid)
returns billing.backfills
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_backfill billing.backfills;
begin
    select b.* into v_backfill
    from billing.backfills as b
    where b.id = p_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'backfill_not_found';
    end if;
    perform billing.lock_organization(v_backfill.organization_id);
    select b.* into strict v_backfill
    from billing.backfills as b
    where b.id = p_id
    for no key update;
    return v_backfill;
end
$$;

-- api.open_backfill: an operator begins to report what a customer used in a time frame of the past.
--
-- Raises  FG404 organization_not_found, FG409 organization_closed, FG409 idempotency_conflict
-- Locks   the key, the organization.
create function api.open_backfill(
    p_caller jsonb,
    p_organization_id uuid,
    p_starts_at timestamptz,
    p_ends_at timestamptz,
    p_replaces_existing boolean,
    p_idempotency_key text
)
returns table (backfill api.backfills, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_request jsonb := jsonb_build_array(
        p_organization_id, p_starts_at, p_ends_at, p_replaces_existing
    );
    v_stored jsonb;
    v_id uuid := billing.uuidv7();
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'open_backfill', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.backfills, v_stored), true;
        return;
    end if;
    perform billing.find_customer(p_organization_id);
    perform billing.lock_organization(p_organization_id);
    insert into billing.backfills (
        organization_id, id, starts_at, ends_at, replaces_existing, created_by
    )
    values (
        p_organization_id, v_id, p_starts_at, p_ends_at, p_replaces_existing, v_caller.actor
    );
    select b.* into strict backfill
    from api.backfills as b
    where b.organization_id = p_organization_id and b.id = v_id;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'open_backfill', v_request, to_jsonb(backfill)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.open_backfill to service_role, faregate_functions;
comment on function api.open_backfill is
'Opens a backfill of a customer''s usage, for an operator.';

-- api.stage_backfill_events: keep up to 1000 more events of an open backfill, each once; of one
-- that replaces existing events all or none, because what it does not keep it would void. p_batch:
-- {"events": [{index, source, event_id, occurred_at, feature, provider_id, model, passport_id,
-- quantities}], "invalid": [the indexes of those that are none]}.
--
-- Raises  FG404 backfill_not_found, FG409 organization_closed
--         FG409 backfill_closed     it is not open any more
--         FG409 batch_rejected      it replaces existing events, and one of these was rejected;
--                                   detail: rejected (their outcomes)
--         FG409 backfill_too_large  it would have more than 2 000 events: it is closed in one call
-- Locks   the organization, the backfill.
create function api.stage_backfill_events(p_caller jsonb, p_id uuid, p_batch jsonb)
returns table (
    accepted integer, duplicates integer, rejected integer, outcomes billing.usage_outcome[]
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_backfill billing.backfills;
    v_event record;
    v_known bigint;
    v_reason text;
begin
    perform billing.authenticate(p_caller, 'admin');
    v_backfill := billing.lock_backfill(p_id);
    if v_backfill.status <> 'open' then
        raise exception using errcode = 'FG409', message = 'backfill_closed';
    end if;
    accepted := 0;
    duplicates := 0;
    outcomes := array(
        select row(i.index, 'rejected', 'invalid_event')::billing.usage_outcome
        from jsonb_array_elements_text(p_batch -> 'invalid') as t (number)
        cross join lateral (select t.number::integer as index) as i
    );
    rejected := cardinality(outcomes);
    for v_event in
        select
            e.index,
            e.source,
            e.event_id,
            t.event,
            hash_record_extended(
                row(
                    e.occurred_at, e.feature, e.provider_id, e.model, e.passport_id, e.quantities
                ),
                0
            ) as fingerprint,
            case
                when e.occurred_at < v_backfill.starts_at or e.occurred_at >= v_backfill.ends_at
                    then 'outside_backfill'
                when e.occurred_at > billing.now() + interval '5 minutes' then 'in_the_future'
            end as refusal
        from jsonb_array_elements(p_batch -> 'events') as t (event)
        cross join lateral jsonb_populate_record(null::billing.usage_correction, t.event) as e
        order by e.index
    loop
        insert into billing.backfill_events (
            organization_id, backfill_id, source, event_id, event, fingerprint
        )
        select
            v_backfill.organization_id, p_id, v_event.source, v_event.event_id, v_event.event,
            v_event.fingerprint
        where v_event.refusal is null
        on conflict do nothing;
        if found then
            accepted := accepted + 1;
            continue;
        end if;
        select s.fingerprint into v_known
        from billing.backfill_events as s
        where s.organization_id = v_backfill.organization_id
            and s.backfill_id = p_id
            and s.source = v_event.source
            and s.event_id = v_event.event_id;
        if v_event.refusal is null and v_known = v_event.fingerprint then
            duplicates := duplicates + 1;
            outcomes := outcomes || row(v_event.index, 'duplicate', null)::billing.usage_outcome;
        else
            v_reason := coalesce(v_event.refusal, 'event_conflict');
            rejected := rejected + 1;
            outcomes := outcomes
                || row(v_event.index, 'rejected', v_reason)::billing.usage_outcome;
        end if;
    end loop;
    if v_backfill.replaces_existing and rejected > 0 then
        perform billing.refuse_batch(outcomes);
    end if;
    if v_backfill.staged + accepted > 2000 then
        raise exception using errcode = 'FG409', message = 'backfill_too_large';
    end if;
    update billing.backfills as b
    set staged = b.staged + stage_backfill_events.accepted
    where b.id = p_id;
    return next;
end
$$;
grant execute on function api.stage_backfill_events to service_role, faregate_functions;
comment on function api.stage_backfill_events is 'Stages up to 1000 events of an open backfill.';

-- billing.backfill_key: the source of the corrections that a backfill makes; the id of the event
-- is their id.
create function billing.backfill_key(p_id uuid)
returns text
language sql
immutable parallel safe
return 'backfill:' || p_id::text;

-- billing.revert_key: the same of those that take it back.
create function billing.revert_key(p_id uuid)
returns text
language sql
immutable parallel safe
return 'backfill:' || p_id::text || ':reverted';

-- billing.settle_corrections: charge what a backfill's corrections of this source, of events with
-- these outcomes, come to, or give it back; as one, because a row that is changed a thousand times
-- in a transaction becomes slow.
--
-- Locks   nothing new: the caller has locked the wallet.
create function billing.settle_corrections(
    p_backfill billing.backfills, p_source text, p_outcomes text[]
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
-- As billing.sum_up_usage.
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_price_usd numeric;
    v_sequences bigint[];
begin
    select sum(c.price_usd), array_agg(distinct o.sequence)
    into v_price_usd, v_sequences
    from billing.backfill_events as s
    cross join lateral (
        select e.sequence
        from billing.usage_events as e
        where e.organization_id = s.organization_id and e.id = s.usage_id
        limit 1 -- noqa: AM09
    ) as o
    cross join lateral (
        select e.price_usd, e.source
        from billing.usage_events as e
        where e.organization_id = s.organization_id and e.corrects_id = s.usage_id
        offset 0
    ) as c
    where c.source = p_source
        and s.organization_id = p_backfill.organization_id
        and s.backfill_id = p_backfill.id
        and s.outcome = any(p_outcomes);
    if v_price_usd <> 0 then
        perform billing.settle_usage(p_backfill.organization_id, v_price_usd, v_sequences);
    end if;
end
$$;

-- billing.refuse_new_debt: what a backfill came to must be there, or may be owed.
--
-- Raises  FG402 insufficient_credits  detail: required_micros, available_micros: what is missing is
--                                     the difference
create function billing.refuse_new_debt(
    p_before billing.wallets, p_allow_debt_micros bigint
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_available_micros bigint := p_before.settled_micros - p_before.held_micros;
    v_missing_micros bigint;
begin
    select w.debt_micros - greatest(p_before.debt_micros, p_allow_debt_micros)
    into strict v_missing_micros
    from billing.wallets as w
    where w.organization_id = p_before.organization_id;
    if v_missing_micros > 0 then
        perform billing.refuse_insufficient(
            v_available_micros + v_missing_micros, v_available_micros
        );
    end if;
end
$$;

-- billing.void_unnamed_usage: void what was used in a backfill's time frame and it does not name;
-- not what waits for a person.
--
-- Raises  FG409 backfill_too_large  with those that are staged they are more than 2 000 events
-- Locks   nothing new: the caller has locked the wallet.
create function billing.void_unnamed_usage(p_backfill billing.backfills)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_events billing.usage_events[] := array(
        select u
        from (
            -- What was stated in the time frame, first or again.
            select e.id, e.corrects_id
            from billing.usage_events as e
            where e.organization_id = p_backfill.organization_id
                -- Nothing comes earlier than five minutes before it was used.
                and e.id >= billing.first_id_of(p_backfill.starts_at - interval '5 minutes')
                and e.occurred_at >= p_backfill.starts_at
                and e.occurred_at < p_backfill.ends_at
                and e.counted = 1
        ) as e
        cross join lateral (
            select o.source, o.event_id, o.review
            from billing.usage_events as o
            where o.organization_id = p_backfill.organization_id
                and o.id = coalesce(e.corrects_id, e.id)
            limit 1 -- noqa: AM09
        ) as o
        cross join lateral billing.find_usage(
            p_backfill.organization_id, o.source, o.event_id
        ) as u
        where o.review is null
            and u.occurred_at >= p_backfill.starts_at
            and u.occurred_at < p_backfill.ends_at
            and not exists (
                select
                from billing.backfill_events as s
                where s.organization_id = p_backfill.organization_id
                    and s.backfill_id = p_backfill.id
                    and s.source = o.source
                    and s.event_id = o.event_id
            )
        limit 5001 -- noqa: AM09
    );
    v_event billing.usage_events;
begin
    if cardinality(v_events) > 2000 - p_backfill.staged then
        raise exception using errcode = 'FG409', message = 'backfill_too_large';
    end if;
    foreach v_event in array v_events loop
        continue when billing.correct_event(
            row(
                0, v_event.organization_id, billing.backfill_key(p_backfill.id), v_event.id,
                v_event.source, v_event.event_id, null, null, null, null, null, null
            )::billing.usage_correction,
            null,
            false
        ) is not null;
        insert into billing.backfill_events (
            organization_id, backfill_id, source, event_id, outcome, usage_id
        )
        values (
            p_backfill.organization_id, p_backfill.id, v_event.source, v_event.event_id, 'voided',
            v_event.id
        );
    end loop;
end
$$;

-- billing.restate_usage: have a backfill say what an event comes to, and with which words. Where it
-- is other words, or other whether it says how many requests it was, it is two corrections: the
-- event is voided as it was, and stated anew. p_was: what it came to before.
--
-- Locks   nothing new: the caller has locked the wallet.
create function billing.restate_usage(
    p_event billing.usage_events, p_was billing.usage_total, p_rated billing.rated_usage
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now billing.usage_events := billing.with_words_of(
        p_event, jsonb_populate_record(null::billing.usage_events, to_jsonb(p_rated))
    );
    v_void billing.rated_usage;
begin
    if p_was.counted = 1 and (
        v_now is distinct from p_event
        or p_rated.quantities ? 'requests' <> (p_event.quantities ? 'requests')
    ) then
        v_void.source := p_rated.source;
        v_void.event_id := p_rated.event_id;
        v_void.fingerprint := p_rated.fingerprint;
        v_void.quantities := '{}';
        perform billing.add_correction(
            p_event, p_was, v_void, billing.reprice_usage(p_event, p_was, v_void), null
        );
        p_was := row('{}', 0, 0, 0, null, false, null)::billing.usage_total;
        p_rated.event_id := p_rated.event_id || ':restated';
    end if;
    perform billing.add_correction(
        v_now, p_was, p_rated, billing.reprice_usage(v_now, p_was, p_rated), null
    );
end
$$;

-- billing.amend_usage: what a backfill makes of an event that is known already: nothing where it
-- says the same.
--
-- Locks   nothing new: the caller has locked the wallet.
create function billing.amend_usage(p_backfill billing.backfills, p_rated billing.rated_usage)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_event billing.usage_events := billing.find_usage(
        p_rated.organization_id, p_rated.source, p_rated.event_id
    );
    v_was billing.usage_total := billing.sum_up_usage(p_rated.organization_id, v_event.id);
    v_source text := p_rated.source;
    v_event_id text := p_rated.event_id;
    v_is_changed boolean := (
            p_rated.occurred_at, p_rated.feature, p_rated.provider_id, p_rated.model,
            p_rated.passport_id
        ) is distinct from (
            v_event.occurred_at, v_event.feature, v_event.provider_id, v_event.model,
            v_event.passport_id
        )
        or billing.subtract_usage(p_rated.quantities, v_was.quantities) <> '{}'
        or v_was.counted = 0;
    v_reason text;
begin
    if v_is_changed then
        v_reason := case
            when v_event.id is null then 'event_not_found'
            when v_event.review is not null then 'event_in_review'
            when v_was.counted = 0 then 'event_voided'
            when v_event.priced_by is not null then 'price_was_named'
            when p_rated.review is not null then p_rated.review::text
            when p_rated.passport_id is not null and not exists (
                select
                from billing.passports as p
                where p.organization_id = p_rated.organization_id and p.id = p_rated.passport_id
            ) then 'passport_not_found'
        end;
    end if;
    if v_is_changed and v_reason is null then
        p_rated.source := billing.backfill_key(p_backfill.id);
        p_rated.event_id := v_event.id;
        perform billing.restate_usage(v_event, v_was, p_rated);
    end if;
    update billing.backfill_events as s
    set
        outcome = case
            when v_reason is not null then 'rejected'
            when v_is_changed then 'amended'
            else 'unchanged'
        end,
        reason = v_reason,
        usage_id = v_event.id
    where s.organization_id = p_rated.organization_id
        and s.backfill_id = p_backfill.id
        and s.source = v_source
        and s.event_id = v_event_id;
end
$$;

-- billing.record_backfill: record, rate and charge the next thousand staged events. What is not in
-- the wallet becomes a debt. Gives how much of one their policies allow; null: nothing was left.
--
-- Locks   nothing new: the caller has locked the wallet.
create function billing.record_backfill(p_backfill billing.backfills)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids uuid[] := array[p_backfill.organization_id];
    v_rated billing.rated_usage[];
    v_known billing.rated_usage[];
    v_each billing.rated_usage;
    v_allow_debt_micros bigint;
    v_result record;
begin
    v_rated := array(
        select r
        from billing.rate_usage(
            (
                select jsonb_agg(
                    n.event || jsonb_build_object(
                        'index', n.number - 1, 'organization_id', p_backfill.organization_id
                    )
                )
                from (
                    select s.event, row_number() over (order by s.source, s.event_id) as number
                    from billing.backfill_events as s
                    where s.organization_id = p_backfill.organization_id
                        and s.backfill_id = p_backfill.id
                        and s.outcome is null
                    order by s.source, s.event_id
                    limit 1000
                ) as n
            ),
            v_ids,
            billing.now()
        ) as r
    );
    if v_rated = '{}' then
        return null;
    end if;
    select min(r.allow_debt_micros) into v_allow_debt_micros
    from unnest(v_rated) as r;
    v_known := array(
        select r
        from unnest(v_rated) as r
        inner join billing.usage_keys as k
            on k.organization_id = r.organization_id
            and k.source = r.source
            and k.event_id = r.event_id
    );
    foreach v_each in array v_known loop
        perform billing.amend_usage(p_backfill, v_each);
    end loop;
    select r.* into strict v_result
    from billing.record_usage(
        array(
            select r
            from unnest(v_rated) as r
            where not exists (select from unnest(v_known) as k where k.index = r.index)
        ),
        v_ids, null, true
    ) as r;
    perform billing.settle_batch(
        v_result.debits, v_result.remainders_usd, v_result.owing_ids, v_result.owed_micros
    );
    update billing.backfill_events as s
    set
        outcome = case when k.id is null then 'rejected' else 'recorded' end,
        reason = case when k.id is null then coalesce(o.reason, 'not_recorded') end,
        usage_id = k.id
    from unnest(v_rated) as r
    left join billing.usage_keys as k
        on k.organization_id = r.organization_id
        and k.source = r.source
        and k.event_id = r.event_id
    left join unnest(v_result.outcomes) as o on o.index = r.index and o.status = 'rejected'
    where s.organization_id = p_backfill.organization_id
        and s.backfill_id = p_backfill.id
        and s.source = r.source
        and s.event_id = r.event_id
        and s.outcome is null;
    return v_allow_debt_micros;
end
$$;

-- api.close_backfill: record and charge all events of a backfill, each rated at its own time, as
-- one: new ones are recorded, however old; known ones that said anything else are amended; with
-- replaces_existing those of the time frame that it does not name are voided. What it is short of
-- may become a debt as far as the policy of every one of its features allows. Closed twice, it was
-- closed once.
--
-- Raises  FG404 backfill_not_found, FG409 organization_closed
--         FG402 insufficient_credits  nothing was recorded; detail: required_micros,
--                                     available_micros
--         FG409 backfill_closed       it was reverted
--         FG409 backfill_too_large    with those that would be voided it has more than 2 000 events
-- Locks   the organization, the backfill, the wallet.
create function api.close_backfill(p_caller jsonb, p_id uuid)
returns setof api.backfills
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_backfill billing.backfills := billing.lock_backfill(p_id);
    v_before billing.wallets;
    v_allow_debt_micros bigint;
    v_next_micros bigint;
begin
    if v_backfill.status = 'reverted' then
        raise exception using errcode = 'FG409', message = 'backfill_closed';
    elsif v_backfill.status = 'open' then
        v_before := billing.lock_wallet(v_backfill.organization_id);
        -- Money that comes back first pays for the rest.
        if v_backfill.replaces_existing then
            perform billing.void_unnamed_usage(v_backfill);
            perform billing.settle_corrections(
                v_backfill, billing.backfill_key(p_id), array['voided']
            );
        end if;
        loop
            v_next_micros := billing.record_backfill(v_backfill);
            exit when v_next_micros is null;
            v_allow_debt_micros := least(v_allow_debt_micros, v_next_micros);
        end loop;
        perform billing.settle_corrections(
            v_backfill, billing.backfill_key(p_id), array['amended']
        );
        perform billing.refuse_new_debt(v_before, coalesce(v_allow_debt_micros, 0));
        update billing.backfills as b
        set
            status = 'closed',
            closed_at = billing.now(),
            recorded = s.recorded,
            amended = s.amended,
            unchanged = s.unchanged,
            voided = s.voided,
            rejected = s.rejected
        from (
            select
                count(*) filter (where e.outcome = 'recorded') as recorded,
                count(*) filter (where e.outcome = 'amended') as amended,
                count(*) filter (where e.outcome = 'unchanged') as unchanged,
                count(*) filter (where e.outcome = 'voided') as voided,
                count(*) filter (where e.outcome = 'rejected') as rejected
            from billing.backfill_events as e
            where e.organization_id = v_backfill.organization_id and e.backfill_id = p_id
        ) as s
        where b.id = p_id;
        insert into billing.audit_log (organization_id, actor, action, subject_id)
        values (v_backfill.organization_id, v_caller.actor, 'close_backfill', p_id);
    end if;
    return query
    select b.*
    from api.backfills as b
    where b.id = p_id;
end
$$;
grant execute on function api.close_backfill to service_role, faregate_functions;
comment on function api.close_backfill is
'Records and charges the events of a backfill, for an operator.';

-- billing.revert_event: undo what a backfill did to an event, unless a later correction said again
-- what it comes to.
--
-- Locks   nothing new: the caller has locked the wallet.
create function billing.revert_event(
    p_backfill billing.backfills, p_event billing.backfill_events, p_actor text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
-- As billing.sum_up_usage.
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_event billing.usage_events;
    v_correction billing.usage_events;
    v_was billing.usage_total;
    v_before billing.usage_total;
    v_rated billing.rated_usage;
begin
    -- What still waits for a person waits no more: it never was.
    update billing.usage_events as e
    set price_usd = 0, review = null, priced_by = p_actor
    where e.organization_id = p_event.organization_id
        and e.id = p_event.usage_id
        and e.review is not null;
    if found then
        -- What is taken back below was counted.
        perform billing.count_usage(array[p_event.organization_id], array[p_event.usage_id]);
    end if;
    v_event := billing.find_usage(p_event.organization_id, p_event.source, p_event.event_id);
    v_was := billing.sum_up_usage(p_event.organization_id, p_event.usage_id);
    if p_event.outcome = 'recorded' then
        if v_was.counted <> 0 then
            v_rated.quantities := '{}';
            v_rated.source := billing.revert_key(p_backfill.id);
            v_rated.event_id := p_event.usage_id;
            v_rated.fingerprint := 0;
            perform billing.add_correction(
                v_event, v_was, v_rated, billing.reprice_usage(v_event, v_was, v_rated), null
            );
        end if;
        return;
    end if;
    v_before := v_was;
    for v_correction in
        select e.*
        from billing.usage_events as e
        where e.organization_id = p_event.organization_id
            and e.corrects_id = p_event.usage_id
            and e.source = billing.backfill_key(p_backfill.id)
        -- The last of two says the words that were there before.
        order by e.counted desc
    loop
        v_before.quantities := billing.subtract_usage(
            v_before.quantities, v_correction.quantities
        );
        v_before.cost_usd := v_before.cost_usd - v_correction.cost_usd;
        v_before.price_usd := v_before.price_usd - v_correction.price_usd;
    end loop;
    perform from billing.usage_events as e
    where e.organization_id = p_event.organization_id
        and e.corrects_id = p_event.usage_id
        and e.id > v_correction.id
        and e.source <> v_correction.source;
    if found then
        return;
    end if;
    select r.* into strict v_rated
    from billing.rate_usage(
        jsonb_build_array(
            to_jsonb(v_correction) || jsonb_build_object(
                'index', 0, 'quantities', v_before.quantities
            )
        ),
        array[p_event.organization_id], billing.now()
    ) as r;
    v_rated.cost_usd := v_before.cost_usd;
    v_rated.provider_price_id := v_event.provider_price_id;
    if v_rated.is_tiered is not true then
        v_rated.price_usd := v_before.price_usd;
        v_rated.usage_rate_id := v_event.usage_rate_id;
    end if;
    v_rated.source := billing.revert_key(p_backfill.id);
    v_rated.event_id := p_event.usage_id;
    v_rated.fingerprint := 0;
    perform billing.restate_usage(v_event, v_was, v_rated);
end
$$;

-- api.revert_backfill: drop the events of an open backfill, or take back what a closed one did: its
-- new events are voided, those that it amended or voided come to what they came to before, but not
-- those that were corrected again since. The money goes back; what comes back to count must be in
-- the wallet. Reverted twice, it was reverted once.
--
-- Raises  FG404 backfill_not_found, FG402 insufficient_credits, FG409 organization_closed
-- Locks   the organization, the backfill, the wallet.
create function api.revert_backfill(p_caller jsonb, p_id uuid)
returns setof api.backfills
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_backfill billing.backfills := billing.lock_backfill(p_id);
    v_before billing.wallets;
    v_event billing.backfill_events;
begin
    if v_backfill.status = 'open' then
        delete from billing.backfill_events as e
        where e.organization_id = v_backfill.organization_id and e.backfill_id = p_id;
    elsif v_backfill.status = 'closed' then
        v_before := billing.lock_wallet(v_backfill.organization_id);
        for v_event in
            select e.*
            from billing.backfill_events as e
            where e.organization_id = v_backfill.organization_id
                and e.backfill_id = p_id
                and e.outcome in ('recorded', 'amended', 'voided')
            order by e.source, e.event_id
        loop
            perform billing.revert_event(v_backfill, v_event, v_caller.actor);
        end loop;
        perform billing.settle_corrections(
            v_backfill, billing.revert_key(p_id), array['recorded', 'amended', 'voided']
        );
        perform billing.refuse_new_debt(v_before, 0);
    end if;
    if v_backfill.status <> 'reverted' then
        update billing.backfills as b
        set status = 'reverted', reverted_at = billing.now()
        where b.id = p_id;
        insert into billing.audit_log (organization_id, actor, action, subject_id)
        values (v_backfill.organization_id, v_caller.actor, 'revert_backfill', p_id);
    end if;
    return query
    select b.*
    from api.backfills as b
    where b.id = p_id;
end
$$;
grant execute on function api.revert_backfill to service_role, faregate_functions;
comment on function api.revert_backfill is 'Takes back what a backfill did, for an operator.';

-- api.get_backfill: a backfill and how far it is. For operators.
--
-- Raises  FG404 backfill_not_found
create function api.get_backfill(p_caller jsonb, p_id uuid)
returns setof api.backfills
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.authenticate(p_caller, 'admin');
    return query
    select b.*
    from api.backfills as b
    where b.id = p_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'backfill_not_found';
    end if;
end
$$;
grant execute on function api.get_backfill to service_role, faregate_functions;
comment on function api.get_backfill is 'Tells how far a backfill is.';

-- api.list_backfills: backfills of all customers, newest first, from before p_cursor. For
-- operators.
create function api.list_backfills(p_caller jsonb, p_limit integer, p_cursor uuid)
returns setof api.backfills
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.authenticate(p_caller, 'admin');
    return query
    select b.*
    from api.backfills as b
    where p_cursor is null or b.id < p_cursor
    order by b.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_backfills to service_role, faregate_functions;
comment on function api.list_backfills is 'Pages through backfills, newest first.';

-- api.list_backfill_rejections: up to 1000 events that a backfill could not record, and why.
--
-- Raises  FG404 backfill_not_found
create function api.list_backfill_rejections(p_caller jsonb, p_id uuid)
returns setof api.backfill_rejections
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_backfill api.backfills;
begin
    select b.* into strict v_backfill
    from api.get_backfill(p_caller, p_id) as b;
    return query
    select r.*
    from api.backfill_rejections as r
    where r.organization_id = v_backfill.organization_id and r.backfill_id = p_id
    order by r.source, r.event_id
    limit 1000;
end
$$;
grant execute on function api.list_backfill_rejections to service_role, faregate_functions;
comment on function api.list_backfill_rejections is
'Lists the events that a backfill could not record.';
