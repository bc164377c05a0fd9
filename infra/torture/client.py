"""Clients that never give up: the same call with the same key until there is an answer."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from time import monotonic
from typing import Any, LiteralString

import httpx
import psycopg
from psycopg.types.json import Jsonb

from faregate.backends.database.postgres import call_query
from infra.torture.provider import Event, Payment, signed
from infra.torture.stage import Stage

Row = dict[str, Any]
PATIENCE_SECONDS = 60


@dataclass
class Journal:
    """What was acknowledged to the clients, by kind and key, and what should not have been seen."""

    effects: defaultdict[str, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    payments: dict[str, Payment] = field(default_factory=dict)
    actions: int = 0
    retries: int = 0
    errors: Counter[int] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def note(self, kind: str, key: str, effect: str) -> None:
        """Keep an acknowledged effect. A key has one, whoever asks and however often."""
        known = self.effects[kind].setdefault(key, effect)
        if known != effect:
            self.differences.append(f"{kind} {key}: answered {known}, then {effect}")


@dataclass(frozen=True)
class Answer:
    """A status and a document."""

    status: int
    body: Row
    content: bytes = b""


@dataclass
class Client:
    """Calls functions over HTTP and, as they do, the database; both through proxies that cut."""

    stage: Stage
    journal: Journal
    http: httpx.AsyncClient
    name: str
    _numbers: "count[int]" = field(default_factory=count)
    _connection: psycopg.AsyncConnection[tuple[Any, ...]] | None = None

    def key(self) -> str:
        """Choose an idempotency key that nobody else has."""
        return f"{self.name}-{next(self._numbers):06}"

    async def post(
        self,
        function: str,
        path: str,
        body: Row,
        *,
        by: str,
        key: str | None = None,
    ) -> Answer:
        """Call a function until it answers."""
        headers = {"Authorization": f"Bearer {by}", "Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self._send(function, path, json.dumps(body).encode(), headers)

    async def deliver(self, event: Event) -> None:
        """Tell of something at Stripe, until it is taken."""
        body, headers = signed(event, self.stage.layout.secrets.stripe_webhook_secret)
        answer = await self._send("stripe_webhook", "/v1/stripe/webhook", body, headers)
        if answer.status == 200:
            self.journal.note("event", event["id"], answer.body["outcome"])
        else:
            self.journal.differences.append(f"event {event['id']}: {answer}")

    async def _send(
        self, function: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        url = self.stage.functions[function].url + path
        deadline = monotonic() + PATIENCE_SECONDS
        while monotonic() < deadline:
            try:
                response = await self.http.post(url, content=body, headers=dict(headers))
            except httpx.HTTPError:
                await self._pause()
                continue
            document = response.json()
            if response.status_code < 500 or document.get("code") == "not_yet_due":
                self.journal.actions += 1
                return Answer(response.status_code, document, response.content)
            self.journal.errors[response.status_code] += 1
            await self._pause()
        self.journal.differences.append(f"{path} was not answered in {PATIENCE_SECONDS} s")
        return Answer(599, {})

    async def call(self, function: LiteralString, **arguments: object) -> Row | str:
        """Call api.<function> until it answers: a row, or the code of its refusal."""
        query = call_query(function, tuple(arguments))
        values = {k: Jsonb(v) if isinstance(v, dict) else v for k, v in arguments.items()}
        deadline = monotonic() + PATIENCE_SECONDS
        while monotonic() < deadline:
            try:
                if self._connection is None or self._connection.closed:
                    self._connection = await psycopg.AsyncConnection.connect(
                        self.stage.functions_url, autocommit=True, connect_timeout=5
                    )
                cursor = await self._connection.execute(query, values)
                row = await cursor.fetchone()
            except psycopg.Error as error:
                if (error.sqlstate or "").startswith("FG"):
                    self.journal.actions += 1
                    return error.diag.message_primary or ""
                if not isinstance(error, psycopg.OperationalError):
                    raise
                await self._pause()
            else:
                self.journal.actions += 1
                return row[0] if row is not None else {}
        self.journal.differences.append(f"{function} was not answered in {PATIENCE_SECONDS} s")
        return "unanswered"

    async def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            await self._connection.close()

    async def _pause(self) -> None:
        self.journal.retries += 1
        await asyncio.sleep(0.05)


def caller(passport: str) -> Row:
    """Tell schema api who calls."""
    return {"passport_hash": sha256(passport.encode()).hexdigest()}
