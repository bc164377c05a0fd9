"""A real PostgREST in front of a test's database, and a client as a customer's browser is one."""

import os
import signal
import subprocess
from collections.abc import Mapping
from time import monotonic, sleep
from typing import Any

import httpx

from infra.local import children, paths
from infra.local.template import Database
from tests.harness.cloud import Cloud

_READY_SECONDS = 30


class Postgrest:
    """The PostgREST of one worker: it serves one database at a time."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._database: Database | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def settings(self, way: str, database: Database) -> dict[str, str]:
        """Give what functions read that go this way into this database."""
        settings = self._cloud.layout.functions_environment(way)
        if way == "supabase":
            self.serve(database)
            return settings
        return settings | {"DATABASE_URL": database.functions_url}

    def serve(self, database: Database) -> None:
        """Serve this database from now on; tests hand theirs on, so it is seldom another one."""
        if database == self._database:
            return
        self.stop()
        self._process = children.spawn(
            [str(paths.postgrest_binary())],
            paths.LOGS / "postgrest-test.log",
            env=os.environ | self._environment(database),
        )
        self._database = database
        deadline = monotonic() + _READY_SECONDS
        with httpx.Client(trust_env=False) as http:
            while True:
                try:
                    if not http.get(self._cloud.postgrest_url).is_server_error:
                        return
                except httpx.HTTPError:
                    assert self._process.poll() is None, "PostgREST ended"
                assert monotonic() < deadline, "PostgREST does not answer"
                sleep(0.02)

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            children.stop(self._process, signal.SIGTERM)
        self._process = self._database = None

    def _environment(self, database: Database) -> dict[str, str]:
        port = httpx.URL(self._cloud.postgrest_url).port
        assert port
        project = self._cloud.layout.postgrest_environment(database.url("authenticator"), port)
        return project | {"PGRST_DB_POOL": "4", "PGRST_DB_CHANNEL_ENABLED": "false"}


class Rest:
    """Speaks to `/rest/v1` with the project's publishable key and the token of whoever asks."""

    def __init__(self, cloud: Cloud, http: httpx.Client, *, is_direct: bool = False) -> None:
        """Be a client of the gateway, or directly of what is behind it: twice as fast."""
        self._cloud, self._http = cloud, http
        self._url = cloud.postgrest_url if is_direct else cloud.layout.rest_url

    def request(
        self,
        method: str,
        path: str,
        *,
        by: str = "",
        key: str = "",
        headers: Mapping[str, str] | None = None,
        **options: Any,  # noqa: ANN401  httpx types them
    ) -> httpx.Response:
        """Ask as the bearer of a token (`by`) or, without one, as the bearer of the key alone."""
        key = key or self._cloud.layout.secrets.publishable_key
        sent = {"apikey": key, "Authorization": f"Bearer {by or key}"} | dict(headers or {})
        if method == "HEAD":
            # PostgREST hangs up after such an answer and does not say so.
            sent["Connection"] = "close"
        return self._http.request(method, f"{self._url}/{path}", headers=sent, **options)

    def rows(self, path: str, *, by: str) -> list[dict[str, Any]]:
        """Read rows, which must be allowed."""
        answer = self.request("GET", path, by=by)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()
        return rows
