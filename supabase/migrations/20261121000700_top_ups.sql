-- Buying credits: a top-up is asked for, paid at a provider,
-- and granted once when the provider says so.

create type billing.top_up_status as enum (
    'pending', 'processing', 'paid', 'failed', 'expired', 'needs_review'
);

create type billing.top_up_kind as enum ('checkout', 'automatic');

create table billing.top_ups (
    organization_id uuid not null references billing.wallets (organization_id),
    id uuid not null default billing.uuidv7(),
    amount_micros bigint not null,
    bonus_micros bigint not null,
    kind billing.top_up_kind not null default 'checkout',
    status billing.top_up_status not null default 'pending',
    checkout_session_id text,
    checkout_url text,
    customer_id text,
    payment_method_id text,
    charged_at timestamptz,
    created_by text not null,
    created_at timestamptz not null default billing.now(),
    paid_at timestamptz,
    primary key (organization_id, id),
    constraint top_ups_checkout_session_key unique (checkout_session_id),
    constraint top_ups_amount_is_whole_cents check (
        amount_micros between 1 and 999999990000 and amount_micros % 10000 = 0
    ),
    constraint top_ups_bonus_in_bounds check (bonus_micros between 0 and amount_micros),
    constraint top_ups_paid_has_a_time check ((status = 'paid') = (paid_at is not null)),
    constraint top_ups_automatic_has_a_card check (
        kind = 'checkout' or (customer_id is not null and payment_method_id is not null)
    )
);
alter table billing.top_ups enable row level security;
create index top_ups_automatic on billing.top_ups (organization_id, created_at)
where kind = 'automatic';
create unique index top_ups_one_automatic_at_a_time on billing.top_ups (organization_id)
where kind = 'automatic' and status in ('pending', 'processing');
comment on table billing.top_ups is
'A purchase of credits. What the provider is asked for stands here, so that it is the same whenever
it is repeated.';
comment on column billing.top_ups.organization_id is 'The organization it belongs to.';
comment on column billing.top_ups.id is 'Time-ordered (UUIDv7).';
comment on column billing.top_ups.amount_micros is 'What it costs, in µ$: whole cents.';
comment on column billing.top_ups.bonus_micros is
'What its bracket promised on top when it was asked for, in µ$.';
comment on column billing.top_ups.kind is
'checkout: its buyer pays on the provider''s page. automatic: a saved card is charged.';
comment on column billing.top_ups.status is 'How far it is. needs_review: a person decides.';
comment on column billing.top_ups.checkout_session_id is
'The provider''s id of its checkout; null: none yet, or automatic.';
comment on column billing.top_ups.checkout_url is 'Where its buyer pays.';
comment on column billing.top_ups.customer_id is
'Who its buyer is to the provider, where a card is saved or charged.';
comment on column billing.top_ups.payment_method_id is
'The card that an automatic one charges, by the provider''s id.';
comment on column billing.top_ups.charged_at is 'When that card was first tried (UTC).';
comment on column billing.top_ups.created_by is 'Who asked for it: passport:<id> or user:<id>.';
comment on column billing.top_ups.created_at is 'When it was asked for (UTC).';
comment on column billing.top_ups.paid_at is 'When its money arrived (UTC).';

create view api.top_ups with (security_invoker = true) as
select
    t.id,
    t.organization_id,
    t.amount_micros,
    t.bonus_micros,
    t.status,
    t.checkout_session_id,
    t.checkout_url,
    t.created_at,
    t.paid_at,
    t.kind
from billing.top_ups as t;
comment on view api.top_ups is 'Purchases of credits and how far they are.';
call billing.inherit_comments('api.top_ups');

-- billing.top_up_bonus: what an amount's bracket brings on top; null below the lowest bracket.
create function billing.top_up_bonus(p_amount_micros bigint)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_bonus_basis_points integer;
begin
    select b.bonus_basis_points into v_bonus_basis_points
    from (
        select distinct on (c.minimum_micros) c.minimum_micros, c.bonus_basis_points
        from billing.top_up_brackets as c
        where c.effective_at <= billing.now()
        order by c.minimum_micros, c.effective_at desc
    ) as b
    where b.minimum_micros <= p_amount_micros
    order by b.minimum_micros desc
    limit 1;
    return round(p_amount_micros::numeric * v_bonus_basis_points / 10000);
end
$$;

-- billing.promise_bonus: billing.top_up_bonus, or a refusal.
--
-- Raises  FG400 amount_too_small  below the lowest bracket; detail: minimum_micros
create function billing.promise_bonus(p_amount_micros bigint)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_bonus_micros bigint := billing.top_up_bonus(p_amount_micros);
begin
    if v_bonus_micros is null then
        raise exception using
            errcode = 'FG400',
            message = 'amount_too_small',
            detail = (
                select jsonb_build_object('minimum_micros', min(b.minimum_micros))
                from billing.top_up_brackets as b
                where b.effective_at <= billing.now()
            )::text;
    end if;
    return v_bonus_micros;
end
$$;

-- api.create_top_up: ask for credits. The checkout at the provider is made after this commits,
-- under a key derived from the row, and attached by api.attach_checkout:
-- repeat either and nothing happens twice.
--
-- p_save_card: the card may be charged again in its owner's absence. customer_id is then who the
-- organization is to the provider, if it is known there.
-- Raises  FG400 amount_too_small     below the lowest bracket; detail: minimum_micros
--         FG409 idempotency_conflict the key was used for another request
--         FG409 organization_closed
-- Locks   the key, the organization.
create function api.create_top_up(
    p_caller jsonb, p_amount_micros bigint, p_save_card boolean, p_idempotency_key text
)
returns table (top_up api.top_ups, billing_email text, customer_id text, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'billing');
    v_request jsonb := jsonb_build_array(p_amount_micros, p_save_card);
    v_stored jsonb;
    v_id uuid := billing.uuidv7();
begin
    select o.billing_email into billing_email
    from billing.organizations as o
    where o.id = v_caller.organization_id;
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'create_top_up', v_request
    );
    replayed := v_stored is not null;
    if replayed then
        v_id := (v_stored ->> 'id')::uuid;
    else
        perform billing.lock_organization(v_caller.organization_id);
        if p_save_card then
            select c.customer_id into customer_id
            from billing.saved_card(v_caller.organization_id) as c;
        end if;
        insert into billing.top_ups (
            organization_id, id, amount_micros, bonus_micros, customer_id, created_by
        )
        values (
            v_caller.organization_id, v_id, p_amount_micros,
            billing.promise_bonus(p_amount_micros), customer_id, v_caller.actor
        );
    end if;
    -- As it is now: of a repeated call's top-up the checkout may have been attached since.
    select t.* into top_up
    from api.top_ups as t
    where t.organization_id = v_caller.organization_id and t.id = v_id;
    if replayed then
        select t.customer_id into customer_id
        from billing.top_ups as t
        where t.organization_id = v_caller.organization_id and t.id = v_id;
    else
        perform billing.remember(
            v_caller.organization_id, p_idempotency_key, 'create_top_up', v_request,
            to_jsonb(top_up)
        );
    end if;
    return next;
end
$$;
grant execute on function api.create_top_up to service_role, faregate_functions;
comment on function api.create_top_up is 'Asks for credits; the checkout at the provider follows.';

-- api.attach_checkout: the provider's checkout of a top-up. The first one stays.
create function api.attach_checkout(
    p_organization_id uuid, p_top_up_id uuid, p_checkout_session_id text, p_checkout_url text
)
returns setof api.top_ups
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.top_ups as t
    set checkout_session_id = p_checkout_session_id, checkout_url = p_checkout_url
    where t.organization_id = p_organization_id
        and t.id = p_top_up_id
        and t.checkout_url is null
        and coalesce(t.checkout_session_id, p_checkout_session_id) = p_checkout_session_id;
    return query
    select t.*
    from api.top_ups as t
    where t.organization_id = p_organization_id and t.id = p_top_up_id;
end
$$;
grant execute on function api.attach_checkout to service_role, faregate_functions;
comment on function api.attach_checkout is
'Notes the provider''s checkout of a top-up; the first one stays.';

-- api.get_top_up: one top-up.
-- Raises  FG404 top_up_not_found  absent, or another organization's
create function api.get_top_up(p_caller jsonb, p_top_up_id uuid)
returns setof api.top_ups
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'billing');
begin
    return query
    select t.*
    from api.top_ups as t
    where t.organization_id = v_caller.organization_id and t.id = p_top_up_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'top_up_not_found';
    end if;
end
$$;
grant execute on function api.get_top_up to service_role, faregate_functions;
comment on function api.get_top_up is 'Reads one top-up.';

-- api.list_top_ups: the organization's top-ups, newest first, from before p_cursor.
create function api.list_top_ups(p_caller jsonb, p_limit integer, p_cursor uuid)
returns setof api.top_ups
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'billing');
begin
    return query
    select t.*
    from api.top_ups as t
    where t.organization_id = v_caller.organization_id and (p_cursor is null or t.id < p_cursor)
    order by t.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_top_ups to service_role, faregate_functions;
comment on function api.list_top_ups is
'Pages through the top-ups of the caller''s organization, newest first.';
