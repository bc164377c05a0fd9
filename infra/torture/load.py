"""Many clients at once on a loop of their own, while the main thread breaks things."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random

import httpx
from anyio.from_thread import BlockingPortal

from infra.torture.actions import Customers
from infra.torture.client import Client, Journal
from infra.torture.stage import Stage
from infra.torture.wallets import Town

CLIENTS = 16


@dataclass
class Crowd:
    """Makes clients, and lets them act."""

    portal: BlockingPortal
    stage: Stage
    town: Town
    journal: Journal
    _names: "count[int]" = field(default_factory=lambda: count(1))

    @contextmanager
    def busy(self, random: Random) -> Iterator[None]:
        """Let clients do everything; at the end wait until each has its last answer."""
        is_over = asyncio.Event()

        async def act() -> None:
            async def one(customers: Customers) -> None:
                while not is_over.is_set():
                    await customers.act()

            await self._together(CLIENTS, random, one)

        acting = self.portal.start_task_soon(act)
        try:
            yield
        finally:
            self.portal.call(is_over.set)
            acting.result()

    def do(self, number: int, random: Random, work: Callable[[Customers], Awaitable[None]]) -> None:
        """Let so many clients do the same."""
        self.portal.call(self._together, number, random, work)

    async def _together(
        self, number: int, random: Random, work: Callable[[Customers], Awaitable[None]]
    ) -> None:
        async with self._clients(number) as clients, asyncio.TaskGroup() as group:
            for client in clients:
                own = Random(random.random())
                group.create_task(_run(work, Customers(client, self.town, own)))

    @asynccontextmanager
    async def _clients(self, number: int) -> AsyncIterator[list[Client]]:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=128)
        async with httpx.AsyncClient(timeout=15, trust_env=False, limits=limits) as http:
            clients = [
                Client(self.stage, self.journal, http, f"client{next(self._names):05}")
                for _ in range(number)
            ]
            try:
                yield clients
            finally:
                for client in clients:
                    await client.close()


async def _run(work: Callable[[Customers], Awaitable[None]], customers: Customers) -> None:
    await work(customers)
