-- The outbox: what a committed transaction wants done or told outside.

create type billing.outbox_topic as enum (
    'stop_session', 'charge_top_up', 'send_invitation', 'notification'
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
    enqueued_at timestamptz,
    created_at timestamptz not null default billing.now(),
    primary key (organization_id, id)
);
alter table billing.outbox enable row level security;
create index outbox_waiting on billing.outbox (topic, id)
where enqueued_at is null and topic <> 'notification';
create index outbox_notifications on billing.outbox (organization_id, id)
where topic = 'notification';
comment on table billing.outbox is
'What a committed transaction wants done outside. A task queue is told after the commit; the row''s
id names the task, so telling it twice makes one task.';
comment on column billing.outbox.organization_id is 'The organization it belongs to.';
comment on column billing.outbox.id is 'Time-ordered (UUIDv7). It names the task.';
comment on column billing.outbox.topic is
'What it is about: a task queue and a function of this name, or a notification.';
comment on column billing.outbox.payload is 'What the task or the customer is told.';
comment on column billing.outbox.run_at is 'The task runs no sooner (UTC).';
comment on column billing.outbox.enqueued_at is
'When the task queue had it (UTC); null: it waits for that.';
comment on column billing.outbox.created_at is 'When it was written (UTC).';

create view api.notifications with (security_invoker = true) as
select
    o.id,
    o.organization_id,
    o.payload ->> 'kind' as kind,
    o.payload ->> 'reason' as reason,
    coalesce(o.payload ->> 'amount_micros', o.payload ->> 'debt_micros')::bigint as amount_micros,
    (o.payload ->> 'top_up_id')::uuid as top_up_id,
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
call billing.inherit_comments('api.notifications');

-- api.list_outbox: what of a topic waits to be enqueued, oldest first.
create function api.list_outbox(p_topic text, p_limit integer)
returns table (id uuid, organization_id uuid, payload jsonb, run_at timestamptz)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select o.id, o.organization_id, o.payload, o.run_at
    from billing.outbox as o
    where o.topic = p_topic::billing.outbox_topic
        and o.topic <> 'notification'
        and o.enqueued_at is null
    order by o.id
    limit p_limit;
end
$$;
grant execute on function api.list_outbox to service_role, faregate_functions;
comment on function api.list_outbox is
'Lists what of a topic waits for a task queue, oldest first.';

-- api.mark_enqueued: the queue has these outbox rows.
-- Locks   the rows in the order of their keys.
create function api.mark_enqueued(p_ids uuid[])
returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count integer;
begin
    with waiting as (
        select o.organization_id, o.id
        from billing.outbox as o
        where o.id = any(p_ids) and o.enqueued_at is null and o.topic <> 'notification'
        order by o.organization_id, o.id
        for no key update
    )
    update billing.outbox as o
    set enqueued_at = billing.now()
    from waiting as w
    where o.organization_id = w.organization_id and o.id = w.id;
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
grant execute on function api.mark_enqueued to service_role, faregate_functions;
comment on function api.mark_enqueued is 'Notes that the task queue has these rows of the outbox.';

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
