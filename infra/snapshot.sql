-- A database as text, one row per object: what pg_dump would tell, for people. Nothing of it
-- depends on the machine: no object ids, no passwords, no order but that of names.

with ours as (
    select n.oid, n.nspname::text as name, n.nspowner as owner, n.nspacl as acl
    from pg_namespace as n
    where n.nspname = any(%(schemas)s)
),

relations as (
    select
        c.oid, c.oid::regclass::text as name, c.relkind as kind, c.relowner as owner,
        c.relacl as acl, c.relrowsecurity as has_rls, c.relforcerowsecurity as is_forced,
        ' with (' || array_to_string(c.reloptions, ', ') || ')' as options
    from pg_class as c
    inner join ours on ours.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v', 'm', 'c')
),

functions as (
    select p.*, p.oid::regprocedure::text as name
    from pg_proc as p
    inner join ours on ours.oid = p.pronamespace
),

types as (
    select t.*, t.oid::regtype::text as name
    from pg_type as t
    inner join ours on ours.oid = t.typnamespace
    left join pg_class as c on c.oid = t.typrelid
    where t.typtype in ('d', 'e') or c.relkind = 'c'
),

constraints as (
    select
        k.conrelid, k.contypid, k.contype, k.conname,
        'constraint ' || k.conname || ' ' || pg_get_constraintdef(k.oid) as text
    from pg_constraint as k
    where k.contype in ('p', 'u', 'f', 'c', 'x')
),

-- What stands between the brackets of a table, view or composite type.
parts as (
    select
        a.attrelid as oid, array['column', lpad(a.attnum::text, 4, '0')] as place,
        concat_ws(
            ' ', a.attname, format_type(a.atttypid, a.atttypmod),
            case when a.attnotnull then 'not null' end,
            case a.attgenerated when 's' then 'generated as' else 'default' end
            || ' ' || pg_get_expr(d.adbin, d.adrelid),
            case when a.attidentity <> '' then 'generated as identity' end
        ) as text,
        col_description(a.attrelid, a.attnum) as comment
    from pg_attribute as a
    left join pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
    where a.attnum > 0 and not a.attisdropped
    union all
    select k.conrelid, array['constraint', k.contype::text, k.conname::text], k.text, null
    from constraints as k
),

brackets as (
    select p.oid, string_agg(p.text, E'\n' order by p.place collate "C") as text
    from (
        select
            p.oid, p.place,
            '    ' || p.text
            || case when lead(true) over (partition by p.oid order by p.place collate "C")
                then ',' else '' end
            || coalesce(' -- ' || replace(p.comment, E'\n', ' '), '') as text
        from parts as p
    ) as p
    group by p.oid
),

-- What somebody else than its owner may do with an object.
acls as (
    select 'schema' as section, o.name, 'schema ' || o.name as object, o.owner,
        null::text as part, coalesce(o.acl, acldefault('n', o.owner)) as acl
    from ours as o
    union all
    select 'type', t.name, 'type ' || t.name, t.typowner, null,
        coalesce(t.typacl, acldefault('T', t.typowner))
    from types as t
    union all
    select 'relation', r.name, 'table ' || r.name, r.owner, null,
        coalesce(r.acl, acldefault('r', r.owner))
    from relations as r
    where r.kind <> 'c'
    union all
    select 'relation', r.name, 'table ' || r.name, r.owner, a.attname, a.attacl
    from relations as r
    inner join pg_attribute as a on a.attrelid = r.oid
    union all
    select 'routine', f.name, 'routine ' || f.name, f.proowner, null,
        coalesce(f.proacl, acldefault('f', f.proowner))
    from functions as f
),

rights as (
    select
        a.section, a.name, a.object, x.grantee,
        lower(x.privilege_type) || coalesce(
            ' (' || string_agg(a.part, ', ' order by a.part collate "C") || ')', ''
        ) as text
    from acls as a
    cross join aclexplode(a.acl) as x
    where x.grantee <> a.owner
    group by a.section, a.name, a.object, x.grantee, x.privilege_type, a.part is null
),

grants as (
    select
        r.section, r.name, r.object,
        case r.grantee when 0 then 'public' else r.grantee::regrole::text end as grantee,
        string_agg(r.text, ', ' order by r.text collate "C") as text
    from rights as r
    group by r.section, r.name, r.object, r.grantee
),

comments as (
    select 'schema' as section, o.name, obj_description(o.oid, 'pg_namespace') as text
    from ours as o
    union all
    select 'type', t.name, obj_description(t.oid, 'pg_type')
    from types as t
    union all
    select 'relation', r.name, obj_description(r.oid, 'pg_class')
    from relations as r
    union all
    select 'routine', f.name, obj_description(f.oid, 'pg_proc')
    from functions as f
),

pieces as (
    select c.section, c.name, -1 as place, '-- ' || replace(c.text, E'\n', E'\n-- ') as text
    from comments as c
    where c.text is not null
    union all
    select
        'role' as section, r.rolname::text as name, 0 as place,
        concat_ws(
            ' ', 'create role', r.rolname,
            case when r.rolcanlogin then 'login' else 'nologin' end,
            case when r.rolinherit then 'inherit' else 'noinherit' end,
            case when r.rolbypassrls then 'bypassrls' end,
            case when r.rolsuper then 'superuser' end,
            case when r.rolcreaterole then 'createrole' end,
            case when r.rolcreatedb then 'createdb' end
        ) || ';' as text
    from pg_roles as r
    where r.rolname like 'faregate%%'
    union all
    select 'role', s.setrole::regrole::text, 1,
        'alter role ' || s.setrole::regrole || ' set ' || c.setting || ';'
    from pg_db_role_setting as s
    cross join unnest(s.setconfig) as c (setting)
    where s.setrole::regrole::text like 'faregate%%' and s.setdatabase = 0
    union all
    select
        'role', m.roleid::regrole::text, 2,
        'grant ' || m.roleid::regrole || ' to ' || m.member::regrole || ';'
    from pg_auth_members as m
    where m.roleid::regrole::text like 'faregate%%' or m.member::regrole::text like 'faregate%%'
    union all
    select
        'default privileges', d.defaclrole::regrole::text, 0,
        '-- On each ' || case d.defaclobjtype
            when 'r' then 'table' when 'S' then 'sequence' when 'f' then 'routine'
            when 'T' then 'type' else 'schema'
        end || ' that ' || d.defaclrole::regrole || ' makes: ' || d.defaclacl::text
    from pg_default_acl as d
    where d.defaclnamespace = 0
    union all
    select 'schema', o.name, 0, 'create schema ' || o.name || ';'
    from ours as o
    union all
    select 'type', t.name, 0,
        case t.typtype
            when 'd' then 'create domain ' || t.name || ' as ' || t.typbasetype::regtype || (
                select string_agg(' ' || k.text, '' order by k.conname collate "C")
                from constraints as k where k.contypid = t.oid
            )
            else 'create type ' || t.name || ' as enum (' || (
                select string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder)
                from pg_enum as e where e.enumtypid = t.oid
            ) || ')'
        end || ';'
    from types as t
    where t.typtype <> 'c'
    union all
    select case r.kind when 'c' then 'type' else 'relation' end, r.name, 0,
        case r.kind
            when 'c' then 'create type ' || r.name || ' as ('
            when 'v' then 'create view ' || r.name || ' ('
            when 'm' then 'create materialized view ' || r.name || ' ('
            else 'create table ' || r.name || ' ('
        end
        || E'\n' || b.text || E'\n)'
        || case r.kind when 'p' then ' partition by ' || pg_get_partkeydef(r.oid) else '' end
        || coalesce(r.options, '')
        || case
            when r.kind in ('v', 'm') then E' as\n' || pg_get_viewdef(r.oid, true)
            else ';'
        end
    from relations as r
    inner join brackets as b on b.oid = r.oid
    union all
    select 'relation', r.name, 1,
        'alter table ' || r.name
        || case when r.is_forced then ' force' else ' enable' end || ' row level security;'
    from relations as r
    where r.has_rls
    union all
    select 'relation', r.name, 2, pg_get_indexdef(i.indexrelid) || ';'
    from relations as r
    inner join pg_index as i on i.indrelid = r.oid
    where not exists (
        select from pg_constraint as k where k.conindid = i.indexrelid and k.conrelid = r.oid
    )
    union all
    select 'relation', r.name, 3, pg_get_triggerdef(t.oid, true)
        || case t.tgenabled when 'D' then '; -- disabled' else ';' end
    from relations as r
    inner join pg_trigger as t on t.tgrelid = r.oid and not t.tgisinternal
    union all
    select 'relation', r.name, 4, concat_ws(
        ' ', 'create policy', p.policyname, 'on', r.name, 'as', lower(p.permissive),
        'for', lower(p.cmd), 'to', array_to_string(p.roles, ', '),
        'using (' || p.qual || ')', 'with check (' || p.with_check || ')'
    ) || ';'
    from relations as r
    inner join pg_policies as p on p.schemaname || '.' || p.tablename = r.name
    union all
    select 'routine', f.name, 0,
        concat_ws(
            ' ',
            case f.prokind when 'p' then 'create procedure' else 'create function' end,
            f.pronamespace::regnamespace || '.' || f.proname
            || '(' || pg_get_function_arguments(f.oid) || ')',
            'returns ' || pg_get_function_result(f.oid),
            'language ' || l.lanname,
            case f.provolatile when 'i' then 'immutable' when 's' then 'stable' end,
            case when f.proisstrict then 'strict' end,
            case f.proparallel when 's' then 'parallel safe' end,
            case when f.prosecdef then 'security definer' end,
            'set ' || array_to_string(f.proconfig, ' set '),
            'as ' || quote_literal(md5(coalesce(pg_get_function_sqlbody(f.oid), f.prosrc)))
        ) || ';'
    from functions as f
    inner join pg_language as l on l.oid = f.prolang
    union all
    select a.section, a.name, 8, 'alter ' || a.object || ' owner to ' || a.owner::regrole || ';'
    from acls as a
    where a.part is null and a.owner <> current_user::regrole
    union all
    select g.section, g.name, 9,
        'grant ' || g.text || ' on ' || g.object || ' to '
        || string_agg(g.grantee, ', ' order by g.grantee collate "C") || ';'
    from grants as g
    group by g.section, g.name, g.object, g.text
)

select string_agg(p.text, E'\n' order by p.place, p.text collate "C")
from pieces as p
group by p.section, p.name
order by
    array_position(
        array['role', 'default privileges', 'schema', 'type', 'relation', 'routine'], p.section
    ),
    p.name collate "C"
