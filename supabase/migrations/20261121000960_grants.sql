-- Grants as their owner sees them, promotional ones that an operator gives, and their expiry.

create view api.grants with (security_invoker = true) as
select
    g.id,
    g.organization_id,
    g.category,
    case
        when g.sequence is null then 'scheduled'
        when g.expires_at <= billing.now() then 'expired'
        when g.is_used_up then 'used_up'
        else 'active'
    end as status,
    g.priority,
    g.amount_micros,
    g.remaining_micros,
    g.payment_id,
    (
        select p.top_up_id
        from billing.payments as p
        where p.organization_id = g.organization_id and p.id = g.payment_id
    ) as top_up_id,
    g.note,
    g.effective_at,
    g.expires_at
from billing.grants as g;
comment on view api.grants is 'Lots of money, what remains of each and until when.';
comment on column api.grants.id is 'Time-ordered (UUIDv7).';
comment on column api.grants.status is
'scheduled, active, used_up or expired. expired with something remaining: the next run of
api.expire_grants takes it, or a hold was promised it.';
comment on column api.grants.amount_micros is 'What it brought or will bring, in µ$.';
comment on column api.grants.top_up_id is 'The top-up that its payment paid.';
call billing.inherit_comments('api.grants');

-- api.list_grants: the grants of the caller's organization, or of the customer that an operator
-- names, newest first, from before p_cursor; p_status null: all.
--
-- Raises  FG404 organization_not_found
create function api.list_grants(
    p_caller jsonb, p_organization_id uuid, p_status text, p_limit integer, p_cursor uuid
)
returns setof api.grants
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_organization_id uuid := billing.authenticate_reader(p_caller, p_organization_id);
begin
    return query
    select g.*
    from api.grants as g
    where g.organization_id = v_organization_id
        and (p_cursor is null or g.id < p_cursor)
        and (p_status is null or g.status = p_status)
    order by g.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_grants to service_role, faregate_functions;
comment on function api.list_grants is
'Pages through grants and what remains of them, newest first.';

-- api.create_grant: an operator gives a customer promotional credits. p_note says why and is shown
-- to the customer. Null for p_effective_at: now; for p_expires_at: never.
--
-- Raises  FG404 organization_not_found, FG409 organization_closed, FG409 idempotency_conflict
--         FG400 expiry_in_the_past     it would be over before it began
--         FG400 amount_out_of_bounds   not positive, or the wallet would hold more than a billion
--                                      dollars
-- Locks   the key, the organization, the wallet.
create function api.create_grant(
    p_caller jsonb,
    p_organization_id uuid,
    p_amount_micros bigint,
    p_note text,
    p_priority smallint,
    p_effective_at timestamptz,
    p_expires_at timestamptz,
    p_idempotency_key text
)
returns table (credit_grant api.grants, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_request jsonb := jsonb_build_array(
        p_organization_id, p_amount_micros, p_note, p_priority, p_effective_at, p_expires_at
    );
    v_stored jsonb;
    v_id uuid := billing.uuidv7();
    v_now timestamptz := billing.now();
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'create_grant', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.grants, v_stored), true;
        return;
    end if;
    perform billing.find_customer(p_organization_id);
    perform billing.lock_organization(p_organization_id);
    if p_amount_micros not between 1 and billing.largest_amount() then
        raise exception using errcode = 'FG400', message = 'amount_out_of_bounds';
    end if;
    if p_expires_at <= greatest(v_now, p_effective_at) then
        raise exception using errcode = 'FG400', message = 'expiry_in_the_past';
    end if;
    insert into billing.grants (
        organization_id, id, category, priority, amount_micros, remaining_micros, note,
        effective_at, expires_at
    )
    values (
        p_organization_id, v_id, 'promotional', p_priority, p_amount_micros, 0, p_note,
        coalesce(p_effective_at, v_now), p_expires_at
    );
    if p_effective_at > v_now is not true then
        if not billing.has_room(p_organization_id, p_amount_micros) then
            raise exception using errcode = 'FG400', message = 'amount_out_of_bounds';
        end if;
        perform billing.start_grant(p_organization_id, v_id);
    end if;
    insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
    values (
        p_organization_id, v_caller.actor, 'create_grant', v_id,
        jsonb_build_object('amount_micros', p_amount_micros, 'note', p_note)
    );
    select v.* into credit_grant
    from api.grants as v
    where v.organization_id = p_organization_id and v.id = v_id;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'create_grant', v_request,
        to_jsonb(credit_grant)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.create_grant to service_role, faregate_functions;
comment on function api.create_grant is 'Gives a customer promotional credits, for an operator.';

-- billing.start_grant: a grant's money arrives in its wallet. Callers see to it that there is room.
--
-- Locks   the wallet.
create function billing.start_grant(p_organization_id uuid, p_grant_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.grants as g
    set
        remaining_micros = g.amount_micros,
        sequence = billing.post(
            p_organization_id, 'promotion', 'wallet', g.amount_micros, 'promotion', g.id
        )
    where g.organization_id = p_organization_id and g.id = p_grant_id;
    perform billing.note_expiry(p_organization_id, p_grant_id);
    perform billing.repay_debt(p_organization_id);
end
$$;

-- api.start_grants: up to p_limit scheduled grants whose time has come become money. One that its
-- wallet has no room for waits.
-- Call until more is false.
--
-- Locks   the grants that nobody else has locked, then the wallets in order.
create function api.start_grants(p_limit integer)
returns table (started integer, more boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    -- A variable, because no index is asked for what a volatile function may answer anew.
    v_now timestamptz := billing.now();
    v_grant record;
    v_due integer := 0;
begin
    started := 0;
    for v_grant in
        select d.organization_id, d.id, d.amount_micros
        from (
            select g.organization_id, g.id, g.amount_micros
            from billing.grants as g
            inner join billing.wallets as w on w.organization_id = g.organization_id
            where g.sequence is null
                and g.effective_at <= v_now
                and w.settled_micros + g.amount_micros <= billing.largest_amount()
            order by g.effective_at
            limit p_limit
            for no key update of g skip locked
        ) as d
        order by d.organization_id, d.id
    loop
        v_due := v_due + 1;
        -- Anew: an earlier grant may have taken the room of the same wallet.
        if billing.has_room(v_grant.organization_id, v_grant.amount_micros) then
            perform billing.start_grant(v_grant.organization_id, v_grant.id);
            started := started + 1;
        end if;
    end loop;
    more := v_due > 0 and v_due = p_limit;
    return next;
end
$$;
grant execute on function api.start_grants to service_role, faregate_functions;
comment on function api.start_grants is
'Turns scheduled grants whose time has come into money, for the cron.';

-- billing.note_expiry: a wallet learns when this grant of its expires.
--
-- Locks   the wallet.
create function billing.note_expiry(p_organization_id uuid, p_grant_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.wallets as w
    set next_expiry_at = least(w.next_expiry_at, g.expires_at)
    from billing.grants as g
    where w.organization_id = p_organization_id
        and g.organization_id = p_organization_id
        and g.id = p_grant_id;
end
$$;

-- billing.expire_wallet: take what remains of a wallet's expired grants out of it, but nothing that
-- a hold was promised. Returns from how many something was taken.
--
-- Locks   the wallet.
create function billing.expire_wallet(p_organization_id uuid)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.now();
    v_grant record;
    v_amount_micros bigint;
    v_expired integer := 0;
begin
    perform from billing.wallets as w
    where w.organization_id = p_organization_id
    for no key update;
    for v_grant in
        select g.id, g.remaining_micros
        from billing.grants as g
        where g.organization_id = p_organization_id and not g.is_used_up and g.expires_at <= v_now
        order by g.expires_at, g.id
    loop
        select least(v_grant.remaining_micros, w.settled_micros - w.held_micros)
        into strict v_amount_micros
        from billing.wallets as w
        where w.organization_id = p_organization_id;
        exit when v_amount_micros = 0;
        perform billing.debit_grant(
            p_organization_id, v_grant.id, v_amount_micros, 'expired', 'expiry'
        );
        v_expired := v_expired + 1;
    end loop;
    update billing.wallets as w
    set next_expiry_at = (
        select min(g.expires_at)
        from billing.grants as g
        where g.organization_id = p_organization_id and not g.is_used_up
    )
    where w.organization_id = p_organization_id;
    return v_expired;
end
$$;

-- billing.lock_wallet: a wallet for somebody who moves its money now; what has expired is gone.
--
-- Locks   the wallet.
create function billing.lock_wallet(p_organization_id uuid)
returns billing.wallets
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_wallet billing.wallets;
begin
    select w.* into strict v_wallet
    from billing.wallets as w
    where w.organization_id = p_organization_id
    for no key update;
    if v_wallet.next_expiry_at <= billing.now() then
        perform billing.expire_wallet(p_organization_id);
        select w.* into strict v_wallet
        from billing.wallets as w
        where w.organization_id = p_organization_id;
    end if;
    return v_wallet;
end
$$;

-- api.expire_grants: billing.expire_wallet for the wallets of up to p_limit expired grants. What a
-- hold was promised goes when the hold gives it back. Call until more is false.
--
-- Locks   the wallets that nobody else has locked, in order.
create function api.expire_grants(p_limit integer)
returns table (expired integer, more boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.now();
    v_due integer;
    v_organization_ids uuid[];
    v_organization_id uuid;
begin
    select count(*), array_agg(distinct d.organization_id order by d.organization_id)
    into v_due, v_organization_ids
    from (
        select g.organization_id
        from billing.grants as g
        inner join billing.wallets as w on w.organization_id = g.organization_id
        where g.expires_at <= v_now
            and not g.is_used_up
            and w.settled_micros > w.held_micros
        order by g.expires_at
        limit p_limit
        for no key update of w skip locked
    ) as d;
    expired := 0;
    foreach v_organization_id in array coalesce(v_organization_ids, '{}') loop
        expired := expired + billing.expire_wallet(v_organization_id);
    end loop;
    more := v_due > 0 and v_due = p_limit;
    return next;
end
$$;
grant execute on function api.expire_grants to service_role, faregate_functions;
comment on function api.expire_grants is 'Takes what remains of expired grants, for the cron.';
