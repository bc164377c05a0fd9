-- Presets: sessions for a purpose, by name: a size, a time, and what their workspace must have.

create table billing.presets (
    id text primary key,
    title text not null,
    tier text not null,
    minutes integer not null,
    storage_kind billing.storage_kind,
    storage_gb integer,
    space text,
    is_open boolean not null default true,
    constraint presets_id_is_a_word check (id ~ '^[a-z][a-z0-9-]{1,30}$'),
    constraint presets_title_length check (char_length(title) between 1 and 100),
    constraint presets_tier_is_known check (tier in ('small', 'medium', 'large', 'xlarge', 'gpu')),
    constraint presets_minutes_in_bounds check (minutes between 1 and 31 * 24 * 60),
    constraint presets_storage_is_whole check (num_nulls(storage_kind, storage_gb) in (0, 2)),
    constraint presets_storage_positive check (storage_gb > 0)
);
alter table billing.presets enable row level security;
comment on table billing.presets is
'What sessions can be started by name. A row more is a preset more.';
comment on column billing.presets.id is 'What customers call it.';
comment on column billing.presets.title is 'What it is called in a list.';
comment on column billing.presets.tier is 'How large its session is.';
comment on column billing.presets.minutes is 'After so many minutes its session ends by itself.';
comment on column billing.presets.storage_kind is
'Which kind of storage its workspace must have; null: none.';
comment on column billing.presets.storage_gb is 'Of at least so many GB.';
comment on column billing.presets.space is
'Which space its workspace must have, by its slug; null: none.';
comment on column billing.presets.is_open is 'Whether something new can be started by it.';

insert into billing.presets (id, title, tier, minutes, storage_kind, storage_gb, space)
values
('notebook', 'A notebook for an hour', 'small', 60, null, null, null),
('analysis', 'A working day with data', 'medium', 480, 'bucket', 10, 'data-science'),
('web', 'An afternoon of web development', 'small', 240, null, null, 'web-dev'),
('training', 'Training a model', 'gpu', 240, 'bucket', 50, 'ml-ready'),
('paper', 'Research with shared files', 'large', 480, 'filestore', 1024, 'research');

-- billing.find_preset: the preset of this name, for a session of p_seconds (null: all its minutes).
--
-- Raises  FG404 preset_not_found
--         FG400 preset_exceeded   it is for shorter sessions; detail: max_seconds
create function billing.find_preset(p_preset text, p_seconds integer)
returns billing.presets
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_preset billing.presets;
begin
    select p.* into v_preset from billing.presets as p where p.id = p_preset and p.is_open;
    if not found then
        raise exception using errcode = 'FG404', message = 'preset_not_found';
    elsif p_seconds > v_preset.minutes * 60 then
        raise exception using
            errcode = 'FG400',
            message = 'preset_exceeded',
            detail = jsonb_build_object('max_seconds', v_preset.minutes * 60)::text;
    end if;
    return v_preset;
end
$$;

-- billing.preset_gaps: what of a preset's storage and space a workspace lacks; null where it lacks
-- nothing. What the money ran out for can only be read, and is lacking.
create function billing.preset_gaps(
    p_organization_id uuid, p_workspace_id uuid, p_preset billing.presets
)
returns table (storage_kind billing.storage_kind, storage_gb integer, space text)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from billing.storage as s
    where s.organization_id = p_organization_id
        and s.workspace_id = p_workspace_id
        and s.kind = p_preset.storage_kind
        and s.size_gb >= p_preset.storage_gb
        and s.status in ('ready', 'grace');
    if not found then
        storage_kind := p_preset.storage_kind;
        storage_gb := p_preset.storage_gb;
    end if;
    perform from billing.attachments as a
    where a.organization_id = p_organization_id
        and a.workspace_id = p_workspace_id
        and a.slug = p_preset.space;
    if not found then
        space := p_preset.space;
    end if;
    return next;
end
$$;

-- billing.require_preset_contents: a workspace has the storage and the space that a preset names.
--
-- Raises  FG409 preset_incomplete  detail: storage_kind, storage_gb, space: what is missing
-- Locks   nothing: the caller has locked the workspace.
create function billing.require_preset_contents(
    p_organization_id uuid, p_workspace_id uuid, p_preset text
)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_gaps record;
begin
    select g.* into strict v_gaps
    from billing.presets as p
    cross join lateral billing.preset_gaps(p_organization_id, p_workspace_id, p) as g
    where p.id = p_preset;
    if num_nonnulls(v_gaps.storage_kind, v_gaps.space) > 0 then
        raise exception using
            errcode = 'FG409', message = 'preset_incomplete', detail = to_jsonb(v_gaps)::text;
    end if;
end
$$;

-- billing.price_preset: what a preset costs on a plan: its session for all its minutes, its storage
-- for a month, its space once. Null where the plan has no price.
create function billing.price_preset(
    p_plan_id text, p_preset billing.presets, p_now timestamptz
)
returns table (
    hourly_price_micros bigint,
    cost_micros bigint,
    storage_month_cost_micros bigint,
    space_price_micros bigint
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    select p.price_micros into hourly_price_micros
    from billing.price_at(p_plan_id, 'session.' || p_preset.tier, p_now) as p;
    cost_micros := billing.session_cost(
        hourly_price_micros, p_now, p_now + make_interval(mins => p_preset.minutes)
    );
    select p.price_micros * p_preset.storage_gb into storage_month_cost_micros
    from billing.price_at(p_plan_id, 'storage.' || p_preset.storage_kind, p_now) as p;
    select p.price_micros into space_price_micros
    from billing.price_at(p_plan_id, 'space.' || p_preset.space, p_now) as p;
    return next;
end
$$;

-- billing.estimate_preset: a preset's tier and seconds (p_seconds null: all its minutes), and what
-- is still to be paid besides its session: the storage's price for a month and for the window that
-- is held, and the space's. Null: none is needed, or it is there.
--
-- Raises  FG404 preset_not_found, FG400 preset_exceeded, FG400 region_not_offered,
--         FG403 storage_not_allowed, FG400 size_not_allowed
create function billing.estimate_preset(
    p_organization_id uuid,
    p_workspace_id uuid,
    p_plan billing.plans,
    p_preset text,
    p_seconds integer,
    p_now timestamptz
)
returns table (
    tier text,
    seconds integer,
    storage_kind text,
    storage_gb integer,
    storage_month_cost_micros bigint,
    storage_required_micros bigint,
    space text,
    space_price_micros bigint
)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_preset billing.presets := billing.find_preset(p_preset, p_seconds);
    v_price record;
    v_gaps record;
begin
    tier := v_preset.tier;
    seconds := coalesce(p_seconds, v_preset.minutes * 60);
    select p.* into strict v_price from billing.price_preset(p_plan.id, v_preset, p_now) as p;
    select g.* into strict v_gaps
    from billing.preset_gaps(p_organization_id, p_workspace_id, v_preset) as g;
    if v_gaps.storage_kind is not null then
        perform billing.refuse_storage(
            p_plan.id, v_gaps.storage_kind, billing.default_region(v_gaps.storage_kind),
            v_gaps.storage_gb
        );
        storage_kind := v_gaps.storage_kind;
        storage_gb := v_gaps.storage_gb;
        storage_month_cost_micros := v_price.storage_month_cost_micros;
        storage_required_micros := billing.window_cost(
            1, v_price.storage_month_cost_micros, p_plan.storage_window_seconds
        );
    end if;
    if v_gaps.space is not null and not exists (
        select from billing.spaces as s
        where s.slug = v_gaps.space
            and s.published_at is not null
            and billing.owns_space(p_organization_id, s.id)
    ) then
        space := v_gaps.space;
        space_price_micros := v_price.space_price_micros;
    end if;
    return next;
end
$$;

-- api.list_presets: what sessions can be started by name, what each costs the caller, and whether
-- their plan allows its session and its storage.
create function api.list_presets(p_caller jsonb)
returns table (
    id text,
    title text,
    tier text,
    minutes integer,
    storage_kind text,
    storage_gb integer,
    space text,
    hourly_price_micros bigint,
    cost_micros bigint,
    storage_month_cost_micros bigint,
    space_price_micros bigint,
    is_allowed boolean
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
    v_now timestamptz := billing.now();
begin
    return query
    select
        p.id, p.title, p.tier, p.minutes, p.storage_kind::text, p.storage_gb, p.space, c.*,
        c.cost_micros is not null
        and p.tier = any(l.allowed_tiers)
        and (
            p.storage_kind is null
            or exists (
                select from billing.storage_limits as m
                where m.plan_id = l.id and m.kind = p.storage_kind and m.max_gb >= p.storage_gb
            )
        )
    from billing.presets as p
    inner join billing.plans as l on l.id = v_caller.plan_id
    cross join lateral billing.price_preset(l.id, p, v_now) as c
    where p.is_open
    order by p.id;
end
$$;
grant execute on function api.list_presets to service_role, faregate_functions;
comment on function api.list_presets is
'Lists what sessions can be started by name, and what each costs the caller.';
