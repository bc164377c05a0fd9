-- Publishing: an organization's own space, from a bucket of its own, once an operator approves.
-- Credits are closed-loop: what is sold is the platform's revenue, and nothing is paid out.
--
--   submit ─→ in_review ─ approve → published ─┐
--                 │  └──── reject → rejected   ├─ its publisher or an operator, or the bucket ends
--                 └────────────────────────────┴─→ withdrawn

-- billing.refuse_slug: names that pass for ours or for somebody else's, and those that the API
-- needs itself. A person looks at everything else.
--
-- Raises  FG400 slug_not_allowed
--         FG409 slug_taken
create function billing.refuse_slug(p_slug text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    c_reserved constant text
        := 'faregate|supabase|stripe|official|goog|openai|anthropic|microsoft|nvidia|amazon';
    v_letters text := translate(p_slug, '-0123456789', '');
begin
    -- As it is spelled, and as it is read: g00gle.
    if v_letters ~ c_reserved
        or translate(p_slug, '013457-2689', 'oieast') ~ c_reserved
        or p_slug in ('purchases', 'clones')
    then
        raise exception using errcode = 'FG400', message = 'slug_not_allowed';
    end if;
    perform from billing.spaces as s
    where (s.status = 'in_review' or s.published_at is not null)
        and (
            s.slug = p_slug
            -- The platform's own, in whatever spelling.
            or (s.publisher_id is null and translate(s.slug, '-0123456789', '') = v_letters)
        );
    if found then
        raise exception using errcode = 'FG409', message = 'slug_taken';
    end if;
end
$$;

-- billing.lock_source: a bucket that a space is to come from.
--
-- Raises  FG404 storage_not_found, FG409 bucket_required
--         FG409 storage_not_ready  the cloud does not have it, or its money has run out
-- Locks   the storage resource.
create function billing.lock_source(p_organization_id uuid, p_storage_id uuid)
returns billing.storage
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_storage billing.storage := billing.lock_storage(p_organization_id, p_storage_id);
begin
    if v_storage.kind <> 'bucket' then
        raise exception using errcode = 'FG409', message = 'bucket_required';
    end if;
    perform billing.require_status(v_storage, '{ready}');
    return v_storage;
end
$$;

-- billing.refuse_source_deletion: a bucket that a space comes from is not given up by its owner.
--
-- Raises  FG409 storage_is_source  detail: space
create function billing.refuse_source_deletion(p_organization_id uuid, p_storage_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_slug text;
begin
    select s.slug into v_slug
    from billing.spaces as s
    where s.source_organization_id = p_organization_id
        and s.source_storage_id = p_storage_id
        and s.status in ('in_review', 'published')
    order by s.id
    limit 1;
    if found then
        raise exception using
            errcode = 'FG409',
            message = 'storage_is_source',
            detail = jsonb_build_object('space', v_slug)::text;
    end if;
end
$$;

-- billing.lock_space: a space of this name, as billing.find_space.
--
-- Raises  FG404 space_not_found
-- Locks   the space: after a storage resource, before the outbox.
create function billing.lock_space(p_caller billing.caller, p_slug text)
returns billing.spaces
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_space billing.spaces := billing.find_space(p_caller, p_slug);
begin
    select s.* into strict v_space
    from billing.spaces as s
    where s.id = v_space.id
    for no key update;
    return v_space;
end
$$;

-- billing.note_space: an operator did something to a space: it stands in the book about its
-- publisher, who is told; of the platform's, in the book about the operator.
create function billing.note_space(
    p_caller billing.caller, p_action text, p_space_id uuid, p_kind text
)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_space billing.spaces;
    v_detail jsonb;
begin
    select s.* into strict v_space from billing.spaces as s where s.id = p_space_id;
    v_detail := jsonb_strip_nulls(
        jsonb_build_object('space', v_space.slug, 'reason', v_space.review_reason)
    );
    insert into billing.audit_log (organization_id, actor, action, subject_id, detail)
    values (
        coalesce(v_space.publisher_id, p_caller.organization_id), p_caller.actor, p_action,
        p_space_id, v_detail
    );
    if v_space.publisher_id is not null and p_kind is not null then
        perform billing.notify(v_space.publisher_id, p_kind, v_detail);
    end if;
end
$$;

-- api.publish_space: submit a space of the caller's organization, which an operator then decides
-- about. It is as large as the bucket that it comes from.
--
-- Raises  FG400 slug_not_allowed, FG409 slug_taken, FG400 amount_out_of_bounds,
--         FG409 too_many_in_review  detail: max_in_review
--         FG404 storage_not_found, FG409 bucket_required, FG409 storage_not_ready,
--         FG409 organization_closed, FG409 idempotency_conflict
-- Locks   the key, the organization, the storage resource.
create function api.publish_space(
    p_caller jsonb,
    p_slug text,
    p_title text,
    p_description text,
    p_storage_id uuid,
    p_price_micros bigint,
    p_is_cloneable boolean,
    p_idempotency_key text
)
returns table (space jsonb, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_request jsonb := jsonb_build_array(
        p_slug, p_title, p_description, p_storage_id, p_price_micros, p_is_cloneable
    );
    c_max_in_review constant integer := 10;
    v_storage billing.storage;
    v_space billing.spaces;
begin
    space := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'publish_space', v_request
    );
    replayed := space is not null;
    if replayed then
        return next;
        return;
    end if;
    perform billing.lock_organization(v_caller.organization_id);
    perform billing.refuse_slug(p_slug);
    if p_price_micros > 1000000000000 then
        raise exception using errcode = 'FG400', message = 'amount_out_of_bounds';
    end if;
    -- A submission keeps its name from others until somebody has looked at it.
    if c_max_in_review <= (
        select count(*)
        from billing.spaces as s
        where s.publisher_id = v_caller.organization_id and s.status = 'in_review'
    ) then
        raise exception using
            errcode = 'FG409',
            message = 'too_many_in_review',
            detail = jsonb_build_object('max_in_review', c_max_in_review)::text;
    end if;
    v_storage := billing.lock_source(v_caller.organization_id, p_storage_id);
    insert into billing.spaces (
        slug, title, description, size_gb, is_cloneable, publisher_id, publisher_name,
        source_organization_id, source_storage_id, asked_price_micros, submitted_by
    )
    select
        p_slug, p_title, p_description, v_storage.size_gb, p_is_cloneable, o.id, o.name, o.id,
        p_storage_id, p_price_micros, v_caller.actor
    from billing.organizations as o
    where o.id = v_caller.organization_id
    -- Somebody else took the name in this moment.
    on conflict do nothing
    returning * into v_space;
    if v_space.id is null then
        raise exception using errcode = 'FG409', message = 'slug_taken';
    end if;
    space := billing.describe_space(v_caller, v_space);
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'publish_space', v_request, space
    );
    return next;
end
$$;
grant execute on function api.publish_space to service_role, faregate_functions;
comment on function api.publish_space is
'Submits a space of the caller''s organization, for an operator to decide about.';

-- api.review_space: an operator approves a submitted space, which is sold from then on at the price
-- that was asked, on every plan (the platform's own organization pays nothing for anything), or
-- rejects it, which gives its name back.
--
-- Raises  FG404 space_not_found, FG409 space_not_in_review, FG409 idempotency_conflict
-- Locks   the key, the space.
create function api.review_space(
    p_caller jsonb, p_slug text, p_is_approved boolean, p_reason text, p_idempotency_key text
)
returns table (space jsonb, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_request jsonb := jsonb_build_array(p_slug, p_is_approved, p_reason);
    v_now timestamptz := billing.now();
    v_space billing.spaces;
begin
    space := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'review_space', v_request
    );
    replayed := space is not null;
    if replayed then
        return next;
        return;
    end if;
    v_space := billing.lock_space(v_caller, p_slug);
    if v_space.status <> 'in_review' then
        raise exception using errcode = 'FG409', message = 'space_not_in_review';
    end if;
    update billing.spaces as s
    set
        status = case when p_is_approved then 'published' else 'rejected' end
        ::billing.space_status,
        reviewed_by = v_caller.actor,
        review_reason = p_reason,
        reviewed_at = v_now,
        published_at = case when p_is_approved then v_now end
    where s.id = v_space.id
    returning * into v_space;
    if p_is_approved then
        insert into billing.prices (plan_id, sku, unit, price_micros, effective_at)
        select
            l.id, 'space.' || v_space.slug, 'each',
            case when l.id = 'admin' then 0 else v_space.asked_price_micros end, v_now
        from billing.plans as l;
    end if;
    perform billing.note_space(
        v_caller, 'review_space', v_space.id, 'space_' || v_space.status
    );
    space := billing.describe_space(v_caller, v_space);
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'review_space', v_request, space
    );
    return next;
end
$$;
grant execute on function api.review_space to service_role, faregate_functions;
comment on function api.review_space is 'Approves or rejects a submitted space, for an operator.';

-- api.withdraw_space: its publisher, or an operator, sells a space no more. Who bought it keeps it.
--
-- Raises  FG404 space_not_found, FG409 space_not_published, FG409 idempotency_conflict
--         FG403 permission_denied  another organization's, or the platform's; detail: permission
-- Locks   the key, the space.
create function api.withdraw_space(p_caller jsonb, p_slug text, p_idempotency_key text)
returns table (space jsonb, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'write');
    v_request jsonb := jsonb_build_array(p_slug);
    v_space billing.spaces;
begin
    space := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'withdraw_space', v_request
    );
    replayed := space is not null;
    if replayed then
        return next;
        return;
    end if;
    v_space := billing.lock_space(v_caller, p_slug);
    if v_space.publisher_id is distinct from v_caller.organization_id then
        perform billing.authenticate(p_caller || '{"goes_on": "yes"}', 'admin');
    end if;
    if v_space.status not in ('in_review', 'published') then
        raise exception using errcode = 'FG409', message = 'space_not_published';
    end if;
    perform billing.withdraw_space(v_space.id);
    perform billing.note_space(v_caller, 'withdraw_space', v_space.id, 'space_withdrawn');
    select billing.describe_space(v_caller, s) into space
    from billing.spaces as s
    where s.id = v_space.id;
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'withdraw_space', v_request, space
    );
    return next;
end
$$;
grant execute on function api.withdraw_space to service_role, faregate_functions;
comment on function api.withdraw_space is
'Takes a space out of the catalogue; who bought it keeps it.';

-- billing.withdraw_space: a space is sold no more.
create function billing.withdraw_space(p_space_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    update billing.spaces as s
    set status = 'withdrawn', withdrawn_at = billing.now()
    where s.id = p_space_id;
end
$$;

-- api.set_space_source: an operator says from which bucket of their own organization a space of the
-- platform is cloned, or, without cloning, what its content is.
--
-- Raises  FG404 space_not_found  it is no space of the platform
--         FG404 storage_not_found, FG409 bucket_required, FG409 storage_not_ready,
--         FG409 organization_closed, FG409 idempotency_conflict
-- Locks   the key, the organization, the storage resource, the space.
create function api.set_space_source(
    p_caller jsonb,
    p_slug text,
    p_storage_id uuid,
    p_is_cloneable boolean,
    p_idempotency_key text
)
returns table (space jsonb, replayed boolean)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'admin');
    v_request jsonb := jsonb_build_array(p_slug, p_storage_id, p_is_cloneable);
    v_space billing.spaces;
begin
    space := billing.replay(
        v_caller.organization_id, p_idempotency_key, 'set_space_source', v_request
    );
    replayed := space is not null;
    if replayed then
        return next;
        return;
    end if;
    perform billing.lock_organization(v_caller.organization_id);
    perform billing.lock_source(v_caller.organization_id, p_storage_id);
    v_space := billing.lock_space(v_caller, p_slug);
    if v_space.publisher_id is not null then
        raise exception using errcode = 'FG404', message = 'space_not_found';
    end if;
    update billing.spaces as s
    set
        source_organization_id = v_caller.organization_id,
        source_storage_id = p_storage_id,
        is_cloneable = p_is_cloneable
    where s.id = v_space.id
    returning * into v_space;
    perform billing.note_space(v_caller, 'set_space_source', v_space.id, null);
    space := billing.describe_space(v_caller, v_space);
    perform billing.remember(
        v_caller.organization_id, p_idempotency_key, 'set_space_source', v_request, space
    );
    return next;
end
$$;
grant execute on function api.set_space_source to service_role, faregate_functions;
comment on function api.set_space_source is
'Says which bucket a space of the platform comes from, for an operator.';

-- billing.end_sources: a bucket ends, whoever ended it: no space comes from it any more. Those that
-- were published by its owner are withdrawn, and they are told.
--
-- Locks   the spaces; the caller has locked the storage resource.
create function billing.end_sources(p_organization_id uuid, p_storage_id uuid)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_space billing.spaces;
begin
    for v_space in
        select s.*
        from billing.spaces as s
        where s.source_organization_id = p_organization_id
            and s.source_storage_id = p_storage_id
        order by s.id
        for no key update
    loop
        update billing.spaces as s
        set source_organization_id = null, source_storage_id = null, is_cloneable = false
        where s.id = v_space.id;
        if v_space.publisher_id is not null and v_space.status in ('in_review', 'published') then
            perform billing.withdraw_space(v_space.id);
            perform billing.notify(
                v_space.publisher_id, 'space_withdrawn',
                jsonb_build_object(
                    'space', v_space.slug, 'storage_id', p_storage_id, 'reason', 'storage_ended'
                )
            );
        end if;
    end loop;
end
$$;
