"""Two organizations that have something of everything, and everybody who might look at it."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import httpx
import jwt
import psycopg
from anyio.from_thread import BlockingPortal
from psycopg import sql

from infra.local import template
from tests.database import access
from tests.harness.answers import done
from tests.harness.auto_top_ups import AutoTopUps
from tests.harness.client import Client, Load, load
from tests.harness.cloud import Cloud
from tests.harness.platform import Connection, Organization, Platform, User, open_platform
from tests.harness.postgrest import Postgrest, Rest
from tests.harness.stripe_account import StripeAccount

READERS = (
    *("anonymous", "owner", "admin", "member", *access.PASSPORTS, "outsider"),
    *("owner of another", "member here, owner there"),
)
BEHIND_THE_DOOR = [
    *[("billing", table) for table in access.TABLES],
    *[("ops", view) for view in access.OPERATORS],
    ("auth", "users"),
]
Row = dict[str, Any]


@dataclass(frozen=True)
class Reader:
    """Somebody with a token or none, and what they are in which organization."""

    token: str
    roles: dict[str, str]

    @property
    def claims(self) -> Row:
        """Give what PostgREST would tell the database about them."""
        if not self.token:
            return {"role": "anon"}
        claims: Row = jwt.decode(self.token, options={"verify_signature": False})
        return claims


@dataclass(frozen=True)
class Town:
    """The furnished database. Its clock stands still: two readings are the same."""

    platform: Platform
    rest: Rest
    ours: Organization
    theirs: Organization
    readers: dict[str, Reader]
    _sql: Connection

    @contextmanager
    def being(self, reader: str, *openings: LiteralString) -> Iterator[Connection]:
        """Be a reader in SQL, in a database that was opened so far; all is rolled back."""
        claims = self.readers[reader].claims
        with self._sql.transaction(force_rollback=True):
            for opening in openings:
                self._sql.execute(opening)
            self._sql.execute(
                "select set_config('request.jwt.claims', %s, true), set_config('role', %s, true)",
                [json.dumps(claims), claims["role"]],
            )
            yield self._sql

    def token(self, name: str) -> str:
        """Give what a reader shows, or the functions themselves."""
        if name == "service_role":
            return self.platform.cloud.layout.secrets.secret_key
        return self.readers[name].token

    def visible(self, view: str, reader: str) -> list[Row]:
        """Give the rows that a reader may see, column by column."""
        roles = list(self.readers[reader].roles.items())
        return [
            {column: value if self._shows(view, column, role) else None for column, value in row}
            for organization, role in (roles[:1] if view in access.SHARED else roles)
            if role in access.VIEWS[view]
            for row in map(dict.items, self.rows(view, organization))
        ]

    @staticmethod
    def _shows(view: str, column: str, role: str) -> bool:
        return role in access.COLUMNS.get((view, column), {role})

    def rows(self, view: str, organization: str) -> list[Row]:
        """Give the rows of an organization in a view, as the owner of the database sees them."""
        query = sql.SQL("select to_jsonb(v) from api.{} as v where {}").format(
            sql.Identifier(view), self.whose(view, organization)
        )
        return [row for (row,) in self.platform.owner.execute(query)]

    @staticmethod
    def whose(table: str, *organizations: str) -> sql.Composable:
        """Give the condition for rows of these organizations."""
        if table in access.SHARED:
            return sql.SQL(access.ROWS[table])
        key = "id" if table == "organizations" else "organization_id"
        return sql.SQL("{} = any({}::uuid[])").format(sql.Identifier(key), [*organizations])

    def check(self) -> None:
        """Fail where there is nothing to see: that would prove nothing."""
        assert set(self.readers) == set(READERS)
        for view, allowed in access.VIEWS.items():
            for organization in (self.ours.id, self.theirs.id):
                assert not allowed or self.rows(view, organization), f"no row in {view}"
        empty = [table for table, count, _ in self.contents() if not count]
        assert empty == []

    def contents(self) -> list[tuple[Any, ...]]:
        """Digest every row of every table: what nobody here may change."""
        return contents(self.platform.owner)


_TABLES: LiteralString = """
select c.relnamespace::regnamespace::text, c.relname
from pg_class as c
where c.relnamespace = any(array['billing', 'auth']::regnamespace[]) and c.relkind in ('r', 'p')
order by 1, 2
"""
_DIGEST = "select {}, count(*), md5(string_agg(t::text, '|' order by t::text)) from {}.{} as t"


def contents(owner: Connection) -> list[tuple[Any, ...]]:
    digests = [
        sql.SQL(_DIGEST).format(f"{schema}.{name}", sql.Identifier(schema), sql.Identifier(name))
        for schema, name in owner.execute(_TABLES).fetchall()
    ]
    # In the order of their names: several at once come in any.
    return sorted(owner.execute(sql.SQL(" union all ").join(digests)).fetchall())


@contextmanager
def furnished(cloud: Cloud, portal: BlockingPortal, postgrest: Postgrest) -> Iterator[Town]:
    """Furnish a database of its own, mostly through the functions."""
    with ExitStack() as stack:
        database = stack.enter_context(template.clone())
        platform = stack.enter_context(open_platform(database, cloud))
        settings = cloud.layout.functions_environment() | {"DATABASE_URL": database.functions_url}

        def function(name: str, **more: str) -> Client:
            return stack.enter_context(load(portal, name, settings | more))

        http = stack.enter_context(httpx.Client(trust_env=False))
        account = StripeAccount(platform, function, http)
        operator = platform.operator()
        _make_cloneable(platform, function("spaces"), operator)
        _limit_holds(function("policies"), operator)
        owner, ours = _furnish(platform, function, account, operator)
        other, theirs = _furnish(platform, function, account, operator)
        readers = _readers(platform, function("token"), owner, ours, other, theirs)
        _stop_the_clock(platform)
        postgrest.serve(database)
        connection = stack.enter_context(psycopg.connect(database.owner_url, autocommit=True))
        town = Town(platform, Rest(cloud, http, is_direct=True), ours, theirs, readers, connection)
        town.check()
        yield town


def _furnish(
    platform: Platform, function: Load, account: StripeAccount, operator: Organization
) -> tuple[User, Organization]:
    owner = platform.user()
    made = done(function("register").post("/v1/register", {}, by=owner.token), 201)
    organization = Organization(made["organization"]["id"], made["passport"]["key"])
    path, invited = f"/v1/organizations/{organization.id}/invitations", "invited@example.com"
    body = {"email": invited, "role": "member"}
    done(function("invitations").post(path, body, by=owner.token), 201)
    desk = AutoTopUps(platform, function)
    payment = desk.save_card(organization)
    done(desk.set(organization))
    _run_a_session(platform, function("sessions"), organization)
    _rent_storage(platform, function("workspaces"), organization)
    _capture(function("holds"), operator, organization)
    _limit(function("entitlements"), operator, organization)
    done(function("holds").get("/v1/holds", by=organization.passport))
    _meter(platform, function("usage"), operator, organization)
    _backfill(platform, function("backfills"), operator, organization)
    asked = {"organization_id": organization.id, "feature": "chat", "quantities": {"images": 1}}
    authorizations = function("authorizations")
    done(authorizations.post("/v1/usage/authorize", asked, by=operator.passport), 201)
    _buy_a_space(platform, function("spaces"), organization)
    account.refund(payment["id"], 100)
    for event in account.events():
        if event["type"].startswith("refund.") and "succeeded" in json.dumps(event):
            account.tell(event)
    _audit(platform, organization)
    return owner, organization


def _run_a_session(platform: Platform, sessions: Client, organization: Organization) -> None:
    by, path = organization.passport, "/v1/sessions"
    session = done(sessions.post(path, {"tier": "small"}, by=by), 201)
    platform.advance(90)
    done(sessions.post(f"{path}/{session['id']}/stop", {}, by=by))


def _rent_storage(platform: Platform, workspaces: Client, organization: Organization) -> None:
    """Rent a bucket of 7 GB, which the cloud then has."""
    body = {"name": "Experiments"}
    workspace = done(workspaces.post("/v1/workspaces", body, by=organization.passport), 201)
    bucket = platform.value(
        "select billing.open_storage(%s, 'bucket', 'us-central1', 7, 'data', %s, 7, 30, 5, 'test')",
        organization.id,
        workspace["id"],
    )
    platform.run("select billing.start_storage(%s, %s)", organization.id, bucket)
    platform.run(
        "insert into billing.uploads (organization_id, storage_id, object_name, size_bytes,"
        " signed_by) values (%s, %s, 'a', 1, 'test')",
        organization.id,
        bucket,
    )


def _make_cloneable(platform: Platform, spaces: Client, operator: Organization) -> None:
    """Give a space of the platform a source."""
    bucket = platform.value(
        "select billing.open_storage("
        "%s, 'bucket', 'us-central1', 20, null, null, 0, null, 0, 'test')",
        operator.id,
    )
    platform.run("select billing.start_storage(%s, %s)", operator.id, bucket)
    body = {"storage_id": str(bucket), "is_cloneable": True}
    done(spaces.post("/v1/spaces/web-dev/source", body, by=operator.passport))


def _buy_a_space(platform: Platform, spaces: Client, organization: Organization) -> None:
    by, path = organization.passport, "/v1/spaces/web-dev"
    done(spaces.post(f"{path}/purchases", by=by), 201)
    workspace = platform.value(
        "select id from billing.workspaces where organization_id = %s", organization.id
    )
    done(spaces.post(f"{path}/attach", {"workspace_id": str(workspace)}, by=by))
    done(spaces.post(f"{path}/clone", {}, by=by), 201)


def _capture(holds: Client, operator: Organization, organization: Organization) -> None:
    # More than the bonus, so that two grants pay; and less than the hold keeps.
    body: Row = {"organization_id": organization.id, "amount": "8.00", "expires_in_seconds": 3600}
    hold = done(holds.post("/v1/holds", body, by=operator.passport), 201)
    body = {"organization_id": organization.id, "amount": "7.00", "final": False}
    done(holds.post(f"/v1/holds/{hold['id']}/capture", body, by=operator.passport))


def _limit(entitlements: Client, operator: Organization, organization: Organization) -> None:
    """List a feature, which the plan includes and they have terms of their own for; and a cap."""
    by, path = operator.passport, "/v1/features/chat"
    terms = {"meter": "images", "period": "month", "limit": 100}
    body: Row = {"kind": "metered", "description": "Chat", "plans": {"free": terms, "pro": terms}}
    done(entitlements.request("PUT", path, json=body, by=by))
    body = {"organization_id": organization.id, "terms": terms}
    done(entitlements.request("PUT", f"{path}/terms", json=body, by=by))
    body = {"period": "month", "cap": "100.00"}
    done(entitlements.request("PUT", "/v1/spend-caps", json=body, by=organization.passport))


def _limit_holds(policies: Client, operator: Organization) -> None:
    """Limit how often holds are listed, to more than anybody here will."""
    bucket = {"limit_per": "passport", "capacity": 1000, "refill": 1, "refill_seconds": 1}
    rule = {"description": "lists", "effect": "limit", "match": {"action": ["list_holds"]}}
    done(policies.post("/v1/policies", rule | bucket, by=operator.passport), 201)


def _meter(
    platform: Platform, usage: Client, operator: Organization, organization: Organization
) -> None:
    """One event that is rated, by a rate of their own, and one that nobody can rate."""
    platform.run("insert into billing.providers (id) values ('acme') on conflict do nothing")
    platform.run(
        "insert into billing.provider_models values ('acme', 'm', 0, '{m}', null)"
        " on conflict do nothing"
    )
    platform.run(
        "select billing.add_provider_price('acme', 'm', billing.now(), 'test',"
        """ '{"-1": {"images": "0.01"}}')"""
    )
    platform.run(
        "insert into billing.usage_policies (organization_id, allow_debt_micros) values (%s, 0)",
        organization.id,
    )
    platform.run(
        "select billing.add_usage_rate(jsonb_populate_record(null::billing.usage_rates,"
        " jsonb_build_object('id', billing.uuidv7(), 'organization_id', %s::uuid,"
        " 'may_be_below_cost', true, 'effective_at', '2026-02-01', 'created_by', 'operator')),"
        """ '{"images": {"kind": "package", "size": 10, "price": "0.01"}}')""",
        organization.id,
    )
    for meter in ("images", "unheard_of"):
        event = {
            **{"organization_id": organization.id, "source": "gateway", "id": meter},
            **{"feature": "chat", "quantities": {meter: 1}},
        }
        known = {"provider": "acme", "model": "m"} if meter == "unheard_of" else {}
        done(usage.post("/v1/usage/events", {"events": [event | known]}, by=operator.passport))
    # One of each is folded, another not.
    platform.run(
        "update billing.usage_folds set"
        " complete_until = date_trunc('milliseconds', billing.now()) + interval '1 millisecond'"
    )
    platform.value("select folded from api.fold_usage(1000)")
    later = event | {"id": "later", "quantities": {"images": 1}}
    done(usage.post("/v1/usage/events", {"events": [later]}, by=operator.passport))


def _backfill(
    platform: Platform, backfills: Client, operator: Organization, organization: Organization
) -> None:
    """Stage an event of the past, which cannot be recorded."""
    period = {"starts_at": "2026-01-01T00:00:00Z", "ends_at": "2026-02-01T00:00:00Z"}
    body: Row = {"organization_id": organization.id} | period
    backfill = done(backfills.post("/v1/usage/backfills", body, by=operator.passport), 201)
    event = {
        **{"source": "gateway", "id": "then", "occurred_at": period["starts_at"]},
        **{"feature": "chat", "quantities": {"images": 1}},
    }
    path = f"/v1/usage/backfills/{backfill['id']}/events"
    done(backfills.post(path, {"events": [event]}, by=operator.passport))
    platform.run(
        "update billing.backfill_events set outcome = 'rejected', reason = 'test'"
        " where organization_id = %s",
        organization.id,
    )


def _audit(platform: Platform, organization: Organization) -> None:
    """Write what the reconciliation would: it also finds what other tests did at Stripe."""
    platform.run("insert into billing.reconciliations (started_by) values ('test')")
    platform.run(
        "insert into billing.discrepancies (kind, organization_id, subject)"
        " values ('ledger', %s, 'test')",
        organization.id,
    )
    platform.run(
        "insert into billing.usage_archived_months (month) values ('2025-01-01')"
        " on conflict do nothing"
    )
    platform.run(
        "insert into billing.usage_files (month, number, object_name, last_organization_id,"
        " last_id, events, size_bytes, sha256) values ('2025-01-01', 1, 'x', %s, %s, 0, 0, '')"
        " on conflict do nothing",
        organization.id,
        organization.id,
    )
    platform.run(
        "insert into billing.usage_archives"
        " values (%s, '2025-01-01', 1, 'chat', billing.zeros(), 0, '{}', 0, 0)",
        organization.id,
    )
    platform.run(
        "insert into billing.verified (organization_id, sequence, settled_micros, held_micros,"
        " debt_micros, provider_micros) values (%s, 0, 0, 0, 0, 0)",
        organization.id,
    )


def _readers(
    platform: Platform,
    tokens: Client,
    owner: User,
    ours: Organization,
    other: User,
    theirs: Organization,
) -> dict[str, Reader]:
    admin, member, outsider, both = (platform.user() for _ in range(4))
    platform.join(admin, ours, "admin")
    platform.join(member, ours, "member")
    platform.join(both, ours, "member")
    platform.join(both, theirs, "owner")
    readers = {
        "anonymous": Reader("", {}),
        "owner": Reader(owner.token, {ours.id: "owner"}),
        "admin": Reader(admin.token, {ours.id: "admin"}),
        "member": Reader(member.token, {ours.id: "member"}),
        "outsider": Reader(outsider.token, {}),
        "owner of another": Reader(other.token, {theirs.id: "owner"}),
        "member here, owner there": Reader(both.token, {ours.id: "member", theirs.id: "owner"}),
    }
    for name, permissions in access.PASSPORTS.items():
        key = platform.passport(ours.id, *permissions)
        token = done(tokens.post("/v1/token", by=key))["token"]
        readers[name] = Reader(token, {ours.id: name})
    return readers


def _stop_the_clock(platform: Platform) -> None:
    platform.alter(
        sql.SQL(
            "create or replace function billing.now() returns timestamptz"
            " language sql volatile parallel safe return timestamptz {}"
        ).format(sql.Literal(platform.value("select billing.now()::text")))
    )
