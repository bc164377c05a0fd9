"""Many clients at once on a loop of their own, while the main thread breaks things."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random

import httpx
from anyio.from_thread import BlockingPortal

from infra.torture.actions import Customers
from infra.torture.client import Client, Journal
from infra.torture.stage import Stage
from infra.torture.wallets import Town

Action = Callable[[Customers], Awaitable[None]]


@dataclass
class Crowd:
    """Makes clients, and lets them act."""

    portal: BlockingPortal
    stage: Stage
    town: Town
    journal: Journal
    _names: "count[int]" = field(default_factory=lambda: count(1))

    @contextmanager
    def busy(
        self, random: Random, action: Action = Customers.act, number: int = 16
    ) -> Iterator[None]:
        """Let clients act again and again; at the end wait until each has its last answer."""
        is_over = asyncio.Event()

        async def act(customers: Customers) -> None:
            while not is_over.is_set():
                await action(customers)

        acting = self.portal.start_task_soon(self._together, number, random, act)
        try:
            yield
        finally:
            self.portal.call(is_over.set)
            acting.result()

    def do(self, number: int, random: Random, action: Action) -> None:
        """Let so many clients do the same."""
        self.portal.call(self._together, number, random, action)

    async def _together(self, number: int, random: Random, action: Action) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=128)
        async with httpx.AsyncClient(timeout=15, trust_env=False, limits=limits) as http:
            clients = [
                Client(self.stage, self.journal, http, f"client{next(self._names):05}")
                for _ in range(number)
            ]
            try:
                await asyncio.gather(
                    *(action(Customers(c, self.town, Random(random.random()))) for c in clients)
                )
            finally:
                for client in clients:
                    await client.close()
