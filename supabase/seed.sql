-- Never in production: what makes a database a sandbox. A clock that can be moved.

create table if not exists billing.clock_offset (
    only_row boolean primary key default true,
    seconds bigint not null default 0,
    constraint clock_offset_is_one_row check (only_row)
);
alter table billing.clock_offset enable row level security;
comment on table billing.clock_offset is 'The sandbox''s clock.';
comment on column billing.clock_offset.only_row is 'There is but one row.';
comment on column billing.clock_offset.seconds is 'How far it is ahead of the real one.';
-- Views tell what has expired by billing.now(), which reads it with the rights of their reader.
grant select on billing.clock_offset to authenticated, faregate_reader;
drop policy if exists readers on billing.clock_offset;
create policy readers on billing.clock_offset for select to authenticated, faregate_reader
using (true);
insert into billing.clock_offset default values on conflict do nothing;

create or replace function billing.now()
returns timestamptz
language sql
volatile parallel safe
return clock_timestamp() + (
    select c.seconds * interval '1 second'
    from billing.clock_offset as c
);

-- Buckets of the S3 endpoint that a laptop runs.
insert into billing.regions (kind, id, provider, location, endpoint)
values ('bucket', 'local-s3', 's3', 'us-east-1', 'local')
on conflict (kind, id) do nothing;
