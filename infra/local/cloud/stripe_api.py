"""How Stripe's API is spoken: keys, forms, idempotency, answers."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from infra.local.cloud import stripe_form
from infra.local.cloud.store import Document, Store
from infra.local.cloud.stripe_expand import expand
from infra.local.cloud.stripe_objects import API_VERSION, StripeError, identifier
from infra.local.cloud.stripe_records import Records
from infra.local.cloud.stripe_webhooks import Webhooks

# Takes a request's parameters, then what its address names.
Act = Callable[..., Document]


class Api:
    """Turns requests into calls of acts, which know nothing of HTTP."""

    def __init__(self, secret_key: str, store: Store, records: Records, webhooks: Webhooks) -> None:
        self._secret_key, self._store = secret_key, store
        self._records, self._webhooks = records, webhooks
        self.router = APIRouter(prefix="/stripe")

    def get(self, path: str, act: Act) -> None:
        """Serve a call that only reads."""

        async def handle(request: Request) -> Response:
            self._authenticate(request)
            parameters = _decode(request.url.query.encode())
            return self._answer(request, 200, self._carry_out(act, request, parameters))

        self.serve("GET", path, handle)

    def post(self, path: str, act: Act) -> None:
        """Serve a call that acts: once per Idempotency-Key."""

        async def handle(request: Request) -> Response:
            self._authenticate(request)
            parameters = _decode(await request.body())
            response = self._once(request, parameters, act)
            await self._webhooks.deliver()
            return response

        self.serve("POST", path, handle)

    def delete(self, path: str, act: Act) -> None:
        """Serve a call that removes something."""

        async def handle(request: Request) -> Response:
            self._authenticate(request)
            parameters = _decode(request.url.query.encode())
            return self._answer(request, 200, self._carry_out(act, request, parameters))

        self.serve("DELETE", path, handle)

    def control(self, path: str, act: Act) -> None:
        """Serve what Stripe has no call for: what customers and banks do."""

        async def handle(request: Request) -> Response:
            body = act(_decode(await request.body()), **request.path_params)
            await self._webhooks.deliver()
            return JSONResponse(body)

        self.serve("POST", path, handle)

    def serve(self, method: str, path: str, handle: Callable[..., Awaitable[Response]]) -> None:
        """Serve anything."""
        self.router.add_api_route(path, handle, methods=[method])

    def _authenticate(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise StripeError(401, "You did not provide an API key.")
        if key != self._secret_key:
            raise StripeError(401, f"Invalid API Key provided: {key[:7]}****{key[-4:]}")

    def _carry_out(self, act: Act, request: Request, parameters: Document) -> Document:
        asked = {name: value for name, value in parameters.items() if name != "expand"}
        body = act(asked, **request.path_params)
        return expand(body, parameters.get("expand") or [], self._records.by_id)

    def _once(self, request: Request, parameters: Document, act: Act) -> Response:
        """Act once per key; the same key with another request is a mistake."""
        key = request.headers.get("idempotency-key")
        asked = json.dumps([request.url.path, parameters], sort_keys=True)
        fingerprint = hashlib.sha256(asked.encode()).hexdigest()
        known = self._store.get("idempotency_key", key) if key else None
        if known is None:
            try:
                status, body = 200, self._carry_out(act, request, parameters)
            except StripeError as error:
                if not error.executed:
                    raise
                status, body = error.status, error.body
            if key:
                answer = {"asked": fingerprint, "status": status, "answer": body}
                self._store.put("idempotency_key", key, answer)
            return self._answer(request, status, body)
        if known["asked"] != fingerprint:
            raise StripeError(
                400,
                "Keys for idempotent requests can only be used with the same parameters they were"
                f" first used with. Try using a key other than '{key}' if you meant to execute a"
                " different request.",
                kind="idempotency_error",
            )
        response = self._answer(request, known["status"], known["answer"])
        response.headers["Idempotent-Replayed"] = "true"
        return response

    def _answer(self, request: Request, status: int, body: Document) -> Response:
        headers = {
            "Request-Id": identifier("req", 14),
            "Stripe-Version": request.headers.get("stripe-version", API_VERSION),
        }
        if "idempotency-key" in request.headers:
            headers["Idempotency-Key"] = request.headers["idempotency-key"]
        return JSONResponse(body, status, headers)


def refuse(_: Request, error: Exception) -> Response:
    """Answer a refusal as Stripe does."""
    if not isinstance(error, StripeError):
        raise error
    return JSONResponse(error.body, error.status, {"Request-Id": identifier("req", 14)})


def _decode(form: bytes) -> dict[str, Any]:
    try:
        return stripe_form.decode(parse_qsl(form.decode(), keep_blank_values=True))
    except ValueError as error:
        raise StripeError(400, f"Invalid request body: {error}") from error
