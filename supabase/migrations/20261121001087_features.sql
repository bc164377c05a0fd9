-- What a plan includes, how much of it, and how much may be spent in a period.
--
-- A feature that is not listed is open to everybody. One that is listed is closed to whoever is not
-- granted it: by their plan, or by terms of their own, which count instead of their plan's.

create type billing.feature_kind as enum ('boolean', 'static', 'metered');
comment on type billing.feature_kind is
'What there is to say of a feature: boolean: whether one has it; static: a value as well; metered:
how much of it may be used.';

create type billing.usage_period as enum ('day', 'week', 'month', 'ever');
comment on type billing.usage_period is
'Of the calendar in UTC; a week begins on Monday. Usage belongs to the period in which it was
recorded: so a period that is over stays as it is.';

create type billing.enforcement as enum ('hard', 'soft', 'none');
comment on type billing.enforcement is
'What happens at a limit: hard: usage beyond it is rejected; soft: it is told; none: it is shown.';

create table billing.features (
    id text primary key,
    kind billing.feature_kind not null,
    description text not null,
    constraint features_id_is_a_name check (id ~ '^[a-z0-9][a-z0-9_.-]{0,99}$'),
    constraint features_description_length check (char_length(description) between 1 and 200)
);
alter table billing.features enable row level security;
comment on table billing.features is 'What is granted and not simply there.';
comment on column billing.features.id is 'What events call it.';
comment on column billing.features.kind is 'What there is to say of it.';
comment on column billing.features.description is 'What it is, for people.';

create table billing.plan_entitlements (
    plan_id text not null references billing.plans (id),
    feature_id text not null references billing.features (id),
    limit_id uuid not null default billing.uuidv7(),
    is_granted boolean not null,
    value jsonb, -- noqa: RF04
    meter text,
    period billing.usage_period,
    limit_quantity numeric,
    enforcement billing.enforcement,
    primary key (plan_id, feature_id),
    constraint plan_entitlements_limit_is_whole check (
        num_nonnulls(meter, period, limit_quantity, enforcement) in (0, 4)
    ),
    constraint plan_entitlements_limit_not_negative check (limit_quantity >= 0)
);
alter table billing.plan_entitlements enable row level security;
create index plan_entitlements_feature_id on billing.plan_entitlements (feature_id);
comment on table billing.plan_entitlements is 'Whether a plan includes a feature, and its terms.';
comment on column billing.plan_entitlements.plan_id is 'The plan.';
comment on column billing.plan_entitlements.feature_id is 'The feature.';
comment on column billing.plan_entitlements.limit_id is
'What its counters are called: a new one with every change of the limit.';
comment on column billing.plan_entitlements.is_granted is 'Whether the feature may be used.';
comment on column billing.plan_entitlements.value is 'The value of a static feature.';
comment on column billing.plan_entitlements.meter is
'What of its usage is counted; null: there is no limit.';
comment on column billing.plan_entitlements.period is 'In which period.';
comment on column billing.plan_entitlements.limit_quantity is 'How much of it there may be.';
comment on column billing.plan_entitlements.enforcement is 'What happens at the limit.';

create table billing.entitlements (
    organization_id uuid not null references billing.organizations (id),
    feature_id text not null references billing.features (id),
    limit_id uuid not null default billing.uuidv7(),
    is_granted boolean not null,
    value jsonb, -- noqa: RF04
    meter text,
    period billing.usage_period,
    limit_quantity numeric,
    enforcement billing.enforcement,
    primary key (organization_id, feature_id),
    constraint entitlements_limit_is_whole check (
        num_nonnulls(meter, period, limit_quantity, enforcement) in (0, 4)
    ),
    constraint entitlements_limit_not_negative check (limit_quantity >= 0)
);
alter table billing.entitlements enable row level security;
create index entitlements_feature_id on billing.entitlements (feature_id);
comment on table billing.entitlements is
'An organization''s own terms of a feature, which count instead of its plan''s.';
comment on column billing.entitlements.organization_id is 'The organization it belongs to.';
comment on column billing.entitlements.feature_id is 'The feature.';
comment on column billing.entitlements.limit_id is
'What its counter is called: a new one with every change of the limit.';
comment on column billing.entitlements.is_granted is 'Whether the feature may be used.';
comment on column billing.entitlements.value is 'The value of a static feature.';
comment on column billing.entitlements.meter is
'What of its usage is counted; null: there is no limit.';
comment on column billing.entitlements.period is 'In which period.';
comment on column billing.entitlements.limit_quantity is 'How much of it there may be.';
comment on column billing.entitlements.enforcement is 'What happens at the limit.';

create table billing.spend_caps (
    organization_id uuid not null references billing.organizations (id),
    id uuid not null default billing.uuidv7(),
    passport_id uuid,
    period billing.usage_period not null,
    cap_micros bigint not null,
    is_operators boolean not null,
    set_by text not null,
    primary key (organization_id, id),
    constraint spend_caps_scope_key unique nulls not distinct (
        organization_id, passport_id, period, is_operators
    ),
    constraint spend_caps_passport_fkey foreign key (organization_id, passport_id)
    references billing.passports (organization_id, id),
    constraint spend_caps_in_bounds check (cap_micros between 0 and 1000000000000000)
);
alter table billing.spend_caps enable row level security;
comment on table billing.spend_caps is
'How much usage may cost an organization, or one of its passports, in a period. Sessions, storage
and spaces are not usage. Of a customer''s cap and an operator''s the lower one counts.';
comment on column billing.spend_caps.organization_id is 'The organization it belongs to.';
comment on column billing.spend_caps.id is
'What its counter is called: a new one with every change of the cap.';
comment on column billing.spend_caps.passport_id is
'The passport that it is for; null: the whole organization.';
comment on column billing.spend_caps.period is 'In which period.';
comment on column billing.spend_caps.cap_micros is 'How much usage may cost in it, in µ$.';
comment on column billing.spend_caps.is_operators is
'Whether an operator set it: then no customer changes it.';
comment on column billing.spend_caps.set_by is 'Who set it: passport:<id> or user:<id>.';

create table billing.usage_counters (
    organization_id uuid not null,
    limit_id uuid not null,
    starts_at timestamptz not null,
    quantity numeric not null,
    told_percent smallint not null default 0,
    primary key (organization_id, limit_id)
);
alter table billing.usage_counters enable row level security;
comment on table billing.usage_counters is
'How much of a limit is used in the period of its last usage. Where there is no row, or one of an
earlier period, the events of the period say it: so a limit counts what was before it. Changed under
the lock of the wallet. No foreign keys, as in the ledger.';
comment on column billing.usage_counters.organization_id is 'The organization it belongs to.';
comment on column billing.usage_counters.limit_id is 'The limit or the cap that counts.';
comment on column billing.usage_counters.starts_at is 'When its period began (UTC).';
comment on column billing.usage_counters.quantity is
'How much was used in it: of a meter, or for how many USD.';
comment on column billing.usage_counters.told_percent is
'How much of the limit the organization was told to have used.';

-- billing.forget_counters: other limits count from now on, and none goes on later where it stopped.
create function billing.forget_counters(p_organization_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    delete from billing.usage_counters as c where c.organization_id = p_organization_id;
end
$$;

-- billing.forget_plans_counters: trigger of organizations, for who changes the plan.
create function billing.forget_plans_counters()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.forget_counters(new.id);
    return null;
end
$$;
create trigger organizations_usage_counters after update of plan_id on billing.organizations
for each row when (old.plan_id <> new.plan_id) execute function billing.forget_plans_counters();

-- billing.period_start: when the period of a moment began; that of all time in 1970.
create function billing.period_start(p_period billing.usage_period, p_at timestamptz)
returns timestamptz
language sql
stable parallel safe
return case
    when p_period = 'ever' then timestamptz '1970-01-01 00:00:00+00'
    else date_trunc(p_period::text, p_at, 'UTC')
end;

-- billing.period_end: when the period that began then is over; null: never.
create function billing.period_end(p_period billing.usage_period, p_start timestamptz)
returns timestamptz
language sql
stable parallel safe
return case
    when p_period <> 'ever'
        then (p_start at time zone 'UTC' + ('1 ' || p_period)::interval) at time zone 'UTC'
end;

create view api.features with (security_invoker = true) as
select
    f.id,
    f.kind,
    f.description,
    (
        select
            coalesce(
                jsonb_object_agg(
                    e.plan_id, to_jsonb(e) - array['plan_id', 'feature_id', 'limit_id']
                ),
                '{}'
            )
        from billing.plan_entitlements as e
        where e.feature_id = f.id
    ) as plans -- noqa: RF04
from billing.features as f;
comment on view api.features is 'What is granted, and what each plan says of it.';
comment on column api.features.plans is 'The terms of each plan that has some.';
call billing.inherit_comments('api.features');

create view api.entitlements with (security_invoker = true) as
select
    o.id as organization_id,
    f.id as feature_id,
    f.kind,
    f.description,
    coalesce(t.is_granted, p.is_granted, false) as is_granted,
    t.limit_id is not null as is_own,
    case when t.limit_id is null then p.value else t.value end as value, -- noqa: RF04
    coalesce(t.limit_id, p.limit_id) as limit_id,
    case when t.limit_id is null then p.meter else t.meter end as meter,
    case when t.limit_id is null then p.period else t.period end as period,
    case when t.limit_id is null then p.limit_quantity else t.limit_quantity end
        as limit_quantity,
    case when t.limit_id is null then p.enforcement else t.enforcement end as enforcement
from billing.organizations as o
cross join billing.features as f
left join billing.plan_entitlements as p on p.plan_id = o.plan_id and p.feature_id = f.id
left join billing.entitlements as t on t.organization_id = o.id and t.feature_id = f.id;
comment on view api.entitlements is
'What an organization may do with each feature that is listed, by its own terms or its plan''s.';
comment on column api.entitlements.organization_id is 'The organization.';
comment on column api.entitlements.is_own is
'Whether these are terms of its own, not of its plan.';
comment on column api.entitlements.feature_id is 'The feature, as events call it.';
comment on column api.entitlements.is_granted is 'Whether the feature may be used.';
comment on column api.entitlements.value is 'The value of a static feature.';
comment on column api.entitlements.limit_id is 'The limit''s id.';
comment on column api.entitlements.meter is
'What of its usage is counted; null: there is no limit.';
comment on column api.entitlements.period is 'In which period.';
comment on column api.entitlements.limit_quantity is 'How much of it there may be.';
comment on column api.entitlements.enforcement is 'What happens at the limit.';
call billing.inherit_comments('api.entitlements');

create view api.spend_caps with (security_invoker = true) as
select
    c.organization_id,
    c.id,
    c.passport_id,
    c.period,
    c.cap_micros,
    c.is_operators,
    c.set_by
from billing.spend_caps as c;
comment on view api.spend_caps is
'How much usage may cost an organization, or one of its passports, in a period.';
call billing.inherit_comments('api.spend_caps');

-- billing.usage_limits: everything that limits usage, in one form.
create view billing.usage_limits with (security_invoker = true) as
select
    e.organization_id,
    e.limit_id as id,
    e.feature_id,
    null::uuid as passport_id,
    e.meter,
    e.period,
    e.limit_quantity as quantity,
    e.enforcement
from api.entitlements as e
where e.is_granted and e.meter is not null
union all
select
    c.organization_id,
    c.id,
    null as feature_id,
    c.passport_id,
    null as meter,
    c.period,
    c.cap_micros * 0.000001 as quantity,
    'hard' as enforcement
from billing.spend_caps as c;
comment on view billing.usage_limits is
'Everything that limits usage, in one form: limits of features and spend caps.';
comment on column billing.usage_limits.organization_id is 'The organization that it is for.';
comment on column billing.usage_limits.id is 'What its counter is called.';
comment on column billing.usage_limits.feature_id is 'The feature that it is for; null: all.';
comment on column billing.usage_limits.passport_id is 'The passport that it is for; null: all.';
comment on column billing.usage_limits.meter is 'What it counts; null: what usage costs, in USD.';
comment on column billing.usage_limits.period is 'In which period.';
comment on column billing.usage_limits.quantity is 'How much there may be.';
comment on column billing.usage_limits.enforcement is 'What happens then.';

-- billing.counted: how much of an event a meter counts; null: what it costs. An event is a request,
-- unless it says how many; p_counted: how many events a correction adds.
create function billing.counted(
    p_meter text, p_quantities jsonb, p_price_usd numeric, p_counted integer default 1
)
returns numeric
language sql
immutable parallel safe
return case
    when p_meter is null then p_price_usd
    when p_meter = 'requests' then coalesce((p_quantities -> p_meter)::numeric, p_counted)
    else coalesce((p_quantities -> p_meter)::numeric, 0)
end;

-- billing.used: how much of a limit was used in a period, by its events: what waits for a review
-- counts when it is charged. Of months that have gone to files all time knows the sums; other
-- periods do not begin before the months that are kept.
create function billing.used(
    p_organization_id uuid,
    p_feature_id text,
    p_passport_id uuid,
    p_meter text,
    p_period billing.usage_period,
    p_start timestamptz
)
returns numeric
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_first_id uuid := billing.first_id_of(p_start);
    v_end_id uuid := coalesce(
        billing.first_id_of(billing.period_end(p_period, p_start)),
        'ffffffff-ffff-ffff-ffff-ffffffffffff'
    );
begin
    return (
        select coalesce(sum(u.quantity), 0)
        from (
            select billing.counted(p_meter, e.quantities, e.price_usd, e.counted) as quantity
            from billing.usage_events as e
            where e.organization_id = p_organization_id
                and e.id >= v_first_id
                and e.id < v_end_id
                and e.price_usd is not null
                and (p_feature_id is null or e.feature = p_feature_id)
                and (p_passport_id is null or e.passport_id = p_passport_id)
            union all
            select billing.counted(p_meter, a.quantities, a.price_usd)
            from billing.usage_archives as a
            inner join billing.usage_archived_months as m on m.month = a.month
            where p_period = 'ever'
                and a.organization_id = p_organization_id
                and (p_feature_id is null or a.feature = p_feature_id)
                and (p_passport_id is null or a.passport_id = p_passport_id)
        ) as u
    );
end
$$;

create type billing.usage_limit as (
    organization_id uuid,
    number integer,
    id uuid,
    feature_id text,
    passport_id uuid,
    meter text,
    room numeric
);
comment on type billing.usage_limit is
'What limits a batch, as it is found. number: which of its organization''s. room: how much is left;
null: it refuses nothing. id: its counter''s; null: the feature is not granted at all.';

create type billing.usage_count as (
    organization_id uuid,
    limit_id uuid,
    quantity numeric
);
comment on type billing.usage_count is 'How much more of a limit is used.';

-- billing.find_limits: what limits usage of these features by these passports now. Every limit has
-- its counter then.
--
-- Locks   nothing new: the caller has locked the wallets.
create function billing.find_limits(
    p_organization_ids uuid[], p_features text[], p_passport_ids uuid[], p_now timestamptz
)
returns billing.usage_limit[]
language plpgsql
set search_path = pg_catalog, pg_temp
-- Looked up by key, whatever its caller prefers.
set enable_nestloop = on
set enable_hashjoin = off
as $$
declare
    v_limits billing.usage_limit[];
begin
    with limits as materialized (
        select
            l.*,
            s.starts_at,
            c.starts_at is distinct from s.starts_at as is_new,
            case
                when c.starts_at = s.starts_at then c.quantity
                else billing.used(
                    l.organization_id, l.feature_id, l.passport_id, l.meter, l.period,
                    s.starts_at
                )
            end as used
        from billing.usage_limits as l
        cross join lateral (select billing.period_start(l.period, p_now) as starts_at) as s
        left join lateral (
            select k.starts_at, k.quantity
            from billing.usage_counters as k
            where k.organization_id = l.organization_id and k.limit_id = l.id
        ) as c on true
        where l.organization_id = any(p_organization_ids)
            and (l.feature_id is null or l.feature_id = any(p_features))
            and (l.passport_id is null or l.passport_id = any(p_passport_ids))
    ),
    opened as (
        insert into billing.usage_counters (organization_id, limit_id, starts_at, quantity)
        select l.organization_id, l.id, l.starts_at, l.used
        from limits as l
        where l.is_new
        on conflict (organization_id, limit_id) do update
        set
            starts_at = excluded.starts_at,
            quantity = excluded.quantity,
            told_percent = 0
    )
    select
        array_agg(
            row(
                f.organization_id, f.number, f.id, f.feature_id, f.passport_id, f.meter, f.room
            )::billing.usage_limit
        )
    into v_limits
    from (
        select
            l.organization_id,
            row_number() over (
                partition by l.organization_id order by l.feature_id, l.passport_id, l.id
            ) as number,
            l.id,
            l.feature_id,
            l.passport_id,
            l.meter,
            case when l.enforcement = 'hard' then l.quantity - l.used end as room
        from limits as l
        union all
        select e.organization_id, null, null, e.feature_id, null, null, null
        from api.entitlements as e
        where e.organization_id = any(p_organization_ids)
            and e.feature_id = any(p_features)
            and not e.is_granted
    ) as f;
    return v_limits;
end
$$;

-- billing.add_to_counters: so much more is used of limits. An organization is told once a period
-- that it used four fifths of a limit, and that it reached it.
--
-- Locks   nothing new: the caller has locked the wallets.
create function billing.add_to_counters(p_counts billing.usage_count[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_nestloop = on
set enable_hashjoin = off
as $$
declare
    v_news record;
begin
    for v_news in
        with added as materialized (
            select
                n.organization_id,
                n.limit_id,
                c.told_percent,
                c.quantity + n.quantity as quantity
            from unnest(p_counts) as n
            inner join billing.usage_counters as c
                on c.organization_id = n.organization_id and c.limit_id = n.limit_id
        ),
        counted as (
            update billing.usage_counters as c
            set quantity = a.quantity
            from added as a
            where c.organization_id = a.organization_id and c.limit_id = a.limit_id
        )
        select
            l.organization_id, l.id, l.feature_id, l.passport_id, l.meter, l.period, t.percent,
            l.quantity
        from added as a
        inner join billing.usage_limits as l
            on l.organization_id = a.organization_id and l.id = a.limit_id
        cross join lateral (
            select case
                when a.quantity >= l.quantity then 100 when a.quantity >= 0.8 * l.quantity then 80
            end as percent
        ) as t
        where l.enforcement <> 'none' and t.percent > a.told_percent
        order by l.organization_id, l.id
    loop
        update billing.usage_counters as c
        set told_percent = v_news.percent
        where c.organization_id = v_news.organization_id and c.limit_id = v_news.id;
        perform billing.notify(
            v_news.organization_id,
            case v_news.percent when 100 then 'limit_reached' else 'limit_near' end,
            jsonb_build_object(
                'reason', coalesce(
                    v_news.feature_id, 'passport:' || v_news.passport_id, 'organization'
                ),
                'amount_micros', case
                    when v_news.meter is null then (v_news.quantity * 1000000)::bigint
                end,
                'until', billing.period_end(
                    v_news.period, billing.period_start(v_news.period, billing.now())
                )
            )
        );
    end loop;
end
$$;

-- billing.count_usage: events that were recorded otherwise than in a batch, or are charged now,
-- count towards the limits there are; corrections take back. What no counter knows yet is
-- not added: the first batch reads it from the events.
--
-- Locks   nothing new: the caller has locked the wallets.
create function billing.count_usage(p_organization_ids uuid[], p_ids uuid[])
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
-- Looked up by key, whatever is known of this month's table yet.
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_counts billing.usage_count[];
begin
    select array_agg(row(n.organization_id, n.id, n.quantity)::billing.usage_count) into v_counts
    from (
        select
            l.organization_id,
            l.id,
            sum(billing.counted(l.meter, e.quantities, e.price_usd, e.counted)) as quantity
        from unnest(p_organization_ids, p_ids) as i (organization_id, id)
        cross join lateral (
            select u.*
            from billing.usage_events as u
            where u.organization_id = i.organization_id and u.id = i.id
            limit 1 -- noqa: AM09
        ) as e
        inner join billing.usage_counters as c on c.organization_id = e.organization_id
        inner join billing.usage_limits as l
            on l.organization_id = c.organization_id and l.id = c.limit_id
        where e.price_usd is not null
            and e.id >= billing.first_id_of(c.starts_at)
            and coalesce(
                e.id < billing.first_id_of(billing.period_end(l.period, c.starts_at)), true
            )
            and (l.feature_id is null or l.feature_id = e.feature)
            and (l.passport_id is null or l.passport_id = e.passport_id)
        group by l.organization_id, l.id
    ) as n;
    if v_counts is not null then
        perform billing.add_to_counters(v_counts);
    end if;
end
$$;

-- billing.debt_allowed: how much a customer may owe after using a feature, in µ$.
create function billing.debt_allowed(p_organization_id uuid, p_plan_id text, p_feature text)
returns bigint
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        (
            select p.allow_debt_micros
            from billing.usage_policies as p
            where (p.organization_id is null or p.organization_id = p_organization_id)
                and (p.plan_id is null or p.plan_id = p_plan_id)
                and (p.feature is null or p.feature = p_feature)
            order by
                p.organization_id is not null desc, p.plan_id is not null desc,
                p.feature is not null desc
            limit 1
        ),
        0
    );
end
$$;

create type billing.entitlement_check as (
    feature_id text,
    kind billing.feature_kind,
    is_allowed boolean,
    reason text,
    value jsonb,
    meter text,
    used numeric,
    limit_quantity numeric,
    remaining numeric,
    period billing.usage_period,
    enforcement billing.enforcement,
    resets_at timestamptz
);
comment on type billing.entitlement_check is
'Whether a feature may be used now, and why not; its value; how much of its limit is used. kind:
null where it is not listed.';

-- billing.has_spent_cap: whether nothing may be spent any more by an organization or a passport.
create function billing.has_spent_cap(
    p_organization_id uuid, p_passport_id uuid, p_now timestamptz
)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return exists (
        select
        from billing.spend_caps as s
        cross join lateral (select billing.period_start(s.period, p_now) as starts_at) as t
        left join billing.usage_counters as c
            on c.organization_id = s.organization_id
            and c.limit_id = s.id
            and c.starts_at = t.starts_at
        where s.organization_id = p_organization_id
            and (s.passport_id is null or s.passport_id = p_passport_id)
            and s.cap_micros * 0.000001 <= coalesce(
                c.quantity,
                billing.used(
                    p_organization_id, null, s.passport_id, null, s.period, t.starts_at
                )
            )
    );
end
$$;

-- billing.check_feature: whether an organization may use p_quantity (null: any) of a feature by a
-- passport (null: any) now.
--
-- Whether there is money is asked of what may cost some: not of boolean and static features.
create function billing.check_feature(
    p_organization_id uuid,
    p_passport_id uuid,
    p_feature_id text,
    p_quantity numeric,
    p_now timestamptz
)
returns billing.entitlement_check
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_check billing.entitlement_check;
begin
    -- On the path of every call of a gateway: it is one statement, of rows that are found by key.
    select
        p_feature_id,
        e.kind,
        null,
        case
            when o.closed_at is not null then 'organization_closed'
            when not e.is_granted then 'feature_not_granted'
            when e.enforcement = 'hard' and (
                u.used + p_quantity > e.limit_quantity
                or p_quantity is null and u.used >= e.limit_quantity
            )
                then 'limit_reached'
            when e.kind <> 'metered' then null
            when billing.has_spent_cap(o.id, p_passport_id, p_now) then 'spend_cap_reached'
            when w.debt_micros > 0
                and w.debt_micros > billing.debt_allowed(o.id, o.plan_id, p_feature_id)
                then 'debt_outstanding'
            when w.settled_micros <= w.held_micros
                and w.debt_micros >= billing.debt_allowed(o.id, o.plan_id, p_feature_id)
                then 'insufficient_credits'
        end,
        e.value,
        e.meter,
        u.used,
        e.limit_quantity,
        case when e.limit_quantity is not null then greatest(e.limit_quantity - u.used, 0) end,
        e.period,
        e.enforcement,
        billing.period_end(e.period, s.starts_at)
    into v_check
    from billing.organizations as o
    inner join billing.wallets as w on w.organization_id = o.id
    left join api.entitlements as e on e.organization_id = o.id and e.feature_id = p_feature_id
    left join billing.usage_counters as c
        on c.organization_id = o.id and c.limit_id = e.limit_id
    cross join lateral (select billing.period_start(e.period, p_now) as starts_at) as s
    cross join lateral (
        select case
            when c.starts_at = s.starts_at then c.quantity
            when e.meter is not null
                then billing.used(o.id, p_feature_id, null, e.meter, e.period, s.starts_at)
        end as used
        offset 0
    ) as u
    where o.id = p_organization_id;
    v_check.is_allowed := v_check.reason is null;
    return v_check;
end
$$;

-- api.check_entitlement: whether the caller, or the customer and the passport that an operator
-- names, may use p_quantity (null: any) of a feature now, and why not; null for p_feature_id: of
-- every feature that is listed. It changes nothing: what is recorded is checked again.
--
-- Raises  FG404 organization_not_found
create function api.check_entitlement(
    p_caller jsonb,
    p_organization_id uuid,
    p_passport_id uuid,
    p_feature_id text,
    p_quantity numeric
)
returns setof billing.entitlement_check
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(
        p_caller, case when p_organization_id is null then 'read' else 'admin' end
    );
    v_organization_id uuid := coalesce(p_organization_id, v_caller.organization_id);
    v_passport_id uuid := case
        when p_organization_id is not null then p_passport_id
        when v_caller.actor like 'passport:%' then substr(v_caller.actor, 10)::uuid
    end;
    v_check billing.entitlement_check;
begin
    if p_organization_id is not null then
        perform billing.find_customer(p_organization_id);
    end if;
    if p_feature_id is not null then
        v_check := billing.check_feature(
            v_organization_id, v_passport_id, p_feature_id, p_quantity, billing.now()
        );
        return next v_check;
        return;
    end if;
    return query
    select c.*
    from billing.features as f
    cross join lateral billing.check_feature(
        v_organization_id, v_passport_id, f.id, p_quantity, billing.now()
    ) as c
    order by f.id;
end
$$;
grant execute on function api.check_entitlement to service_role, faregate_functions;
comment on function api.check_entitlement is
'Tells whether a feature may be used now, how much of it is left, and why not.';

-- api.list_features: all features. For operators.
create function api.list_features(p_caller jsonb)
returns setof api.features
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.authenticate(p_caller, 'admin');
    return query
    select f.* from api.features as f order by f.id;
end
$$;
grant execute on function api.list_features to service_role, faregate_functions;
comment on function api.list_features is 'Lists features and what plans say of them.';

-- billing.check_terms: what is said of a feature is what its kind has.
--
-- Raises  FG400 terms_not_of_kind
create function billing.check_terms(p_feature_id text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select
        from billing.features as f
        cross join lateral (
            select e.value, e.meter
            from billing.plan_entitlements as e
            where e.feature_id = f.id
            union all
            select e.value, e.meter
            from billing.entitlements as e
            where e.feature_id = f.id
        ) as t
        where f.id = p_feature_id
            and (
                t.value is not null and f.kind <> 'static'
                or t.meter is not null and f.kind <> 'metered'
            )
    ) then
        raise exception using errcode = 'FG400', message = 'terms_not_of_kind';
    end if;
end
$$;

-- api.set_feature: list a feature, or change it, with what every plan says of it: {plan: terms};
-- terms: {is_granted, value, meter, period, limit_quantity, enforcement}. Plans that are not named
-- do not have it.
--
-- Raises  FG400 plan_unknown, FG400 terms_not_of_kind
-- Locks   the feature.
create function api.set_feature(
    p_caller jsonb,
    p_feature_id text,
    p_kind text,
    p_description text,
    p_plans jsonb
)
returns setof api.features
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
begin
    if exists (
        select from jsonb_object_keys(p_plans) as n (plan_id)
        where not exists (select from billing.plans as p where p.id = n.plan_id)
    ) then
        raise exception using errcode = 'FG400', message = 'plan_unknown';
    end if;
    insert into billing.features (id, kind, description)
    values (p_feature_id, p_kind::billing.feature_kind, p_description)
    on conflict (id) do update set kind = excluded.kind, description = excluded.description;
    delete from billing.plan_entitlements as e
    where e.feature_id = p_feature_id and not p_plans ? e.plan_id;
    insert into billing.plan_entitlements as e (
        plan_id, feature_id, is_granted, value, meter, period, limit_quantity, enforcement
    )
    select
        n.key, p_feature_id, t.is_granted, t.value, t.meter, t.period, t.limit_quantity,
        t.enforcement
    from jsonb_each(p_plans) as n
    cross join lateral jsonb_populate_record(
        null::billing.plan_entitlements, jsonb_strip_nulls(n.value)
    ) as t
    on conflict (plan_id, feature_id) do update
    set
        -- Said again, it goes on counting.
        limit_id = case
            when (e.meter, e.period, e.limit_quantity, e.enforcement)
                is not distinct from (
                    excluded.meter, excluded.period, excluded.limit_quantity, excluded.enforcement
                )
                and e.is_granted = excluded.is_granted
                then e.limit_id
            else excluded.limit_id
        end,
        is_granted = excluded.is_granted,
        value = excluded.value,
        meter = excluded.meter,
        period = excluded.period,
        limit_quantity = excluded.limit_quantity,
        enforcement = excluded.enforcement;
    perform billing.check_terms(p_feature_id);
    insert into billing.audit_log (organization_id, actor, action, detail)
    values (
        v_caller.organization_id, v_caller.actor, 'set_feature',
        jsonb_build_object('feature', p_feature_id, 'kind', p_kind, 'plans', p_plans)
    );
    return query
    select f.* from api.features as f where f.id = p_feature_id;
end
$$;
grant execute on function api.set_feature to service_role, faregate_functions;
comment on function api.set_feature is
'Lists a feature with what each plan says of it, for an operator.';

-- api.delete_feature: a feature is listed no more: it is open to everybody. False: it was not.
create function api.delete_feature(p_caller jsonb, p_feature_id text)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
begin
    -- First: meanwhile nobody is granted it.
    perform from billing.features as f where f.id = p_feature_id for update;
    delete from billing.plan_entitlements as e where e.feature_id = p_feature_id;
    delete from billing.entitlements as e where e.feature_id = p_feature_id;
    delete from billing.features as f where f.id = p_feature_id;
    if not found then
        return false;
    end if;
    insert into billing.audit_log (organization_id, actor, action, detail)
    values (
        v_caller.organization_id, v_caller.actor, 'delete_feature',
        jsonb_build_object('feature', p_feature_id)
    );
    return true;
end
$$;
grant execute on function api.delete_feature to service_role, faregate_functions;
comment on function api.delete_feature is 'Opens a feature to everybody, for an operator.';

-- api.set_entitlement: a customer's own terms of a feature; null for p_terms: those of their plan.
--
-- Raises  FG404 organization_not_found, FG404 feature_not_found, FG409 organization_closed,
--         FG400 terms_not_of_kind
-- Locks   the organization, the feature, the wallet.
create function api.set_entitlement(
    p_caller jsonb, p_organization_id uuid, p_feature_id text, p_terms jsonb
)
returns setof api.entitlements
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
begin
    perform billing.find_customer(p_organization_id);
    perform billing.lock_organization(p_organization_id);
    perform from billing.features as f where f.id = p_feature_id for share;
    if not found then
        raise exception using errcode = 'FG404', message = 'feature_not_found';
    end if;
    perform from billing.wallets as w
    where w.organization_id = p_organization_id
    for no key update;
    delete from billing.entitlements as e
    where e.organization_id = p_organization_id and e.feature_id = p_feature_id;
    insert into billing.entitlements (
        organization_id, feature_id, is_granted, value, meter, period, limit_quantity, enforcement
    )
    select
        p_organization_id, p_feature_id, t.is_granted, t.value, t.meter, t.period,
        t.limit_quantity, t.enforcement
    from jsonb_populate_record(null::billing.entitlements, jsonb_strip_nulls(p_terms)) as t
    where p_terms is not null;
    perform billing.check_terms(p_feature_id);
    perform billing.forget_counters(p_organization_id);
    insert into billing.audit_log (organization_id, actor, action, detail)
    values (
        p_organization_id, v_caller.actor, 'set_entitlement',
        jsonb_build_object('feature', p_feature_id, 'terms', p_terms)
    );
    return query
    select e.*
    from api.entitlements as e
    where e.organization_id = p_organization_id and e.feature_id = p_feature_id;
end
$$;
grant execute on function api.set_entitlement to service_role, faregate_functions;
comment on function api.set_entitlement is
'Gives a customer terms of their own for a feature, or their plan''s again, for an operator.';

-- api.list_spend_caps: the caps of the caller's organization, or of the customer that an operator
-- names, and what of each is spent.
--
-- Raises  FG404 organization_not_found
create function api.list_spend_caps(p_caller jsonb, p_organization_id uuid)
returns table (cap api.spend_caps, spent_micros bigint, resets_at timestamptz)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_organization_id uuid := billing.authenticate_reader(p_caller, p_organization_id);
    v_now timestamptz := billing.now();
begin
    return query
    select
        c,
        floor(
            1000000 * coalesce(
                k.quantity,
                billing.used(v_organization_id, null, c.passport_id, null, c.period, s.starts_at)
            )
        )::bigint,
        billing.period_end(c.period, s.starts_at)
    from api.spend_caps as c
    cross join lateral (select billing.period_start(c.period, v_now) as starts_at) as s
    left join billing.usage_counters as k
        on k.organization_id = v_organization_id
        and k.limit_id = c.id
        and k.starts_at = s.starts_at
    where c.organization_id = v_organization_id
    order by c.passport_id nulls first, c.period, c.is_operators;
end
$$;
grant execute on function api.list_spend_caps to service_role, faregate_functions;
comment on function api.list_spend_caps is 'Lists spend caps and what of each is spent.';

-- billing.authenticate_capper: whose caps a caller sets: those of their own organization, or as an
-- operator those of the customer they name.
--
-- Raises  as billing.authenticate, FG404 organization_not_found, FG409 organization_closed
-- Locks   the organization, the wallet.
create function billing.authenticate_capper(p_caller jsonb, p_organization_id uuid)
returns billing.caller
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(
        p_caller, case when p_organization_id is null then 'billing' else 'admin' end
    );
begin
    if p_organization_id is not null then
        perform billing.find_customer(p_organization_id);
        v_caller.organization_id := p_organization_id;
    end if;
    perform billing.lock_organization(v_caller.organization_id);
    perform from billing.wallets as w
    where w.organization_id = v_caller.organization_id
    for no key update;
    return v_caller;
end
$$;

-- api.set_spend_cap: from now on usage costs no more in a period: that of a passport, or null for
-- p_passport_id, of the whole organization. An operator who names a customer sets a cap that the
-- customer cannot change.
--
-- Raises  FG404 organization_not_found, FG404 passport_not_found, FG409 organization_closed
-- Locks   the organization, the wallet.
create function api.set_spend_cap(
    p_caller jsonb,
    p_organization_id uuid,
    p_passport_id uuid,
    p_period text,
    p_cap_micros bigint
)
returns setof api.spend_caps
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate_capper(p_caller, p_organization_id);
begin
    if p_passport_id is not null and not exists (
        select from billing.passports as p
        where p.organization_id = v_caller.organization_id and p.id = p_passport_id
    ) then
        raise exception using errcode = 'FG404', message = 'passport_not_found';
    end if;
    insert into billing.spend_caps (
        organization_id, passport_id, period, cap_micros, is_operators, set_by
    )
    values (
        v_caller.organization_id, p_passport_id, p_period::billing.usage_period, p_cap_micros,
        p_organization_id is not null, v_caller.actor
    )
    on conflict on constraint spend_caps_scope_key do update
    set id = excluded.id, cap_micros = excluded.cap_micros, set_by = excluded.set_by;
    perform billing.forget_counters(v_caller.organization_id);
    insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
    values (
        v_caller.organization_id, v_caller.actor, 'set_spend_cap', p_passport_id,
        jsonb_build_object('period', p_period, 'cap_micros', p_cap_micros)
    );
    return query
    select c.*
    from api.spend_caps as c
    where c.organization_id = v_caller.organization_id
        and c.passport_id is not distinct from p_passport_id
        and c.period = p_period::billing.usage_period
        and c.is_operators = (p_organization_id is not null);
end
$$;
grant execute on function api.set_spend_cap to service_role, faregate_functions;
comment on function api.set_spend_cap is
'Caps what usage costs an organization, or one of its passports, in a period.';

-- billing.inherit_spend_caps: what follows a passport may cost as much as that might.
create function billing.inherit_spend_caps(
    p_organization_id uuid, p_passport_id uuid, p_successor_id uuid, p_set_by text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.spend_caps (
        organization_id, passport_id, period, cap_micros, is_operators, set_by
    )
    select c.organization_id, p_successor_id, c.period, c.cap_micros, c.is_operators, p_set_by
    from billing.spend_caps as c
    where c.organization_id = p_organization_id and c.passport_id = p_passport_id;
end
$$;

-- api.delete_spend_cap: a cap of the caller's organization, or of the customer that an operator
-- names, ends.
--
-- Raises  FG404 organization_not_found, FG404 spend_cap_not_found, FG409 organization_closed
-- Locks   the organization, the wallet.
create function api.delete_spend_cap(p_caller jsonb, p_organization_id uuid, p_cap_id uuid)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate_capper(p_caller, p_organization_id);
begin
    delete from billing.spend_caps as c
    where c.organization_id = v_caller.organization_id
        and c.id = p_cap_id
        and c.is_operators = (p_organization_id is not null);
    if not found then
        raise exception using errcode = 'FG404', message = 'spend_cap_not_found';
    end if;
    perform billing.forget_counters(v_caller.organization_id);
    insert into billing.audit_log (organization_id, actor, action, subject_id)
    values (v_caller.organization_id, v_caller.actor, 'delete_spend_cap', p_cap_id);
    return true;
end
$$;
grant execute on function api.delete_spend_cap to service_role, faregate_functions;
comment on function api.delete_spend_cap is 'Ends a spend cap.';
