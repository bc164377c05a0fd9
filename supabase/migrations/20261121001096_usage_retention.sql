-- Retention: months of events are made ahead, and go to files when they are old.
--
-- A month is written to files of about equal size, in the order of its key. A file counts when what
-- it has was read back from the bucket, and when all of a month is in files, its partition
-- goes. What was sent is never rated again, and no event comes to a month that is over: so no file
-- ever misses any. The sums of each organization stay (usage_archives), so that the books can be
-- verified; days and natural keys stay as they are.

create table billing.usage_retention (
    is_only boolean primary key default true,
    keep_months integer default 13,
    constraint usage_retention_is_one_row check (is_only),
    constraint usage_retention_is_positive check (keep_months > 0)
);
alter table billing.usage_retention enable row level security;
insert into billing.usage_retention default values;
comment on table billing.usage_retention is 'For how long events are kept: one row.';
comment on column billing.usage_retention.is_only is 'True.';
comment on column billing.usage_retention.keep_months is
'So many months before the current one stay in the database; null: all do, forever.';

create table billing.usage_archived_months (
    month date primary key,
    archived_at timestamptz not null default billing.now()
);
alter table billing.usage_archived_months enable row level security;
comment on table billing.usage_archived_months is 'Months whose events are in files only.';
comment on column billing.usage_archived_months.month is 'Its first day: when events came (UTC).';
comment on column billing.usage_archived_months.archived_at is 'When they went (UTC).';

create table billing.usage_files (
    month date not null,
    number integer not null,
    object_name text not null,
    last_organization_id uuid not null,
    last_id uuid not null,
    events bigint not null,
    size_bytes bigint not null,
    sha256 text not null,
    written_at timestamptz not null default billing.now(),
    primary key (month, number)
);
alter table billing.usage_files enable row level security;
comment on table billing.usage_files is
'Files of events, each of which was read back from the bucket and found to be right.';
comment on column billing.usage_files.month is 'The month in which its events came (UTC).';
comment on column billing.usage_files.number is 'Of that month: from 1 on.';
comment on column billing.usage_files.object_name is 'What it is called in the bucket.';
comment on column billing.usage_files.last_organization_id is
'Its last event''s organization: files are in the order of organization_id and id.';
comment on column billing.usage_files.last_id is 'Its last event.';
comment on column billing.usage_files.events is 'How many it has.';
comment on column billing.usage_files.size_bytes is 'How large it is, in bytes.';
comment on column billing.usage_files.sha256 is 'What its content hashes to, in hexadecimal.';
comment on column billing.usage_files.written_at is 'When it was found to be right (UTC).';

create table billing.usage_archives (
    organization_id uuid not null,
    month date not null,
    number integer not null,
    feature text not null,
    passport_id uuid not null,
    events bigint not null,
    quantities jsonb not null,
    cost_usd numeric not null,
    price_usd numeric not null,
    primary key (organization_id, month, number, feature, passport_id)
);
alter table billing.usage_archives enable row level security;
comment on table billing.usage_archives is
'The sums of an organization''s events that are in a file, by what books and limits ask for. They
count in place of the events when their month has gone (usage_archived_months). No foreign keys, as
in the ledger.';
comment on column billing.usage_archives.organization_id is 'The organization it belongs to.';
comment on column billing.usage_archives.month is 'The month in which they came (UTC).';
comment on column billing.usage_archives.number is 'Their file: of that month, from 1 on.';
comment on column billing.usage_archives.feature is 'What of the product was used.';
comment on column billing.usage_archives.passport_id is
'The customer''s passport that it was used with; zeros: none was named.';
comment on column billing.usage_archives.events is 'How many there were.';
comment on column billing.usage_archives.quantities is
'How much of each meter; requests are those of events, too, that did not say how many they were.';
comment on column billing.usage_archives.cost_usd is 'What they cost, in USD, exactly.';
comment on column billing.usage_archives.price_usd is 'What they were charged, in USD, exactly.';

create trigger usage_archived_months_append_only
before update or delete on billing.usage_archived_months
for each row execute function billing.refuse_change();
create trigger usage_archived_months_no_truncate before truncate on billing.usage_archived_months
for each statement execute function billing.refuse_change();
create trigger usage_files_append_only before update or delete on billing.usage_files
for each row execute function billing.refuse_change();
create trigger usage_files_no_truncate before truncate on billing.usage_files
for each statement execute function billing.refuse_change();

-- billing.month_to_archive: the oldest month of events that has to go to files and can: all of it
-- is in usage_days, and none of it waits for a person.
create function billing.month_to_archive()
returns date
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select m.month
        from (
            select to_date(right(i.inhrelid::regclass::text, 7), 'YYYY_MM') as month
            from pg_catalog.pg_inherits as i
            where i.inhparent = 'billing.usage_events'::regclass
        ) as m
        cross join billing.usage_retention as r
        where m.month < (
                date_trunc('month', billing.now() at time zone 'UTC')
                - make_interval(months => r.keep_months)
            )
            and billing.first_id_of((m.month + interval '1 month') at time zone 'UTC')
            <= billing.usage_folded_to()
            and not exists (
                select from billing.usage_events as e
                where e.review is not null
                    and e.id >= billing.first_id_of(m.month::timestamp at time zone 'UTC')
                    and e.id < billing.first_id_of(
                        (m.month + interval '1 month') at time zone 'UTC'
                    )
            )
        order by m.month
        limit 1
    );
end
$$;

-- billing.usage_after: the events of a month after this one, in the order of their key.
create function billing.usage_after(
    p_month date, p_organization_id uuid, p_id uuid, p_limit integer
)
returns setof billing.usage_events
language plpgsql
stable
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_custom_plan
set enable_seqscan = off
set enable_bitmapscan = off
as $$
begin
    return query
    select e.*
    from billing.usage_events as e
    where e.id >= billing.first_id_of(p_month::timestamp at time zone 'UTC')
        and e.id < billing.first_id_of((p_month + interval '1 month') at time zone 'UTC')
        and (e.organization_id, e.id) > (p_organization_id, p_id)
    order by e.organization_id, e.id
    limit p_limit;
end
$$;

-- api.create_usage_months: have partitions for this month and the twelve after it.
--
-- Locks   usage_events, alone, when there is one to make: once a month.
create function api.create_usage_months()
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    call billing.create_usage_months((billing.now() at time zone 'UTC')::date, 13);
    return true;
end
$$;
grant execute on function api.create_usage_months to service_role, faregate_functions;
comment on function api.create_usage_months is
'Makes the partitions of events for a year ahead, where they are missing.';

-- api.start_usage_file: the next file to be written of the oldest month that has to go: where its
-- events begin, after those of the file before. No row: there is none. is_last: no event is left,
-- the month can go.
create function api.start_usage_file()
returns table (
    month date,
    number integer,
    after_organization_id uuid,
    after_id uuid,
    is_last boolean
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    month := billing.month_to_archive();
    if month is null then
        return;
    end if;
    select f.number, f.last_organization_id, f.last_id
    into number, after_organization_id, after_id
    from billing.usage_files as f
    where f.month = start_usage_file.month
    order by f.number desc
    limit 1;
    number := coalesce(number, 0) + 1;
    after_organization_id := coalesce(after_organization_id, billing.zeros());
    after_id := coalesce(after_id, billing.zeros());
    is_last := not exists (
        select from billing.usage_after(month, after_organization_id, after_id, 1)
    );
    return next;
end
$$;
grant execute on function api.start_usage_file to service_role, faregate_functions;
comment on function api.start_usage_file is
'Tells which events have to go to a file next.';

-- api.list_usage_file: a page of a month's events, after this one. Numbers are text, exactly.
create function api.list_usage_file(
    p_month date, p_organization_id uuid, p_id uuid, p_limit integer
)
returns table (
    organization_id uuid,
    id uuid,
    source text,
    event_id text,
    occurred_at timestamptz,
    feature text,
    provider_id text,
    model text,
    passport_id uuid,
    quantities text,
    cost_usd text,
    price_usd text,
    provider_price_id uuid,
    usage_rate_id uuid,
    sequence bigint,
    corrects_id uuid,
    counted smallint,
    priced_by text
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        e.organization_id, e.id, e.source, e.event_id, e.occurred_at, e.feature, e.provider_id,
        e.model, e.passport_id, e.quantities::text, e.cost_usd::text, e.price_usd::text,
        e.provider_price_id, e.usage_rate_id, e.sequence, e.corrects_id, e.counted, e.priced_by
    from billing.usage_after(p_month, p_organization_id, p_id, p_limit) as e;
end
$$;
grant execute on function api.list_usage_file to service_role, faregate_functions;
comment on function api.list_usage_file is 'Pages through the events of a month that has to go.';

-- api.finish_usage_file: a file was written, and this is what was read back from the bucket: note
-- it if it is what these events are. false: it is not, or the file was noted already.
--
-- Locks   usage_retention: one at a time.
create function api.finish_usage_file(
    p_month date,
    p_number integer,
    p_object_name text,
    p_events bigint,
    p_cost_usd text,
    p_price_usd text,
    p_size_bytes bigint,
    p_sha256 text
)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_next record;
    v_is_right boolean;
begin
    perform from billing.usage_retention as r for no key update;
    select s.* into v_next from api.start_usage_file() as s;
    if (v_next.month, v_next.number) is distinct from (p_month, p_number) then
        return false;
    end if;
    with events as materialized (
        select e.*
        from billing.usage_after(
            p_month, v_next.after_organization_id, v_next.after_id, p_events::integer
        ) as e
    ),
    verdict as materialized (
        select
            count(*) = p_events
            and p_events > 0
            and sum(e.cost_usd) = p_cost_usd::numeric
            and sum(e.price_usd) = p_price_usd::numeric as is_right
        from events as e
    ),
    noted as (
        insert into billing.usage_files (
            month, number, object_name, last_organization_id, last_id, events, size_bytes, sha256
        )
        select
            p_month, p_number, p_object_name, e.organization_id, e.id, p_events, p_size_bytes,
            p_sha256
        from (
            select c.organization_id, c.id
            from events as c
            order by c.organization_id desc, c.id desc
            limit 1
        ) as e
        inner join verdict as v on v.is_right
    ),
    parts as (
        select
            e.organization_id,
            e.feature,
            coalesce(e.passport_id, billing.zeros()) as passport_id,
            p.meter,
            sum(p.events) as events,
            sum(p.cost_usd) as cost_usd,
            sum(p.price_usd) as price_usd,
            sum(p.quantity) as quantity
        from events as e
        inner join verdict as v on v.is_right
        cross join lateral billing.usage_parts(
            e.counted,
            e.cost_usd,
            e.price_usd,
            e.quantities || jsonb_build_object(
                'requests', billing.counted('requests', e.quantities, null, e.counted)
            )
        ) as p
        group by 1, 2, 3, 4
    ),
    kept as (
        insert into billing.usage_archives (
            organization_id, month, number, feature, passport_id, events, quantities, cost_usd,
            price_usd
        )
        select
            p.organization_id, p_month, p_number, p.feature, p.passport_id, sum(p.events),
            jsonb_object_agg(p.meter, p.quantity) filter (where p.meter <> ''),
            sum(p.cost_usd), sum(p.price_usd)
        from parts as p
        group by p.organization_id, p.feature, p.passport_id
    )
    select v.is_right into v_is_right
    from verdict as v;
    return coalesce(v_is_right, false);
end
$$;
grant execute on function api.finish_usage_file to service_role, faregate_functions;
comment on function api.finish_usage_file is
'Notes a file of events, if what was read back from the bucket is what they are.';

-- api.finish_usage_month: all events of a month are in files: take it out of the database. false:
-- they are not, or it has gone.
--
-- Locks   usage_retention; usage_events, alone, for the moment that it takes to detach a partition.
create function api.finish_usage_month(p_month date)
returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_partition text := 'usage_events_' || to_char(p_month, 'YYYY_MM');
    v_next record;
begin
    perform from billing.usage_retention as r for no key update;
    select s.* into v_next from api.start_usage_file() as s;
    if v_next.month is distinct from p_month or not v_next.is_last then
        return false;
    end if;
    insert into billing.usage_archived_months (month) values (p_month);
    execute format('alter table billing.usage_events detach partition partitions.%I', v_partition);
    execute format('drop table partitions.%I', v_partition);
    return true;
end
$$;
grant execute on function api.finish_usage_month to service_role, faregate_functions;
comment on function api.finish_usage_month is
'Takes a month of events out of the database, all of which are in files.';
