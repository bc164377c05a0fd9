"""How a function is served: what all endpoints, schedules and tasks have around their contract."""

import asyncio
import gc
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from copy import copy
from dataclasses import replace
from functools import partial
from importlib import import_module
from time import perf_counter
from typing import Any, Protocol, cast
from uuid import uuid4

import functions_framework.aio
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import request_response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faregate.backends.database import Database
from faregate.conceal import conceal_path
from faregate.document import Api, refuses
from faregate.errors import PROBLEMS, FaregateError, explain
from faregate.headers import add_header, answer_headers
from faregate.log import about, log
from faregate.mistakes import mistakes
from faregate.money import format_usd
from faregate.request import StrictRoute
from faregate.settings import DeploymentSettings, HttpSettings, TracingSettings
from faregate.trace import Trace, incoming

VERSION = "0.1.0"

FUNCTIONS = {
    "register": "endpoints",
    "organizations": "endpoints",
    "invitations": "endpoints",
    "passports": "endpoints",
    "token": "endpoints",
    "credits": "endpoints",
    "stripe_webhook": "endpoints",
    "objects": "endpoints",
    "holds": "endpoints",
    "grants": "endpoints",
    "workspaces": "endpoints",
    "sessions": "endpoints",
    "usage": "endpoints",
    "backfills": "endpoints",
    "rates": "endpoints",
    "entitlements": "endpoints",
    "policies": "endpoints",
    "authorizations": "endpoints",
    "usage_reports": "endpoints",
    "storage": "endpoints",
    "spaces": "endpoints",
    "statements": "endpoints",
    "auto_top_up": "endpoints",
    "notifications": "endpoints",
    "identity": "endpoints",
    "reconciliation": "endpoints",
    "sweep_sessions": "schedules",
    "accrue_storage": "schedules",
    "expire_grants": "schedules",
    "expire_holds": "schedules",
    "fold_usage": "schedules",
    "start_auto_top_ups": "schedules",
    "enqueue_outbox": "schedules",
    "reconcile": "schedules",
    "measure_storage": "schedules",
    "keep_usage": "schedules",
    "report_health": "schedules",
    "stop_session": "tasks",
    "charge_top_up": "tasks",
    "send_invitation": "tasks",
    "clone_space": "tasks",
    "provision_identity": "tasks",
    "provision_storage": "tasks",
}
"""Every function and its kind: the folder that its module stands in."""

# Longer than a healthy database ever takes, shorter than whoever asks waits.
_HEALTH_SECONDS = 3

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)


class Backend(Protocol):
    """What a module lists in `backends`: made once per app, from settings it may refuse."""

    async def close(self) -> None:
        """Give back what is held open."""


def use(backend: type[Backend]) -> Any:  # noqa: ANN401  a default of any type
    """Give a handler the app's backend of this type."""
    return Depends(backend)


def _bind_routes(
    routes: Sequence[BaseRoute], backends: dict[type[Backend], Backend]
) -> list[BaseRoute]:
    bound = [copy(route) for route in routes if isinstance(route, StrictRoute)]
    words = frozenset(route.path for route in bound if not route.param_convertors)
    for route in bound:
        route.words = words
        route.dependant = _bind(route.dependant, backends)
        route.app = request_response(route.get_route_handler())
    return list(bound)


def _bind(dependant: Dependant, backends: dict[type[Backend], Backend]) -> Dependant:
    """Fill in backends when the app is made: FastAPI would resolve them for each request anew."""
    call: Any = dependant.call
    used: dict[str, Backend] = {}
    dependencies: list[Dependant] = []
    for each in dependant.dependencies:
        if isinstance(each.call, type):
            used[str(each.name)] = backends[each.call]
        else:
            dependencies.append(_bind(each, backends))
    return replace(
        dependant, call=partial(call, **used) if used else call, dependencies=dependencies
    )


class Body(BaseModel):
    """A request's body: unknown fields are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Answer(BaseModel):
    """An answer: made from a row of schema api, of which it takes the fields it names."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)


def new_router(tag: str, route_class: type[StrictRoute] = StrictRoute) -> APIRouter:
    """Make the router of a function's module."""
    return APIRouter(
        tags=[tag],
        route_class=route_class,
        responses=refuses("invalid_request", "method_not_allowed", "internal", "unavailable"),
    )


def create_app(*names: str) -> FastAPI:
    """Make one app of these functions: one in the cloud, all of them on a laptop.

    Raises ValueError when a setting is missing or wrong: then nothing is served.
    """
    modules = [import_module(f"faregate.{FUNCTIONS[name]}.{name}") for name in names]
    settings, deployment = HttpSettings(), DeploymentSettings()
    kinds: set[type[Backend]] = {Database}.union(*(module.backends for module in modules))
    backends = {kind: kind() for kind in kinds}
    tracing: Any = None
    if TracingSettings().tracing:
        # Imported by those alone who want it.
        tracing = import_module("faregate.backends.tracing").Tracing()
        backends[type(tracing)] = tracing

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for backend in backends.values():
            await backend.close()

    app = Api(
        title="Faregate",
        version=VERSION,
        description="Prepaid billing for compute and AI platforms.",
        lifespan=lifespan,
        redirect_slashes=False,
        # Its own would tell what exceptions say, and inputs.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        # Not include_router, which looks for each request's route twice.
        routes=_bind_routes(
            [
                route
                for router in [*(module.router for module in modules), _health]
                for route in router.routes
            ],
            backends,
        ),
    )
    app.state.backends = backends
    app.state.settings = settings
    app.state.version = {
        "version": f"{VERSION}+{deployment.image_digest}" if deployment.image_digest else VERSION,
        "revision": deployment.k_revision,
    }
    app.add_exception_handler(FaregateError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_middleware(_Boundary, deployment=deployment, tracing=tracing)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.origins,
        allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
        allow_headers=[
            *["Authorization", "Content-Type", "Faregate-Organization"],
            *["Idempotency-Key", "X-API-Key", "X-Request-Id"],
        ],
        expose_headers=[
            *["Content-Disposition", "Idempotent-Replayed", "X-Request-Id"],
            *["RateLimit", "RateLimit-Policy", "Retry-After"],
        ],
        max_age=600,
    )
    return app


def entry_point(name: str) -> Callable[[Request], Awaitable[Any]]:
    """Give a function as functions-framework serves it.

    It returns the app, a valid answer to Starlette, which calls it with the request's own channel.
    """
    app = create_app(name)
    # A few requests at a time hold more than 700 objects, where Python would look for garbage by
    # default: every ten requests, in vain, and every thousand for 40 ms.
    gc.set_threshold(10_000)

    async def serve(_: Request) -> Any:  # noqa: ANN401  the framework's type for answers omits apps
        return app

    serve.__name__ = name
    # So that whoever loads the function can close what it opened.
    vars(serve)["app"] = app
    return cast("Callable[[Request], Awaitable[Any]]", functions_framework.aio.http(serve))


class Health(Answer):
    """What a healthy function says of itself: what is deployed, how soon its database answers."""

    status: str
    version: str
    revision: str | None
    database_ms: float


_health = new_router("health")


# Cloud Run keeps paths that end in z for itself: from outside it is the other one.
@_health.get("/health", include_in_schema=False)
@_health.get("/healthz", summary="Is it alive?")
async def health(request: Request, database: Database = use(Database)) -> Health:
    """Answer when the function runs and reaches its database."""
    version = request.app.state.version
    began = perf_counter()
    try:
        async with asyncio.timeout(_HEALTH_SECONDS):
            await database.check()
    except Exception as error:
        raise FaregateError("unavailable", version) from error
    return Health(status="ok", database_ms=_milliseconds_since(began), **version)


def _milliseconds_since(began: float) -> float:
    return round((perf_counter() - began) * 1000, 2)


class _Span(Protocol):
    """The span of a request."""

    trace: Trace

    def end(self, method: str, route: str | None, status: int, request_id: str) -> None:
        """Say what it was."""


class _Tracing(Protocol):
    """Who records spans."""

    def request(self, came_from: Trace | None) -> AbstractContextManager[_Span]:
        """Record a request."""


class _Boundary:
    """Our outermost layer: a request id, its trace, one log line, our answer to the unforeseen."""

    def __init__(
        self, app: ASGIApp, deployment: DeploymentSettings, tracing: _Tracing | None
    ) -> None:
        self.app = app
        self._deployment, self._tracing = deployment, tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        given = request.headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        came_from = incoming(request.headers)
        with self._tracing.request(came_from) if self._tracing else nullcontext() as span:
            told = about.set(self._about(request_id, span.trace if span else came_from))
            try:
                status = await self._answer(request, receive, send)
            finally:
                about.reset(told)
            if span:
                route = scope.get("route")
                path = route.path if isinstance(route, StrictRoute) else None
                span.end(scope["method"], path, status, request_id)

    def _about(self, request_id: str, trace: Trace | None) -> dict[str, object]:
        """Tell what all lines of a request say of it. Without a project, no trace is found."""
        fields: dict[str, object] = {"request_id": request_id}
        if self._deployment.k_service:
            fields["function"] = self._deployment.k_service
            fields["revision"] = self._deployment.k_revision
        if trace and (project := self._deployment.google_cloud_project):
            fields["logging.googleapis.com/trace"] = f"projects/{project}/traces/{trace.trace_id}"
            fields["logging.googleapis.com/spanId"] = trace.span_id
            fields["logging.googleapis.com/trace_sampled"] = trace.is_sampled
        return fields

    async def _answer(self, request: Request, receive: Receive, send: Send) -> int:
        """Have a request answered, and tell it; give the status."""
        scope = request.scope
        began = perf_counter()
        status = 0
        added: list[tuple[str, str]] = []
        answer_headers.set(added)

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", []),
                    (b"x-request-id", scope["state"]["request_id"].encode()),
                    *((name.lower().encode(), value.encode()) for name, value in added),
                ]
            await send(message)

        failure: BaseException | None = None
        try:
            await self.app(scope, receive, send_named)
        except Exception as error:  # noqa: BLE001  the caller learns nothing, the log learns everything
            failure = error
            if status == 0:
                await _problem(request, "internal")(scope, receive, send_named)
        failure = failure or (scope["state"].get("reason") if status >= 500 else None)
        path, duration_ms = conceal_path(scope["path"]), _milliseconds_since(began)
        log(
            "ERROR" if failure or status >= 500 else "INFO",
            "request",
            failure,
            # For metrics, which look into the payload …
            method=scope["method"],
            path=path,
            status=status,
            duration_ms=duration_ms,
            # … from which Cloud Logging takes this, to show it.
            httpRequest={
                "requestMethod": scope["method"],
                "requestUrl": path,
                "status": status,
                "latency": f"{duration_ms / 1000:.5f}s",
                "protocol": f"HTTP/{scope['http_version']}",
            },
        )
        return status


def _problem(
    request: Request,
    code: str,
    detail: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    problem = PROBLEMS[code]
    document: dict[str, Any] = {
        "type": f"https://faregate.dev/problems/{code}",
        "title": problem.title,
        "status": problem.status,
        "code": code,
        "request_id": request.scope["state"]["request_id"],
    }
    for name, value in (detail or {}).items():
        if name.endswith("_micros"):
            document[name.removesuffix("_micros")] = format_usd(value)
        else:
            document[name] = value
    if (meaning := explain(document.get("reason"))) is not None:
        document["detail"] = meaning
    if problem.status == 402 and (top_up_url := request.app.state.settings.top_up_url):
        document["top_up_url"] = str(top_up_url)
    headers = dict(headers or {})
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.status == 503:
        headers["Retry-After"] = "1"
    return JSONResponse(document, problem.status, headers, "application/problem+json")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, FaregateError)  # noqa: S101  registered for it
    request.scope["state"]["reason"] = error.__cause__
    for name, value in error.headers:
        add_header(name, value)
    return _problem(request, error.code, error.detail)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  registered for it
    document = {
        "path": request.path_params,
        "query": request.query_params,
        "header": request.headers,
        "body": error.body,
    }
    return _problem(request, "invalid_request", {"errors": mistakes(error.errors(), document)})


_CODES = {404: "not_found", 405: "method_not_allowed"}


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  registered for it
    code = _CODES.get(error.status_code, "invalid_request")
    headers = dict(error.headers or {})
    if code == "method_not_allowed":
        # Starlette only knows the methods of the first route of this path.
        headers["Allow"] = ", ".join(sorted(_methods(request)))
    return _problem(request, code, headers=headers)


def _methods(request: Request) -> set[str]:
    found: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return found
