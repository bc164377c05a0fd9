"""A TCP proxy that cuts connections at the worst moments."""

import asyncio
from collections import Counter
from contextlib import suppress
from random import Random


class Proxy:
    """Stands before a port. A chunk with the marker is a request, which it may cut off.

    before: the request never arrives. during: it arrives, and nobody waits for its end. after: it
    was answered (over Postgres: committed), and the answer is lost.
    """

    def __init__(self, target: int, marker: bytes, random: Random) -> None:
        self.target, self.marker, self.random = target, marker, random
        self.chance = 0.0
        self.cuts: Counter[str] = Counter()

    async def listen(self) -> int:
        """Serve on a port of its own, and tell it."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=256)
        self._server = server  # the loop keeps no strong reference
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            try:
                there, back = await asyncio.open_connection("127.0.0.1", self.target)
                try:
                    await self._connect(reader, writer, there, back)
                finally:
                    back.close()
            finally:
                writer.close()

    async def _connect(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        requests: asyncio.StreamWriter,
    ) -> None:
        """Pass both ways until one side ends or the proxy cuts."""
        is_answer_lost = False

        async def forward() -> None:
            nonlocal is_answer_lost
            while chunk := await reader.read(65536):
                how = self._choose() if self.marker in chunk else None
                if how == "before":
                    return
                requests.write(chunk)
                await requests.drain()
                if how == "during":
                    return
                is_answer_lost = how == "after"

        async def back() -> None:
            while chunk := await answers.read(65536):
                if is_answer_lost:
                    return
                writer.write(chunk)
                await writer.drain()

        ways = [asyncio.create_task(forward()), asyncio.create_task(back())]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)

    def _choose(self) -> str | None:
        if self.random.random() >= self.chance:
            return None
        how = self.random.choice(("before", "during", "after"))
        self.cuts[how] += 1
        return how
