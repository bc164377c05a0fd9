"""Stand-in for Supabase Auth (GoTrue): sign-up, invitation, sign-in by password or mail, tokens."""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from secrets import randbelow, token_urlsafe
from time import time
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import jwt
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response

from infra.local.cloud.passwords import matches
from infra.local.cloud.store import Store
from infra.local.cloud.supabase_keys import SupabaseKeys
from infra.local.cloud.users import User, Users
from infra.local.layout import SigningKey

_LIFETIME_SECONDS = 3600
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_MINIMUM_PASSWORD_LENGTH = 6


class AuthError(Exception):
    """A refusal as GoTrue words it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status, self.code, self.message = status, code, message


class Auth:
    """The calls of GoTrue that a customer's sign-up and sign-in need."""

    def __init__(
        self,
        url: str,
        key: SigningKey,
        jwks: dict[str, Any],
        keys: SupabaseKeys,
        users: Users,
        store: Store,
    ) -> None:
        self._url, self._key, self._jwks, self._keys = url, key, jwks, keys
        self._users, self._store = users, store
        self._mailing = asyncio.Lock()
        self._public_key = jwt.PyJWK(key.public_jwk)
        self.router = APIRouter(prefix="/auth/v1")
        self._route("/signup", self.sign_up, "POST")
        self._route("/invite", self.invite, "POST")
        self._route("/otp", self.send_magic_link, "POST")
        self._route("/token", self.token, "POST")
        self._route("/user", self.user, "GET")
        self._route("/logout", self.sign_out, "POST")
        self._route("/admin/users", self.create_user, "POST")
        self._route("/verify", self.verify, "POST")
        # These are opened from an e-mail or by a server that has no key.
        self._route("/verify", self.verify_link, "GET", needs_key=False)
        self._route("/_mailbox", self.mailbox, "GET", needs_key=False)
        self._route("/_mailbox", self.limit_mails, "POST", needs_key=False)
        self._route("/.well-known/jwks.json", self.jwks, "GET", needs_key=False)

    async def sign_up(self, request: Request) -> Response:
        """POST /signup: an unconfirmed user, and a message with a link."""
        body = await _json(request)
        email, password = _credentials(body)
        metadata = body.get("data") or {}
        self._count_mail()
        await self._users.create(email, password, confirmed=False, user_metadata=metadata)
        user = await self._mail(request, "signup", email)
        if user is None:
            # The address has a confirmed user. Nobody may learn that: the answer is made up.
            made_up = {"id": str(uuid4()), "aud": "authenticated", "email": email}
            return JSONResponse({**made_up, "role": "", "identities": []})
        return JSONResponse(user.as_json())

    async def invite(self, request: Request) -> Response:
        """POST /invite, with the secret key: an unconfirmed user, and a message with a link."""
        self._require_secret_key(request)
        body = await _json(request)
        email = _address(body)
        user = await self._users.by_email(email)
        if user is not None and user.email_confirmed_at is not None:
            raise _email_exists()
        self._count_mail()
        metadata = body.get("data") or {}
        await self._users.create(email, None, confirmed=False, user_metadata=metadata)
        user = await self._mail(request, "invite", email)
        if user is None:
            raise _email_exists()
        return JSONResponse(user.as_json())

    async def send_magic_link(self, request: Request) -> Response:
        """POST /otp: a message with a link that signs in, or first of all confirms the address."""
        body = await _json(request)
        email = _address(body)
        if body.get("code_challenge") is not None:
            # The link would be of use to the caller alone, who has the verifier.
            raise AuthError(501, "not_implemented", "The stand-in knows no PKCE")
        user = await self._users.by_email(email)
        if user is None and body.get("create_user", True) is not True:
            raise AuthError(422, "otp_disabled", "Signups not allowed for otp")
        self._count_mail()
        if user is None:
            metadata = body.get("data") or {}
            await self._users.create(email, None, confirmed=False, user_metadata=metadata)
        is_confirmed = user is not None and user.email_confirmed_at is not None
        await self._mail(request, "magiclink" if is_confirmed else "signup", email)
        return JSONResponse({})

    async def verify(self, request: Request) -> Response:
        """POST /verify: the token of the message, once; answers a session."""
        body = await _json(request)
        token_hash = body.get("token_hash")
        if token_hash is None:
            token_hash = _token_hash(str(body.get("email", "")).lower(), str(body.get("token", "")))
        return JSONResponse(await self._confirm(str(token_hash)))

    async def verify_link(self, request: Request) -> Response:
        """GET /verify: the link of the message; hands the session on where it was asked to."""
        asked = request.query_params
        redirect_to = asked.get("redirect_to")
        try:
            session = await self._confirm(asked.get("token", ""))
        except AuthError as error:
            if redirect_to is None:
                raise
            told = {"error": "access_denied", "error_code": error.code}
            told["error_description"] = "Email link is invalid or has expired"
            return RedirectResponse(f"{redirect_to}#{urlencode(told)}", 303)
        if redirect_to is None:
            return JSONResponse(session)
        shown = ("access_token", "expires_at", "expires_in", "refresh_token", "token_type")
        fragment = {key: session[key] for key in shown} | {"type": asked.get("type", "signup")}
        return RedirectResponse(f"{redirect_to}#{urlencode(fragment)}", 303)

    async def mailbox(self, email: str) -> Response:
        """GET /_mailbox: the last message that an address got. A real project sends it."""
        message = self._store.get("mail", email.lower())
        if message is None:
            raise AuthError(404, "not_found", "There is no message for this address")
        return JSONResponse(message)

    async def limit_mails(self, request: Request) -> Response:
        """POST /_mailbox: how many more messages the project sends ({"remaining": n or null})."""
        self._store.put("mail.limit", "", await _json(request))
        return Response(status_code=204)

    async def token(self, request: Request) -> Response:
        """POST /token: a session for a password or for a refresh token."""
        body = await _json(request)
        match request.query_params.get("grant_type"):
            case "password":
                user = await self._users.by_email(str(body.get("email", "")).lower())
                password = str(body.get("password", ""))
                if user is None or not matches(password, user.encrypted_password):
                    raise AuthError(400, "invalid_credentials", "Invalid login credentials")
                if user.email_confirmed_at is None:
                    raise AuthError(400, "email_not_confirmed", "Email not confirmed")
                session_id = str(uuid4())
            case "refresh_token":
                refresh_token = str(body.get("refresh_token", ""))
                known = self._store.get("refresh_token", refresh_token)
                user = await self._users.by_id(known["user_id"]) if known else None
                if known is None or user is None:
                    raise AuthError(
                        400,
                        "refresh_token_not_found",
                        "Invalid Refresh Token: Refresh Token Not Found",
                    )
                self._store.delete("refresh_token", refresh_token)
                session_id = known["session_id"]
            case _:
                raise AuthError(400, "validation_failed", "unsupported_grant_type")
        return JSONResponse(await self._session(user, session_id))

    async def user(self, request: Request) -> Response:
        """GET /user: whoever the access token speaks for."""
        user = await self._users.by_id(self._claims(request)["sub"])
        if user is None:
            raise AuthError(403, "user_not_found", "User from sub claim in JWT does not exist")
        return JSONResponse(user.as_json())

    async def sign_out(self, request: Request) -> Response:
        """POST /logout: no token can be renewed any more; access tokens live to their end."""
        subject = self._claims(request)["sub"]
        for known in self._store.all("refresh_token"):
            if known["user_id"] == subject:
                self._store.delete("refresh_token", known["token"])
        return Response(status_code=204)

    async def create_user(self, request: Request) -> Response:
        """POST /admin/users, with the secret key."""
        self._require_secret_key(request)
        body = await _json(request)
        email, password = _credentials({"password": token_urlsafe(24)} | body)
        user = await self._users.create(
            email,
            password,
            confirmed=body.get("email_confirm") is True,
            user_metadata=body.get("user_metadata") or {},
            app_metadata=body.get("app_metadata") or {},
        )
        if user is None:
            raise _email_exists()
        return JSONResponse(user.as_json())

    async def jwks(self) -> Response:
        """GET /.well-known/jwks.json."""
        return JSONResponse(self._jwks)

    def _count_mail(self) -> None:
        """Refuse where the project has sent what it may: before anything is changed."""
        remaining = (self._store.get("mail.limit", "") or {}).get("remaining")
        if remaining == 0:
            raise AuthError(429, "over_email_send_rate_limit", "email rate limit exceeded")
        if remaining is not None:
            self._store.put("mail.limit", "", {"remaining": remaining - 1})

    async def _mail(self, request: Request, kind: str, email: str) -> User | None:
        """Leave a message with a link; none where the user's state is not that of the kind."""
        token = f"{randbelow(10**6):06}"
        token_hash = _token_hash(email, token)
        # The message that lies on top must be the one whose link works.
        async with self._mailing:
            if kind == "magiclink":
                user = await self._users.expect_sign_in(email, token_hash)
            else:
                user = await self._users.expect_confirmation(
                    email, token_hash, invited=kind == "invite"
                )
            if user is not None:
                asked = {"token": token_hash, "type": kind}
                if redirect_to := request.query_params.get("redirect_to"):
                    asked["redirect_to"] = redirect_to
                link = f"{self._url}/verify?{urlencode(asked)}"
                message = {"email": email, "type": kind, "token": token}
                self._store.put(
                    "mail", email, {**message, "token_hash": token_hash, "action_link": link}
                )
        return user

    async def _confirm(self, token_hash: str) -> dict[str, Any]:
        user = await self._users.confirm(token_hash)
        if user is None:
            raise AuthError(403, "otp_expired", "Token has expired or is invalid")
        return await self._session(user, str(uuid4()))

    async def _session(self, user: User, session_id: str) -> dict[str, Any]:
        user = await self._users.signed_in(user) or user
        now = int(time())
        claims = {
            "iss": self._url,
            "sub": str(user.id),
            "aud": "authenticated",
            "exp": now + _LIFETIME_SECONDS,
            "iat": now,
            "email": user.email,
            "phone": "",
            "app_metadata": user.raw_app_meta_data,
            "user_metadata": user.raw_user_meta_data
            | {"sub": str(user.id), "email": user.email, "email_verified": True},
            "role": "authenticated",
            "aal": "aal1",
            "amr": [{"method": "password", "timestamp": now}],
            "session_id": session_id,
            "is_anonymous": False,
        }
        refresh_token = token_urlsafe(9)
        self._store.put(
            "refresh_token",
            refresh_token,
            {"token": refresh_token, "user_id": str(user.id), "session_id": session_id},
        )
        return {
            "access_token": self._key.sign(claims),
            "token_type": "bearer",
            "expires_in": _LIFETIME_SECONDS,
            "expires_at": now + _LIFETIME_SECONDS,
            "refresh_token": refresh_token,
            "user": user.as_json(),
        }

    def _claims(self, request: Request) -> dict[str, Any]:
        try:
            return jwt.decode(
                self._keys.bearer(request.headers),
                self._public_key,
                algorithms=["ES256"],
                issuer=self._url,
                audience="authenticated",
                options={"require": ["sub", "exp"]},
            )
        except jwt.PyJWTError as error:
            raise AuthError(403, "bad_jwt", f"invalid JWT: {error}") from error

    def _route(
        self,
        path: str,
        handle: Callable[..., Awaitable[Response]],
        method: str,
        *,
        needs_key: bool = True,
    ) -> None:
        dependencies = [Depends(self._require_key)] if needs_key else []
        self.router.add_api_route(path, handle, methods=[method], dependencies=dependencies)

    def _require_secret_key(self, request: Request) -> None:
        if not self._keys.is_secret(request.headers):
            raise AuthError(403, "not_admin", "User not allowed")

    async def _require_key(self, request: Request) -> None:
        if not self._keys.admits(request.headers):
            raise AuthError(401, "no_api_key", "No API key found in request")


def refuse(_: Request, error: Exception) -> Response:
    """Answer a refusal as GoTrue does."""
    if not isinstance(error, AuthError):
        raise error
    body = {"code": error.status, "error_code": error.code, "msg": error.message}
    return JSONResponse(body, error.status)


async def _json(request: Request) -> dict[str, Any]:
    """Read an object that a database can store: no NUL, no half of a character."""
    try:
        body = await request.json()
        text = json.dumps(body, ensure_ascii=False)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise AuthError(400, "bad_json", "Could not parse request body as JSON") from error
    metadata = ("data", "user_metadata", "app_metadata")
    if (
        not isinstance(body, dict)
        or "\\u0000" in text
        or not all(isinstance(body.get(name) or {}, dict) for name in metadata)
    ):
        raise AuthError(400, "bad_json", "Could not parse request body as JSON")
    return body


def _address(body: dict[str, Any]) -> str:
    email = str(body.get("email", "")).lower()
    if not _EMAIL.fullmatch(email):
        message = "Unable to validate email address: invalid format"
        raise AuthError(400, "validation_failed", message)
    return email


def _email_exists() -> AuthError:
    message = "A user with this email address has already been registered"
    return AuthError(422, "email_exists", message)


def _credentials(body: dict[str, Any]) -> tuple[str, str]:
    email, password = _address(body), str(body.get("password", ""))
    if len(password) < _MINIMUM_PASSWORD_LENGTH:
        message = f"Password should be at least {_MINIMUM_PASSWORD_LENGTH} characters."
        raise AuthError(422, "weak_password", message)
    return email, password


def _token_hash(email: str, token: str) -> str:
    return hashlib.sha224(f"{email}{token}".encode()).hexdigest()
