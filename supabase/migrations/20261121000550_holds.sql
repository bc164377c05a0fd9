-- Holds: money reserved in a wallet, captured in part or in full, and given back. Every hold ends.

create type billing.hold_kind as enum ('session', 'usage', 'storage');
comment on type billing.hold_kind is
'session: renewed and captured by sweeps. storage: likewise, by accrual. usage: opened, captured and
released by an operator.';

create type billing.hold_outcome as enum ('captured', 'released', 'expired');

create table billing.holds (
    organization_id uuid not null,
    id uuid not null,
    kind billing.hold_kind not null,
    amount_micros bigint not null,
    captured_micros bigint not null default 0,
    captured_until timestamptz not null default billing.now(),
    expires_at timestamptz not null,
    is_final boolean not null,
    due_at timestamptz,
    outcome billing.hold_outcome,
    description text,
    opened_by text,
    primary key (organization_id, id),
    constraint holds_keep_what_is_not_captured check (
        captured_micros between 0 and amount_micros
        and (due_at is not null or amount_micros = captured_micros)
    )
)
with (fillfactor = 50);
alter table billing.holds enable row level security;
create index holds_due on billing.holds (kind, due_at) where due_at is not null;
comment on table billing.holds is
'Money reserved in a wallet, under the id of what it is reserved for. While it is open it keeps
amount − captured of the wallet from everybody else; a renewal raises the amount, a capture takes
part of it, closing gives the rest back. A renewal rewrites only this row, so what seldom changes
stands elsewhere. No foreign key to the wallet, which has just been updated wherever a hold is
opened.';
comment on column billing.holds.organization_id is 'The organization it belongs to.';
comment on column billing.holds.id is
'Time-ordered (UUIDv7); a session''s or storage resource''s hold has its id.';
comment on column billing.holds.kind is
'session: kept by sweeps while a session runs. storage: kept by accrual while it is rented. usage:
opened and captured by an operator.';
comment on column billing.holds.amount_micros is
'Reserved so far in µ$, what was captured of it included; once closed, what was captured.';
comment on column billing.holds.captured_micros is 'What of it was taken, in µ$.';
comment on column billing.holds.captured_until is
'A session or storage is charged up to then (UTC): a clock that is set back does not count that time
again.';
comment on column billing.holds.expires_at is
'Until when it keeps money (UTC); a session or storage is paid for until then.';
comment on column billing.holds.is_final is 'Whether nothing more can be held beyond expires_at.';
comment on column billing.holds.due_at is
'When a sweep must renew or close it (UTC); null: it is closed.';
comment on column billing.holds.outcome is 'What became of it; only of a closed hold of usage.';
comment on column billing.holds.description is
'What an operator says that it is for; only of usage.';
comment on column billing.holds.opened_by is
'Who opened it, passport:<id> or user:<id>; only of usage.';

create view api.holds with (security_invoker = true) as
select
    h.id,
    h.organization_id,
    h.kind,
    case
        when h.due_at is not null and h.kind = 'usage' and h.expires_at <= billing.now()
            then 'expired'
        when h.due_at is not null then 'open'
        else coalesce(h.outcome, 'captured')::text
    end as status,
    h.amount_micros,
    h.captured_micros,
    h.amount_micros - h.captured_micros as held_micros,
    h.description,
    h.expires_at
from billing.holds as h;
comment on view api.holds is 'Money that is reserved, and what became of it.';
comment on column api.holds.status is
'open, captured, released or expired. What an expired one still holds is given back by the cron.';
comment on column api.holds.held_micros is 'What it still keeps, in µ$: amount − captured.';
call billing.inherit_comments('api.holds');

-- billing.refuse_insufficient: say that so much is not there.
--
-- Raises  FG402 insufficient_credits  detail: required_micros, available_micros
create function billing.refuse_insufficient(p_required_micros bigint, p_available_micros bigint)
returns void
language plpgsql
immutable
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = 'FG402',
        message = 'insufficient_credits',
        detail = jsonb_build_object(
            'required_micros', p_required_micros, 'available_micros', p_available_micros
        )::text;
end
$$;

-- billing.refuse_short_money: say why a wallet does not pay so much.
--
-- Raises  FG402 insufficient_credits  detail: required_micros, available_micros
--         FG402 debt_outstanding      the organization is frozen until it tops up; detail:
--                                     debt_micros
create function billing.refuse_short_money(p_organization_id uuid, p_required_micros bigint)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_wallet api.wallets;
begin
    select w.* into strict v_wallet
    from api.wallets as w
    where w.organization_id = p_organization_id;
    if v_wallet.debt_micros > 0 then
        raise exception using
            errcode = 'FG402',
            message = 'debt_outstanding',
            detail = jsonb_build_object('debt_micros', v_wallet.debt_micros)::text;
    end if;
    perform billing.refuse_insufficient(p_required_micros, v_wallet.available_micros);
end
$$;

-- billing.hold_with_care: keep money of a wallet, where a grant may have expired that no cron has
-- taken yet, or say why it does not keep so much.
--
-- Raises  FG402 insufficient_credits, FG402 debt_outstanding
-- Locks   the wallet.
create function billing.hold_with_care(p_organization_id uuid, p_amount_micros bigint)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.expire_wallet(p_organization_id);
    update billing.wallets as w
    set held_micros = w.held_micros + p_amount_micros
    where w.organization_id = p_organization_id
        and w.settled_micros - w.held_micros >= p_amount_micros
        and w.debt_micros = 0;
    if not found then
        perform billing.refuse_short_money(p_organization_id, p_amount_micros);
    end if;
end
$$;

-- billing.open_hold: keep money of a wallet for something to come.
--
-- Raises  FG402 insufficient_credits, FG402 debt_outstanding
-- Locks   the wallet.
create function billing.open_hold(
    p_organization_id uuid,
    p_id uuid,
    p_kind billing.hold_kind,
    p_amount_micros bigint,
    p_expires_at timestamptz,
    p_is_final boolean,
    p_due_at timestamptz
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.wallets as w
    set held_micros = w.held_micros + p_amount_micros
    where w.organization_id = p_organization_id
        and w.settled_micros - w.held_micros >= p_amount_micros
        and w.debt_micros = 0
        and (w.next_expiry_at is null or w.next_expiry_at > billing.now());
    if not found then
        perform billing.hold_with_care(p_organization_id, p_amount_micros);
    end if;
    insert into billing.holds
    (organization_id, id, kind, amount_micros, expires_at, is_final, due_at)
    values
    (p_organization_id, p_id, p_kind, p_amount_micros, p_expires_at, p_is_final, p_due_at);
end
$$;

-- billing.lock_hold: an open hold of usage.
--
-- Raises  FG404 hold_not_found  absent, or another organization's
--         FG409 hold_closed     detail: hold_status (captured, released, expired)
-- Locks   the hold.
create function billing.lock_hold(p_organization_id uuid, p_hold_id uuid)
returns billing.holds
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_hold billing.holds;
begin
    select h.* into v_hold
    from billing.holds as h
    where h.organization_id = p_organization_id and h.id = p_hold_id and h.kind = 'usage'
    for no key update;
    if not found then
        raise exception using errcode = 'FG404', message = 'hold_not_found';
    elsif v_hold.due_at is null or v_hold.expires_at <= billing.now() then
        raise exception using
            errcode = 'FG409',
            message = 'hold_closed',
            detail = jsonb_build_object(
                'hold_status', coalesce(v_hold.outcome, 'expired')
            )::text;
    end if;
    return v_hold;
end
$$;

-- billing.close_hold: give back what of a hold was not captured. p_outcome: what became of it when
-- nothing was.
--
-- Locks   the wallet; the caller has locked the hold.
create function billing.close_hold(
    p_organization_id uuid, p_hold_id uuid, p_outcome billing.hold_outcome
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.wallets as w
    set held_micros = w.held_micros - (h.amount_micros - h.captured_micros)
    from billing.holds as h
    where w.organization_id = p_organization_id
        and h.organization_id = p_organization_id
        and h.id = p_hold_id;
    update billing.holds as h
    set
        amount_micros = h.captured_micros,
        due_at = null,
        outcome = case when h.captured_micros = 0 then p_outcome else 'captured' end
    where h.organization_id = p_organization_id and h.id = p_hold_id;
    perform billing.repay_debt(p_organization_id);
end
$$;

-- billing.find_customer: the organization that an operator acts for.
--
-- Raises  FG404 organization_not_found
create function billing.find_customer(p_organization_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from billing.wallets as w where w.organization_id = p_organization_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'organization_not_found';
    end if;
end
$$;

-- billing.authenticate_reader: whose holds or grants a caller reads: those of their own
-- organization, or as an operator those of the customer they name.
--
-- Raises  as billing.authenticate, FG404 organization_not_found
create function billing.authenticate_reader(p_caller jsonb, p_organization_id uuid)
returns uuid
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(
        p_caller, case when p_organization_id is null then 'read' else 'admin' end
    );
begin
    if p_organization_id is not null then
        perform billing.find_customer(p_organization_id);
    end if;
    return coalesce(p_organization_id, v_caller.organization_id);
end
$$;

-- api.open_hold: an operator reserves a customer's money for p_expires_in_seconds.
--
-- Raises  FG402 insufficient_credits, FG402 debt_outstanding, FG404 organization_not_found,
--         FG409 organization_closed, FG409 idempotency_conflict
-- Locks   the key, the wallet.
create function api.open_hold(
    p_caller jsonb,
    p_organization_id uuid,
    p_amount_micros bigint,
    p_expires_in_seconds integer,
    p_description text,
    p_idempotency_key text
)
returns table (hold api.holds, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_request jsonb := jsonb_build_array(
        p_organization_id, p_amount_micros, p_expires_in_seconds, p_description
    );
    v_stored jsonb;
    v_id uuid := billing.uuidv7();
    v_expires_at timestamptz;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'open_hold', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.holds, v_stored), true;
        return;
    end if;
    perform billing.find_customer(p_organization_id);
    -- Without a lock: one that is closed meanwhile has no money left to hold.
    perform from billing.organizations as o
    where o.id = p_organization_id and o.closed_at is null;
    if not found then
        raise exception using errcode = 'FG409', message = 'organization_closed';
    end if;
    v_expires_at := billing.now() + make_interval(secs => p_expires_in_seconds);
    perform billing.open_hold(
        p_organization_id, v_id, 'usage', p_amount_micros, v_expires_at, true, v_expires_at
    );
    perform billing.check_spending(
        v_caller, p_organization_id, jsonb_build_object('amount_micros', p_amount_micros)
    );
    update billing.holds as h
    set description = p_description, opened_by = v_caller.actor
    where h.organization_id = p_organization_id and h.id = v_id;
    select v.* into hold
    from api.holds as v
    where v.organization_id = p_organization_id and v.id = v_id;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'open_hold', v_request, to_jsonb(hold)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.open_hold to service_role, faregate_functions;
comment on function api.open_hold is 'Reserves a customer''s money for an operator.';

-- api.capture_hold: take p_amount_micros of what a hold keeps; p_is_final gives the rest back.
--
-- Raises  FG404 hold_not_found, FG409 hold_closed, FG409 idempotency_conflict
--         FG409 capture_exceeds_hold  detail: held_micros
--         FG409 hold_of_authorization
-- Locks   the key, the hold, the wallet.
create function api.capture_hold(
    p_caller jsonb,
    p_organization_id uuid,
    p_hold_id uuid,
    p_amount_micros bigint,
    p_is_final boolean,
    p_idempotency_key text
)
returns table (hold api.holds, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_request jsonb := jsonb_build_array(
        p_organization_id, p_hold_id, p_amount_micros, p_is_final
    );
    v_stored jsonb;
    v_hold billing.holds;
    v_held_micros bigint;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'capture_hold', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.holds, v_stored), true;
        return;
    end if;
    v_hold := billing.lock_hold(p_organization_id, p_hold_id);
    v_held_micros := v_hold.amount_micros - v_hold.captured_micros;
    if exists (
        select
        from billing.usage_authorizations as a
        where a.organization_id = p_organization_id and a.id = p_hold_id
    )
    then
        -- Money for usage is taken with the event that says what it was for.
        raise exception using errcode = 'FG409', message = 'hold_of_authorization';
    elsif p_amount_micros > v_held_micros then
        raise exception using
            errcode = 'FG409',
            message = 'capture_exceeds_hold',
            detail = jsonb_build_object('held_micros', v_held_micros)::text;
    end if;
    update billing.holds as h
    set captured_micros = h.captured_micros + p_amount_micros
    where h.organization_id = p_organization_id and h.id = p_hold_id;
    perform billing.debit_wallet(
        row(
            p_organization_id, p_amount_micros, -p_amount_micros, 'revenue_usage', 'capture',
            p_hold_id
        )::billing.debit,
        billing.now()
    );
    if p_is_final or p_amount_micros = v_held_micros then
        perform billing.close_hold(p_organization_id, p_hold_id, 'released');
    end if;
    select v.* into hold
    from api.holds as v
    where v.organization_id = p_organization_id and v.id = p_hold_id;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'capture_hold', v_request, to_jsonb(hold)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.capture_hold to service_role, faregate_functions;
comment on function api.capture_hold is 'Takes part or all of what a hold keeps.';

-- api.release_hold: give back what a hold keeps.
--
-- Raises  FG404 hold_not_found, FG409 hold_closed, FG409 idempotency_conflict
-- Locks   the key, the hold, the wallet.
create function api.release_hold(
    p_caller jsonb, p_organization_id uuid, p_hold_id uuid, p_idempotency_key text
)
returns table (hold api.holds, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_request jsonb := jsonb_build_array(p_organization_id, p_hold_id);
    v_stored jsonb;
    v_hold billing.holds;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'release_hold', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.holds, v_stored), true;
        return;
    end if;
    v_hold := billing.lock_hold(p_organization_id, p_hold_id);
    perform billing.close_hold(p_organization_id, p_hold_id, 'released');
    select v.* into hold
    from api.holds as v
    where v.organization_id = p_organization_id and v.id = p_hold_id;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'release_hold', v_request, to_jsonb(hold)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.release_hold to service_role, faregate_functions;
comment on function api.release_hold is 'Gives back what a hold keeps.';

-- api.renew_hold: keep a hold for p_expires_in_seconds from now on, and p_amount_micros more in it.
-- Never shorter than it would have been kept anyway.
--
-- Raises  FG404 hold_not_found, FG409 hold_closed, FG402 insufficient_credits,
--         FG402 debt_outstanding, FG409 idempotency_conflict
-- Locks   the key, the hold, the wallet.
create function api.renew_hold(
    p_caller jsonb,
    p_organization_id uuid,
    p_hold_id uuid,
    p_amount_micros bigint,
    p_expires_in_seconds integer,
    p_idempotency_key text
)
returns table (hold api.holds, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_request jsonb := jsonb_build_array(
        p_organization_id, p_hold_id, p_amount_micros, p_expires_in_seconds
    );
    v_stored jsonb;
    v_hold billing.holds;
    v_expires_at timestamptz;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'renew_hold', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.holds, v_stored), true;
        return;
    end if;
    v_hold := billing.lock_hold(p_organization_id, p_hold_id);
    perform billing.hold_with_care(p_organization_id, p_amount_micros);
    perform billing.check_spending(
        v_caller, p_organization_id, jsonb_build_object('amount_micros', p_amount_micros)
    );
    v_expires_at := greatest(
        v_hold.expires_at, billing.now() + make_interval(secs => p_expires_in_seconds)
    );
    update billing.holds as h
    set
        amount_micros = h.amount_micros + p_amount_micros,
        expires_at = v_expires_at,
        due_at = v_expires_at
    where h.organization_id = p_organization_id and h.id = p_hold_id;
    select v.* into hold
    from api.holds as v
    where v.organization_id = p_organization_id and v.id = p_hold_id;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'renew_hold', v_request, to_jsonb(hold)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.renew_hold to service_role, faregate_functions;
comment on function api.renew_hold is 'Keeps a hold for longer, with more money in it if asked to.';

-- api.get_hold: one hold of the caller's organization, or of the customer that an operator names.
-- Raises  FG404 hold_not_found, FG404 organization_not_found
create function api.get_hold(p_caller jsonb, p_organization_id uuid, p_hold_id uuid)
returns setof api.holds
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_organization_id uuid := billing.authenticate_reader(p_caller, p_organization_id);
begin
    return query
    select h.*
    from api.holds as h
    where h.organization_id = v_organization_id and h.id = p_hold_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'hold_not_found';
    end if;
end
$$;
grant execute on function api.get_hold to service_role, faregate_functions;
comment on function api.get_hold is 'Reads one hold.';

-- api.list_holds: the holds of the caller's organization, or of the customer that an operator
-- names, newest first, from before p_cursor; p_status null: all.
--
-- Raises  FG404 organization_not_found
create function api.list_holds(
    p_caller jsonb, p_organization_id uuid, p_status text, p_limit integer, p_cursor uuid
)
returns setof api.holds
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_organization_id uuid := billing.authenticate_reader(p_caller, p_organization_id);
begin
    return query
    select h.*
    from api.holds as h
    where h.organization_id = v_organization_id
        and (p_cursor is null or h.id < p_cursor)
        and (p_status is null or h.status = p_status)
    order by h.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_holds to service_role, faregate_functions;
comment on function api.list_holds is 'Pages through holds, newest first.';

-- api.expire_holds: give back up to p_limit holds of usage that nobody captured in time.
-- Call until more is false.
--
-- Locks   the holds that nobody else has locked, then the wallets in order.
create function api.expire_holds(p_limit integer)
returns table (expired integer, more boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    -- A variable, because no index is asked for what a volatile function may answer anew.
    v_now timestamptz := billing.now();
    v_due billing.holds[];
    v_hold billing.holds;
begin
    -- Once a minute is right for these, too.
    perform billing.forget_full_buckets(p_limit);
    select array_agg(d.hold order by (d.hold).organization_id) into v_due
    from (
        select h as hold
        from billing.holds as h
        where h.kind = 'usage' and h.due_at <= v_now
        order by h.due_at
        limit p_limit
        for no key update skip locked
    ) as d;
    expired := coalesce(cardinality(v_due), 0);
    foreach v_hold in array coalesce(v_due, '{}') loop
        perform billing.close_hold(v_hold.organization_id, v_hold.id, 'expired');
    end loop;
    more := expired > 0 and expired = p_limit;
    return next;
end
$$;
grant execute on function api.expire_holds to service_role, faregate_functions;
comment on function api.expire_holds is 'Closes holds of usage that nobody renewed, for the cron.';
