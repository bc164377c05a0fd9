-- What AI usage costs at its provider and what it costs a customer: rows with effective dates.

create table billing.meter_parts (
    part text not null,
    whole text not null,
    primary key (part, whole)
);
alter table billing.meter_parts enable row level security;
comment on table billing.meter_parts is
'What is counted twice on purpose: a token that is read from the cache is an input token, too, as
OpenTelemetry counts. Every part stands here with every whole that it is in.';
comment on column billing.meter_parts.part is 'The meter that counts some.';
comment on column billing.meter_parts.whole is 'The meter that counts these and others.';

insert into billing.meter_parts (part, whole)
values
('cache_read_tokens', 'input_tokens'),
('cache_write_tokens', 'input_tokens'),
('cache_write_5m_tokens', 'input_tokens'), ('cache_write_5m_tokens', 'cache_write_tokens'),
('cache_write_1h_tokens', 'input_tokens'), ('cache_write_1h_tokens', 'cache_write_tokens'),
('input_text_tokens', 'input_tokens'),
('input_audio_tokens', 'input_tokens'),
('input_image_tokens', 'input_tokens'),
('input_video_tokens', 'input_tokens'),
('cache_text_read_tokens', 'input_tokens'), ('cache_text_read_tokens', 'cache_read_tokens'),
('cache_text_read_tokens', 'input_text_tokens'),
('cache_audio_read_tokens', 'input_tokens'), ('cache_audio_read_tokens', 'cache_read_tokens'),
('cache_audio_read_tokens', 'input_audio_tokens'),
('cache_image_read_tokens', 'input_tokens'), ('cache_image_read_tokens', 'cache_read_tokens'),
('cache_image_read_tokens', 'input_image_tokens'),
('output_text_tokens', 'output_tokens'),
('output_audio_tokens', 'output_tokens'),
('output_image_tokens', 'output_tokens'),
('output_video_tokens', 'output_tokens'),
('output_reasoning_tokens', 'output_tokens'),
('output_citation_tokens', 'output_tokens'),
('input_audio_seconds', 'audio_seconds'),
('output_audio_seconds', 'audio_seconds'),
('input_annotated_document_pages', 'input_document_pages');

create table billing.providers (
    id text primary key,
    fallback_ids text[] not null default '{}',
    constraint providers_id_is_a_name check (id ~ '^[a-z0-9][a-z0-9_.-]{0,63}$')
);
alter table billing.providers enable row level security;
comment on table billing.providers is 'Who sells models.';
comment on column billing.providers.id is 'What events call it.';
comment on column billing.providers.fallback_ids is
'Whose models it sells as well, in the order in which they are asked.';

create table billing.provider_models (
    provider_id text not null references billing.providers (id),
    id text not null,
    position integer not null,
    names text[] not null,
    pattern text,
    context_tokens bigint,
    is_deprecated boolean not null default false,
    is_own boolean not null default false,
    primary key (provider_id, id)
);
alter table billing.provider_models enable row level security;
comment on table billing.provider_models is
'Which names mean which model. The loader replaces those that are not own: they decide about events
to come, never about those that are rated.';
comment on column billing.provider_models.provider_id is 'Who sells it.';
comment on column billing.provider_models.id is 'What its prices call it.';
comment on column billing.provider_models.position is
'Where several models take a name, the lowest position does.';
comment on column billing.provider_models.names is 'Names that mean it, in lower case.';
comment on column billing.provider_models.pattern is
'A regular expression of other names that mean it, in lower case; null: there are none.';
comment on column billing.provider_models.context_tokens is
'How many tokens of input and output together it takes; null: it is not known.';
comment on column billing.provider_models.is_deprecated is
'Whether its provider is about to sell it no more.';
comment on column billing.provider_models.is_own is
'Whether an operator said what it costs, because the loader does not know it: then its id is its
only name.';

create table billing.model_names (
    provider_id text not null,
    name text not null,
    price_provider_id text,
    price_model_id text,
    primary key (provider_id, name),
    constraint model_names_mean_a_model_or_none check (
        (price_provider_id is null) = (price_model_id is null)
    )
);
alter table billing.model_names enable row level security;
comment on table billing.model_names is
'What provider_models said about the names that events brought, so that it is asked once. Emptied by
the loader.';
comment on column billing.model_names.provider_id is 'The provider that an event named.';
comment on column billing.model_names.name is 'The model that it named.';
comment on column billing.model_names.price_provider_id is
'The provider whose prices count; null: the name is unknown.';
comment on column billing.model_names.price_model_id is
'The model whose prices count; null: the name is unknown.';

create table billing.provider_prices (
    id uuid primary key default billing.uuidv7(),
    provider_id text not null,
    model_id text not null,
    effective_at timestamptz not null,
    source text not null,
    created_at timestamptz not null default billing.now(),
    constraint provider_prices_effective_key unique (provider_id, model_id, effective_at)
);
alter table billing.provider_prices enable row level security;
comment on table billing.provider_prices is
'What a provider takes for a model, and since when. Append-only: a new price is a new row. What it
takes per unit stands in provider_price_units.';
comment on column billing.provider_prices.id is 'A rated event remembers the row that it froze.';
comment on column billing.provider_prices.provider_id is
'Who sells it. No foreign key: prices tell of providers that are gone, too.';
comment on column billing.provider_prices.model_id is 'What is sold.';
comment on column billing.provider_prices.effective_at is
'From then on (UTC) it counts, until a later row of the same model does.';
comment on column billing.provider_prices.source is 'Who says so: a package and its version.';
comment on column billing.provider_prices.created_at is 'When we learned it (UTC).';

create table billing.provider_price_units (
    price_id uuid not null,
    meter text not null,
    above_input_tokens bigint not null default -1,
    unit_price_usd numeric,
    adds_usd numeric not null,
    primary key (price_id, meter, above_input_tokens),
    constraint provider_price_units_not_negative check (unit_price_usd >= 0)
);
alter table billing.provider_price_units enable row level security;
comment on table billing.provider_price_units is
'The units of a price. Cost is the sum of quantity × adds_usd. Append-only. No foreign key: only
billing.add_provider_price writes here, and to both.';
comment on column billing.provider_price_units.price_id is 'The price that it belongs to.';
comment on column billing.provider_price_units.meter is 'What is counted.';
comment on column billing.provider_price_units.above_input_tokens is
'For calls with more input tokens than this, up to the next row of the meter; -1: for all.';
comment on column billing.provider_price_units.unit_price_usd is
'What the provider takes for one, in USD; null: it names no price, a whole includes it.';
comment on column billing.provider_price_units.adds_usd is
'What one more of it adds to the cost in USD beyond what the wholes that it is part of count
already.';

create table billing.usage_rates (
    id uuid primary key default billing.uuidv7(),
    organization_id uuid references billing.organizations (id),
    plan_id text references billing.plans (id),
    feature text,
    provider_id text,
    model_id text,
    markup numeric,
    may_be_below_cost boolean not null default false,
    is_tiered boolean not null default false,
    is_end boolean not null default false,
    effective_at timestamptz not null,
    created_by text not null,
    constraint usage_rates_scope_key unique nulls not distinct (
        organization_id, plan_id, feature, provider_id, model_id, effective_at
    ),
    constraint usage_rates_are_for_one check (organization_id is null or plan_id is null),
    constraint usage_rates_model_has_provider check (model_id is null or provider_id is not null),
    constraint usage_rates_markup_covers_cost check (
        markup between 0 and 1000 and (markup >= 1 or may_be_below_cost)
    ),
    constraint usage_rates_tiers_may_be_below_cost check (not is_tiered or may_be_below_cost)
);
alter table billing.usage_rates enable row level security;
create index usage_rates_organization_id on billing.usage_rates (organization_id)
where organization_id is not null;
create index usage_rates_plan_id on billing.usage_rates (plan_id);
create index usage_rates_effective_at on billing.usage_rates (effective_at);
create index usage_rates_ends on billing.usage_rates (effective_at) where is_end;
comment on table billing.usage_rates is
'What usage costs a customer: a markup on its cost, own prices per unit (usage_rate_units), or both.
Of those that fit an event the closest counts: one of its organization before one of its plan before
one for all; then one that names the model, the provider, the feature; then the newest. Where
nothing was bought, a markup alone does not fit. Append-only: a new rate is a new row.';
comment on column billing.usage_rates.id is 'A rated event remembers the row that it froze.';
comment on column billing.usage_rates.organization_id is 'The only one it is for; null: not one.';
comment on column billing.usage_rates.plan_id is 'The plan that it is for; null: all.';
comment on column billing.usage_rates.feature is 'The feature that it is for; null: all.';
comment on column billing.usage_rates.provider_id is 'The provider that it is for; null: all.';
comment on column billing.usage_rates.model_id is
'The model that it is for, as prices call it; null: all.';
comment on column billing.usage_rates.markup is
'What the cost is multiplied by: 1.25 adds a quarter; null: only its own units count.';
comment on column billing.usage_rates.may_be_below_cost is
'Whether a price below the cost is meant; otherwise such an event waits for a person.';
comment on column billing.usage_rates.is_tiered is
'Whether some of its prices depend on what was used before in the month (usage_rate_tiers).';
comment on column billing.usage_rates.is_end is
'Whether it only ends the one for the same before it, so that the next closest counts again.';
comment on column billing.usage_rates.effective_at is
'From then on (UTC) it counts, until a later row for the same does.';
comment on column billing.usage_rates.created_by is
'Who made it: passport:<id>, user:<id> or operator.';

create table billing.usage_rate_units (
    rate_id uuid not null,
    meter text not null,
    unit_price_usd numeric,
    adds_usd numeric not null,
    primary key (rate_id, meter),
    constraint usage_rate_units_not_negative check (unit_price_usd >= 0)
);
alter table billing.usage_rate_units enable row level security;
comment on table billing.usage_rate_units is
'The own prices of a rate, as those of provider_price_units. Append-only. No foreign key, either.';
comment on column billing.usage_rate_units.rate_id is 'The rate that it belongs to.';
comment on column billing.usage_rate_units.meter is 'What is counted.';
comment on column billing.usage_rate_units.unit_price_usd is
'What one costs the customer, in USD; null: nothing by itself.';
comment on column billing.usage_rate_units.adds_usd is
'What one more of it adds to the price in USD beyond what the wholes that it is part of count
already.';

create type billing.tier_kind as enum ('graduated', 'volume', 'package');
comment on type billing.tier_kind is
'graduated: what lies in a tier has its price. volume: all have the price of the tier that their
number lies in. package: each that is begun has a price.';

create table billing.usage_rate_tiers (
    rate_id uuid not null,
    meter text not null,
    above numeric not null,
    kind billing.tier_kind not null,
    unit_price_usd numeric not null,
    package_size numeric,
    primary key (rate_id, meter, above),
    constraint usage_rate_tiers_not_negative check (above >= 0 and unit_price_usd >= 0),
    constraint usage_rate_tiers_packages_have_a_size check (
        (kind = 'package') = (package_size is not null) and package_size > 0
    )
);
alter table billing.usage_rate_tiers enable row level security;
comment on table billing.usage_rate_tiers is
'Prices that depend on how much of a meter an organization has used by this rate in the calendar
month (UTC) before: an event costs what it adds to the price of all. Append-only. No foreign key,
either.';
comment on column billing.usage_rate_tiers.rate_id is 'The rate that it belongs to.';
comment on column billing.usage_rate_tiers.meter is
'What is counted. No other price of the rate is for a part or a whole of it.';
comment on column billing.usage_rate_tiers.above is
'For what is above this, up to and with the next row of the meter.';
comment on column billing.usage_rate_tiers.kind is 'What a tier''s price is for.';
comment on column billing.usage_rate_tiers.unit_price_usd is
'What one costs the customer, or one package, in USD.';
comment on column billing.usage_rate_tiers.package_size is
'How many are in a package; null: it is none.';

create table billing.rate_totals (
    organization_id uuid not null,
    rate_id uuid not null,
    meter text not null,
    month_start date not null,
    quantity numeric not null,
    primary key (organization_id, rate_id, meter, month_start),
    constraint rate_totals_not_negative check (quantity >= 0)
);
alter table billing.rate_totals enable row level security;
comment on table billing.rate_totals is
'How much was used by a rate with tiers. Whoever writes it has locked the wallet.';
comment on column billing.rate_totals.organization_id is 'The organization it belongs to.';
comment on column billing.rate_totals.rate_id is 'The rate that it was used by.';
comment on column billing.rate_totals.meter is 'What was counted.';
comment on column billing.rate_totals.month_start is
'The first day of the month (UTC) that it was used in.';
comment on column billing.rate_totals.quantity is 'How much was used.';

create table billing.usage_policies (
    id uuid primary key default billing.uuidv7(),
    organization_id uuid references billing.organizations (id),
    plan_id text references billing.plans (id),
    feature text,
    allow_debt_micros bigint not null,
    constraint usage_policies_scope_key unique nulls not distinct (
        organization_id, plan_id, feature
    ),
    constraint usage_policies_are_for_one check (organization_id is null or plan_id is null),
    constraint usage_policies_debt_in_bounds check (
        allow_debt_micros between 0 and 1000000000000
    )
);
alter table billing.usage_policies enable row level security;
create index usage_policies_organization_id on billing.usage_policies (organization_id)
where organization_id is not null;
create index usage_policies_plan_id on billing.usage_policies (plan_id);
comment on table billing.usage_policies is
'What happens to usage when the money is short. Without a row, or with 0, it is denied. The closest
row counts: of the organization, of its plan, for all; then one that names the feature.';
comment on column billing.usage_policies.id is 'Time-ordered (UUIDv7).';
comment on column billing.usage_policies.organization_id is
'The only one it is for; null: not one.';
comment on column billing.usage_policies.plan_id is 'The plan that it is for; null: all.';
comment on column billing.usage_policies.feature is 'The feature that it is for; null: all.';
comment on column billing.usage_policies.allow_debt_micros is
'Up to how much may be owed after it, in µ$.';

create trigger provider_prices_append_only before update or delete on billing.provider_prices
for each row execute function billing.refuse_change();
create trigger provider_prices_no_truncate before truncate on billing.provider_prices
for each statement execute function billing.refuse_change();
create trigger provider_price_units_append_only
before update or delete on billing.provider_price_units
for each row execute function billing.refuse_change();
create trigger provider_price_units_no_truncate before truncate on billing.provider_price_units
for each statement execute function billing.refuse_change();
create trigger usage_rates_append_only before update or delete on billing.usage_rates
for each row execute function billing.refuse_change();
create trigger usage_rates_no_truncate before truncate on billing.usage_rates
for each statement execute function billing.refuse_change();
create trigger usage_rate_units_append_only before update or delete on billing.usage_rate_units
for each row execute function billing.refuse_change();
create trigger usage_rate_units_no_truncate before truncate on billing.usage_rate_units
for each statement execute function billing.refuse_change();
create trigger usage_rate_tiers_append_only before update or delete on billing.usage_rate_tiers
for each row execute function billing.refuse_change();
create trigger usage_rate_tiers_no_truncate before truncate on billing.usage_rate_tiers
for each statement execute function billing.refuse_change();

-- What providers take plus a part, less for those who commit themselves.
insert into billing.usage_rates (plan_id, markup, effective_at, created_by)
values
('free', 1.5, timestamptz '2026-01-01 00:00:00+00', 'operator'),
('pro', 1.25, timestamptz '2026-01-01 00:00:00+00', 'operator'),
('enterprise', 1.1, timestamptz '2026-01-01 00:00:00+00', 'operator'),
('admin', 1, timestamptz '2026-01-01 00:00:00+00', 'operator');

-- billing.usage_units: what each unit of a price list adds to a sum, {meter: USD per unit} given.
-- A part that has a price of its own adds what that is above or below its wholes; one that has none
-- adds nothing, but is known.
create function billing.usage_units(p_prices jsonb)
returns table (meter text, unit_price_usd numeric, adds_usd numeric)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_adds jsonb := '{}';
begin
    -- Wholes first.
    for meter, unit_price_usd in
        select p.key, p.value::numeric
        from jsonb_each_text(p_prices) as p
        order by (select count(*) from billing.meter_parts as m where m.part = p.key)
    loop
        adds_usd := unit_price_usd - coalesce(
            (
                select sum(a.value::numeric)
                from jsonb_each_text(v_adds) as a
                inner join billing.meter_parts as m on m.whole = a.key
                where m.part = meter
            ),
            0
        );
        v_adds := v_adds || jsonb_build_object(meter, adds_usd);
        return next;
    end loop;
    return query
    select distinct m.part, null::numeric, 0::numeric
    from billing.meter_parts as m
    where p_prices ? m.whole and not p_prices ? m.part;
end
$$;

-- billing.add_provider_price: one more price of a model. p_tiers: {input tokens above which it
-- counts, or -1: {meter: USD per unit}}; every tier names all its meters. A request of itself is
-- free where nothing else is said.
create function billing.add_provider_price(
    p_provider_id text, p_model_id text, p_effective_at timestamptz, p_source text, p_tiers jsonb
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id uuid := billing.uuidv7();
begin
    insert into billing.provider_prices (id, provider_id, model_id, effective_at, source)
    values (v_id, p_provider_id, p_model_id, p_effective_at, p_source);
    insert into billing.provider_price_units (
        price_id, meter, above_input_tokens, unit_price_usd, adds_usd
    )
    select v_id, u.meter, t.key::bigint, u.unit_price_usd, u.adds_usd
    from jsonb_each(p_tiers) as t
    cross join lateral billing.usage_units('{"requests": 0}' || t.value) as u;
end
$$;

-- billing.add_own_cost: what a model takes from a moment on, as an operator says who alone knows:
-- {meter: USD per unit}. When the loader knows it or its name, what that says counts.
--
-- Raises  FG400 cost_is_known  the loader says what it costs
create function billing.add_own_cost(
    p_provider_id text, p_name text, p_effective_at timestamptz, p_costs jsonb
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_model billing.provider_models := billing.find_model(p_provider_id, p_name);
begin
    if exists (
        select
        from billing.provider_prices as p
        where p.provider_id = v_model.provider_id
            and p.model_id = v_model.id
            and p.source <> 'operator'
    ) then
        raise exception using errcode = 'FG400', message = 'cost_is_known';
    elsif v_model.id is null then
        v_model.provider_id := lower(p_provider_id);
        v_model.id := lower(p_name);
        insert into billing.providers (id) values (v_model.provider_id)
        on conflict do nothing;
        -- After all that the loader knows.
        insert into billing.provider_models (provider_id, id, position, names, is_own)
        values (v_model.provider_id, v_model.id, 1000000000, array[v_model.id], true);
    end if;
    perform billing.add_provider_price(
        v_model.provider_id, v_model.id, p_effective_at, 'operator',
        jsonb_build_object('-1', p_costs)
    );
end
$$;

-- billing.add_usage_rate: one more rate, with its own prices or without: {meter: USD per unit}, or
-- instead of USD {kind, tiers: [{up_to, unit_price}]} or {kind, size, price}. A request of itself
-- is free here, too, where nothing else is said.
--
-- Raises  FG400 below_cost_not_meant  its markup is below 1, or it has tiers, by which a single
--                                     event may be free, and it does not say so
--         FG400 tiers_overlap         a meter with tiers, and a part or a whole of it, have prices
create function billing.add_usage_rate(p_rate billing.usage_rates, p_prices jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_tiered text[] := array(
        select p.key
        from jsonb_each(p_prices) as p
        where jsonb_typeof(p.value) = 'object'
    );
begin
    p_rate.is_end := coalesce(p_rate.is_end, false);
    p_rate.is_tiered := v_tiered <> '{}';
    p_rate.may_be_below_cost := coalesce(p_rate.may_be_below_cost, false);
    if not p_rate.may_be_below_cost and (p_rate.is_tiered or p_rate.markup < 1) then
        raise exception using errcode = 'FG400', message = 'below_cost_not_meant';
    elsif exists (
        select
        from billing.meter_parts as m
        where p_prices ? m.part and p_prices ? m.whole
            and (m.part = any(v_tiered) or m.whole = any(v_tiered))
    ) then
        raise exception using errcode = 'FG400', message = 'tiers_overlap';
    end if;
    insert into billing.usage_rates
    select (p_rate).*;
    insert into billing.usage_rate_units (rate_id, meter, unit_price_usd, adds_usd)
    select
        p_rate.id,
        u.meter,
        case when u.meter <> all(v_tiered) then u.unit_price_usd end,
        u.adds_usd
    from billing.usage_units(
        (
            select
                coalesce(
                    jsonb_object_agg(
                        p.key, case when p.key = any(v_tiered) then '0' else p.value end
                    ),
                    '{}'
                )
            from jsonb_each(p_prices) as p
        )
    ) as u
    union all
    select p_rate.id, 'requests', null, 0
    where p_prices <> '{}' and not p_prices ? 'requests';
    insert into billing.usage_rate_tiers (
        rate_id, meter, above, kind, unit_price_usd, package_size
    )
    select
        p_rate.id,
        p.key,
        coalesce(
            lag((t.value ->> 'up_to')::numeric) over (partition by p.key order by t.ordinality), 0
        ),
        (p.value ->> 'kind')::billing.tier_kind,
        coalesce(t.value ->> 'unit_price', t.value ->> 'price')::numeric,
        (t.value ->> 'size')::numeric
    from jsonb_each(p_prices) as p
    cross join lateral jsonb_array_elements(
        coalesce(p.value -> 'tiers', jsonb_build_array(p.value))
    ) with ordinality as t
    where p.key = any(v_tiered);
end
$$;

create type billing.tiered_usage as (
    index integer,
    organization_id uuid,
    rate_id uuid,
    month_start date,
    quantities jsonb,
    counted integer
);
comment on type billing.tiered_usage is
'An event by a rate with tiers, and the month (UTC) that it counts in. counted: 1, or -1 where it no
longer counts.';

-- billing.tiered_amounts: how much of which meters with tiers these events count. One is a request,
-- unless it says how many.
create function billing.tiered_amounts(p_events billing.tiered_usage[])
returns table (
    index integer,
    organization_id uuid,
    rate_id uuid,
    meter text,
    month_start date,
    quantity numeric
)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select
        e.index,
        e.organization_id,
        e.rate_id,
        m.meter,
        e.month_start,
        e.counted * coalesce((e.quantities -> m.meter)::numeric, (m.meter = 'requests')::integer)
    from unnest(p_events) as e
    cross join lateral (
        select distinct t.meter
        from billing.usage_rate_tiers as t
        where t.rate_id = e.rate_id
    ) as m;
$$;

-- billing.tier_prices: what these events cost by tiers, one after the other in the order of their
-- index, after all that was counted before: {index: USD}. Below 0 where a larger volume has a lower
-- price, or less is counted than before.
create function billing.tier_prices(p_events billing.tiered_usage[])
returns jsonb
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    with tiers as (
        select t.*, lead(t.above, 1, 'infinity') over (
            partition by t.rate_id, t.meter order by t.above
        ) as up_to
        from billing.usage_rate_tiers as t
        where t.rate_id in (select e.rate_id from unnest(p_events) as e)
    ),
    positions as (
        select
            a.index,
            a.rate_id,
            a.meter,
            coalesce(t.quantity, 0) + sum(a.quantity) over up_to_here - a.quantity as before,
            coalesce(t.quantity, 0) + sum(a.quantity) over up_to_here as after
        from billing.tiered_amounts(p_events) as a
        left join billing.rate_totals as t
            on t.organization_id = a.organization_id
            and t.rate_id = a.rate_id
            and t.meter = a.meter
            and t.month_start = a.month_start
        window up_to_here as (
            partition by a.organization_id, a.rate_id, a.meter, a.month_start
            order by a.index
        )
    ),
    prices as (
        select
            p.index,
            sum(
                t.unit_price_usd * case t.kind
                    when 'graduated' then
                        least(greatest(p.after, t.above), t.up_to)
                        - least(greatest(p.before, t.above), t.up_to)
                    when 'volume' then
                        case when p.after > t.above and p.after <= t.up_to then p.after else 0 end
                        - case
                            when p.before > t.above and p.before <= t.up_to then p.before
                            else 0
                        end
                    when 'package' then
                        ceil(p.after / t.package_size) - ceil(p.before / t.package_size)
                end
            ) as price_usd
        from positions as p
        inner join tiers as t on t.rate_id = p.rate_id and t.meter = p.meter
        group by p.index
    )
    select coalesce(jsonb_object_agg(p.index, p.price_usd), '{}')
    from prices as p;
$$;

-- billing.find_model: the model that a name means at a provider, or at one whose models it sells;
-- nulls where it means none.
create function billing.find_model(p_provider_id text, p_name text)
returns billing.provider_models
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_model billing.provider_models;
begin
    select m.* into v_model
    from billing.providers as p
    cross join unnest(p.id || p.fallback_ids) with ordinality as f (id, position)
    inner join billing.provider_models as m on m.provider_id = f.id
    where p.id = lower(p_provider_id)
        and (lower(p_name) = any(m.names) or lower(p_name) ~ m.pattern)
    order by f.position asc, m.position asc
    limit 1;
    return v_model;
end
$$;
