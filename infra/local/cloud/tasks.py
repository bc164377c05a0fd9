"""Stand-in for Cloud Tasks: its REST wire format, named tasks, schedules and retries."""

import asyncio
import base64
import logging
from datetime import UTC, datetime, timedelta
from secrets import randbelow
from typing import Any

import httpx
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from infra.local.cloud.clock import Clock
from infra.local.cloud.google import Google
from infra.local.cloud.store import Document, Store

log = logging.getLogger(__name__)

# As the README has every queue made: it gives up about when the outbox tells it again.
_MAX_ATTEMPTS = 60
_MIN_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS, _MAX_DOUBLINGS = 0.1, 60, 16
_MAX_CONCURRENT = 32
_POLL_SECONDS = 0.2
# The client sends enumerations as numbers.
_METHODS = {1: "POST", 2: "GET", 3: "HEAD", 4: "PUT", 5: "DELETE", 6: "PATCH", 7: "OPTIONS"}
_CODES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 409: "ALREADY_EXISTS"}


class Tasks:
    """A queue that delivers when the sandbox clock says so."""

    def __init__(self, store: Store, clock: Clock, google: Google, http: httpx.AsyncClient) -> None:
        self._store, self._clock, self._google, self._http = store, clock, google, http
        self._waiting: dict[str, Document] = {task["name"]: task for task in store.all("task")}
        # Whoever moves the clock delivers what falls due on the way, and nobody else does.
        self.turn = asyncio.Lock()
        self.router = APIRouter(prefix="/tasks/v2")
        queue = "/{queue:path}/tasks"
        self.router.add_api_route(queue, self.create, methods=["POST"])
        self.router.add_api_route(queue, self.index, methods=["GET"])
        self.router.add_api_route("/{name:path}", self.get, methods=["GET"])
        self.router.add_api_route("/{name:path}", self.delete, methods=["DELETE"])

    async def create(self, request: Request, queue: str) -> Response:
        """POST /v2/{queue}/tasks. A name is taken for good, whatever became of its task."""
        task = (await request.json()).get("task", {})
        target = task.get("httpRequest", {})
        if not str(target.get("url", "")).startswith(("http://", "https://")):
            return _error(400, "HttpRequest.url is required.")
        name = task.setdefault("name", f"{queue}/tasks/{randbelow(10**19):019}")
        if not name.startswith(f"{queue}/tasks/"):
            return _error(400, "Task name does not belong to the queue.")
        now = await self._clock.now()
        # Nothing is awaited from here on: of two requests at once, one finds the name taken.
        if self._store.get("task_name", name) is not None:
            return _error(409, "Requested entity already exists")
        task.setdefault("scheduleTime", _rfc3339(now))
        task |= {"createTime": _rfc3339(now), "dispatchCount": 0, "view": 1}
        target.setdefault("httpMethod", 1)
        self._save(task)
        self._store.put("task_name", name, {})
        return JSONResponse(_basic_view(task))

    async def index(self, queue: str) -> dict[str, Any]:
        """GET /v2/{queue}/tasks."""
        tasks = [t for t in self._waiting.values() if t["name"].startswith(f"{queue}/tasks/")]
        return {"tasks": [_basic_view(task) for task in tasks]}

    async def get(self, name: str) -> Response:
        """GET /v2/{task}."""
        task = self._waiting.get(name)
        if task is None:
            return _error(404, "Requested entity was not found.")
        return JSONResponse(_basic_view(task))

    async def delete(self, name: str) -> Response:
        """DELETE /v2/{task}."""
        if name not in self._waiting:
            return _error(404, "Requested entity was not found.")
        self._forget(name)
        return JSONResponse({})

    async def run(self) -> None:
        """Deliver what falls due in real time, for as long as the process lives."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            if self._waiting:
                async with self.turn:
                    due = self._due(await self._clock.now())
                    await asyncio.gather(*map(self._deliver, due[:_MAX_CONCURRENT]))

    async def deliver_until(self, moment: datetime) -> int:
        """Move the clock from task to task up to a moment; count what was delivered."""
        delivered = 0
        while due := self._due(moment):
            await self._clock.advance_to(_time(due[0]["scheduleTime"]))
            delivered += await self._deliver(due[0])
        return delivered

    def _due(self, moment: datetime) -> list[Document]:
        due = [t for t in self._waiting.values() if _time(t["scheduleTime"]) <= moment]
        return sorted(due, key=lambda task: _time(task["scheduleTime"]))

    async def _deliver(self, task: Document) -> bool:
        target, name = task["httpRequest"], task["name"]
        queue, _, short_name = name.partition("/tasks/")
        headers = {
            **target.get("headers", {}),
            "User-Agent": "Google-Cloud-Tasks",
            "X-CloudTasks-QueueName": queue.rpartition("/")[2],
            "X-CloudTasks-TaskName": short_name,
            "X-CloudTasks-TaskRetryCount": str(task["dispatchCount"]),
            "X-CloudTasks-TaskExecutionCount": str(task["dispatchCount"]),
            "X-CloudTasks-TaskETA": str(_time(task["scheduleTime"]).timestamp()),
        }
        if oidc := target.get("oidcToken"):
            audience = oidc.get("audience") or target["url"]
            token = self._google.id_token(oidc["serviceAccountEmail"], audience)
            headers["Authorization"] = f"Bearer {token}"
        method = target["httpMethod"]
        try:
            answer = await self._http.request(
                _METHODS.get(method, str(method)),
                target["url"],
                content=base64.b64decode(target.get("body", "")),
                headers=headers,
            )
            outcome, delivered = str(answer.status_code), answer.is_success
        except httpx.HTTPError as error:
            outcome, delivered = repr(error), False
        log.info("task %s: %s", short_name, outcome)
        if delivered:
            self._forget(name)
        elif name in self._waiting:
            await self._retry(task)
        return delivered

    async def _retry(self, task: Document) -> None:
        attempts = task["dispatchCount"] = task["dispatchCount"] + 1
        if attempts >= _MAX_ATTEMPTS:
            self._forget(task["name"])
            return
        backoff = _MIN_BACKOFF_SECONDS * 2 ** min(attempts - 1, _MAX_DOUBLINGS)
        delay = timedelta(seconds=min(backoff, _MAX_BACKOFF_SECONDS))
        task["scheduleTime"] = _rfc3339(await self._clock.now() + delay)
        self._save(task)

    def _save(self, task: Document) -> None:
        self._waiting[task["name"]] = task
        self._store.put("task", task["name"], task)

    def _forget(self, name: str) -> None:
        self._waiting.pop(name, None)
        self._store.delete("task", name)


def _basic_view(task: Document) -> Document:
    """Leave the body out, as every answer does that was not asked for the full view."""
    target = {key: value for key, value in task["httpRequest"].items() if key != "body"}
    return {**task, "httpRequest": target}


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _error(status: int, message: str) -> JSONResponse:
    """Answer as every Google API refuses."""
    body = {"code": status, "message": message, "status": _CODES[status]}
    return JSONResponse({"error": body}, status)
