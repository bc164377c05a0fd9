"""Cloud Tasks: calls a function at a second that is known beforehand."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from faregate.errors import FaregateError
from faregate.settings import TasksSettings

if TYPE_CHECKING:
    from google.cloud.tasks_v2 import CloudTasksClient


class Tasks:
    """The queues that call task functions, one queue and one function for each topic.

    Google's library is imported when there is something to enqueue, which most runs have not: it
    would be half of a cold start.
    """

    def __init__(self) -> None:
        self._settings = TasksSettings()
        # The client blocks; threads keep the event loop free.
        self._threads = ThreadPoolExecutor(8)
        self._lock = Lock()

    async def enqueue(self, *, topic: str, name: str, payload: dict[str, Any], run_at: str) -> None:
        """Have a topic's function called with a payload at a time (RFC 3339).

        Once per name, however often it is said.

        Raises FaregateError: unavailable.
        """
        await asyncio.get_running_loop().run_in_executor(
            self._threads, self._create_task, topic, name, payload, run_at
        )

    def _create_task(self, topic: str, name: str, payload: dict[str, Any], run_at: str) -> None:
        from google.api_core.exceptions import Conflict, GoogleAPICallError
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.tasks_v2 import HttpMethod, HttpRequest, OidcToken, Task

        path = topic.replace("_", "-")
        queue = f"{self._settings.tasks_location}/queues/{path}"
        task = Task(
            name=f"{queue}/tasks/{name}",
            schedule_time=datetime.fromisoformat(run_at),
            http_request=HttpRequest(
                http_method=HttpMethod.POST,
                url=f"{str(self._settings.tasks_target_url).rstrip('/')}/tasks/{path}",
                headers={"Content-Type": "application/json"},
                body=json.dumps(payload).encode(),
                oidc_token=OidcToken(
                    service_account_email=self._settings.tasks_service_account,
                    audience=self._settings.tasks_audience,
                ),
            ),
        )
        try:
            with self._lock:
                client = self._client
            client.create_task(parent=queue, task=task, timeout=10)
        except Conflict:  # AlreadyExists; over REST the library has no name for it
            return
        except (GoogleAPICallError, GoogleAuthError, OSError) as error:
            raise FaregateError("unavailable") from error

    @cached_property
    def _client(self) -> "CloudTasksClient":
        """Make the client over plain REST, which is lighter than gRPC."""
        from google.cloud.tasks_v2 import CloudTasksClient
        from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksRestTransport

        from faregate.backends.google import credentials

        address = urlsplit(str(self._settings.tasks_api_url))
        return CloudTasksClient(
            transport=CloudTasksRestTransport(
                host=address.netloc + address.path.rstrip("/"),
                url_scheme=address.scheme,
                credentials=credentials(str(self._settings.tasks_api_url)),
            )
        )

    async def close(self) -> None:
        """Begin no more calls; the client's connections end with the process."""
        self._threads.shutdown(wait=False, cancel_futures=True)
