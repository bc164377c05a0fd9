"""Stands where Supabase's Management API would: one project, whose database is a test's."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import psycopg
import uvicorn
from fastapi import FastAPI, HTTPException, Request

from infra.local.migrate import FUNCTIONS
from infra.local.template import free_port

REF = "abcdefghijklmnopqrst"
TOKEN = "sbp_s3cret"


@dataclass
class Management:
    """What a project was asked for, and what it has."""

    owner_url: str
    # The role of all tests is the cluster's: this one's password may change.
    role: str
    queries: list[str] = field(default_factory=list)
    api_keys: dict[str, str] = field(default_factory=dict)
    signing_keys: list[dict[str, Any]] = field(default_factory=list)
    is_broken: bool = False
    url: str = ""

    def app(self) -> FastAPI:
        app = FastAPI(openapi_url=None)
        root = f"/v1/projects/{REF}"

        @app.middleware("http")
        async def authenticate(request: Request, call_next: Any) -> Any:  # noqa: ANN401
            assert request.headers["authorization"] == f"Bearer {TOKEN}"
            return await call_next(request)

        @app.get(f"{root}/config/database/pooler")
        async def pooler() -> list[dict[str, Any]]:
            host = "aws-0-eu-west-1.pooler.supabase.com"
            return [{"database_type": "PRIMARY", "db_host": host, "db_port": 6543}]

        @app.post(f"{root}/database/query", status_code=201)
        def query(body: dict[str, str]) -> list[Any]:
            self.queries.append(body["query"])
            if self.is_broken:
                raise HTTPException(500)
            with psycopg.connect(self.owner_url, autocommit=True) as owner:
                try:
                    owner.execute(body["query"].replace(FUNCTIONS, self.role).encode())
                except psycopg.Error as error:
                    raise HTTPException(400, str(error)) from error
            return []

        @app.post(f"{root}/api-keys", status_code=201)
        async def api_key(body: dict[str, str], reveal: bool) -> dict[str, Any]:
            assert (body["type"], reveal) == ("secret", True)
            self.api_keys[body["name"]] = f"sb_secret_{len(self.api_keys)}"
            return {**body, "api_key": self.api_keys[body["name"]]}

        @app.post(f"{root}/config/auth/signing-keys", status_code=201)
        async def signing_key(body: dict[str, Any]) -> dict[str, Any]:
            self.signing_keys.append(body)
            return {"id": body["private_jwk"]["kid"], "status": body["status"]}

        return app


@contextmanager
def run_management(owner_url: str, role: str) -> Iterator[Management]:
    """Serve a project's API until the block ends."""
    management = Management(owner_url, role)
    port = free_port()
    config = uvicorn.Config(management.app(), port=port, log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    management.url = f"http://127.0.0.1:{port}"
    try:
        yield management
    finally:
        server.should_exit = True
        thread.join(10)
