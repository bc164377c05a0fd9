"""The users of the stand-in for Supabase Auth: rows of `auth.users`, as in a real project."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from infra.local.cloud.passwords import hash_password


class Connections(Protocol):
    """What lends connections: a pool."""

    def connection(self) -> AbstractAsyncContextManager[AsyncConnection[Any]]:
        """Lend one, in autocommit."""


@dataclass(frozen=True)
class User:
    """One row of `auth.users`."""

    id: UUID
    email: str
    encrypted_password: str | None
    email_confirmed_at: datetime | None
    confirmation_sent_at: datetime | None
    invited_at: datetime | None
    recovery_sent_at: datetime | None
    last_sign_in_at: datetime | None
    raw_app_meta_data: dict[str, Any]
    raw_user_meta_data: dict[str, Any]
    created_at: datetime
    updated_at: datetime

    def as_json(self) -> dict[str, Any]:
        """Show a user as GoTrue does."""
        identity = {
            "identity_id": str(self.id),
            "id": str(self.id),
            "user_id": str(self.id),
            "provider": "email",
            "email": self.email,
            "identity_data": {
                "sub": str(self.id),
                "email": self.email,
                "email_verified": self.email_confirmed_at is not None,
                "phone_verified": False,
            },
            "created_at": _text(self.created_at),
            "updated_at": _text(self.updated_at),
            "last_sign_in_at": _text(self.last_sign_in_at or self.created_at),
        }
        times = {
            "confirmation_sent_at": self.confirmation_sent_at,
            "invited_at": self.invited_at,
            "recovery_sent_at": self.recovery_sent_at,
            "email_confirmed_at": self.email_confirmed_at,
            "confirmed_at": self.email_confirmed_at,
            "last_sign_in_at": self.last_sign_in_at,
        }
        return {
            "id": str(self.id),
            "aud": "authenticated",
            "role": "authenticated",
            "email": self.email,
            "phone": "",
            **{key: _text(value) for key, value in times.items() if value is not None},
            "app_metadata": self.raw_app_meta_data,
            "user_metadata": self.raw_user_meta_data,
            "identities": [identity],
            "created_at": _text(self.created_at),
            "updated_at": _text(self.updated_at),
            "is_anonymous": False,
        }


class Users:
    """Reads and writes `auth.users`."""

    def __init__(self, database: Connections) -> None:
        self._database = database

    async def create(
        self,
        email: str,
        password: str | None,
        *,
        confirmed: bool,
        user_metadata: dict[str, Any],
        app_metadata: dict[str, Any] | None = None,
    ) -> User | None:
        """Add a user; none when somebody has the address."""
        provider = {"provider": "email", "providers": ["email"]}
        return await self._one(
            """insert into auth.users (email, encrypted_password, email_confirmed_at,
                raw_user_meta_data, raw_app_meta_data)
            values (%s, %s, case when %s then now() end, %s, %s)
            on conflict (email) do nothing
            returning *""",
            email,
            None if password is None else hash_password(password),
            confirmed,
            Jsonb(user_metadata),
            Jsonb(provider | (app_metadata or {})),
        )

    async def by_email(self, email: str) -> User | None:
        """Find a user by address."""
        return await self._one("select * from auth.users where email = %s", email)

    async def by_id(self, identifier: str) -> User | None:
        """Find a user by id."""
        return await self._one("select * from auth.users where id = %s", identifier)

    async def expect_confirmation(
        self, email: str, token_hash: str, *, invited: bool = False
    ) -> User | None:
        """Note the token that was sent to a user whose address is not confirmed."""
        return await self._one(
            """update auth.users set confirmation_token = %s, confirmation_sent_at = now(),
                invited_at = case when %s then now() else invited_at end
            where email = %s and email_confirmed_at is null returning *""",
            token_hash,
            invited,
            email,
        )

    async def expect_sign_in(self, email: str, token_hash: str) -> User | None:
        """Note the token that was sent to a user whose address is confirmed."""
        return await self._one(
            """update auth.users set recovery_token = %s, recovery_sent_at = now()
            where email = %s and email_confirmed_at is not null returning *""",
            token_hash,
            email,
        )

    async def confirm(self, token_hash: str) -> User | None:
        """Take a token once."""
        return await self._one(
            """update auth.users
            set email_confirmed_at = coalesce(email_confirmed_at, now()), updated_at = now(),
                confirmation_token = null, recovery_token = null
            where %s in (confirmation_token, recovery_token) returning *""",
            token_hash,
        )

    async def signed_in(self, user: User) -> User | None:
        """Note a sign-in."""
        return await self._one(
            """update auth.users set last_sign_in_at = now(), updated_at = now()
            where id = %s returning *""",
            user.id,
        )

    async def _one(self, query: str, *parameters: object) -> User | None:
        async with self._database.connection() as connection:
            cursor = connection.cursor(row_factory=dict_row)
            await cursor.execute(query.encode(), parameters)
            row = await cursor.fetchone()
        return (
            None if row is None else User(**{field.name: row[field.name] for field in fields(User)})
        )


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
