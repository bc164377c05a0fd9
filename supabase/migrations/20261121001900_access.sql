-- Who may do what, all in one place.
--
-- role                who                                  may
-- ------------------  -----------------------------------  ----------------------------------------
-- anon                nobody in particular                 nothing
-- authenticated       a user with Supabase Auth's token    read the views below, own organizations'
-- faregate_reader     a server with a token of a passport  read the views below, its organization's
-- faregate_functions  the functions, by psycopg            execute every function of schema api
-- service_role        the functions, through PostgREST     execute every function of schema api
--
-- Nobody writes but the functions of schema api, which run with their owner's rights; their grants
-- stand beside them. Those with p_caller ask billing.authenticate who calls; those with p_user_id
-- are told by an endpoint that verified the user's token; the others are for crons and tasks.
-- Operators' views (schema ops) are the owner's alone.
--
-- A row is read by whoever has the permission for it in its organization: members by their role
-- (billing.role_permissions), passports by what they were given.
--
-- permission  views
-- ----------  ------------------------------------------------------------------------------------
-- read        organizations, identities, passports, wallets, grants, transactions, holds,
--             workspaces, sessions, storage, spaces, purchases, attachments, clones,
--             usage, usage_events, usage_days, entitlements, spend_caps, notifications
-- read        members (users only: a key that leaks tells nobody's address)
-- billing     top_ups, receipts, auto_top_ups
-- billing     invitations (users only)

-- Beside the condition of a policy Postgres expects next to no rows, and any plan looks as good as
-- any other. So that none is bad, views look other tables up by key, a row at a time and not by a
-- join, and a second index of such a table does not begin with organization_id.

-- billing.readable: the organizations in which the reader of a view has a permission. Policies ask
-- it once a query. It runs with its owner's rights, or the policy of billing.members would ask
-- itself.
--
-- What a passport may is read from the passport, not from the token: a revoked one reads nothing.
-- No claim but these is looked at, and user_metadata never: that is the user's own to edit.
create function billing.readable(p_permission text)
returns setof uuid
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_claims jsonb := auth.jwt();
begin
    if v_claims ->> 'role' = 'faregate_reader' then
        return query
        select p.organization_id
        from billing.passports as p
        where p.organization_id = (v_claims ->> 'organization_id')::uuid
            and p.id = (v_claims ->> 'passport_id')::uuid
            and p.revoked_at is null
            and (p.expires_at is null or p.expires_at > billing.now())
            and p_permission = any(p.permissions);
    else
        return query
        select m.organization_id
        from billing.members as m
        inner join billing.organizations as o on o.id = m.organization_id
        where m.user_id = (v_claims ->> 'sub')::uuid
            and p_permission = any(billing.role_permissions(m.role, o.plan_id, o.closed_at));
    end if;
end
$$;

grant usage on schema api to authenticated, faregate_reader;
grant select on
api.organizations, api.identities, api.members, api.passports, api.wallets, api.grants,
api.transactions, api.holds, api.workspaces, api.sessions, api.storage, api.spaces,
api.purchases, api.attachments, api.clones, api.usage, api.usage_events, api.usage_days,
api.entitlements, api.spend_caps,
api.notifications, api.top_ups, api.receipts, api.auto_top_ups, api.invitations
to authenticated, faregate_reader;

-- Of a view that cannot be written through, Postgres says so first (PostgREST: 500). With these it
-- asks first who may, as everywhere: nobody.
create trigger sessions_are_read instead of insert or update or delete on api.sessions
for each row execute function billing.refuse_change();
create trigger storage_is_read instead of insert or update or delete on api.storage
for each row execute function billing.refuse_change();
create trigger usage_is_read instead of insert or update or delete on api.usage
for each row execute function billing.refuse_change();
create trigger entitlements_are_read instead of insert or update or delete on api.entitlements
for each row execute function billing.refuse_change();
create trigger usage_authorizations_are_read
instead of insert or update or delete on api.usage_authorizations
for each row execute function billing.refuse_change();
create trigger usage_days_are_read instead of insert or update or delete on api.usage_days
for each row execute function billing.refuse_change();
create trigger receipts_are_read instead of insert or update or delete on api.receipts
for each row execute function billing.refuse_change();
create trigger auto_top_ups_are_read instead of insert or update or delete on api.auto_top_ups
for each row execute function billing.refuse_change();

-- The views run with their reader's rights: these are the functions and columns that they use.
-- Without usage of schema billing nobody reaches them but through a view.
grant execute on function
billing.readable, billing.now, billing.user_email, billing.session_cost, billing.storage_cost,
billing.statement_kind, billing.is_consumption, billing.usage_folded_to, billing.usage_parts,
billing.zeros
to authenticated, faregate_reader;

grant select (id, name, plan_id, billing_email, closed_at, created_at)
on billing.organizations to authenticated, faregate_reader;
create policy readers on billing.organizations for select to authenticated, faregate_reader
using (id = any(array(select billing.readable('read'))));

grant select (
    organization_id, status, email, namespace, kubernetes_account, failure, created_at, ready_at,
    deleted_at
)
on billing.identities to authenticated, faregate_reader;
create policy readers on billing.identities for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

grant select (organization_id, user_id, role, created_at)
on billing.members to authenticated, faregate_reader;
create policy readers on billing.members for select to authenticated
using (organization_id = any(array(select billing.readable('read'))));

grant select (
    organization_id, id, name, permissions, user_id, key_prefix, expires_at, revoked_at, created_at
)
on billing.passports to authenticated, faregate_reader;
create policy readers on billing.passports for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

grant select (organization_id, passport_id, last_used_at)
on billing.passport_uses to authenticated, faregate_reader;
create policy readers on billing.passport_uses for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

grant select (organization_id, settled_micros, held_micros, debt_micros)
on billing.wallets to authenticated, faregate_reader;
create policy readers on billing.wallets for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

grant select (
    organization_id, id, category, priority, amount_micros, remaining_micros, is_used_up,
    payment_id, note, effective_at, expires_at, sequence
)
on billing.grants to authenticated, faregate_reader;
create policy readers on billing.grants for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

grant select (
    organization_id, sequence, debit_account, credit_account, amount_micros,
    wallet_balance_micros, reason, grant_id, hold_id, created_at
)
on billing.transfers to authenticated, faregate_reader;
create policy readers on billing.transfers for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

grant select (
    organization_id, id, kind, amount_micros, captured_micros, captured_until, due_at, is_final,
    outcome, description, expires_at
)
on billing.holds to authenticated, faregate_reader;
create policy readers on billing.holds for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

grant select (organization_id, id, name, created_at, deleted_at)
on billing.workspaces to authenticated, faregate_reader;
create policy readers on billing.workspaces for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

grant select (
    organization_id, id, name, workspace_id, preset, tier, hourly_price_micros, started_at,
    expires_at, heartbeat_timeout_seconds, last_heartbeat_at, ended_at, close_reason
)
on billing.sessions to authenticated, faregate_reader;
create policy readers on billing.sessions for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

grant select (
    organization_id, id, kind, region_id, name, workspace_id, status, status_since, size_gb,
    resize_to_gb, included_gb, soft_delete_days, delete_after_days, resource_name, applied_access,
    mount, failure, used_bytes, measured_at, created_at, ready_at, deleted_at
)
on billing.storage to authenticated, faregate_reader;
create policy readers on billing.storage for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

grant select (organization_id, storage_id, starts_at, ends_at, billed_gb, gb_month_price_micros)
on billing.storage_periods to authenticated, faregate_reader;
create policy readers on billing.storage_periods for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

-- The catalogue: whoever may read anything here reads what was ever published.
grant select (
    id, slug, title, description, size_gb, is_cloneable, publisher_name, status, published_at,
    withdrawn_at
)
on billing.spaces to authenticated, faregate_reader;
create policy readers on billing.spaces for select to authenticated, faregate_reader
using (published_at is not null and exists (select billing.readable('read')));

grant select (
    organization_id, id, slug, price_micros, sequence, purchased_by, purchased_at, refunded_at,
    refund_reason
)
on billing.purchases to authenticated, faregate_reader;
create policy readers on billing.purchases for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

grant select (organization_id, workspace_id, slug, attached_by, attached_at)
on billing.attachments to authenticated, faregate_reader;
create policy readers on billing.attachments for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

grant select (
    organization_id, id, purchase_id, slug, storage_id, source_bytes, status, copied_objects,
    copied_bytes, failure, created_at, finished_at, ended_at
)
on billing.clones to authenticated, faregate_reader;
create policy readers on billing.clones for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

-- Catalogues as well: what there is, and what each plan includes.
grant select (id, kind, description) on billing.features to authenticated, faregate_reader;
create policy readers on billing.features for select to authenticated, faregate_reader
using (exists (select billing.readable('read')));

grant select (
    plan_id, feature_id, limit_id, is_granted, value, meter, period, limit_quantity, enforcement
)
on billing.plan_entitlements to authenticated, faregate_reader;
create policy readers on billing.plan_entitlements for select to authenticated, faregate_reader
using (exists (select billing.readable('read')));

grant select (
    organization_id, feature_id, limit_id, is_granted, value, meter, period, limit_quantity,
    enforcement
)
on billing.entitlements to authenticated, faregate_reader;
create policy readers on billing.entitlements for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

grant select (organization_id, id, passport_id, period, cap_micros, is_operators, set_by)
on billing.spend_caps to authenticated, faregate_reader;
create policy readers on billing.spend_caps for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

grant select (
    organization_id, id, source, event_id, occurred_at, feature, provider_id, model, passport_id,
    quantities, price_usd, review, corrects_id, counted
)
on billing.usage_events to authenticated, faregate_reader;
create policy readers on billing.usage_events for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

grant select (
    organization_id, day, feature, provider_id, model, passport_id, events, quantities, price_usd
)
on billing.usage_days to authenticated, faregate_reader;
create policy readers on billing.usage_days for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('read'))));

grant select (organization_id, id, topic, payload, created_at)
on billing.outbox to authenticated, faregate_reader;
create policy readers on billing.outbox for select to authenticated, faregate_reader
using (topic = 'notification' and organization_id = any(array(select billing.readable('read'))));

grant select (
    organization_id, id, amount_micros, bonus_micros, kind, status, checkout_session_id,
    checkout_url, created_at, paid_at
)
on billing.top_ups to authenticated, faregate_reader;
create policy readers on billing.top_ups for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('billing'))));

grant select (
    organization_id, id, top_up_id, provider, provider_payment_id, amount_micros,
    refunded_micros, disputed_micros, paid_at
)
on billing.payments to authenticated, faregate_reader;
create policy readers on billing.payments for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('billing'))));

grant select (
    organization_id, threshold_micros, amount_micros, monthly_cap_micros, cool_off_seconds,
    status, paused_reason, last_top_up_at, updated_at
)
on billing.auto_top_ups to authenticated, faregate_reader;
create policy readers on billing.auto_top_ups for select to authenticated, faregate_reader
using (organization_id = any(array(select billing.readable('billing'))));

grant select (
    organization_id, id, email, role, invited_by, failure, sent_at, accepted_at, revoked_at,
    expires_at, created_at
)
on billing.invitations to authenticated, faregate_reader;
create policy readers on billing.invitations for select to authenticated
using (organization_id = any(array(select billing.readable('billing'))));
