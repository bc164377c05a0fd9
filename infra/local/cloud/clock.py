"""The sandbox clock: real time plus an offset that lives in the database and only ever grows."""

import math
from datetime import datetime

from psycopg_pool import AsyncConnectionPool


class Clock:
    """Reads and moves `billing.now()`."""

    def __init__(self, database: AsyncConnectionPool) -> None:
        self._database = database

    async def now(self) -> datetime:
        """Tell what the database takes for the time."""
        async with self._database.connection() as connection:
            row = await (await connection.execute("select billing.now()")).fetchone()
        if row is None or not isinstance(row[0], datetime):
            raise TypeError("billing.now() gives no time")
        return row[0]

    async def advance_to(self, moment: datetime) -> None:
        """Move to a moment, or just past it: the offset counts whole seconds. Never back."""
        seconds = math.ceil((moment - await self.now()).total_seconds())
        if seconds > 0:
            async with self._database.connection() as connection:
                await connection.execute(
                    "update billing.clock_offset set seconds = seconds + %s", [seconds]
                )
