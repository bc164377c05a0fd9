-- Tokens with which a passport's holder reads views through PostgREST.

-- api.create_token: what a passport's token says: whose it is and how long it lives, five minutes
-- or to the passport's end. Seconds, not a moment: PostgREST has a clock of its own.
--
-- What the passport may is not in it: billing.readable looks at each read.
--
-- Raises  FG403 passport_required  a user has a token already
create function api.create_token(p_caller jsonb)
returns table (organization_id uuid, passport_id uuid, expires_in_seconds integer)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_caller billing.caller := billing.authenticate(p_caller, 'read');
begin
    return query
    select
        p.organization_id,
        p.id,
        least(300, floor(extract(epoch from p.expires_at - billing.now())))::integer
    from billing.passports as p
    where p.organization_id = v_caller.organization_id
        and p.key_hash = decode(p_caller ->> 'passport_hash', 'hex');
    if not found then
        raise exception using errcode = 'FG403', message = 'passport_required';
    end if;
end
$$;
comment on function api.create_token is
'Tells whose a token for reading views is, and for how long.';
grant execute on function api.create_token to service_role, faregate_functions;
