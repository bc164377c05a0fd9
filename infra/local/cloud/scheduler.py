"""Stand-in for Cloud Scheduler, and the lever that moves the sandbox clock."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import time
from typing import Annotated, Any

import httpx
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from infra.local.cloud.clock import Clock
from infra.local.cloud.google import Google
from infra.local.cloud.tasks import Tasks

log = logging.getLogger(__name__)

_HOUR_SECONDS = 3600
_DAY_SECONDS = 24 * _HOUR_SECONDS
_YEAR_SECONDS = 366 * _DAY_SECONDS


class Advance(BaseModel):
    """How far to move the clock."""

    model_config = ConfigDict(extra="forbid")

    advance_seconds: Annotated[int, Field(strict=True, ge=0, le=_YEAR_SECONDS)]


class Scheduler:
    """Calls schedules each minute of real time, and after each step of the clock.

    Some only at a full hour or at midnight, and once after a step that passes one, however many
    it passes.
    """

    def __init__(
        self,
        urls: Sequence[str],
        hourly_urls: Sequence[str],
        daily_urls: Sequence[str],
        service_account: str,
        audience: str,
        parts: tuple[Clock, Tasks, Google, httpx.AsyncClient],
    ) -> None:
        self._urls, self._hourly_urls, self._daily_urls = urls, hourly_urls, daily_urls
        self._service_account, self._audience = service_account, audience
        self._clock, self._tasks, self._google, self._http = parts
        self.router = APIRouter()
        self.router.add_api_route("/clock", self.read, methods=["GET"])
        self.router.add_api_route("/clock", self.advance, methods=["POST"])

    async def read(self) -> dict[str, Any]:
        """GET /clock."""
        return {"now": await self._now()}

    async def advance(self, body: Advance) -> dict[str, Any]:
        """POST /clock: everything that would have happened meanwhile happens before the answer."""
        async with self._tasks.turn:
            began = await self._clock.now()
            target = began + timedelta(seconds=body.advance_seconds)
            delivered = await self._tasks.deliver_until(target)
            await self._clock.advance_to(target)
            if _passes(_HOUR_SECONDS, began, target):
                for url in self._hourly_urls:
                    while await self._call(url):
                        pass
            # Last, because they also tell the queue what the others want done.
            sweeps, more = 0, True
            while more:
                sweeps, more = sweeps + 1, False
                for url in self._urls:
                    more |= await self._call(url)
                # A sweep may have scheduled what is due already.
                delivered += await self._tasks.deliver_until(target)
            if _passes(_DAY_SECONDS, began, target):
                for url in self._daily_urls:
                    await self._call(url)
        return {"now": await self._now(), "tasks_delivered": delivered, "sweeps": sweeps}

    async def run(self) -> None:
        """Call each of them at the start of each minute, for as long as the process lives."""
        while True:
            await asyncio.sleep(60 - time() % 60)
            now, urls = time(), list(self._urls)
            if now % _HOUR_SECONDS < 60:
                urls = [*self._hourly_urls, *urls]
            if now % _DAY_SECONDS < 60:
                urls += self._daily_urls
            for url in urls:
                try:
                    await self._call(url)
                except HTTPException as error:
                    log.warning("%s", error.detail)

    async def _call(self, url: str) -> bool:
        """Call a function once; tell whether it left something for the next call."""
        token = self._google.id_token(self._service_account, self._audience)
        try:
            answer = await self._http.post(url, headers={"Authorization": f"Bearer {token}"})
        except httpx.HTTPError as error:
            raise HTTPException(502, f"{url} did not answer: {error!r}") from error
        if not answer.is_success:
            raise HTTPException(502, f"{url} answered {answer.status_code}: {answer.text}")
        return bool(answer.json().get("more", False))

    async def _now(self) -> str:
        now = (await self._clock.now()).astimezone(UTC)
        return now.isoformat().replace("+00:00", "Z")


def _passes(period_seconds: int, began: datetime, ended: datetime) -> bool:
    """Tell whether a full hour or midnight (UTC) lies between two moments."""
    return began.timestamp() // period_seconds < ended.timestamp() // period_seconds
