"""Customers and users of one test, made by the owner of its database."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
from psycopg import sql

from faregate.caller import new_key
from infra.local.template import Database
from tests.harness.cloud import Cloud

EVERYTHING = ("read", "write", "billing")
Connection = psycopg.Connection[tuple[Any, ...]]

_TABLES = """
select c.relname
from pg_catalog.pg_class as c
where c.relnamespace = 'billing'::regnamespace and c.relkind in ('r', 'p')
order by 1
"""


@dataclass(frozen=True)
class Organization:
    """A customer, and a passport of theirs with every permission a customer may have."""

    id: str
    passport: str


@dataclass(frozen=True)
class User:
    """A login, and an access token of theirs."""

    id: str
    email: str
    token: str


@dataclass
class Platform:
    """A database, looked at and furnished by its owner."""

    database: Database
    cloud: Cloud
    owner: Connection
    is_altered: bool = False

    def run(self, statement: LiteralString, *values: object) -> None:
        self.owner.execute(statement, values)

    def alter(self, statement: LiteralString | sql.Composed) -> None:
        """Change what migrations made: no other test gets this database."""
        self.is_altered = True
        self.owner.execute(statement)

    def fetch(self, query: LiteralString, *values: object) -> list[tuple[Any, ...]]:
        return self.owner.execute(query, values).fetchall()

    def value(self, query: LiteralString, *values: object) -> Any:  # noqa: ANN401  any SQL type
        ((value,),) = self.fetch(query, *values)
        return value

    def organization(self, plan: str = "free", *, usd: int = 0) -> Organization:
        """Make an organization with so much in its wallet."""
        organization_id = str(
            self.value(
                "select billing.create_organization('Acme', %s, %s, billing.now())",
                plan,
                f"{uuid4().hex}@example.com",
            )
        )
        if usd:
            self.give(organization_id, usd * 1_000_000)
        return Organization(organization_id, self.passport(organization_id, *EVERYTHING))

    def workspace(self, organization: Organization) -> str:
        """Make a workspace and give its id."""
        return str(
            self.value(
                "insert into billing.workspaces (organization_id, name, created_by)"
                " values (%s, 'Lab', 'operator') returning id",
                organization.id,
            )
        )

    def operator(self) -> Organization:
        """Make the platform's own organization."""
        key = new_key()
        organization_id = self.value(
            "select billing.create_operator('Operator', decode(%s, 'hex'), %s)",
            key.hash,
            key.prefix,
        )
        return Organization(str(organization_id), key.key)

    def give(self, organization_id: str, micros: int) -> None:
        self.run(
            "select billing.credit_wallet("
            "%s, %s, 'promotional', 'promotion', 'registration_bonus', null)",
            organization_id,
            micros,
        )

    def passport(
        self, organization_id: str, *permissions: str, expires_in_seconds: int | None = None
    ) -> str:
        """Make a passport and give its key."""
        key = new_key()
        self.run(
            "insert into billing.passports (organization_id, name, permissions, key_hash,"
            " key_prefix, created_by, expires_at) values (%s, 'test', %s, decode(%s, 'hex'),"
            " %s, 'operator', billing.now() + make_interval(secs => %s))",
            organization_id,
            list(permissions),
            key.hash,
            key.prefix,
            expires_in_seconds,
        )
        return key.key

    def passport_id(self, key: str) -> str:
        return str(
            self.value(
                "select id from billing.passports where key_hash = sha256(convert_to(%s, 'UTF8'))",
                key,
            )
        )

    def user(self, email: str = "", *, is_verified: bool = True) -> User:
        """Make a login as Supabase Auth does."""
        user_id = str(uuid4())
        email = email or f"{user_id}@example.com"
        self.run(
            "insert into auth.users (id, email, email_confirmed_at)"
            " values (%s, %s, case when %s then now() end)",
            user_id,
            email,
            is_verified,
        )
        return User(user_id, email, self.cloud.user_token(user_id))

    def join(self, user: User, organization: Organization, role: str) -> None:
        self.run(
            "insert into billing.members (organization_id, user_id, role) values (%s, %s, %s)",
            organization.id,
            user.id,
            role,
        )

    def rent(self, organization: Organization, gb: int, *, is_made: bool = True) -> str:
        """Rent a bucket of so many GB, which the cloud then has; give its id."""
        with self.owner.transaction():
            storage_id = self.value(
                "select billing.open_storage("
                "%s, 'bucket', 'us-central1', %s, 'data', null, 0, null, 0, 'test')",
                organization.id,
                gb,
            )
            if is_made:
                self.run("select billing.start_storage(%s, %s)", organization.id, storage_id)
        return str(storage_id)

    def advance(self, seconds: int) -> None:
        """Move the clock."""
        self.run("update billing.clock_offset set seconds = seconds + %s", seconds)

    def lose_the_note(self) -> None:
        """Have it as if whoever told the queues had broken off before noting it."""
        self.run("update billing.outbox set enqueued_at = null, enqueues = 0, tell_at = created_at")

    def wallet(self, organization: Organization) -> tuple[int, int]:
        """Tell what is settled and what is held, in µ$."""
        ((settled, held),) = self.fetch(
            "select settled_micros, held_micros from billing.wallets where organization_id = %s",
            organization.id,
        )
        return settled, held

    def contents(self) -> dict[str, Any]:
        """Tell how many rows each table has, and every wallet: what a refusal must not change."""
        counts = sql.SQL(" union all ").join(
            sql.SQL("select {}::text, count(*) from billing.{}").format(name, sql.Identifier(name))
            for (name,) in self.fetch(_TABLES)
        )
        wallets = self.fetch("select * from billing.wallets order by 1")
        return dict(self.owner.execute(counts).fetchall()) | {"the wallets": wallets}

    def differences(self) -> list[tuple[Any, ...]]:
        return self.fetch("select * from billing.verify()")


@contextmanager
def open_platform(database: Database, cloud: Cloud) -> Iterator[Platform]:
    """Connect as the owner."""
    cloud.serve(database)
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        yield Platform(database, cloud, owner)
