"""Stand-in for Stripe: Checkout Sessions, Payment Intents, events and the pay page."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from infra.local.cloud import stripe_form, stripe_objects, stripe_pages
from infra.local.cloud.store import Document, Store
from infra.local.cloud.stripe_objects import StripeError, identifier
from infra.local.cloud.stripe_webhooks import Webhooks

_API_VERSION = "2026-10-28.endive"


class Stripe:
    """The calls of Stripe's API that a top-up needs, and the customer's side of them."""

    def __init__(self, url: str, secret_key: str, store: Store, webhooks: Webhooks) -> None:
        self._url, self._secret_key = url, secret_key
        self._store, self._webhooks = store, webhooks
        self.router = APIRouter(prefix="/stripe")
        routes: list[tuple[str, Callable[..., Awaitable[Response]], str]] = [
            ("/v1/checkout/sessions", self.create_session, "POST"),
            ("/v1/checkout/sessions/{session_id}/expire", self.expire_session, "POST"),
            ("/v1/checkout/sessions/{object_id}", self._retrieve("checkout.session"), "GET"),
            ("/v1/payment_intents/{object_id}", self._retrieve("payment_intent"), "GET"),
            ("/v1/events/{object_id}", self._retrieve("event"), "GET"),
            ("/pay/{session_id}", self.page, "GET"),
            ("/pay/{session_id}", self.pay, "POST"),
            ("/return/{outcome}", self.returned, "GET"),
        ]
        for path, handle, method in routes:
            self.router.add_api_route(path, handle, methods=[method])

    async def create_session(self, request: Request) -> Response:
        """POST /v1/checkout/sessions."""
        parameters = await self._parameters(request)

        def create() -> Document:
            session = stripe_objects.checkout_session(parameters, f"{self._url}/pay")
            version = request.headers.get("stripe-version", _API_VERSION)
            self._save(session)
            self._store.put(
                "checkout.request", session["id"], {"parameters": parameters, "version": version}
            )
            return session

        return self._once(request, parameters, create)

    async def expire_session(self, request: Request, session_id: str) -> Response:
        """POST /v1/checkout/sessions/{id}/expire: the customer can no longer pay."""
        parameters = await self._parameters(request)

        def expire() -> Document:
            session = self._find("checkout.session", session_id)
            if session["status"] != "open":
                message = 'Only Checkout Sessions with a status in ["open"] can be expired.'
                raise StripeError(400, message)
            self._save(session | {"status": "expired", "url": None})
            return session | {"status": "expired", "url": None}

        response = self._once(request, parameters, expire)
        if "idempotent-replayed" not in response.headers:
            await self._tell(session_id, ("checkout.session.expired", "checkout.session"))
        return response

    async def page(self, session_id: str) -> Response:
        """GET /pay/{id}: what the customer sees."""
        return HTMLResponse(stripe_pages.pay(self._find("checkout.session", session_id)))

    async def pay(self, request: Request, session_id: str) -> Response:
        """POST /pay/{id}: what the customer, or later the customer's bank, does."""
        session = self._find("checkout.session", session_id)
        form = dict(parse_qsl((await request.body()).decode()))
        match form.get("method"), session["status"], session["payment_status"]:
            case "card", "open", _:
                self._start_payment(session, "card")
                self._settle(session)
                await self._tell(
                    session_id,
                    ("payment_intent.succeeded", "payment_intent"),
                    ("checkout.session.completed", "checkout.session"),
                )
            case "bank_transfer", "open", _:
                self._start_payment(session, "us_bank_account")
                await self._tell(session_id, ("checkout.session.completed", "checkout.session"))
            case "bank_transfer_arrives", "complete", "unpaid":
                self._settle(session)
                await self._tell(
                    session_id,
                    ("payment_intent.succeeded", "payment_intent"),
                    ("checkout.session.async_payment_succeeded", "checkout.session"),
                )
            case "bank_transfer_fails", "complete", "unpaid":
                self._fail(session)
                await self._tell(
                    session_id,
                    ("payment_intent.payment_failed", "payment_intent"),
                    ("checkout.session.async_payment_failed", "checkout.session"),
                )
            case "cancel", "open", _:
                return RedirectResponse(session["cancel_url"] or session["success_url"], 303)
            case _:
                return HTMLResponse(stripe_pages.message("That is not possible now."), 409)
        # Stripe fills this in, so that the shop knows whom it is thanking.
        target = session["success_url"].replace("{CHECKOUT_SESSION_ID}", session_id)
        return RedirectResponse(target, 303)

    async def returned(self, outcome: str) -> Response:
        """GET /return/{outcome}: the shop's page, which a laptop has no shop for."""
        text = "Thank you." if outcome == "paid" else "Nothing was paid."
        return HTMLResponse(stripe_pages.message(f"{text} You can close this page."))

    def _retrieve(self, kind: str) -> Callable[[Request, str], Awaitable[Response]]:
        async def retrieve(request: Request, object_id: str) -> Response:
            self._authenticate(request)
            return self._answer(self._find(kind, object_id))

        return retrieve

    def _start_payment(self, session: Document, method: str) -> None:
        parameters = (self._store.get("checkout.request", session["id"]) or {})["parameters"]
        intent = stripe_objects.payment_intent(session, parameters, method)
        self._save(intent)
        session |= {"status": "complete", "payment_intent": intent["id"], "url": None}
        self._save(session)

    def _settle(self, session: Document) -> None:
        intent = self._find("payment_intent", session["payment_intent"])
        intent |= {"status": "succeeded", "amount_received": intent["amount"]}
        self._save(intent | {"latest_charge": identifier("ch")})
        session["payment_status"] = "paid"
        self._save(session)

    def _fail(self, session: Document) -> None:
        intent = self._find("payment_intent", session["payment_intent"])
        error = {"code": "payment_intent_payment_attempt_failed", "type": "card_error"}
        self._save(intent | {"status": "requires_payment_method", "last_payment_error": error})

    async def _tell(self, session_id: str, *kinds: tuple[str, str]) -> None:
        """Send events, each about the session or its payment as they are now."""
        session = self._find("checkout.session", session_id)
        version = (self._store.get("checkout.request", session_id) or {})["version"]
        subjects = {"checkout.session": session}
        if session["payment_intent"]:
            intent = self._find("payment_intent", session["payment_intent"])
            subjects["payment_intent"] = intent
        await self._webhooks.send(
            *(stripe_objects.event(kind, subjects[about], version) for kind, about in kinds)
        )

    async def _parameters(self, request: Request) -> dict[str, Any]:
        self._authenticate(request)
        try:
            body = (await request.body()).decode()
            return stripe_form.decode(parse_qsl(body, keep_blank_values=True))
        except ValueError as error:
            raise StripeError(400, f"Invalid request body: {error}") from error

    def _authenticate(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise StripeError(401, "You did not provide an API key.")
        if key != self._secret_key:
            raise StripeError(401, f"Invalid API Key provided: {key[:7]}****{key[-4:]}")

    def _once(
        self, request: Request, parameters: Document, act: Callable[[], Document]
    ) -> Response:
        """Act once per Idempotency-Key; the same key with other parameters is a mistake."""
        key = request.headers.get("idempotency-key")
        if key is None:
            return self._answer(act())
        asked = json.dumps([request.url.path, parameters], sort_keys=True)
        fingerprint = hashlib.sha256(asked.encode()).hexdigest()
        known = self._store.get("idempotency_key", key)
        if known is None:
            answer = act()
            self._store.put("idempotency_key", key, {"asked": fingerprint, "answer": answer})
            return self._answer(answer, key)
        if known["asked"] != fingerprint:
            raise StripeError(
                400,
                "Keys for idempotent requests can only be used with the same parameters they were"
                f" first used with. Try using a key other than '{key}' if you meant to execute a"
                " different request.",
                kind="idempotency_error",
            )
        response = self._answer(known["answer"], key)
        response.headers["Idempotent-Replayed"] = "true"
        return response

    def _answer(self, body: Document, key: str | None = None) -> Response:
        headers = {"Request-Id": identifier("req", 14), "Stripe-Version": _API_VERSION}
        if key is not None:
            headers["Idempotency-Key"] = key
        return JSONResponse(body, headers=headers)

    def _find(self, kind: str, object_id: str) -> Document:
        found = self._store.get(kind, object_id)
        if found is None:
            message = f"No such {kind}: '{object_id}'"
            raise StripeError(404, message, code="resource_missing", param="id")
        return found

    def _save(self, subject: Document) -> None:
        self._store.put(subject["object"], subject["id"], subject)


def refuse(_: Request, error: Exception) -> Response:
    """Answer a refusal as Stripe does."""
    if not isinstance(error, StripeError):
        raise error
    return JSONResponse(error.body, error.status, {"Request-Id": identifier("req", 14)})
