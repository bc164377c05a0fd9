-- The outbox: what a committed transaction wants done or told outside.

create type billing.outbox_topic as enum (
    'stop_session', 'charge_top_up', 'send_invitation',
    'provision_storage', 'provision_identity', 'clone_space',
    'notification'
);
comment on type billing.outbox_topic is
'What a row is about. Each topic has a task queue and a function of its name, but for notification:
those are read by the customer.';

create table billing.outbox (
    organization_id uuid not null references billing.organizations (id),
    id uuid not null default billing.uuidv7(),
    topic billing.outbox_topic not null,
    payload jsonb not null,
    run_at timestamptz not null default billing.now(),
    tell_at timestamptz not null default billing.now(),
    enqueued_at timestamptz,
    enqueues integer not null default 0,
    attempts integer not null default 0,
    leased_until timestamptz,
    failure text,
    acknowledged_at timestamptz,
    created_at timestamptz not null default billing.now(),
    primary key (organization_id, id)
);
alter table billing.outbox enable row level security;
create index outbox_to_tell on billing.outbox (topic, tell_at)
where acknowledged_at is null and topic <> 'notification';
create index outbox_notifications on billing.outbox (organization_id, id)
where topic = 'notification';
comment on table billing.outbox is
'What a committed transaction wants done outside. A task queue is told after the commit; the row
names the task, so telling it twice makes one task. The task''s function acknowledges the row in the
transaction that records what became of it; one that nobody acknowledged within an hour of its time
is told to the queue once more, under another name.';
comment on column billing.outbox.organization_id is 'The organization it belongs to.';
comment on column billing.outbox.id is 'Time-ordered (UUIDv7). The task''s name contains it.';
comment on column billing.outbox.topic is
'What it is about: a task queue and a function of this name, or a notification.';
comment on column billing.outbox.payload is 'What the task or the customer is told.';
comment on column billing.outbox.run_at is 'The task runs no sooner (UTC).';
comment on column billing.outbox.tell_at is
'When its queue is to be told (UTC), for the first time or again.';
comment on column billing.outbox.enqueued_at is
'When the task queue last had it (UTC); null: it waits for that.';
comment on column billing.outbox.enqueues is 'How many times the task queue had it.';
comment on column billing.outbox.attempts is
'How many times its function began, where that is counted.';
comment on column billing.outbox.leased_until is
'Until then (UTC) one run of its function is on it and others wait; null: none is.';
comment on column billing.outbox.failure is 'Why the last attempt failed; null: it did not.';
comment on column billing.outbox.acknowledged_at is
'When its function said that nothing is left to do (UTC); null: something is.';
comment on column billing.outbox.created_at is 'When it was written (UTC).';

create view api.notifications with (security_invoker = true) as
select
    o.id,
    o.organization_id,
    o.payload ->> 'kind' as kind,
    o.payload ->> 'reason' as reason,
    coalesce(o.payload ->> 'amount_micros', o.payload ->> 'debt_micros')::bigint as amount_micros,
    (o.payload ->> 'top_up_id')::uuid as top_up_id,
    (o.payload ->> 'storage_id')::uuid as storage_id,
    (o.payload ->> 'until')::timestamptz as until, -- noqa: RF04
    o.created_at
from billing.outbox as o
where o.topic = 'notification';
comment on view api.notifications is
'What an organization is told: what happened, why, and what it is about.';
comment on column api.notifications.kind is 'What happened.';
comment on column api.notifications.reason is 'Why, where there is a choice of reasons.';
comment on column api.notifications.amount_micros is
'The amount in µ$ that it is about; of a freeze, the debt.';
comment on column api.notifications.top_up_id is 'The top-up that it is about.';
comment on column api.notifications.storage_id is 'The storage that it is about.';
comment on column api.notifications.until is 'Until when (UTC) it is so if nothing is done.';
call billing.inherit_comments('api.notifications');

-- billing.write_task: have a topic's function called with a payload. Returns the row's id.
create function billing.write_task(
    p_organization_id uuid, p_topic billing.outbox_topic, p_payload jsonb
)
returns uuid
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id uuid := billing.uuidv7();
begin
    insert into billing.outbox (organization_id, id, topic, payload)
    values (p_organization_id, v_id, p_topic, p_payload);
    return v_id;
end
$$;

-- billing.notify: tell an organization something that happened: p_kind and what goes with it.
create function billing.notify(p_organization_id uuid, p_kind text, p_detail jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.outbox (organization_id, topic, payload)
    values (p_organization_id, 'notification', jsonb_build_object('kind', p_kind) || p_detail);
end
$$;

-- billing.task_name: what a row's task is called in its queue, new each time the queue is told
-- again: queues refuse a name that they have had. First what is random of the id, because Cloud
-- Tasks is slow with names that begin alike.
create function billing.task_name(p_id uuid, p_enqueues integer)
returns text
language sql
immutable parallel safe
return concat_ws('-', right(p_id::text, 12), p_id, nullif(p_enqueues, 0));

-- api.list_outbox: what of a topic its queue is to be told now, longest due first.
create function api.list_outbox(p_topic text, p_limit integer)
returns table (
    id uuid, organization_id uuid, name text, payload jsonb, run_at timestamptz
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.now();
begin
    return query
    select
        o.id,
        o.organization_id,
        billing.task_name(o.id, o.enqueues),
        o.payload || jsonb_build_object('task_id', o.id),
        o.run_at
    from billing.outbox as o
    where o.topic = p_topic::billing.outbox_topic
        and o.topic <> 'notification'
        and o.acknowledged_at is null
        and o.tell_at <= v_now
    order by o.tell_at
    limit p_limit;
end
$$;
grant execute on function api.list_outbox to service_role, faregate_functions;
comment on function api.list_outbox is
'Lists what of a topic its task queue is to be told now, longest due first.';

-- api.mark_enqueued: the queue has these outbox rows. An hour after a task was to run, it is told
-- again unless the task was acknowledged: queues give up, and lose things. Of two that told a row
-- at once the second notes nothing: it was one task.
-- Locks   the rows in the order of their keys.
create function api.mark_enqueued(p_organization_ids uuid[], p_ids uuid[])
returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.now();
    v_count integer;
begin
    with told as (
        select o.organization_id, o.id
        from unnest(p_organization_ids, p_ids) as i (organization_id, id)
        inner join billing.outbox as o on o.organization_id = i.organization_id and o.id = i.id
        where o.topic <> 'notification' and o.acknowledged_at is null and o.tell_at <= v_now
        order by o.organization_id, o.id
        for no key update of o
    )
    update billing.outbox as o
    set
        enqueued_at = v_now,
        enqueues = o.enqueues + 1,
        tell_at = greatest(o.run_at, v_now) + interval '1 hour'
    from told as t
    where o.organization_id = t.organization_id and o.id = t.id;
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
grant execute on function api.mark_enqueued to service_role, faregate_functions;
comment on function api.mark_enqueued is 'Notes that the task queue has these rows of the outbox.';

-- billing.acknowledge: a task's function has nothing left to do. Said twice or of a row that does
-- not exist, it changes nothing.
create function billing.acknowledge(p_organization_id uuid, p_task_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.outbox as o
    set acknowledged_at = billing.now(), leased_until = null
    where o.organization_id = p_organization_id
        and o.id = p_task_id
        and o.topic <> 'notification'
        and o.acknowledged_at is null;
end
$$;

-- billing.begin_attempt: one run of a task's function is on it for two minutes, which is longer
-- than any of its calls may take; another run waits. Returns the attempt's number; null: it is
-- acknowledged, or does not exist.
--
-- Raises  FG503 task_under_way  another run is on it: call again
-- Locks   the task's row.
create function billing.begin_attempt(p_organization_id uuid, p_task_id uuid)
returns integer
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.now();
    v_task billing.outbox;
begin
    select o.* into v_task
    from billing.outbox as o
    where o.organization_id = p_organization_id and o.id = p_task_id
    for no key update;
    if not found or v_task.acknowledged_at is not null then
        return null;
    elsif v_task.leased_until > v_now then
        raise exception using errcode = 'FG503', message = 'task_under_way';
    end if;
    update billing.outbox as o
    set attempts = o.attempts + 1, leased_until = v_now + interval '2 minutes'
    where o.organization_id = p_organization_id and o.id = p_task_id;
    return v_task.attempts + 1;
end
$$;

-- billing.end_attempt: a run is over, and why it failed if it did. False: it took too long and
-- another has begun since, so that what it tells may be outdated.
--
-- Locks   the task's row.
create function billing.end_attempt(
    p_organization_id uuid, p_task_id uuid, p_attempt integer, p_failure text
)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.outbox as o
    set leased_until = null, failure = p_failure
    where o.organization_id = p_organization_id
        and o.id = p_task_id
        and o.attempts = p_attempt
        and o.acknowledged_at is null;
    return found;
end
$$;

-- billing.extend_attempt: a run goes on: it is on it for two minutes more. False: another has begun
-- since, or nothing is left to do.
--
-- Locks   the task's row.
create function billing.extend_attempt(
    p_organization_id uuid, p_task_id uuid, p_attempt integer
)
returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.outbox as o
    set leased_until = billing.now() + interval '2 minutes'
    where o.organization_id = p_organization_id
        and o.id = p_task_id
        and o.attempts = p_attempt
        and o.acknowledged_at is null;
    return found;
end
$$;

-- api.list_notifications: what the caller's organization was told, newest first, from before
-- p_cursor.
create function api.list_notifications(p_caller jsonb, p_limit integer, p_cursor uuid)
returns setof api.notifications
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    return query
    select n.*
    from api.notifications as n
    where n.organization_id = v_caller.organization_id and (p_cursor is null or n.id < p_cursor)
    order by n.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_notifications to service_role, faregate_functions;
comment on function api.list_notifications is
'Pages through what the caller''s organization was told, newest first.';
