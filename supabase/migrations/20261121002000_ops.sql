-- What operators look at, in the Supabase dashboard or by any client of the owner's.
--
-- Ordinary views: they run with their owner's rights, and nobody else has any right here. PostgREST
-- does not serve this schema. Amounts stand twice: in µ$ to reckon with (_micros), in USD to read
-- (_usd), the same to the last digit. Days and times are UTC.

create schema ops;
comment on schema ops is
'What operators look at: revenue, margin, what runs dry, what is stuck, what disagrees. Nobody but
the owner of the database has any right here.';

-- ops.usd: micro-dollars as dollars, exactly.
create function ops.usd(p_micros bigint)
returns numeric
language sql
immutable parallel safe
return p_micros * 0.000001;

-- ops.day: the day (UTC) of a moment.
create function ops.day(p_at timestamptz)
returns date
language sql
immutable parallel safe
return (p_at at time zone 'UTC')::date;

-- ops.age_seconds: how long ago a moment was.
create function ops.age_seconds(p_at timestamptz)
returns bigint
language sql
volatile parallel safe
return extract(epoch from billing.now() - p_at)::bigint;

-- ops.revenue_kind: what an account's revenue is for; null: it is no account of revenue.
create function ops.revenue_kind(p_account billing.account)
returns text
language sql
immutable parallel safe
return case p_account
    when 'revenue_sessions' then 'sessions'
    when 'revenue_usage' then 'usage'
    when 'revenue_storage' then 'storage'
    when 'revenue_spaces' then 'spaces'
end;

-- How many days and kinds there are: not knowing it, Postgres sorts the whole ledger.
create statistics ops.transfers_by_day (ndistinct)
on ops.day(created_at), ops.revenue_kind(credit_account) from billing.transfers;

create view ops.revenue_by_day as
with days as (
    select
        ops.day(t.created_at) as day,
        ops.revenue_kind(t.credit_account) as kind,
        count(*) as charges,
        sum(t.amount_micros)::bigint as amount_micros
    from billing.transfers as t
    where ops.revenue_kind(t.credit_account) is not null
    group by day, kind
)

select
    d.day,
    d.kind,
    d.charges,
    d.amount_micros,
    ops.usd(d.amount_micros) as amount_usd
from days as d
order by d.day desc, d.kind asc;
comment on view ops.revenue_by_day is
'What customers were charged, by day and kind. Adds up the ledger each time it is read: seconds for
ten million transfers.';
comment on column ops.revenue_by_day.day is 'The day (UTC) of the charge.';
comment on column ops.revenue_by_day.kind is
'What was charged for: sessions, usage, storage or spaces.';
comment on column ops.revenue_by_day.charges is 'How many charges there were.';
comment on column ops.revenue_by_day.amount_micros is 'Their sum, in µ$.';
comment on column ops.revenue_by_day.amount_usd is 'Their sum, in USD.';

-- Promotional money is a cost where it paid for something: a charge, or the debt that an earlier
-- charge had left. What is taken back of a bonus that is spent becomes a debt of the customer, who
-- then pays for it after all. So the margin of all days is the money at the provider and what
-- customers owe, less the paid money that wallets still have or that expired.
create view ops.margin_by_day as
with shared as (
    select
        d.organization_id,
        d.sequence,
        sum(d.amount_micros) as promotional_micros
    from billing.draw_downs as d
    inner join billing.grants as g on g.organization_id = d.organization_id and g.id = d.grant_id
    where g.category = 'promotional'
    group by d.organization_id, d.sequence
),

days as (
    select
        ops.day(t.created_at) as day,
        sum(case
            when ops.revenue_kind(t.credit_account) is not null then t.amount_micros
            else 0
        end)::bigint as revenue_micros,
        sum(case
            when t.debit_account = 'debt' and t.credit_account = 'promotion' then -t.amount_micros
            when t.debit_account = 'promotion' and t.credit_account = 'debt' then t.amount_micros
            when t.debit_account <> 'wallet' then 0
            when g.category = 'promotional' then t.amount_micros
            else coalesce(s.promotional_micros, 0)
        end)::bigint as promotional_micros,
        sum(case
            when t.debit_account = 'provider_fees' then t.amount_micros
            when t.credit_account = 'provider_fees' then -t.amount_micros
            else 0
        end)::bigint as provider_fees_micros
    from billing.transfers as t
    left join billing.grants as g on g.organization_id = t.organization_id and g.id = t.grant_id
    left join shared as s on s.organization_id = t.organization_id and s.sequence = t.sequence
    where
        ops.revenue_kind(t.credit_account) is not null
        or t.debit_account in ('debt', 'provider_fees')
        or t.credit_account in ('debt', 'provider_fees')
    group by day
)

select
    d.day,
    d.revenue_micros,
    ops.usd(d.revenue_micros) as revenue_usd,
    d.promotional_micros,
    ops.usd(d.promotional_micros) as promotional_usd,
    d.provider_fees_micros,
    ops.usd(d.provider_fees_micros) as provider_fees_usd,
    d.revenue_micros - d.promotional_micros - d.provider_fees_micros as margin_micros,
    ops.usd(d.revenue_micros - d.promotional_micros - d.provider_fees_micros) as margin_usd
from days as d
order by d.day desc;
comment on view ops.margin_by_day is
'Revenue by day, less what is known to have paid for it: promotional money and the payment
provider''s fees for disputes. What the resources themselves cost is not in it; of storage it is in
storage_cost_by_day, as far as it is known. Adds up the ledger each time it is read.';
comment on column ops.margin_by_day.day is 'The day (UTC) of the transfers.';
comment on column ops.margin_by_day.revenue_micros is 'What customers were charged, in µ$.';
comment on column ops.margin_by_day.revenue_usd is 'What customers were charged, in USD.';
comment on column ops.margin_by_day.promotional_micros is
'What of it bonuses and gifts paid, in µ$: less where a spent bonus was taken back.';
comment on column ops.margin_by_day.promotional_usd is
'What of it bonuses and gifts paid, in USD: less where a spent bonus was taken back.';
comment on column ops.margin_by_day.provider_fees_micros is
'The payment provider''s fees for disputes, in µ$: less where it gave one back.';
comment on column ops.margin_by_day.provider_fees_usd is
'The payment provider''s fees for disputes, in USD: less where it gave one back.';
comment on column ops.margin_by_day.margin_micros is
'Revenue less promotional money and fees, in µ$.';
comment on column ops.margin_by_day.margin_usd is
'Revenue less promotional money and fees, in USD.';

create view ops.organizations as
with running as (
    select
        h.organization_id,
        count(*) as sessions
    from billing.holds as h
    where h.kind = 'session' and h.due_at is not null
    group by h.organization_id
)

select
    o.id as organization_id,
    o.name,
    o.plan_id as plan,
    m.owner_emails,
    o.billing_email,
    w.settled_micros - w.held_micros as available_micros,
    ops.usd(w.settled_micros - w.held_micros) as available_usd,
    w.held_micros,
    ops.usd(w.held_micros) as held_usd,
    w.debt_micros,
    ops.usd(w.debt_micros) as debt_usd,
    p.paid_micros,
    ops.usd(p.paid_micros) as paid_usd,
    p.returned_micros,
    ops.usd(p.returned_micros) as returned_usd,
    coalesce(r.sessions, 0) as running_sessions,
    greatest(o.created_at, t.created_at, u.last_used_at) as last_active_at,
    o.created_at,
    o.claimed_at,
    o.closed_at
from billing.organizations as o
inner join billing.wallets as w on w.organization_id = o.id
left join billing.transfers as t
    on t.organization_id = o.id and t.sequence = w.last_sequence
left join running as r on r.organization_id = o.id
cross join
    lateral (
        select
            coalesce(sum(y.amount_micros), 0)::bigint as paid_micros,
            coalesce(sum(y.refunded_micros + y.disputed_micros), 0)::bigint as returned_micros
        from billing.payments as y
        where y.organization_id = o.id
    ) as p
cross join
    lateral (
        select string_agg(a.email, ', ' order by a.email) as owner_emails
        from billing.members as e
        inner join auth.users as a on a.id = e.user_id
        where e.organization_id = o.id and e.role = 'owner'
    ) as m
cross join lateral (
    select max(s.last_used_at) as last_used_at
    from billing.passport_uses as s
    where s.organization_id = o.id
) as u;
comment on view ops.organizations is
'Every customer: who, what they have, owe and paid, what runs.';
comment on column ops.organizations.organization_id is 'The organization''s id.';
comment on column ops.organizations.name is 'Its name.';
comment on column ops.organizations.plan is 'Its plan.';
comment on column ops.organizations.owner_emails is
'The addresses of its owners; null: nobody has claimed it yet.';
comment on column ops.organizations.billing_email is 'Where its receipts go.';
comment on column ops.organizations.available_micros is 'What it can spend, in µ$.';
comment on column ops.organizations.available_usd is 'What it can spend, in USD.';
comment on column ops.organizations.held_micros is 'What holds keep besides, in µ$.';
comment on column ops.organizations.held_usd is 'What holds keep besides, in USD.';
comment on column ops.organizations.debt_micros is
'What it owes, in µ$: while it owes anything it is frozen.';
comment on column ops.organizations.debt_usd is
'What it owes, in USD: while it owes anything it is frozen.';
comment on column ops.organizations.paid_micros is 'All it ever paid, in µ$.';
comment on column ops.organizations.paid_usd is 'All it ever paid, in USD.';
comment on column ops.organizations.returned_micros is
'What of that went back by refunds and disputes, in µ$.';
comment on column ops.organizations.returned_usd is
'What of that went back by refunds and disputes, in USD.';
comment on column ops.organizations.running_sessions is 'How many of its sessions run.';
comment on column ops.organizations.last_active_at is
'When (UTC) money of it last moved or one of its passports was last used.';
comment on column ops.organizations.created_at is 'When (UTC) it was made.';
comment on column ops.organizations.claimed_at is
'When (UTC) its first owner registered; null: an operator made it and it waits for them.';
comment on column ops.organizations.closed_at is 'When (UTC) it was closed; null: it is open.';

-- Its sessions can spend what is available and what is held for them, less what has run since they
-- were last charged. What other holds keep is promised to others.
create view ops.wallets_running_dry as
with clock as (
    select billing.now() as now_at
),

running as (
    select
        h.organization_id,
        c.now_at,
        sum(s.hourly_price_micros)::bigint as hourly_micros,
        sum(
            h.amount_micros
            - billing.session_cost(s.hourly_price_micros, s.started_at, c.now_at)
        )::bigint as unspent_micros
    from billing.holds as h
    inner join billing.sessions as s on s.organization_id = h.organization_id and s.id = h.id
    cross join clock as c
    where h.kind = 'session' and h.due_at is not null
    group by h.organization_id, c.now_at
),

burning as (
    select
        o.organization_id,
        o.name,
        o.owner_emails,
        o.running_sessions,
        r.now_at,
        r.hourly_micros,
        o.available_micros + r.unspent_micros as left_micros
    from running as r
    inner join ops.organizations as o on o.organization_id = r.organization_id
)

select
    b.organization_id,
    b.name,
    b.owner_emails,
    b.running_sessions,
    b.hourly_micros,
    ops.usd(b.hourly_micros) as hourly_usd,
    b.left_micros,
    ops.usd(b.left_micros) as left_usd,
    b.now_at + b.left_micros::numeric / b.hourly_micros * interval '1 hour' as dry_at,
    case
        when a.status is null then 'none'
        when a.status = 'active' and a.is_capped then 'capped'
        else a.status::text
    end as auto_top_up
from burning as b
left join api.auto_top_ups as a on a.organization_id = b.organization_id
where b.left_micros < 24 * b.hourly_micros
order by dry_at asc;
comment on view ops.wallets_running_dry is
'Organizations whose running sessions end within 24 hours for want of money, if all run on and no
money comes. That a grant may expire before is not foreseen.';
comment on column ops.wallets_running_dry.organization_id is 'The organization''s id.';
comment on column ops.wallets_running_dry.name is 'Its name.';
comment on column ops.wallets_running_dry.owner_emails is 'The addresses of its owners.';
comment on column ops.wallets_running_dry.running_sessions is 'How many of its sessions run.';
comment on column ops.wallets_running_dry.hourly_micros is 'What they cost an hour, in µ$.';
comment on column ops.wallets_running_dry.hourly_usd is 'What they cost an hour, in USD.';
comment on column ops.wallets_running_dry.left_micros is
'What they can still spend, in µ$; negative where a sweep is late.';
comment on column ops.wallets_running_dry.left_usd is
'What they can still spend, in USD; negative where a sweep is late.';
comment on column ops.wallets_running_dry.dry_at is 'When (UTC) that is spent.';
comment on column ops.wallets_running_dry.auto_top_up is
'Whether its card is charged before: active. It is not: capped (for this month), paused, none.';

create view ops.stuck_outbox as
with open as (
    select
        o.*,
        case
            when o.tell_at < (select billing.now()) - interval '2 minutes' then 'not enqueued'
            when
                greatest(o.created_at, o.run_at) < (select billing.now()) - interval '10 minutes'
                then 'not done'
        end as problem
    from billing.outbox as o
    where
        o.acknowledged_at is null
        and o.topic <> 'notification'
        -- What is due is told, for the first time or again, within the hour: see mark_enqueued.
        and o.tell_at <= (select billing.now()) + interval '1 hour'
)

select
    s.organization_id,
    o.name,
    s.id,
    s.topic,
    s.problem,
    s.payload,
    s.attempts,
    s.failure,
    s.enqueues,
    s.created_at,
    s.run_at,
    s.enqueued_at,
    ops.age_seconds(greatest(s.created_at, s.run_at)) as late_seconds
from open as s
inner join billing.organizations as o on o.id = s.organization_id
where s.problem is not null
order by s.created_at asc;
comment on view ops.stuck_outbox is
'What should have happened outside by now: not handed to its queue within 2 minutes of when that was
due, or not acknowledged by its function 10 minutes after its time. What is not done is handed to
its queue again each hour. Notifications are read, not done, and never stuck.';
comment on column ops.stuck_outbox.organization_id is 'Whose it is.';
comment on column ops.stuck_outbox.name is 'That organization''s name.';
comment on column ops.stuck_outbox.id is
'The row''s id, which the name of its task in the queue contains.';
comment on column ops.stuck_outbox.topic is 'The task''s queue and function.';
comment on column ops.stuck_outbox.problem is 'not enqueued, or enqueued but not done.';
comment on column ops.stuck_outbox.attempts is
'How many times its function began, where that is counted.';
comment on column ops.stuck_outbox.failure is 'Why the last attempt failed; null: it did not.';
comment on column ops.stuck_outbox.enqueues is 'How many times its queue had it.';
comment on column ops.stuck_outbox.payload is 'What the task is told.';
comment on column ops.stuck_outbox.created_at is 'When (UTC) it was written.';
comment on column ops.stuck_outbox.run_at is 'When (UTC) it is to be done.';
comment on column ops.stuck_outbox.enqueued_at is 'When (UTC) the queue got it; null: not yet.';
comment on column ops.stuck_outbox.late_seconds is
'How many seconds ago it was to be done; negative: there is still so much time.';

create table billing.provider_costs (
    kind billing.storage_kind not null,
    region_id text not null,
    effective_at timestamptz not null,
    gb_month_micros bigint not null,
    primary key (kind, region_id, effective_at),
    constraint provider_costs_region_fkey foreign key (kind, region_id)
    references billing.regions (kind, id),
    constraint provider_costs_not_negative check (gb_month_micros >= 0)
);
alter table billing.provider_costs enable row level security;
create trigger provider_costs_append_only before update or delete on billing.provider_costs
for each row execute function billing.refuse_change();
create trigger provider_costs_no_truncate before truncate on billing.provider_costs
for each statement execute function billing.refuse_change();
comment on table billing.provider_costs is
'What storage costs the operator, who adds what they pay. Append-only: a new cost is a new row. No
row: it is not known.';
comment on column billing.provider_costs.kind is 'bucket or filestore.';
comment on column billing.provider_costs.region_id is 'Where.';
comment on column billing.provider_costs.effective_at is
'From then on (UTC) it counts, until a later row of the same kind and region does.';
comment on column billing.provider_costs.gb_month_micros is
'What a GB-month (730 hours) costs the operator, in µ$.';

-- Google's list price of the Standard class. What a file share costs depends on how it is
-- configured: there is no row for it until the operator adds one.
insert into billing.provider_costs (kind, region_id, effective_at, gb_month_micros)
values
('bucket', 'europe-west4', '2026-01-01T00:00:00Z', 20000),
('bucket', 'us-central1', '2026-01-01T00:00:00Z', 20000);

create view ops.storage as
select
    s.organization_id,
    o.name as organization,
    s.id,
    s.kind,
    r.provider,
    s.region_id as region,
    s.status,
    s.status_since,
    s.failure,
    s.resource_name,
    s.is_absent,
    s.size_gb,
    s.resize_to_gb,
    s.used_bytes,
    s.measured_at,
    v.charged_micros,
    ops.usd(v.charged_micros) as charged_usd,
    v.held_micros,
    ops.usd(v.held_micros) as held_usd,
    v.unpaid_micros,
    ops.usd(v.unpaid_micros) as unpaid_usd,
    v.paid_until,
    s.task_id,
    t.attempts as task_attempts,
    t.failure as task_failure,
    t.acknowledged_at is not null as is_task_done,
    s.created_at,
    s.ready_at,
    s.deleted_at
from billing.storage as s
inner join billing.regions as r on r.kind = s.kind and r.id = s.region_id
inner join billing.organizations as o on o.id = s.organization_id
inner join api.storage as v on v.organization_id = s.organization_id and v.id = s.id
left join billing.outbox as t on t.organization_id = s.organization_id and t.id = s.task_id
order by s.status_since desc;
comment on view ops.storage is
'Every storage resource: whose, how far, its money, and what its task says. What changed last comes
first.';
comment on column ops.storage.organization_id is 'Whose it is.';
comment on column ops.storage.organization is 'That organization''s name.';
comment on column ops.storage.id is 'Its id, which its label in the cloud has, too.';
comment on column ops.storage.kind is 'bucket or filestore.';
comment on column ops.storage.provider is 'Who keeps it: gcs, s3 or filestore.';
comment on column ops.storage.region is 'Where it is.';
comment on column ops.storage.status is
'requested, provisioning, ready, grace, read_only, deletion_notice, deleting, deleted or failed.';
comment on column ops.storage.status_since is 'Since when (UTC).';
comment on column ops.storage.failure is
'Why it failed, or why the last change did not succeed yet.';
comment on column ops.storage.resource_name is 'Its name in the cloud, there or not.';
comment on column ops.storage.is_absent is 'Whether it is certain that the cloud has none.';
comment on column ops.storage.size_gb is 'How many GB are rented; of a bucket, its quota.';
comment on column ops.storage.resize_to_gb is 'The size it is being given; null: none.';
comment on column ops.storage.used_bytes is 'What was in it when it was last measured.';
comment on column ops.storage.measured_at is 'When (UTC) that was; null: not yet.';
comment on column ops.storage.charged_micros is 'What was charged for it, in µ$.';
comment on column ops.storage.charged_usd is 'What was charged for it, in USD.';
comment on column ops.storage.held_micros is 'What is held for it, in µ$.';
comment on column ops.storage.held_usd is 'What is held for it, in USD.';
comment on column ops.storage.unpaid_micros is
'What of its cost neither a charge nor a hold covers, in µ$.';
comment on column ops.storage.unpaid_usd is
'What of its cost neither a charge nor a hold covers, in USD.';
comment on column ops.storage.paid_until is 'Until when (UTC) money is held for it.';
comment on column ops.storage.task_id is
'The last row of the outbox that was to make the cloud so; null: there was none.';
comment on column ops.storage.task_attempts is 'How many times that task began.';
comment on column ops.storage.task_failure is 'Why its last attempt failed; null: it did not.';
comment on column ops.storage.is_task_done is 'Whether nothing is left for it to do.';
comment on column ops.storage.created_at is 'When (UTC) it was asked for.';
comment on column ops.storage.ready_at is 'When (UTC) the cloud had it; null: never.';
comment on column ops.storage.deleted_at is
'When (UTC) the cloud no longer had it; null: it may still have it.';

-- From ready until the cloud confirmed it gone, also while nobody pays any more. What a period was
-- charged for plus what was included is at least what was rented.
create view ops.storage_cost_by_day as
with provisioned as (
    select
        s.kind,
        s.region_id,
        p.billed_gb + s.included_gb as gb,
        p.starts_at,
        coalesce(
            lead(p.starts_at) over (partition by s.organization_id, s.id order by p.starts_at),
            s.deleted_at,
            (select billing.now())
        ) as ends_at
    from billing.storage_periods as p
    inner join billing.storage as s on s.organization_id = p.organization_id and s.id = p.storage_id
),

pieces as (
    select
        p.kind,
        p.region_id,
        d.day,
        (
            select c.gb_month_micros
            from billing.provider_costs as c
            where
                c.kind = p.kind
                and c.region_id = p.region_id
                and c.effective_at <= greatest(p.starts_at, d.day at time zone 'UTC')
            order by c.effective_at desc
            limit 1
        ) as gb_month_micros,
        p.gb * extract(
            epoch from
            least(p.ends_at, (d.day + interval '1 day') at time zone 'UTC')
            - greatest(p.starts_at, d.day at time zone 'UTC')
        ) / 2628000 as gb_months
    from provisioned as p
    cross join
        lateral generate_series(
            date_trunc('day', p.starts_at at time zone 'UTC'),
            p.ends_at at time zone 'UTC',
            interval '1 day'
        ) as d (day)
),

days as (
    select
        p.day::date as day,
        p.kind,
        p.region_id,
        sum(p.gb_months) as gb_months,
        case
            when count(*) = count(p.gb_month_micros)
                then round(sum(p.gb_months * p.gb_month_micros))::bigint
        end as cost_micros
    from pieces as p
    where p.gb_months > 0
    group by p.day, p.kind, p.region_id
)

select
    d.day,
    d.kind,
    d.region_id as region,
    round(d.gb_months, 6) as gb_months,
    d.kind = 'bucket' as is_upper_bound,
    d.cost_micros,
    ops.usd(d.cost_micros) as cost_usd
from days as d
order by d.day desc, d.kind asc, d.region_id asc;
comment on view ops.storage_cost_by_day is
'What storage cost the operator, by the rows of billing.provider_costs. File shares cost what is
provisioned, and this is it. Buckets cost what is in them, of which no history is kept: theirs is
what they would have cost if full, so it is not in margin_by_day. Requests and traffic are not in
it. A new cost counts from the next day on. Adds up all periods each time it is read.';
comment on column ops.storage_cost_by_day.day is 'The day (UTC).';
comment on column ops.storage_cost_by_day.kind is 'bucket or filestore.';
comment on column ops.storage_cost_by_day.region is 'Where.';
comment on column ops.storage_cost_by_day.gb_months is
'How much was provisioned: GB for 730 hours.';
comment on column ops.storage_cost_by_day.is_upper_bound is
'Whether the cloud asks for at most this, as for buckets.';
comment on column ops.storage_cost_by_day.cost_micros is
'What that costs the operator, in µ$; null: not known, a row of provider_costs is missing.';
comment on column ops.storage_cost_by_day.cost_usd is
'What that costs the operator, in USD; null: not known.';

create view ops.open_discrepancies as
select
    d.id,
    d.kind,
    d.organization_id,
    o.name,
    d.subject,
    d.ledger_rule,
    d.expected_micros,
    ops.usd(d.expected_micros) as expected_usd,
    d.found_micros,
    ops.usd(d.found_micros) as found_usd,
    d.found_micros - d.expected_micros as difference_micros,
    ops.usd(d.found_micros - d.expected_micros) as difference_usd,
    d.note,
    d.first_seen_at,
    d.last_seen_at,
    ops.age_seconds(d.first_seen_at) as age_seconds
from billing.discrepancies as d
left join billing.organizations as o on o.id = d.organization_id
where d.resolved_at is null
order by d.first_seen_at;
comment on view ops.open_discrepancies is
'Where the provider, our payments and the ledger disagree, oldest first. Each run of the
reconciliation looks again; one that agrees leaves this list.';
comment on column ops.open_discrepancies.id is 'The discrepancy''s id.';
comment on column ops.open_discrepancies.kind is 'Which two sides disagree, and in what.';
comment on column ops.open_discrepancies.organization_id is
'Whose books it is about; null: that is not known.';
comment on column ops.open_discrepancies.name is 'That organization''s name.';
comment on column ops.open_discrepancies.subject is
'The provider''s object, or what the ledger''s rule is about.';
comment on column ops.open_discrepancies.ledger_rule is
'Which rule the ledger breaks; null: it is about the provider.';
comment on column ops.open_discrepancies.expected_micros is
'What the provider says or the transfers add up to, in µ$. Where a rule counts, 1 is one.';
comment on column ops.open_discrepancies.expected_usd is
'What the provider says or the transfers add up to, in USD. Where a rule counts, 0.000001 is one.';
comment on column ops.open_discrepancies.found_micros is
'What our books say, in µ$. Where a rule counts, 1 is one.';
comment on column ops.open_discrepancies.found_usd is
'What our books say, in USD. Where a rule counts, 0.000001 is one.';
comment on column ops.open_discrepancies.difference_micros is 'Found less expected, in µ$.';
comment on column ops.open_discrepancies.difference_usd is 'Found less expected, in USD.';
comment on column ops.open_discrepancies.note is
'What the provider says of an amount that is not in whole cents of USD.';
comment on column ops.open_discrepancies.first_seen_at is 'When (UTC) it was first seen.';
comment on column ops.open_discrepancies.last_seen_at is 'When (UTC) it was last seen.';
comment on column ops.open_discrepancies.age_seconds is 'Seconds since it was first seen.';

create view ops.unfinished_reconciliations as
select
    r.id,
    r.started_by,
    r.window_start,
    r.window_end,
    r.compared,
    r.replayed,
    r.verified,
    r.discrepancies,
    r.started_at,
    ops.age_seconds(r.started_at) as age_seconds,
    (
        select min(f.finished_at)
        from billing.reconciliations as f
        where
            f.started_at > r.started_at
            and f.window_start <= r.window_end
            and f.window_end > r.window_end
    ) as followed_at
from billing.reconciliations as r
where r.finished_at is null
order by r.started_at desc;
comment on view ops.unfinished_reconciliations is
'Runs that go on, or that broke off because the provider or we failed: newest first.';
comment on column ops.unfinished_reconciliations.id is 'The run''s id.';
comment on column ops.unfinished_reconciliations.started_by is 'The scheduler, or which passport.';
comment on column ops.unfinished_reconciliations.window_start is
'From when (UTC) on it asked the provider; null: it only verifies the ledger.';
comment on column ops.unfinished_reconciliations.window_end is
'Until when (UTC) it asked the provider; null: it only verifies the ledger.';
comment on column ops.unfinished_reconciliations.compared is
'How many of the provider''s objects it has compared.';
comment on column ops.unfinished_reconciliations.replayed is
'How many news only this run has brought.';
comment on column ops.unfinished_reconciliations.verified is
'How many organizations'' books it has verified.';
comment on column ops.unfinished_reconciliations.discrepancies is
'How many disagreements it has seen.';
comment on column ops.unfinished_reconciliations.started_at is 'When (UTC) it began.';
comment on column ops.unfinished_reconciliations.age_seconds is 'Seconds since then.';
comment on column ops.unfinished_reconciliations.followed_at is
'When (UTC) a later run finished that went on where this one ended; null: none has.';

create view ops.payments_to_review as
select
    e.organization_id,
    o.name,
    e.provider,
    e.id as event_id,
    e.type,
    coalesce(
        e.payload #>> '{data,object,payment_intent}', e.payload #>> '{data,object,id}'
    ) as provider_payment_id,
    concat_ws(
        ' ',
        coalesce(
            e.payload #>> '{data,object,amount_total}',
            e.payload #>> '{data,object,amount_received}',
            e.payload #>> '{data,object,amount}'
        ),
        e.payload #>> '{data,object,currency}'
    ) as provider_amount,
    exists(
        select from billing.payments as p
        where
            p.provider = e.provider
            and p.provider_payment_id = coalesce(
                e.payload #>> '{data,object,payment_intent}', e.payload #>> '{data,object,id}'
            )
    ) as is_credited,
    e.received_at,
    ops.age_seconds(e.received_at) as age_seconds
from billing.payment_events as e
left join billing.organizations as o on o.id = e.organization_id
where e.outcome = 'needs_review'
order by e.received_at desc;
comment on view ops.payments_to_review is
'Notifications of money that nobody could tell what to do with, newest first: another currency, or
credited already. They stay here; what of it is still open is in open_discrepancies.';
comment on column ops.payments_to_review.organization_id is
'Whose payment it is about; null: that is not known.';
comment on column ops.payments_to_review.name is 'That organization''s name.';
comment on column ops.payments_to_review.provider is 'The payment provider.';
comment on column ops.payments_to_review.event_id is 'The provider''s id of the notification.';
comment on column ops.payments_to_review.type is 'What happened, in the provider''s words.';
comment on column ops.payments_to_review.provider_payment_id is
'The provider''s id of the payment, or else of what it is about.';
comment on column ops.payments_to_review.provider_amount is
'The provider''s amount in the smallest unit of its currency: 2500 eur is 25 euros.';
comment on column ops.payments_to_review.is_credited is 'Whether our books have this payment.';
comment on column ops.payments_to_review.received_at is 'When (UTC) we were told.';
comment on column ops.payments_to_review.age_seconds is 'Seconds since then.';

create view ops.paused_auto_top_ups as
select
    a.organization_id,
    o.name,
    o.owner_emails,
    a.paused_reason,
    a.updated_at as paused_at,
    a.threshold_micros::bigint as threshold_micros,
    ops.usd(a.threshold_micros) as threshold_usd,
    a.amount_micros,
    ops.usd(a.amount_micros) as amount_usd,
    o.available_micros,
    o.available_usd,
    o.running_sessions
from billing.auto_top_ups as a
inner join ops.organizations as o on o.organization_id = a.organization_id
where a.status = 'paused'
order by a.updated_at desc;
comment on view ops.paused_auto_top_ups is
'Automatic top-ups that charge no card until their owner sets them again. needs_review: whether the
last charge was made is not known, and a person has to look it up at the provider.';
comment on column ops.paused_auto_top_ups.organization_id is 'The organization''s id.';
comment on column ops.paused_auto_top_ups.name is 'Its name.';
comment on column ops.paused_auto_top_ups.owner_emails is 'The addresses of its owners.';
comment on column ops.paused_auto_top_ups.paused_reason is
'Why: the provider''s word for a declined card, money_returned, needs_review, amount_too_small.';
comment on column ops.paused_auto_top_ups.paused_at is 'Since when (UTC).';
comment on column ops.paused_auto_top_ups.threshold_micros is
'Below which balance the card would be charged, in µ$.';
comment on column ops.paused_auto_top_ups.threshold_usd is
'Below which balance the card would be charged, in USD.';
comment on column ops.paused_auto_top_ups.amount_micros is 'How much would be charged, in µ$.';
comment on column ops.paused_auto_top_ups.amount_usd is 'How much would be charged, in USD.';
comment on column ops.paused_auto_top_ups.available_micros is
'What the organization can spend, in µ$.';
comment on column ops.paused_auto_top_ups.available_usd is
'What the organization can spend, in USD.';
comment on column ops.paused_auto_top_ups.running_sessions is 'How many of its sessions run.';

-- ops.due_work: what each cron function should have done by now, how much of it, and since when.
-- The conditions are those by which the cron functions pick what is due.
create function ops.due_work()
returns table (schedule text, waits_for text, waiting bigint, due_at timestamptz)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    -- A variable, so that Postgres plans for how little is due before this moment.
    v_now timestamptz := billing.now();
begin
    return query
    select 'sweep_sessions', 'sessions to charge', count(*), min(h.due_at)
    from billing.holds as h
    where h.kind = 'session' and h.due_at <= v_now
    union all
    select 'expire_holds', 'holds to give back', count(*), min(h.due_at)
    from billing.holds as h
    where h.kind = 'usage' and h.due_at <= v_now
    union all
    select 'accrue_storage', 'storage to charge', count(*), min(h.due_at)
    from billing.holds as h
    where h.kind = 'storage' and h.due_at <= v_now
    union all
    select
        'measure_storage',
        'buckets to measure',
        count(*),
        min(coalesce(s.measured_at, s.ready_at)) + interval '1 day'
    from billing.storage as s
    where s.kind = 'bucket'
        and s.status in ('ready', 'grace', 'read_only', 'deletion_notice')
        and coalesce(s.measured_at, s.ready_at) <= v_now - interval '1 day'
    union all
    select 'enqueue_outbox', 'tasks to enqueue', count(*), min(o.tell_at)
    from billing.outbox as o
    where o.acknowledged_at is null and o.topic <> 'notification' and o.tell_at <= v_now
    union all
    select 'expire_grants', 'grants to take', count(*), min(g.expires_at)
    from billing.grants as g
    inner join billing.wallets as w on w.organization_id = g.organization_id
    where g.expires_at <= v_now and not g.is_used_up and w.settled_micros > w.held_micros
    union all
    select 'expire_grants', 'grants to start', count(*), min(g.effective_at)
    from billing.grants as g
    inner join billing.wallets as w on w.organization_id = g.organization_id
    where g.sequence is null
        and g.effective_at <= v_now
        and w.settled_micros + g.amount_micros <= billing.largest_amount()
    union all
    select 'reconcile', 'the daily run', count(*), min(d.due_at)
    from (
        select max(r.started_at) + interval '1 day' as due_at
        from billing.reconciliations as r
        where r.started_by = 'scheduler' and r.finished_at is not null
    ) as d
    where d.due_at <= v_now;
end
$$;

create view ops.schedule_lag as
select
    d.schedule,
    d.waits_for,
    d.waiting,
    d.due_at,
    ops.age_seconds(d.due_at) as lag_seconds
from ops.due_work() as d;
comment on view ops.schedule_lag is
'How far each cron function is behind. Those of each minute are in time below 120 seconds, those of
storage below two hours, the daily one below an hour. What the task queues have not got or not done
is in stuck_outbox.';
comment on column ops.schedule_lag.schedule is 'The cron function.';
comment on column ops.schedule_lag.waits_for is 'What it should have done.';
comment on column ops.schedule_lag.waiting is 'How many of these are due now.';
comment on column ops.schedule_lag.due_at is
'Since when (UTC) the oldest of them has been due; null: none is.';
comment on column ops.schedule_lag.lag_seconds is 'Seconds since then; null: none is due.';

-- api.report_health: what alerts go by, as numbers that are 0 when all is well. Ages and lags are
-- in seconds.
create function api.report_health()
returns table (
    sweep_lag_seconds bigint,
    outbox_age_seconds bigint,
    stuck_outbox bigint,
    verify_differences bigint,
    open_discrepancies bigint,
    events_to_review bigint,
    missed_events bigint,
    lag_seconds jsonb
)
language plpgsql
stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.now();
begin
    select jsonb_object_agg(d.schedule, d.lag_seconds) into lag_seconds
    from (
        select l.schedule, coalesce(max(l.lag_seconds), 0) as lag_seconds
        from ops.schedule_lag as l
        group by l.schedule
    ) as d;
    sweep_lag_seconds := lag_seconds ->> 'sweep_sessions';

    select coalesce(max(ops.age_seconds(greatest(o.created_at, o.run_at))), 0)
    into outbox_age_seconds
    from billing.outbox as o
    where o.acknowledged_at is null
        and o.topic <> 'notification'
        and o.tell_at <= v_now + interval '1 hour'
        and greatest(o.created_at, o.run_at) <= v_now;
    select count(*) into stuck_outbox from ops.stuck_outbox;

    select count(*) filter (where d.kind = 'ledger'), count(*)
    into verify_differences, open_discrepancies
    from ops.open_discrepancies as d;

    select count(*) into events_to_review
    from ops.payments_to_review as p
    where p.received_at > v_now - interval '1 day';
    select coalesce(max(r.replayed), 0) into missed_events
    from billing.reconciliations as r
    where r.started_at > v_now - interval '1 day';
    return next;
end
$$;
grant execute on function api.report_health to service_role, faregate_functions;
comment on function api.report_health is
'Tells how far behind everything is: the oldest session to charge and task to do, what is stuck,
what the last verification found, what disagrees, how many payments of the last day a person must
look at or no notification told of, and each cron function''s lag in seconds.';
