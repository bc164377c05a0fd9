-- Spaces: ready-made environments. Bought once, at the price of the day, and attached to
-- workspaces. How customers publish their own is in the next file, how a space is copied in the one
-- after it.

create type billing.space_status as enum ('in_review', 'published', 'rejected', 'withdrawn');
comment on type billing.space_status is
'in_review: an operator decides about it. published: it is sold. rejected: it never was. withdrawn:
it is sold no more, and who bought it keeps it.';

create table billing.spaces (
    id uuid primary key default billing.uuidv7(),
    slug text not null,
    title text not null,
    description text not null,
    size_gb integer not null,
    is_cloneable boolean not null default false,
    publisher_id uuid references billing.organizations (id),
    publisher_name text,
    source_organization_id uuid,
    source_storage_id uuid,
    asked_price_micros bigint,
    status billing.space_status not null default 'in_review',
    submitted_by text,
    reviewed_by text,
    review_reason text,
    created_at timestamptz not null default billing.now(),
    reviewed_at timestamptz,
    published_at timestamptz,
    withdrawn_at timestamptz,
    constraint spaces_source_fkey foreign key (source_organization_id, source_storage_id)
    references billing.storage (organization_id, id) match full,
    constraint spaces_slug_is_a_word check (slug ~ '^[a-z][a-z0-9-]{2,40}$'),
    constraint spaces_title_length check (char_length(title) between 1 and 100),
    constraint spaces_description_length check (char_length(description) between 1 and 1000),
    constraint spaces_size_positive check (size_gb > 0),
    constraint spaces_clones_have_a_source check (
        not is_cloneable or source_storage_id is not null
    ),
    constraint spaces_publisher_is_whole check (
        num_nulls(publisher_id, publisher_name, asked_price_micros, submitted_by) in (0, 4)
    ),
    constraint spaces_asked_price_in_bounds check (asked_price_micros between 0 and 1000000000000),
    constraint spaces_published_once check (
        (status = 'published') <= (published_at is not null)
        and (status = 'in_review') <= (published_at is null)
    )
);
alter table billing.spaces enable row level security;
-- What was never published gives its name back.
create unique index spaces_slug_key on billing.spaces (slug)
where status = 'in_review' or published_at is not null;
create index spaces_publisher on billing.spaces (publisher_id) where publisher_id is not null;
create index spaces_source on billing.spaces (source_storage_id, source_organization_id)
where source_storage_id is not null;
comment on table billing.spaces is
'A ready-made environment that is sold, was sold or wants to be. Its prices are rows of prices, by
the SKU space.<slug>.';
comment on column billing.spaces.id is 'Time-ordered (UUIDv7).';
comment on column billing.spaces.slug is
'What customers call it. Once it was published the name is its own for good.';
comment on column billing.spaces.title is 'What it is called in a list.';
comment on column billing.spaces.description is 'What is in it.';
comment on column billing.spaces.size_gb is 'How many GB (2³⁰ bytes) a clone of it rents.';
comment on column billing.spaces.is_cloneable is
'Whether it can be copied into a bucket of its buyer''s, once for each purchase, and so be bought
again.';
comment on column billing.spaces.publisher_id is
'The organization that published it; null: the platform.';
comment on column billing.spaces.publisher_name is
'What that organization was called then, which is what customers read; null: the platform.';
comment on column billing.spaces.source_organization_id is 'Whose bucket its content is in.';
comment on column billing.spaces.source_storage_id is
'The bucket that its content is in; null: none yet, or no more.';
comment on column billing.spaces.asked_price_micros is
'What its publisher asks for it, in µ$. Once it is approved its rows of prices count.';
comment on column billing.spaces.status is 'in_review, published, rejected or withdrawn.';
comment on column billing.spaces.submitted_by is
'Who asked for it to be published: passport:<id> or user:<id>; null: the platform.';
comment on column billing.spaces.reviewed_by is 'The operator who decided; null: nobody yet.';
comment on column billing.spaces.review_reason is 'Why they decided so; its publisher reads this.';
comment on column billing.spaces.created_at is 'When it was submitted (UTC).';
comment on column billing.spaces.reviewed_at is 'When it was decided about (UTC).';
comment on column billing.spaces.published_at is
'Since when (UTC) it was sold; null: it never was. From then on everybody may know of it.';
comment on column billing.spaces.withdrawn_at is 'Since when (UTC) it is sold no more.';

insert into billing.spaces (slug, title, description, size_gb, status, published_at)
select
    c.slug,
    c.title,
    c.description,
    c.size_gb,
    'published'::billing.space_status as status,
    timestamptz '2026-01-01 00:00:00+00' as published_at
from (
    values
    ('ml-ready', 'ML ready', 'Python, CUDA and the usual frameworks for training models.', 50),
    (
        'data-science', 'Data science',
        'Notebooks, data frames, plots and connectors to the usual databases.', 30
    ),
    ('web-dev', 'Web development', 'Node, Python, browsers for tests and the usual tools.', 20),
    ('research', 'Research', 'LaTeX, statistics, reference data sets and notebooks.', 40)
) as c (slug, title, description, size_gb);

create table billing.purchases (
    organization_id uuid not null references billing.organizations (id),
    id uuid not null default billing.uuidv7(),
    space_id uuid not null references billing.spaces (id),
    slug text not null,
    is_repeatable boolean not null,
    price_id uuid not null,
    price_micros bigint not null,
    sequence bigint,
    purchased_by text not null,
    purchased_at timestamptz not null default billing.now(),
    refunded_at timestamptz,
    refund_reason text,
    primary key (organization_id, id),
    constraint purchases_price_not_negative check (price_micros >= 0),
    constraint purchases_price_is_charged check ((sequence is null) = (price_micros = 0)),
    constraint purchases_refund_has_a_reason check (
        (refunded_at is null) = (refund_reason is null)
    )
);
alter table billing.purchases enable row level security;
create unique index purchases_once_key on billing.purchases (space_id, organization_id)
where refunded_at is null and not is_repeatable;
create index purchases_space on billing.purchases (space_id);
comment on table billing.purchases is
'A space that an organization bought: it owns it until the money is given back.';
comment on column billing.purchases.organization_id is 'The organization it belongs to.';
comment on column billing.purchases.id is 'Time-ordered (UUIDv7).';
comment on column billing.purchases.space_id is 'The space.';
comment on column billing.purchases.slug is 'What the space is called.';
comment on column billing.purchases.is_repeatable is
'Whether the space could be cloned then: such a one may be bought again.';
comment on column billing.purchases.price_id is 'The row of prices that it froze.';
comment on column billing.purchases.price_micros is 'What it cost, in µ$, frozen.';
comment on column billing.purchases.sequence is
'The transfer that paid for it; null: it cost nothing.';
comment on column billing.purchases.purchased_by is 'Who bought it: passport:<id> or user:<id>.';
comment on column billing.purchases.purchased_at is 'When they did (UTC).';
comment on column billing.purchases.refunded_at is
'When an operator gave the money back (UTC); null: it is owned.';
comment on column billing.purchases.refund_reason is 'Why they did; the customer reads this.';

create view api.purchases with (security_invoker = true) as
select
    p.id,
    p.organization_id,
    p.slug as space,
    case when p.refunded_at is null then 'owned' else 'refunded' end as status,
    p.price_micros,
    p.sequence,
    p.purchased_by,
    p.purchased_at,
    p.refunded_at,
    p.refund_reason
from billing.purchases as p;
comment on view api.purchases is 'Spaces that an organization bought.';
comment on column api.purchases.space is 'What the space is called.';
comment on column api.purchases.status is 'owned, or refunded.';
call billing.inherit_comments('api.purchases');

create table billing.attachments (
    organization_id uuid not null,
    workspace_id uuid not null,
    space_id uuid not null references billing.spaces (id),
    slug text not null,
    attached_by text not null,
    attached_at timestamptz not null default billing.now(),
    primary key (organization_id, workspace_id, space_id),
    constraint attachments_workspace_fkey foreign key (organization_id, workspace_id)
    references billing.workspaces (organization_id, id)
);
alter table billing.attachments enable row level security;
create index attachments_space on billing.attachments (space_id);
comment on table billing.attachments is
'In which of its workspaces an organization has a space that it owns.';
comment on column billing.attachments.organization_id is 'The organization it belongs to.';
comment on column billing.attachments.workspace_id is 'The workspace.';
comment on column billing.attachments.space_id is 'The space.';
comment on column billing.attachments.slug is 'What the space is called.';
comment on column billing.attachments.attached_by is
'Who attached it: passport:<id> or user:<id>.';
comment on column billing.attachments.attached_at is 'When they did (UTC).';

create view api.attachments with (security_invoker = true) as
select
    a.organization_id,
    a.workspace_id,
    a.slug as space,
    a.attached_by,
    a.attached_at
from billing.attachments as a;
comment on view api.attachments is 'Which spaces are in which workspace.';
comment on column api.attachments.space is 'What the space is called.';
call billing.inherit_comments('api.attachments');

create view api.spaces with (security_invoker = true) as
select
    s.id,
    s.slug,
    s.title,
    s.description,
    s.size_gb,
    s.is_cloneable,
    s.publisher_name as publisher,
    s.status,
    s.published_at,
    s.withdrawn_at
from billing.spaces as s;
comment on view api.spaces is
'The catalogue: the same for everybody. What one costs depends on the plan: ask the API.';
comment on column api.spaces.publisher is
'The organization that published it, as it was called then; null: the platform.';
call billing.inherit_comments('api.spaces');

-- billing.owns_space: whether a space is an organization's: bought, or its own.
create function billing.owns_space(p_organization_id uuid, p_space_id uuid)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select from billing.purchases as p
        where p.organization_id = p_organization_id
            and p.space_id = p_space_id
            and p.refunded_at is null
    ) or exists (
        select from billing.spaces as s
        where s.id = p_space_id and s.publisher_id = p_organization_id
    );
end
$$;

-- billing.find_space: the space of this name. Before it is published its publisher and operators
-- know of it.
--
-- Raises  FG404 space_not_found
create function billing.find_space(p_caller billing.caller, p_slug text)
returns billing.spaces
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_space billing.spaces;
begin
    select s.* into v_space
    from billing.spaces as s
    where s.slug = p_slug
        and (
            s.published_at is not null
            or (
                s.status = 'in_review'
                and (
                    s.publisher_id = p_caller.organization_id
                    or 'admin' = any(p_caller.permissions)
                )
            )
        );
    if not found then
        raise exception using errcode = 'FG404', message = 'space_not_found';
    end if;
    return v_space;
end
$$;

-- billing.describe_space: a space as a caller sees it in the catalogue: what it costs them, and
-- what of it is theirs. What was not told to the public is told to its publisher and to operators.
create function billing.describe_space(p_caller billing.caller, p_space billing.spaces)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_is_insider boolean := p_space.publisher_id is not distinct from p_caller.organization_id
    or 'admin' = any(p_caller.permissions);
begin
    return jsonb_build_object(
        'id', p_space.id,
        'slug', p_space.slug,
        'title', p_space.title,
        'description', p_space.description,
        'size_gb', p_space.size_gb,
        'is_cloneable', p_space.is_cloneable,
        'publisher', p_space.publisher_name,
        'status', p_space.status,
        'price_micros', coalesce(
            (
                select r.price_micros
                from billing.price_at(
                    p_caller.plan_id, 'space.' || p_space.slug, billing.now()
                ) as r
            ),
            p_space.asked_price_micros
        ),
        'is_own', p_space.publisher_id is not distinct from p_caller.organization_id,
        'is_owned', billing.owns_space(p_caller.organization_id, p_space.id),
        'workspace_ids', (
            select coalesce(jsonb_agg(a.workspace_id order by a.workspace_id), '[]')
            from billing.attachments as a
            where a.organization_id = p_caller.organization_id and a.space_id = p_space.id
        ),
        'source_storage_id', case when v_is_insider then p_space.source_storage_id end,
        'review_reason', case when v_is_insider then p_space.review_reason end,
        'created_at', p_space.created_at,
        'published_at', p_space.published_at,
        'withdrawn_at', p_space.withdrawn_at
    );
end
$$;

-- api.list_spaces: spaces of a status, newest first, from before p_cursor. Published ones are
-- everybody's to see; of the others a caller sees their organization's, and an operator all.
create function api.list_spaces(p_caller jsonb, p_status text, p_limit integer, p_cursor uuid)
returns table (id uuid, space jsonb)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    return query
    select s.id, billing.describe_space(v_caller, s)
    from billing.spaces as s
    where s.status = p_status::billing.space_status
        and (
            s.status = 'published'
            or s.publisher_id = v_caller.organization_id
            or 'admin' = any(v_caller.permissions)
        )
        and (p_cursor is null or s.id < p_cursor)
    order by s.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_spaces to service_role, faregate_functions;
comment on function api.list_spaces is
'Pages through the catalogue, newest first, with what each space costs the caller.';

-- api.get_space: one space of the catalogue.
--
-- Raises  FG404 space_not_found
create function api.get_space(p_caller jsonb, p_slug text)
returns table (id uuid, space jsonb)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
    v_space billing.spaces := billing.find_space(v_caller, p_slug);
begin
    return query select v_space.id, billing.describe_space(v_caller, v_space);
end
$$;
grant execute on function api.get_space to service_role, faregate_functions;
comment on function api.get_space is
'Tells what a space is, what it costs the caller, and whether they own it.';

-- api.list_purchases: the spaces that the caller's organization bought, newest first, from before
-- p_cursor.
create function api.list_purchases(p_caller jsonb, p_limit integer, p_cursor uuid)
returns setof api.purchases
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    return query
    select p.*
    from api.purchases as p
    where p.organization_id = v_caller.organization_id and (p_cursor is null or p.id < p_cursor)
    order by p.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_purchases to service_role, faregate_functions;
comment on function api.list_purchases is
'Pages through the spaces that the caller''s organization bought, newest first.';

-- billing.refuse_purchase: whatever speaks against selling a space to an organization, one by one.
--
-- Raises  FG409 own_space            who published it does not buy it
--         FG409 space_not_published  it is not sold yet, or no more
--         FG409 space_owned          once is enough, unless each purchase brings a clone; detail:
--                                    purchase_id
create function billing.refuse_purchase(p_organization_id uuid, p_space billing.spaces)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_purchase_id uuid;
begin
    if p_space.publisher_id = p_organization_id then
        raise exception using errcode = 'FG409', message = 'own_space';
    elsif p_space.status <> 'published' then
        raise exception using errcode = 'FG409', message = 'space_not_published';
    elsif p_space.is_cloneable then
        return;
    end if;
    select p.id into v_purchase_id
    from billing.purchases as p
    where p.organization_id = p_organization_id
        and p.space_id = p_space.id
        and p.refunded_at is null
    order by p.id
    limit 1;
    if found then
        raise exception using
            errcode = 'FG409',
            message = 'space_owned',
            detail = jsonb_build_object('purchase_id', v_purchase_id)::text;
    end if;
end
$$;

-- billing.charge_purchase: take the price of a space out of a wallet. Returns the transfer's
-- number; null: it costs nothing.
--
-- Raises  FG402 insufficient_credits, FG402 debt_outstanding: even what costs nothing
-- Locks   the wallet.
create function billing.charge_purchase(p_organization_id uuid, p_price_micros bigint)
returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- Held and charged in one breath: so a purchase is refused like everything else that is begun.
    perform billing.hold_with_care(p_organization_id, p_price_micros);
    perform billing.debit_wallet(
        row(
            p_organization_id, p_price_micros, -p_price_micros, 'revenue_spaces', 'space', null
        )::billing.debit,
        billing.now()
    );
    return (
        select w.last_sequence
        from billing.wallets as w
        where w.organization_id = p_organization_id and p_price_micros > 0
    );
end
$$;

-- api.buy_space: a space is the caller's from now on, for the price of now on their plan.
--
-- Raises  FG404 space_not_found, FG404 sku_not_found, FG402 insufficient_credits,
--         FG402 debt_outstanding, FG409 own_space, FG409 space_not_published, FG409 space_owned,
--         FG409 organization_closed, FG409 idempotency_conflict
-- Locks   the key, the organization, the wallet.
create function api.buy_space(p_caller jsonb, p_slug text, p_idempotency_key text)
returns table (purchase api.purchases, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_request jsonb := jsonb_build_array(p_slug);
    v_stored jsonb;
    v_space billing.spaces;
    v_price billing.prices;
    v_id uuid := billing.uuidv7();
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'buy_space', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.purchases, v_stored), true;
        return;
    end if;
    -- The turnstile: of two buyers the second sees the first one's purchase.
    perform billing.lock_organization(v_caller.organization_id);
    v_space := billing.find_space(v_caller, p_slug);
    perform billing.refuse_purchase(v_caller.organization_id, v_space);
    -- After the lock: the plan is the one of now.
    select p.* into v_price
    from billing.organizations as o
    cross join lateral billing.price_at(o.plan_id, 'space.' || p_slug, billing.now()) as p
    where o.id = v_caller.organization_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'sku_not_found';
    end if;
    insert into billing.purchases (
        organization_id, id, space_id, slug, is_repeatable, price_id, price_micros, sequence,
        purchased_by
    )
    values (
        v_caller.organization_id, v_id, v_space.id, v_space.slug, v_space.is_cloneable, v_price.id,
        v_price.price_micros,
        billing.charge_purchase(v_caller.organization_id, v_price.price_micros),
        v_caller.actor
    );
    perform billing.check_spending(
        v_caller, v_caller.organization_id,
        jsonb_build_object('amount_micros', v_price.price_micros)
    );
    select v.* into purchase
    from api.purchases as v
    where v.organization_id = v_caller.organization_id and v.id = v_id;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'buy_space', v_request, to_jsonb(purchase)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.buy_space to service_role, faregate_functions;
comment on function api.buy_space is 'Buys a space for the caller''s organization.';

-- billing.return_charge: give the money of a transfer back to the wallet that it came from, as one
-- grant of each kind that paid it: paid or promotional, of the same payment, as long as it lasted.
-- A debt is repaid from it at once.
--
-- Locks   the wallet.
create function billing.return_charge(
    p_organization_id uuid,
    p_sequence bigint,
    p_from billing.account,
    p_reason billing.reason,
    p_note text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_draw record;
    v_grant_id uuid := billing.uuidv7();
    v_last_id uuid;
begin
    for v_draw in
        select
            g.category,
            g.priority,
            g.payment_id,
            g.expires_at,
            sum(d.amount_micros)::bigint as amount_micros
        from billing.draws as d
        inner join billing.grants as g
            on g.organization_id = d.organization_id and g.id = d.grant_id
        where d.organization_id = p_organization_id and d.sequence = p_sequence
        group by g.category, g.priority, g.payment_id, g.expires_at
        order by (array_agg(g.id order by g.id))[1]
    loop
        -- The older one is drawn first: within a millisecond chance would decide which that is.
        while v_grant_id <= v_last_id loop
            v_grant_id := billing.uuidv7();
        end loop;
        v_last_id := v_grant_id;
        insert into billing.grants (
            organization_id, id, category, priority, amount_micros, remaining_micros, payment_id,
            note, expires_at, sequence
        )
        values (
            p_organization_id, v_grant_id, v_draw.category, v_draw.priority, v_draw.amount_micros,
            v_draw.amount_micros, v_draw.payment_id, p_note, v_draw.expires_at,
            billing.post(
                p_organization_id, p_from, 'wallet', v_draw.amount_micros, p_reason, v_grant_id
            )
        );
        perform billing.note_expiry(p_organization_id, v_grant_id);
    end loop;
    perform billing.repay_debt(p_organization_id);
end
$$;

-- api.refund_purchase: an operator gives a customer the price of a space back, once, and takes the
-- space out of their workspaces. p_reason is shown to the customer.
--
-- Not where it was cloned: a copy cannot be taken back. An operator who is to blame gives a grant.
--
-- Raises  FG404 organization_not_found, FG404 purchase_not_found, FG409 purchase_refunded,
--         FG409 purchase_cloned, FG409 organization_closed, FG409 idempotency_conflict
--         FG400 amount_out_of_bounds  the wallet would hold more than a billion dollars
-- Locks   the key, the organization, the wallet.
create function api.refund_purchase(
    p_caller jsonb,
    p_purchase_id uuid,
    p_organization_id uuid,
    p_reason text,
    p_idempotency_key text
)
returns table (purchase api.purchases, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_request jsonb := jsonb_build_array(p_purchase_id, p_organization_id, p_reason);
    v_stored jsonb;
    v_purchase billing.purchases;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'refund_purchase', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.purchases, v_stored), true;
        return;
    end if;
    perform billing.find_customer(p_organization_id);
    perform billing.lock_organization(p_organization_id);
    select p.* into v_purchase
    from billing.purchases as p
    where p.organization_id = p_organization_id and p.id = p_purchase_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'purchase_not_found';
    elsif v_purchase.refunded_at is not null then
        raise exception using errcode = 'FG409', message = 'purchase_refunded';
    end if;
    perform billing.refuse_refund(p_organization_id, p_purchase_id);
    if not billing.has_room(p_organization_id, v_purchase.price_micros) then
        raise exception using errcode = 'FG400', message = 'amount_out_of_bounds';
    end if;
    perform billing.return_charge(
        p_organization_id, v_purchase.sequence, 'revenue_spaces', 'space_refund', p_reason
    );
    update billing.purchases as p
    set refunded_at = billing.now(), refund_reason = p_reason
    where p.organization_id = p_organization_id and p.id = p_purchase_id;
    delete from billing.attachments as a
    where a.organization_id = p_organization_id
        and a.space_id = v_purchase.space_id
        and not billing.owns_space(p_organization_id, v_purchase.space_id);
    insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
    values (
        p_organization_id, v_caller.actor, 'refund_purchase', p_purchase_id,
        jsonb_build_object(
            'space', v_purchase.slug, 'amount_micros', v_purchase.price_micros,
            'reason', p_reason
        )
    );
    perform billing.notify(
        p_organization_id, 'space_refunded',
        jsonb_build_object(
            'space', v_purchase.slug, 'amount_micros', v_purchase.price_micros,
            'reason', p_reason
        )
    );
    select v.* into purchase
    from api.purchases as v
    where v.organization_id = p_organization_id and v.id = p_purchase_id;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'refund_purchase', v_request,
        to_jsonb(purchase)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.refund_purchase to service_role, faregate_functions;
comment on function api.refund_purchase is
'Gives a customer the price of a space back, for an operator; the space is theirs no more.';

-- api.attach_space: put a space that the caller's organization owns into one of its workspaces.
-- Where it is already, it stays.
--
-- Raises  FG404 space_not_found, FG404 workspace_not_found, FG409 organization_closed,
--         FG409 space_not_published   its publisher waits until it is
--         FG409 space_not_owned, FG409 idempotency_conflict
-- Locks   the key, the organization, the workspace.
create function api.attach_space(
    p_caller jsonb, p_slug text, p_workspace_id uuid, p_idempotency_key text
)
returns table (attachment api.attachments, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_request jsonb := jsonb_build_array(p_slug, p_workspace_id);
    v_stored jsonb;
    v_space billing.spaces;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'attach_space', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.attachments, v_stored), true;
        return;
    end if;
    perform billing.lock_organization(v_caller.organization_id);
    perform billing.lock_workspace(v_caller.organization_id, p_workspace_id);
    v_space := billing.find_space(v_caller, p_slug);
    if v_space.published_at is null then
        raise exception using errcode = 'FG409', message = 'space_not_published';
    elsif not billing.owns_space(v_caller.organization_id, v_space.id) then
        raise exception using errcode = 'FG409', message = 'space_not_owned';
    end if;
    insert into billing.attachments (
        organization_id, workspace_id, space_id, slug, attached_by
    )
    values (
        v_caller.organization_id, p_workspace_id, v_space.id, v_space.slug, v_caller.actor
    )
    on conflict do nothing;
    select v.* into attachment
    from api.attachments as v
    where v.organization_id = v_caller.organization_id
        and v.workspace_id = p_workspace_id
        and v.space = v_space.slug;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'attach_space', v_request,
        to_jsonb(attachment)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.attach_space to service_role, faregate_functions;
comment on function api.attach_space is
'Puts a space that the caller''s organization owns into one of its workspaces.';

-- api.detach_space: take a space out of a workspace in which no session runs. Answers what was.
--
-- Raises  FG404 space_not_found, FG404 workspace_not_found, FG409 space_not_attached,
--         FG409 workspace_busy, FG409 organization_closed, FG409 idempotency_conflict
-- Locks   the key, the organization, the workspace.
create function api.detach_space(
    p_caller jsonb, p_slug text, p_workspace_id uuid, p_idempotency_key text
)
returns table (attachment api.attachments, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_request jsonb := jsonb_build_array(p_slug, p_workspace_id);
    v_stored jsonb;
    v_space billing.spaces;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'detach_space', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.attachments, v_stored), true;
        return;
    end if;
    perform billing.lock_organization(v_caller.organization_id);
    perform billing.lock_workspace(v_caller.organization_id, p_workspace_id);
    v_space := billing.find_space(v_caller, p_slug);
    select v.* into attachment
    from api.attachments as v
    where v.organization_id = v_caller.organization_id
        and v.workspace_id = p_workspace_id
        and v.space = v_space.slug;
    if not found then
        raise exception using errcode = 'FG409', message = 'space_not_attached';
    end if;
    perform billing.require_idle_workspace(v_caller.organization_id, p_workspace_id);
    delete from billing.attachments as a
    where a.organization_id = v_caller.organization_id
        and a.workspace_id = p_workspace_id
        and a.space_id = v_space.id;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'detach_space', v_request,
        to_jsonb(attachment)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.detach_space to service_role, faregate_functions;
comment on function api.detach_space is
'Takes a space out of a workspace in which no session runs.';
