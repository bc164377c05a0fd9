-- Policies: rules of operators about calls and about spending, asked in the call itself, and the
-- token buckets of those that limit.

-- billing.is_amount_range: whether it says above and up to how many µ$, both or one or none, and
-- there are amounts in between.
create function billing.is_amount_range(p_range jsonb)
returns boolean
language sql
immutable parallel safe
return jsonb_typeof(p_range) = 'object'
and p_range - 'above_micros' - 'up_to_micros' = '{}'
and not jsonb_path_exists(p_range, 'strict $.* ? (@.type() != "number")')
and not jsonb_path_exists(p_range, 'strict $.* ? (@ < 0 || @ != @.floor())')
and not jsonb_path_exists(p_range, 'lax $ ? (@.above_micros >= @.up_to_micros)');

-- billing.is_policy_match: whether a rule's conditions are none but those there are: lists of
-- values, of which one must be, and a range of amounts.
create function billing.is_policy_match(p_match jsonb)
returns boolean
language plpgsql
immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
begin
    return jsonb_typeof(p_match) = 'object' and not exists (
        select
        from jsonb_each(p_match) as m
        where not case
            when m.key = 'amount' then billing.is_amount_range(m.value)
            when jsonb_typeof(m.value) <> 'array' then false
            when jsonb_array_length(m.value) not between 1 and 100 then false
            when m.key = 'hour'
                then m.value <@ (select jsonb_agg(h) from generate_series(0, 23) as h)
            when m.key = 'weekday' then m.value <@ '[1, 2, 3, 4, 5, 6, 7]'
            when m.key = 'permission' then m.value <@ '["read", "write", "billing", "admin"]'
            when m.key = 'tier' then m.value <@ '["small", "medium", "large", "xlarge", "gpu"]'
            when m.key in ('organization', 'plan', 'action', 'caller', 'feature')
                then not jsonb_path_exists(m.value, 'strict $[*] ? (@.type() != "string")')
            else false
        end
    );
end
$$;

create table billing.policies (
    id uuid primary key default billing.uuidv7(),
    priority integer not null,
    description text not null,
    match jsonb not null, -- noqa: RF04
    effect text not null,
    limit_per text,
    capacity integer,
    refill integer,
    refill_seconds integer,
    is_enabled boolean not null,
    is_about_spending boolean not null generated always as (
        match ?| array['tier', 'feature', 'amount']
    ) stored,
    created_by text not null,
    created_at timestamptz not null default billing.now(),
    constraint policies_priority_in_bounds check (priority between 0 and 32767),
    constraint policies_description_length check (char_length(description) between 1 and 200),
    constraint policies_match_is_known check (billing.is_policy_match(match)),
    constraint policies_effect_is_known check (effect in ('allow', 'deny', 'limit')),
    constraint policies_limits_are_whole check (
        num_nonnulls(limit_per, capacity, refill, refill_seconds)
        = case when effect = 'limit' then 4 else 0 end
    ),
    constraint policies_limit_per_is_known check (limit_per in ('passport', 'organization', 'ip')),
    constraint policies_rate_in_bounds check (
        capacity between 1 and 1000000
        and refill between 1 and 1000000
        and refill_seconds between 1 and 2678400
    )
);
alter table billing.policies enable row level security;
create index policies_enabled on billing.policies (priority, id) where is_enabled;
comment on table billing.policies is
'A rule of the operators: what it matches, and whether that is denied, allowed or limited.';
comment on column billing.policies.id is 'Time-ordered (UUIDv7).';
comment on column billing.policies.priority is 'A lower one is asked first; of equals, the older.';
comment on column billing.policies.description is 'What operators say that it is for.';
comment on column billing.policies.match is
'Conditions, all of which must hold: for each of organization, plan, permission, action, caller,
tier, feature, hour (0 to 23, UTC) and weekday (1, Monday, to 7, UTC) the values of which one must
be; for amount a range in µ$ (above_micros, up_to_micros).';
comment on column billing.policies.effect is
'deny: refused. allow: no later rule is asked. limit: takes a token, or is refused.';
comment on column billing.policies.limit_per is
'limit: whether each passport (or signed-in user), each organization or each address has a bucket.';
comment on column billing.policies.capacity is 'limit: how many tokens a bucket holds.';
comment on column billing.policies.refill is 'limit: how many come back within refill_seconds.';
comment on column billing.policies.refill_seconds is
'limit: within how many seconds refill tokens come back, evenly.';
comment on column billing.policies.is_enabled is 'Whether it is asked.';
comment on column billing.policies.is_about_spending is
'Whether it names what is had for the money (tier, feature, amount): it is asked where that is
known. Others are asked when the caller is authenticated.';
comment on column billing.policies.created_by is 'Who made it: passport:<id> or user:<id>.';
comment on column billing.policies.created_at is 'When it was made (UTC).';

create view api.policies with (security_invoker = true) as
select
    p.id,
    p.priority,
    p.description,
    p.match,
    p.effect,
    p.limit_per,
    p.capacity,
    p.refill,
    p.refill_seconds,
    p.is_enabled,
    p.created_by,
    p.created_at
from billing.policies as p;
comment on view api.policies is 'Rules of the operators.';
call billing.inherit_comments('api.policies');

-- Unlogged: a crash fills every bucket, which is worth less than a flush to disk for each call that
-- only reads.
create unlogged table billing.rate_buckets (
    organization_id uuid not null,
    policy_id uuid not null,
    subject text not null,
    tokens numeric not null,
    refilled_at timestamptz not null,
    primary key (organization_id, policy_id, subject),
    constraint rate_buckets_tokens_not_negative check (tokens >= 0)
)
with (fillfactor = 50);
alter table billing.rate_buckets enable row level security;
comment on table billing.rate_buckets is
'The tokens of a limit that are left. A bucket that is not here is full. Unlogged, without foreign
keys: it is worth nothing after a crash.';
comment on column billing.rate_buckets.organization_id is
'Whose calls it counts; the nil UUID where it counts those of an address.';
comment on column billing.rate_buckets.policy_id is 'The rule that limits.';
comment on column billing.rate_buckets.subject is
'passport:<id> or user:<id>; the address, of which IPv6 counts the first half; empty where the whole
organization has one.';
comment on column billing.rate_buckets.tokens is 'How many there were at refilled_at.';
comment on column billing.rate_buckets.refilled_at is
'Up to then refilled (UTC): a clock that is set back gives nothing twice.';

-- billing.call_facts: what rules are asked about, of a call.
create function billing.call_facts(
    p_organization_id uuid,
    p_plan_id text,
    p_permission text,
    p_action text,
    p_caller text,
    p_ip inet,
    p_at timestamptz
)
returns jsonb
language sql
immutable parallel safe
return jsonb_build_object(
    'organization', p_organization_id,
    'plan', p_plan_id,
    'permission', p_permission,
    'action', p_action,
    'caller', p_caller,
    -- Who has an address of IPv6 has 2⁶⁴ of them.
    'ip', host(network(set_masklen(p_ip, case family(p_ip) when 4 then 32 else 64 end))),
    'hour', extract(hour from p_at at time zone 'UTC')::integer,
    'weekday', extract(isodow from p_at at time zone 'UTC')::integer
);

-- billing.match_policies: the rules that facts match, in the order in which they count. p_draft:
-- one more, which is not saved. is_moot: a rule before it has decided.
--
-- Asked about spending, rules about calls only still allow; the others were asked before. Of rules
-- about calls, those alone hold for calls of operators that name their permission: so no rule about
-- customers stops a gateway. None holds for calls that are about rules: whoever made it could not
-- disable it.
create function billing.match_policies(
    p_facts jsonb, p_is_spending boolean, p_draft billing.policies
)
returns table (policy billing.policies, is_moot boolean)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return query
    select
        r.rule,
        coalesce(
            bool_or((r.rule).effect <> 'limit') over (
                order by (r.rule).priority, (r.rule).id
                rows between unbounded preceding and 1 preceding
            ),
            false
        )
    from (
        select p as rule from billing.policies as p where p.is_enabled
        union all
        select p_draft where (p_draft).id is not null
    ) as r
    where case
        when p_is_spending then (r.rule).is_about_spending or (r.rule).effect = 'allow'
        when p_facts ->> 'permission' = 'admin'
            and (
                not (r.rule).match ? 'permission'
                or p_facts ->> 'action' in (
                    'create_policy', 'list_policies', 'get_policy', 'set_policy_enabled',
                    'delete_policy', 'evaluate_policies'
                )
            )
            then false
        else not (r.rule).is_about_spending
    end
    and not exists (
        select
        from jsonb_each((r.rule).match) as m
        where
            case
                when m.key <> 'amount' then m.value @> (p_facts -> m.key)
                else (p_facts ->> 'amount_micros')::bigint
                    > coalesce((m.value -> 'above_micros')::bigint, -1)
                and (p_facts ->> 'amount_micros')::bigint
                    <= coalesce((m.value -> 'up_to_micros')::bigint, 9223372036854775807)
            end is not true
    )
    order by (r.rule).priority, (r.rule).id;
end
$$;

-- billing.refilled: the tokens of a bucket now. In whole millionths, rounded down, so that it never
-- gives more than it may.
create function billing.refilled(
    p_policy billing.policies, p_tokens numeric, p_refilled_at timestamptz, p_now timestamptz
)
returns numeric
language sql
immutable parallel safe
return least(
    (p_policy).capacity,
    p_tokens + 0.000001 * div(
        greatest(extract(epoch from p_now - p_refilled_at), 0) * 1000000 * (p_policy).refill,
        (p_policy).refill_seconds
    )
);

-- billing.seconds_until: how long it takes a bucket to get so many tokens, in whole seconds.
create function billing.seconds_until(p_policy billing.policies, p_tokens numeric)
returns bigint
language sql
immutable parallel safe
return ceil(p_tokens * (p_policy).refill_seconds / (p_policy).refill)::bigint;

-- billing.bucket_of: whose bucket of a limit a call's facts mean.
create function billing.bucket_of(p_policy billing.policies, p_facts jsonb)
returns billing.rate_buckets
language sql
immutable parallel safe
return row(
    case
        when (p_policy).limit_per = 'ip' then '00000000-0000-0000-0000-000000000000'
        else p_facts ->> 'organization'
    end,
    (p_policy).id,
    case (p_policy).limit_per
        when 'ip' then coalesce(p_facts ->> 'ip', '')
        when 'passport' then coalesce(p_facts ->> 'caller', '')
        else ''
    end,
    (p_policy).capacity,
    null
)::billing.rate_buckets;

-- billing.bucket_tokens: what a bucket holds now.
create function billing.bucket_tokens(
    p_policy billing.policies, p_bucket billing.rate_buckets, p_now timestamptz
)
returns numeric
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        (
            select billing.refilled(p_policy, b.tokens, b.refilled_at, p_now)
            from billing.rate_buckets as b
            where b.organization_id = p_bucket.organization_id
                and b.policy_id = p_bucket.policy_id
                and b.subject = p_bucket.subject
        ),
        p_bucket.tokens
    );
end
$$;

-- billing.take_token: take one out of a bucket; gives what is left, null where there was none.
--
-- Locks   the bucket.
create function billing.take_token(
    p_policy billing.policies, p_bucket billing.rate_buckets, p_now timestamptz
)
returns numeric
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_tokens numeric;
begin
    insert into billing.rate_buckets as b (
        organization_id, policy_id, subject, tokens, refilled_at
    )
    values (
        p_bucket.organization_id, p_bucket.policy_id, p_bucket.subject, p_bucket.tokens - 1, p_now
    )
    on conflict (organization_id, policy_id, subject) do update
    set
        tokens = billing.refilled(p_policy, b.tokens, b.refilled_at, p_now) - 1,
        refilled_at = greatest(b.refilled_at, p_now)
    where billing.refilled(p_policy, b.tokens, b.refilled_at, p_now) >= 1
    returning b.tokens into v_tokens;
    return v_tokens;
end
$$;

-- billing.forget_full_buckets: those that are full again are as good as those that are not here.
--
-- Locks   the buckets, passing over those that somebody else has.
create function billing.forget_full_buckets(p_limit integer)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.now();
begin
    delete from billing.rate_buckets as b
    where (b.organization_id, b.policy_id, b.subject) in (
        select f.organization_id, f.policy_id, f.subject
        from billing.rate_buckets as f
        inner join billing.policies as p on p.id = f.policy_id
        where billing.refilled(p, f.tokens, f.refilled_at, v_now) >= p.capacity
        limit p_limit
        for update of f skip locked
    );
end
$$;

-- billing.limit_headers: what HTTP tells of a limit, as draft-ietf-httpapi-ratelimit-headers has
-- it: the rule's id, how many at once and within how many seconds; how many are left, and in how
-- many seconds all of them. In the form that PostgREST takes headers in.
create function billing.limit_headers(p_policy billing.policies, p_tokens numeric)
returns jsonb
language sql
immutable parallel safe
return jsonb_build_array(
    jsonb_build_object(
        'RateLimit-Policy', format(
            '"%s";q=%s;w=%s', (p_policy).id, (p_policy).capacity,
            billing.seconds_until(p_policy, (p_policy).capacity)
        )
    ),
    jsonb_build_object(
        'RateLimit', format(
            '"%s";r=%s;t=%s', (p_policy).id, floor(p_tokens),
            billing.seconds_until(p_policy, (p_policy).capacity - p_tokens)
        )
    )
);

-- billing.tell_headers: headers for the answer, which comes after the transaction: those of tokens
-- that were taken, or left where they are because it was rolled back. PostgREST takes the former
-- from a setting, and has none beside an error's own; psycopg takes both from a notice.
create function billing.tell_headers(p_headers jsonb)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_headers -> 'taken' = '[]' then
        return;
    end if;
    perform set_config(
        'response.headers',
        (
            coalesce(nullif(current_setting('response.headers', true), ''), '[]')::jsonb
            || (p_headers -> 'taken')
        )::text,
        true
    );
    raise notice using message = 'headers', detail = p_headers::text;
end
$$;

-- billing.check_policies: let a call pass that the rules let pass; each limit takes a token. What
-- is refused, by them or by whatever comes later, takes none: its transaction is rolled back. Gives
-- what is to be told of the limits, as billing.tell_headers takes it.
--
-- Raises  FG403 policy_denied  detail: policy_id, matched, amount_micros, headers
--         FG429 rate_limited   detail: policy_id, limit_per, retry_after_seconds, headers
-- Locks   the buckets, in the order of the rules.
create function billing.check_policies(p_facts jsonb, p_is_spending boolean)
returns jsonb
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.now();
    v_policy billing.policies;
    v_bucket billing.rate_buckets;
    v_tokens numeric;
    v_wait_seconds bigint;
    v_taken jsonb := '[]';
    v_left jsonb := '[]';
begin
    for v_policy in
        select (m.policy).*
        from billing.match_policies(p_facts, p_is_spending, null) as m
        where not m.is_moot
    loop
        if v_policy.effect = 'deny' then
            raise exception using
                errcode = 'FG403',
                message = 'policy_denied',
                detail = jsonb_strip_nulls(
                    jsonb_build_object(
                        'policy_id', v_policy.id,
                        'amount_micros',
                        case when v_policy.match ? 'amount' then p_facts -> 'amount_micros' end,
                        'matched', (
                            select coalesce(jsonb_object_agg(f.key, f.value), '{}')
                            from jsonb_each(p_facts) as f
                            where v_policy.match ? f.key
                        ),
                        'headers', nullif(v_left, '[]')
                    )
                )::text;
        elsif v_policy.effect = 'limit' then
            v_bucket := billing.bucket_of(v_policy, p_facts);
            v_tokens := billing.take_token(v_policy, v_bucket, v_now);
            if v_tokens is null then
                v_tokens := billing.bucket_tokens(v_policy, v_bucket, v_now);
                v_wait_seconds := greatest(billing.seconds_until(v_policy, 1 - v_tokens), 1);
                raise exception using
                    errcode = 'FG429',
                    message = 'rate_limited',
                    detail = jsonb_build_object(
                        'policy_id', v_policy.id,
                        'limit_per', v_policy.limit_per,
                        'retry_after_seconds', v_wait_seconds,
                        'headers', v_left || billing.limit_headers(v_policy, v_tokens)
                        || jsonb_build_object('Retry-After', v_wait_seconds::text)
                    )::text;
            end if;
            v_taken := v_taken || billing.limit_headers(v_policy, v_tokens);
            v_left := v_left || billing.limit_headers(v_policy, v_tokens + 1);
        end if;
    end loop;
    return jsonb_build_object('taken', v_taken, 'left', v_left);
end
$$;

-- billing.fewest_left: what check_policies told of several calls, as one: of each limit the bucket
-- that has the fewest tokens left.
create function billing.fewest_left(p_told jsonb[])
returns jsonb
language plpgsql
immutable parallel safe
set search_path = pg_catalog, pg_temp
as $$
declare
    v_taken jsonb := (
        select jsonb_agg(l.header)
        from (
            select distinct on (h.key, split_part(h.value, ';', 1))
                jsonb_build_object(h.key, h.value) as header
            from unnest(p_told) as t (told)
            cross join lateral jsonb_array_elements(t.told -> 'taken') as e (header)
            cross join lateral jsonb_each_text(e.header) as h
            where h.key like 'RateLimit%'
            order by
                h.key,
                split_part(h.value, ';', 1),
                substring(h.value from ';r=(\d+)')::bigint
        ) as l
    );
begin
    return jsonb_build_object('taken', coalesce(v_taken, '[]'), 'left', '[]'::jsonb);
end
$$;

-- billing.check_spending: the same for what money of an organization is spent on, or held for, in a
-- call that authenticate let pass. p_facts: tier, feature, amount_micros, as far as there are any,
-- and the customer's own caller where an operator names one. Asked last, when the wallet is locked
-- and the amount is known.
--
-- Raises  as billing.check_policies
-- Locks   the buckets; the caller has locked the wallet.
create function billing.check_spending(
    p_caller billing.caller, p_organization_id uuid, p_facts jsonb
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    -- No rule is enabled.
    if p_caller.facts is null then
        return;
    end if;
    perform billing.tell_headers(
        billing.check_policies(
            p_caller.facts
            || jsonb_build_object('organization', p_organization_id, 'plan', o.plan_id)
            || p_facts,
            true
        )
    )
    from billing.organizations as o
    where o.id = p_organization_id;
end
$$;

-- billing.read_policy: a rule as an operator gives it.
--
-- Raises  FG400 plan_unknown, FG400 action_unknown  it names what is not: it would never match
create function billing.read_policy(p_rule jsonb, p_actor text)
returns billing.policies
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_policy billing.policies := jsonb_populate_record(null::billing.policies, p_rule);
begin
    if exists (
        select
        from jsonb_array_elements_text(v_policy.match -> 'plan') as n
        where n not in (select l.id from billing.plans as l)
    ) then
        raise exception using errcode = 'FG400', message = 'plan_unknown';
    end if;
    if exists (
        select
        from jsonb_array_elements_text(v_policy.match -> 'action') as n
        where not exists (
            select
            from pg_catalog.pg_proc as p
            where p.pronamespace = 'api'::regnamespace
                and p.proname = n
                and p.proargnames[1] = 'p_caller'
        )
    ) then
        raise exception using errcode = 'FG400', message = 'action_unknown';
    end if;
    v_policy.id := billing.uuidv7();
    v_policy.is_about_spending := v_policy.match ?| array['tier', 'feature', 'amount'];
    v_policy.created_by := p_actor;
    v_policy.created_at := billing.now();
    return v_policy;
end
$$;

-- billing.note_policy: an operator's deed, for the audit log.
create function billing.note_policy(p_caller billing.caller, p_action text, p_policy api.policies)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
    values (p_caller.organization_id, p_caller.actor, p_action, p_policy.id, to_jsonb(p_policy));
end
$$;

-- api.create_policy: a new rule. p_rule: the columns of billing.policies that say what it is.
--
-- Raises  FG400 plan_unknown, FG400 action_unknown, FG409 idempotency_conflict
create function api.create_policy(p_caller jsonb, p_rule jsonb, p_idempotency_key text)
returns table (policy api.policies, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_stored jsonb;
    v_policy billing.policies;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'create_policy', p_rule
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.policies, v_stored), true;
        return;
    end if;
    v_policy := billing.read_policy(p_rule, v_caller.actor);
    insert into billing.policies (
        id, priority, description, match, effect, limit_per, capacity, refill, refill_seconds,
        is_enabled, created_by, created_at
    )
    values (
        v_policy.id, v_policy.priority, v_policy.description, v_policy.match, v_policy.effect,
        v_policy.limit_per, v_policy.capacity, v_policy.refill, v_policy.refill_seconds,
        v_policy.is_enabled, v_policy.created_by, v_policy.created_at
    );
    select v.* into policy from api.policies as v where v.id = v_policy.id;
    perform billing.note_policy(v_caller, 'create_policy', policy);
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'create_policy', p_rule, to_jsonb(policy)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.create_policy to service_role, faregate_functions;
comment on function api.create_policy is 'Makes a rule about calls or spending. For operators.';

-- api.list_policies: the rules, newest first, from before p_cursor.
create function api.list_policies(p_caller jsonb, p_limit integer, p_cursor uuid)
returns setof api.policies
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.authenticate(p_caller, 'admin');
    return query
    select p.*
    from api.policies as p
    where p_cursor is null or p.id < p_cursor
    order by p.id desc
    limit p_limit;
end
$$;
grant execute on function api.list_policies to service_role, faregate_functions;
comment on function api.list_policies is 'Pages through the rules, newest first. For operators.';

-- billing.find_policy: a rule.
--
-- Raises  FG404 policy_not_found
create function billing.find_policy(p_policy_id uuid)
returns api.policies
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_policy api.policies;
begin
    select p.* into v_policy from api.policies as p where p.id = p_policy_id;
    if not found then
        raise exception using errcode = 'FG404', message = 'policy_not_found';
    end if;
    return v_policy;
end
$$;

-- api.get_policy: one rule.
--
-- Raises  FG404 policy_not_found
create function api.get_policy(p_caller jsonb, p_policy_id uuid)
returns setof api.policies
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing.authenticate(p_caller, 'admin');
    return next billing.find_policy(p_policy_id);
end
$$;
grant execute on function api.get_policy to service_role, faregate_functions;
comment on function api.get_policy is 'Reads a rule. For operators.';

-- api.set_policy_enabled: have a rule asked, or not, from the next call on. Its buckets stay.
--
-- Raises  FG404 policy_not_found, FG409 idempotency_conflict
-- Locks   the rule.
create function api.set_policy_enabled(
    p_caller jsonb, p_policy_id uuid, p_is_enabled boolean, p_idempotency_key text
)
returns table (policy api.policies, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_request jsonb := jsonb_build_array(p_policy_id, p_is_enabled);
    v_stored jsonb;
begin
    v_stored := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'set_policy_enabled', v_request
    );
    if v_stored is not null then
        return query select jsonb_populate_record(null::api.policies, v_stored), true;
        return;
    end if;
    update billing.policies as p set is_enabled = p_is_enabled where p.id = p_policy_id;
    policy := billing.find_policy(p_policy_id);
    perform billing.note_policy(v_caller, 'set_policy_enabled', policy);
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'set_policy_enabled', v_request,
        to_jsonb(policy)
    );
    replayed := false;
    return next;
end
$$;
grant execute on function api.set_policy_enabled to service_role, faregate_functions;
comment on function api.set_policy_enabled is 'Enables or disables a rule. For operators.';

-- api.delete_policy: the end of a rule and its buckets; the audit log keeps what it said.
--
-- Raises  FG404 policy_not_found
-- Locks   the rule, its buckets.
create function api.delete_policy(p_caller jsonb, p_policy_id uuid)
returns setof api.policies
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_policy api.policies := billing.find_policy(p_policy_id);
begin
    delete from billing.policies as p where p.id = p_policy_id;
    delete from billing.rate_buckets as b where b.policy_id = p_policy_id;
    perform billing.note_policy(v_caller, 'delete_policy', v_policy);
    return next v_policy;
end
$$;
grant execute on function api.delete_policy to service_role, faregate_functions;
comment on function api.delete_policy is 'Ends a rule. For operators.';

-- api.evaluate_policies: what the rules would do with a call, and why; nothing changes. p_facts:
-- what is known of it: organization_id, plan (null: that of the organization), permission, action,
-- caller, ip, at, tier, feature, amount_micros. p_draft: a rule that is not saved, asked, too;
-- null: none. One row for each rule that matches (policy_id null: the draft), in their order: about
-- the call, then about the spending, if there is any.
--
-- outcome: denies, allows, takes (a token, and tokens are left then), limits (there is none), or
-- moot (another has decided).
--
-- Raises  FG404 organization_not_found, FG400 plan_unknown, FG400 action_unknown
create function api.evaluate_policies(p_caller jsonb, p_facts jsonb, p_draft jsonb)
returns table (
    policy_id uuid,
    description text,
    effect text,
    asked text,
    outcome text,
    tokens integer,
    retry_after_seconds bigint
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_organization_id uuid := (p_facts ->> 'organization_id')::uuid;
    v_now timestamptz := billing.now();
    v_draft billing.policies;
    v_facts jsonb;
    v_match record;
    v_tokens numeric;
    v_is_refused boolean := false;
begin
    if v_organization_id is not null then
        perform billing.find_customer(v_organization_id);
    end if;
    if p_draft is not null then
        v_draft := billing.read_policy(p_draft, v_caller.actor);
    end if;
    v_facts := billing.call_facts(
        v_organization_id,
        coalesce(
            p_facts ->> 'plan',
            (select o.plan_id from billing.organizations as o where o.id = v_organization_id)
        ),
        p_facts ->> 'permission', p_facts ->> 'action', p_facts ->> 'caller',
        (p_facts ->> 'ip')::inet, coalesce((p_facts ->> 'at')::timestamptz, v_now)
    ) || jsonb_build_object(
        'tier', p_facts -> 'tier', 'feature', p_facts -> 'feature',
        'amount_micros', p_facts -> 'amount_micros'
    );
    for v_match in
        select s.is_spending, m.policy, m.is_moot
        from (values (false), (true)) as s (is_spending)
        cross join lateral billing.match_policies(v_facts, s.is_spending, v_draft) as m
        where not s.is_spending
            or coalesce(v_facts ->> 'tier', v_facts ->> 'feature', v_facts ->> 'amount_micros')
            is not null
        order by s.is_spending, (m.policy).priority, (m.policy).id
    loop
        policy_id := nullif((v_match.policy).id, v_draft.id);
        description := (v_match.policy).description;
        effect := (v_match.policy).effect;
        asked := case when v_match.is_spending then 'spending' else 'call' end;
        v_tokens := null;
        retry_after_seconds := null;
        if effect = 'limit' then
            v_tokens := billing.bucket_tokens(
                v_match.policy, billing.bucket_of(v_match.policy, v_facts), v_now
            );
        end if;
        if v_match.is_moot or v_is_refused then
            outcome := 'moot';
        elsif effect = 'allow' then
            outcome := 'allows';
        elsif effect = 'deny' then
            outcome := 'denies';
        elsif v_tokens >= 1 then
            outcome := 'takes';
            v_tokens := v_tokens - 1;
        else
            outcome := 'limits';
            retry_after_seconds := greatest(billing.seconds_until(v_match.policy, 1 - v_tokens), 1);
        end if;
        tokens := floor(v_tokens);
        v_is_refused := v_is_refused or outcome in ('denies', 'limits');
        return next;
    end loop;
end
$$;
grant execute on function api.evaluate_policies to service_role, faregate_functions;
comment on function api.evaluate_policies is
'Tells what the rules would do with a call, and why; changes nothing. For operators.';
