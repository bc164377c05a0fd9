-- Plans, prices and top-up brackets: rows, not code.

create table billing.plans (
    id text primary key,
    allowed_tiers text[] not null,
    session_window_seconds integer not null default 600,
    registration_bonus_micros bigint not null default 0,
    plan_after_top_up_id text references billing.plans (id),
    max_passports integer not null default 100,
    max_workspaces integer not null default 100,
    storage_window_seconds integer not null default 86400,
    storage_grace_seconds integer not null default 259200,
    storage_read_only_seconds integer not null default 604800,
    storage_notice_seconds integer not null default 604800,
    initial_storage_gb integer not null default 0,
    has_identity boolean not null default false,
    constraint plans_id_is_a_word check (id ~ '^[a-z]{2,32}$'),
    constraint plans_tiers_exist check (
        allowed_tiers <@ array['small', 'medium', 'large', 'xlarge', 'gpu']
    ),
    constraint plans_session_window_is_sane check (session_window_seconds between 60 and 86400),
    constraint plans_registration_bonus_not_negative check (registration_bonus_micros >= 0),
    constraint plans_max_passports_positive check (max_passports > 0),
    constraint plans_max_workspaces_positive check (max_workspaces > 0),
    constraint plans_storage_window_is_sane check (
        storage_window_seconds between 3600 and 31536000
    ),
    constraint plans_storage_steps_not_negative check (
        least(storage_grace_seconds, storage_read_only_seconds, storage_notice_seconds) >= 0
    ),
    constraint plans_initial_storage_not_negative check (initial_storage_gb >= 0)
);
alter table billing.plans enable row level security;
create index plans_plan_after_top_up_id on billing.plans (plan_after_top_up_id);
comment on table billing.plans is 'What an organization may do.';
comment on column billing.plans.id is 'What prices and organizations call it.';
comment on column billing.plans.allowed_tiers is 'The sizes of sessions that may be started on it.';
comment on column billing.plans.session_window_seconds is
'How many seconds ahead money is held for a running session. Half a window before its end it is
renewed.';
comment on column billing.plans.registration_bonus_micros is
'Promotional money in µ$ for a new organization whose owner never had it.';
comment on column billing.plans.plan_after_top_up_id is
'Where the first paid top-up moves an organization; null: nowhere.';
comment on column billing.plans.max_passports is
'How many live passports an organization may have at a time.';
comment on column billing.plans.max_workspaces is
'How many workspaces an organization may have at a time.';

comment on column billing.plans.storage_window_seconds is
'How many seconds ahead money is held for rented storage. Half a window before its end it is
renewed.';
comment on column billing.plans.storage_grace_seconds is
'For how many seconds storage stays as it is when the money for it has run out.';
comment on column billing.plans.storage_read_only_seconds is
'For how many seconds after that it can only be read, before its deletion is announced.';
comment on column billing.plans.storage_notice_seconds is
'How many seconds lie between that announcement and the deletion.';
comment on column billing.plans.initial_storage_gb is
'The size in GB of the bucket that comes with a registration, free of charge; 0: none does.';
comment on column billing.plans.has_identity is
'Whether its organizations have a service account at Google to act as.';

create table billing.prices (
    id uuid primary key default billing.uuidv7(),
    plan_id text not null references billing.plans (id),
    sku text not null,
    unit text not null,
    price_micros bigint not null,
    effective_at timestamptz not null,
    constraint prices_plan_sku_effective_key unique (plan_id, sku, effective_at),
    constraint prices_sku_is_dotted_words check (sku ~ '^[a-z0-9_-]+(\.[a-z0-9_-]+)+$'),
    constraint prices_unit_is_known check (unit in ('hour', 'gb_month', 'each')),
    constraint prices_in_bounds check (price_micros between 0 and 1000000000000)
);
alter table billing.prices enable row level security;
comment on table billing.prices is
'What is sold, on which plan, for how much, and since when. Append-only: a new price is a new row.';
comment on column billing.prices.id is 'A session remembers the row that it froze.';
comment on column billing.prices.plan_id is 'The plan on which it is sold for that.';
comment on column billing.prices.sku is
'What is sold: session.<tier>, storage.<kind> or space.<name>.';
comment on column billing.prices.unit is
'What one of it is: an hour, a gb_month or each (one piece).';
comment on column billing.prices.price_micros is 'Of one unit, in µ$.';
comment on column billing.prices.effective_at is
'From then on (UTC) it counts, until a later row of the same plan and SKU does.';

create table billing.top_up_brackets (
    id uuid primary key default billing.uuidv7(),
    minimum_micros bigint not null,
    bonus_basis_points integer not null,
    effective_at timestamptz not null,
    constraint top_up_brackets_minimum_effective_key unique (minimum_micros, effective_at),
    constraint top_up_brackets_minimum_positive check (minimum_micros > 0),
    constraint top_up_brackets_bonus_in_bounds check (bonus_basis_points between 0 and 10000)
);
alter table billing.top_up_brackets enable row level security;
comment on table billing.top_up_brackets is
'The bonus of a top-up, in basis points of its amount. The highest minimum that is met decides;
the lowest bracket is the smallest top-up there is. Append-only:
the newest row of a minimum counts.';
comment on column billing.top_up_brackets.id is 'Time-ordered (UUIDv7).';
comment on column billing.top_up_brackets.minimum_micros is
'The smallest top-up in µ$ that it is for.';
comment on column billing.top_up_brackets.bonus_basis_points is
'In hundredths of a percent of the top-up: 500 is 5 %.';
comment on column billing.top_up_brackets.effective_at is
'From then on (UTC) it counts, until a later row of the same minimum does.';

create trigger prices_append_only before update or delete on billing.prices
for each row execute function billing.refuse_change();
create trigger prices_no_truncate before truncate on billing.prices
for each statement execute function billing.refuse_change();
create trigger top_up_brackets_append_only before update or delete on billing.top_up_brackets
for each row execute function billing.refuse_change();
create trigger top_up_brackets_no_truncate before truncate on billing.top_up_brackets
for each statement execute function billing.refuse_change();

insert into billing.plans (
    id, allowed_tiers, registration_bonus_micros, plan_after_top_up_id, storage_grace_seconds,
    initial_storage_gb, has_identity
)
values
('pro', array['small', 'medium', 'large', 'gpu'], 5000000, null, 604800, 5, true),
('enterprise', array['small', 'medium', 'large', 'xlarge', 'gpu'], 5000000, null, 2592000, 5, true),
('admin', array['small', 'medium', 'large', 'xlarge', 'gpu'], 0, null, 2592000, 0, false),
('free', array['small'], 5000000, 'pro', 259200, 5, true);

insert into billing.prices (plan_id, sku, unit, price_micros, effective_at)
select
    rate.plan_id,
    rate.sku,
    'hour' as unit,
    rate.price_micros,
    timestamptz '2026-01-01 00:00:00+00' as effective_at
from (
    values
    ('free', 'session.small', 50000), ('free', 'session.medium', 75000),
    ('free', 'session.large', 100000), ('free', 'session.xlarge', 200000),
    ('free', 'session.gpu', 250000),
    ('pro', 'session.small', 25000), ('pro', 'session.medium', 37500),
    ('pro', 'session.large', 50000), ('pro', 'session.xlarge', 100000),
    ('pro', 'session.gpu', 125000),
    ('enterprise', 'session.small', 10000), ('enterprise', 'session.medium', 15000),
    ('enterprise', 'session.large', 20000), ('enterprise', 'session.xlarge', 40000),
    ('enterprise', 'session.gpu', 50000),
    ('admin', 'session.small', 0), ('admin', 'session.medium', 0),
    ('admin', 'session.large', 0), ('admin', 'session.xlarge', 0),
    ('admin', 'session.gpu', 0)
) as rate (plan_id, sku, price_micros);

insert into billing.prices (plan_id, sku, unit, price_micros, effective_at)
select
    plan.id,
    rate.sku,
    'gb_month' as unit,
    case when plan.id = 'admin' then 0 else rate.price_micros end as price_micros,
    timestamptz '2026-01-01 00:00:00+00' as effective_at
from billing.plans as plan
cross join (
    values
    ('storage.bucket', 20000), ('storage.filestore', 170000)
) as rate (sku, price_micros);

insert into billing.prices (plan_id, sku, unit, price_micros, effective_at)
select
    plan.id,
    rate.sku,
    'each' as unit,
    case when plan.id = 'admin' then 0 else rate.price_micros end as price_micros,
    timestamptz '2026-01-01 00:00:00+00' as effective_at
from billing.plans as plan
cross join (
    values
    ('space.ml-ready', 5000000), ('space.data-science', 3000000),
    ('space.web-dev', 2000000), ('space.research', 4000000)
) as rate (sku, price_micros);

insert into billing.top_up_brackets (minimum_micros, bonus_basis_points, effective_at)
values
(10000000, 0, timestamptz '2026-01-01 00:00:00+00'),
(100000000, 500, timestamptz '2026-01-01 00:00:00+00'),
(500000000, 1000, timestamptz '2026-01-01 00:00:00+00'),
(1000000000, 1500, timestamptz '2026-01-01 00:00:00+00');

-- billing.price_at: the price row of a plan and SKU at a moment; no row when there is none.
create function billing.price_at(p_plan_id text, p_sku text, p_at timestamptz)
returns setof billing.prices
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select price.*
    from billing.prices as price
    where price.plan_id = p_plan_id and price.sku = p_sku and price.effective_at <= p_at
    order by price.effective_at desc
    limit 1;
end
$$;
