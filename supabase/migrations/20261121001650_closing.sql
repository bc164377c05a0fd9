-- Closing an organization: what it runs is stopped and charged, its balance and its passports end.
-- Storage that is to go is charged up to then; the task that deletes it at the cloud goes on. Its
-- members still read its books. Money that arrives later is credited, and waits for a person.
--
-- Whoever makes something of an organization that would outlive a close locks the organization
-- (billing.lock_organization), or its wallet and then looks (api.start_session), or needs money
-- that a closed one has not (api.open_hold).

-- billing.settle_organization: end whatever still moves an organization's money: what it runs, what
-- is promised to it, what has expired, automatic top-ups. Of storage only what is not there yet, or
-- all of it with p_delete_storage.
--
-- Locks   scheduled grants, sessions, holds, the wallet, the settings of automatic top-ups; the
--         caller has locked the organization.
create function billing.settle_organization(p_organization_id uuid, p_delete_storage boolean)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from billing.grants as g
    where g.organization_id = p_organization_id and g.sequence is null;
    perform billing.lock_sessions(p_organization_id);
    perform from billing.holds as h
    where h.organization_id = p_organization_id
        and h.kind in ('storage', 'usage')
        and h.due_at is not null
    order by h.id
    for no key update;
    perform from billing.wallets as w
    where w.organization_id = p_organization_id
    for no key update;
    -- Again: one may have started while this waited for the wallet. Here a session's hold is locked
    -- after its wallet; if somebody stops that session in this very moment, one of the two calls is
    -- refused as busy and can be repeated.
    perform billing.stop_sessions(
        p_organization_id, billing.lock_sessions(p_organization_id), 'stopped'
    );
    perform billing.end_storage(s.organization_id, s.id, 'deleting', 'organization_closed')
    from billing.storage as s
    where s.organization_id = p_organization_id
        and (
            s.status in ('requested', 'provisioning')
            or (
                p_delete_storage
                and s.status in ('ready', 'grace', 'read_only', 'deletion_notice')
            )
        );
    perform billing.close_hold(h.organization_id, h.id, 'expired')
    from billing.holds as h
    where h.organization_id = p_organization_id
        and h.kind = 'usage'
        and h.due_at <= billing.now();
    perform billing.expire_wallet(p_organization_id);
    delete from billing.auto_top_ups as a where a.organization_id = p_organization_id;
end
$$;

-- billing.refuse_to_close: whatever speaks against closing a settled organization, one by one.
--
-- Raises  FG409 operators_own     the platform's own organization is not closed
--         FG409 storage_left      what is in it would be lost; detail: count
--         FG409 holds_open        an operator is still using what they hold
--         FG402 debt_outstanding  detail: debt_micros
--         FG409 top_up_under_way  a card is being charged by itself
--         FG409 balance_left      paid money that nobody gives up; detail: available_micros
create function billing.refuse_to_close(p_organization_id uuid, p_forfeit_balance boolean)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_storage_count integer;
    v_debt_micros bigint;
    v_paid_micros bigint;
begin
    perform from billing.organizations as o
    where o.id = p_organization_id and o.plan_id = 'admin';
    if found then
        raise exception using errcode = 'FG409', message = 'operators_own';
    end if;

    select count(*) into v_storage_count
    from billing.storage as s
    where s.organization_id = p_organization_id
        and not billing.has_ended(s.status);
    if v_storage_count > 0 then
        raise exception using
            errcode = 'FG409',
            message = 'storage_left',
            detail = jsonb_build_object('count', v_storage_count)::text;
    end if;

    perform from billing.holds as h
    where h.organization_id = p_organization_id and h.due_at is not null;
    if found then
        raise exception using errcode = 'FG409', message = 'holds_open';
    end if;

    select w.debt_micros into strict v_debt_micros
    from billing.wallets as w
    where w.organization_id = p_organization_id;
    if v_debt_micros > 0 then
        raise exception using
            errcode = 'FG402',
            message = 'debt_outstanding',
            detail = jsonb_build_object('debt_micros', v_debt_micros)::text;
    end if;

    perform from billing.top_ups as t
    where t.organization_id = p_organization_id
        and t.kind = 'automatic'
        and t.status in ('pending', 'processing');
    if found then
        raise exception using errcode = 'FG409', message = 'top_up_under_way';
    end if;

    select coalesce(sum(g.remaining_micros), 0) into v_paid_micros
    from billing.grants as g
    where g.organization_id = p_organization_id and g.category = 'paid' and not g.is_used_up;
    if v_paid_micros > 0 and not p_forfeit_balance then
        raise exception using
            errcode = 'FG409',
            message = 'balance_left',
            detail = jsonb_build_object('available_micros', v_paid_micros)::text;
    end if;
end
$$;

-- billing.forfeit_balance: nothing remains of any grant. Returns how much went.
--
-- Locks   nothing new: the caller has locked the wallet, of which nothing is held.
create function billing.forfeit_balance(p_organization_id uuid)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_grant record;
    v_forfeited_micros bigint := 0;
begin
    for v_grant in
        select g.id, g.remaining_micros
        from billing.grants as g
        where g.organization_id = p_organization_id and not g.is_used_up
        order by g.id
    loop
        perform billing.debit_grant(
            p_organization_id, v_grant.id, v_grant.remaining_micros, 'expired', 'expiry'
        );
        v_forfeited_micros := v_forfeited_micros + v_grant.remaining_micros;
    end loop;
    return v_forfeited_micros;
end
$$;

-- api.close_organization: nothing starts in it any more. Promotional credits that are left expire
-- silently; paid ones only with p_forfeit_balance, and storage with what is in it is only deleted
-- with p_delete_storage. Nobody's registration bonus becomes new.
--
-- Raises  FG404 organization_not_found, FG409 organization_closed, FG409 idempotency_conflict
--         FG403 role_required  only owners may
--         FG409 operators_own, FG409 storage_left, FG409 holds_open, FG402 debt_outstanding,
--         FG409 top_up_under_way, FG409 balance_left
-- Locks   the key, the organization, scheduled grants, sessions, holds, the wallet, the settings of
--         automatic top-ups, the identity's task, the passports, the invitations.
create function api.close_organization(
    p_user_id uuid,
    p_organization_id uuid,
    p_forfeit_balance boolean,
    p_delete_storage boolean,
    p_idempotency_key text
)
returns table (organization api.organizations, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_request jsonb := jsonb_build_array(p_organization_id, p_forfeit_balance, p_delete_storage);
    v_stored jsonb;
    v_now timestamptz;
begin
    perform billing.find_role(p_user_id, p_organization_id);
    v_stored := billing.replay(
        p_organization_id, p_idempotency_key, 'close_organization', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.organizations, v_stored), true;
        return;
    end if;
    perform billing.authenticate_manager(p_user_id, p_organization_id, 'owner');
    perform billing.settle_organization(p_organization_id, p_delete_storage);
    perform billing.refuse_to_close(p_organization_id, p_forfeit_balance);
    perform billing.end_identity(p_organization_id);
    insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
    values (
        p_organization_id, 'user:' || p_user_id, 'close_organization', p_organization_id,
        jsonb_build_object('forfeited_micros', billing.forfeit_balance(p_organization_id))
    );
    v_now := billing.now();
    update billing.passports as p
    set revoked_at = v_now
    where p.organization_id = p_organization_id and p.revoked_at is null;
    update billing.invitations as i
    set revoked_at = v_now
    where i.organization_id = p_organization_id
        and i.accepted_at is null
        and i.revoked_at is null;
    update billing.organizations as o
    set closed_at = v_now
    where o.id = p_organization_id;
    select o.* into organization from api.organizations as o where o.id = p_organization_id;
    perform billing.remember(
        p_organization_id, p_idempotency_key, 'close_organization', v_request,
        to_jsonb(organization)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.close_organization to service_role, faregate_functions;
comment on function api.close_organization is
'Closes an organization: stops what runs and charges it; what was paid is given up, and what
is stored is deleted, only expressly.';
