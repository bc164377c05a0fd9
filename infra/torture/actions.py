"""What clients do to wallets, in any order, and what each acknowledged answer promises."""

import asyncio
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any, cast

import psycopg

from infra.torture.client import Client, Row, caller
from infra.torture.provider import CENT, Event, Payment
from infra.torture.wallets import Town, Wallet

_OUTBOX = """
select payload || jsonb_build_object('task_id', id)
from billing.outbox where topic = 'stop_session' order by id desc limit 30
"""
# The cloud has it, unless that took too long.
_MAKE = """
select billing.start_storage(s.organization_id, s.id)
from billing.lock_storage(%s, %s) as s
where s.status = 'requested'
"""


class Customers:
    """One client's share of a mixed load."""

    def __init__(self, client: Client, town: Town, random: Random) -> None:
        self.client, self.town, self.random = client, town, random
        self.journal, self.stage = client.journal, client.stage

    async def act(self) -> None:
        """Do something: on a hot wallet half of the time."""
        wallets = self.town.hot if self.random.random() < 0.5 else self.town.others
        wallet = self.random.choice(wallets)
        actions = (
            *(self.start, self.start, self.stop, self.hold, self.hold, self.hold),
            *(self.rent, self.delete),
            *(self.top_up, self.give_back, self.grant, self.sweep, self.tasks),
        )
        await self.random.choice(actions)(wallet)

    async def start(self, wallet: Wallet) -> None:
        """Start a session."""
        body: Row = {"tier": "small"}
        if self.random.random() < 0.3:
            body["max_seconds"] = self.random.choice((60, 900))
        key = self.client.key()
        path = "/v1/sessions"
        answer = await self.client.post("sessions", path, body, by=wallet.passport, key=key)
        if answer.status == 201:
            self.journal.note("session", key, answer.body["id"])
            wallet.sessions.append(answer.body["id"])
        self._expect(answer.status, 201, 402)

    async def stop(self, wallet: Wallet) -> None:
        """Stop a session, which others may do at the same time."""
        if not wallet.sessions:
            return
        session = self.random.choice(wallet.sessions)
        if self.random.random() < 0.8 and session in wallet.sessions:
            wallet.sessions.remove(session)
        path = f"/v1/sessions/{session}/stop"
        key = self.client.key()
        answer = await self.client.post("sessions", path, {}, by=wallet.passport, key=key)
        self._expect(answer.status, 200)
        if answer.status == 200:
            self.journal.note("stop", session, f"{session} {_micros(answer.body['charged'])}")

    async def rent(self, wallet: Wallet) -> None:
        """Rent a bucket, which the cloud then mostly has."""
        key = self.client.key()
        answer = await self.client.call(
            "create_storage",
            caller=caller(wallet.passport),
            kind="bucket",
            region="us-central1",
            size_gb=self.random.randint(1, 100),
            name=None,
            workspace_id=None,
            soft_delete_days=None,
            delete_after_days=None,
            idempotency_key=key,
        )
        if isinstance(answer, str):
            self._expect(
                answer, "insufficient_credits", "debt_outstanding", "storage_limit_reached"
            )
            return
        storage = str(answer["storage"]["id"])
        self.journal.note("storage", key, storage)
        if self.random.random() < 0.9:
            await self._owner(_MAKE, wallet.id, storage)
        wallet.storage.append(storage)

    async def delete(self, wallet: Wallet) -> None:
        """Delete storage, which others may do at the same time."""
        if not wallet.storage:
            return
        storage = self.random.choice(wallet.storage)
        if self.random.random() < 0.8 and storage in wallet.storage:
            wallet.storage.remove(storage)
        answer = await self.client.call(
            "delete_storage", caller=caller(wallet.passport), storage_id=storage
        )
        if isinstance(answer, str):
            self._expect(answer)
            return
        self.journal.note("stop", storage, f"{storage} {answer['charged_micros']}")

    async def hold(self, wallet: Wallet) -> None:
        """Hold money; then capture, release and expire it, twice at once now and then."""
        cents = self.random.randint(1, 300)
        hold = await self.open_hold(wallet, cents, self.random.choice((1, 300, 3000)))
        if hold is None:
            return
        body = {"organization_id": wallet.id}
        some: Row = {**body, "amount": _usd(self.random.randint(1, cents))}
        steps: list[tuple[str, Row]] = [
            ("capture", {**some, "final": False}),
            ("capture", {**some, "final": True}),
            ("capture", {**some, "final": True}),
            ("release", body),
            ("renew", {**body, "amount": "0.01", "expires_in_seconds": 60}),
        ]
        steps = self.random.sample(steps, self.random.randint(0, 3))
        if self.random.random() < 0.3:
            await asyncio.gather(*(self._change(hold, *step) for step in steps))
        else:
            for step in steps:
                await self._change(hold, *step)

    async def open_hold(self, wallet: Wallet, cents: int, seconds: int) -> str | None:
        """Hold so many cents; None: refused."""
        key = self.client.key()
        body = {
            "organization_id": wallet.id,
            "amount": _usd(cents),
            "expires_in_seconds": seconds,
        }
        answer = await self.client.post("holds", "/v1/holds", body, by=self.town.operator, key=key)
        self._expect(answer.status, 201, 402)
        if answer.status != 201:
            return None
        self.journal.note("hold", key, answer.body["id"])
        return str(answer.body["id"])

    async def _change(self, hold: str, what: str, body: Row) -> None:
        key = self.client.key()
        path = f"/v1/holds/{hold}/{what}"
        answer = await self.client.post("holds", path, body, by=self.town.operator, key=key)
        self._expect(answer.status, 200, 409, *([402] if what == "renew" else []))
        if answer.status == 200 and what == "capture":
            self.journal.note("capture", key, f"{hold} {_micros(str(body['amount']))}")

    async def top_up(self, wallet: Wallet) -> None:
        """Buy credits; Stripe tells of it again and again, in any order."""
        payment = await self.buy(wallet, self.random.choice((10, 25, 100)))
        await self._tell([payment.paid(), payment.noise(self.random)])
        wallet.top_ups.append(payment.top_up_id)

    async def buy(self, wallet: Wallet, dollars: int) -> Payment:
        """Ask for credits and pay at Stripe."""
        key = self.client.key()
        answer = await self.client.call(
            "create_top_up",
            caller=caller(wallet.passport),
            amount_micros=dollars * 1_000_000,
            save_card=False,
            idempotency_key=key,
        )
        assert isinstance(answer, dict)  # noqa: S101  nothing refuses it
        top_up_id = str(answer["top_up"]["id"])
        self.journal.note("top-up", key, top_up_id)
        payment = Payment(wallet.id, top_up_id, dollars * 1_000_000)
        self.journal.payments[top_up_id] = payment
        return payment

    async def give_back(self, wallet: Wallet) -> None:
        """A refund or a dispute, told in any order."""
        if not wallet.top_ups:
            return
        await self._tell(self.reverse(self.journal.payments[self.random.choice(wallet.top_ups)]))

    def reverse(self, payment: Payment) -> list[Event]:
        """Choose what goes back of a payment."""
        if self.random.random() < 0.3 and not payment.is_disputed:
            return payment.dispute(self.random)
        cents = self.random.randint(1, payment.micros // CENT)
        return payment.refund(cents * CENT, self.random)

    async def _tell(self, events: list[Event]) -> None:
        events = [event for event in events for _ in range(self.random.randint(1, 3))]
        self.random.shuffle(events)
        if self.random.random() < 0.3:
            await asyncio.gather(*(self.client.deliver(event) for event in events))
        else:
            for event in events:
                await self.client.deliver(event)

    async def grant(self, wallet: Wallet) -> None:
        """Credits from the operator: now or soon, for good or for a while."""
        now = await self._clock(0)
        body: Row = {
            "organization_id": wallet.id,
            "amount": _usd(self.random.randint(1, 500)),
            "note": "torture",
            "priority": self.random.choice((1, 100)),
        }
        if self.random.random() < 0.5:
            body["effective_at"] = (now + timedelta(seconds=100)).isoformat()
        if self.random.random() < 0.7:
            body["expires_at"] = (now + timedelta(seconds=700)).isoformat()
        key = self.client.key()
        answer = await self.client.post(
            "grants", "/v1/grants", body, by=self.town.operator, key=key
        )
        self._expect(answer.status, 201, 400)  # 400: time has passed it by
        if answer.status == 201:
            self.journal.note("grant", key, answer.body["id"])

    async def sweep(self, _: Wallet | None = None) -> None:
        """Time passes; the schedules run, two sweeps at once."""
        if self.random.random() < 0.3:
            await self._clock(self.random.choice((5, 60, 301)))
        names = (
            *("sweep-sessions", "sweep-sessions", "accrue-storage", "accrue-storage"),
            *("expire-holds", "expire-grants"),
        )
        answers = await asyncio.gather(
            *(
                self.client.post(
                    name.replace("-", "_"), f"/schedules/{name}", {}, by=self.stage.invoker_token
                )
                for name in names
            )
        )
        for answer in answers:
            self._expect(answer.status, 200)

    async def tasks(self, _: Wallet | None = None) -> None:
        """The queue delivers the newest tasks three times."""
        rows = await self._owner(_OUTBOX)
        for (payload,) in self.random.sample(rows, min(len(rows), 3)):
            await asyncio.gather(*(self._run_task(payload) for _ in range(3)))

    async def _run_task(self, payload: Row) -> None:
        answer = await self.client.post(
            "stop_session", "/tasks/stop-session", payload, by=self.stage.invoker_token
        )
        self._expect(answer.status, 200, 503)  # 503: not yet due

    async def _clock(self, seconds: int) -> datetime:
        """Move the sandbox's clock; tell the time."""
        move = "update billing.clock_offset set seconds = seconds + %s returning billing.now()"
        ((now,),) = await self._owner(move, seconds)
        return cast("datetime", now)

    async def _owner(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self.stage.owner_url, autocommit=True, connect_timeout=5
                ) as connection:
                    cursor = await connection.execute(statement.encode(), values)
                    return await cursor.fetchall()
            except psycopg.OperationalError:
                await asyncio.sleep(0.1)

    def _expect(self, answer: int | str, *answers: int | str) -> None:
        if answer not in (*answers, 599, "unanswered"):
            self.journal.differences.append(f"answered {answer}, expected one of {answers}")


def _usd(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def _micros(usd: str) -> int:
    return int(Decimal(usd) * 1_000_000)
