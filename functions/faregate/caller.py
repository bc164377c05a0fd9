"""Who calls: what a request proves, as SQL wants it told. Whether that is enough, SQL decides."""

import re
from hashlib import sha256
from ipaddress import ip_address
from secrets import token_urlsafe
from typing import Annotated, NamedTuple
from uuid import UUID

from fastapi import Depends, Header, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from faregate.backends.tokens import InvokerTokens, UserTokens
from faregate.errors import FaregateError
from faregate.function import use

Caller = dict[str, str | None]
"""{"passport_hash": hex} or {"user_id": uuid}, with "organization_id": uuid or None and where from,
"ip": p_caller. "goes_on": policies were asked already.
"""

_PASSPORT = re.compile(r"fg_live_[A-Za-z0-9_-]{43}", re.ASCII)

_bearer = HTTPBearer(
    auto_error=False, description="A passport (fg_live_…) or a signed-in user's access token."
)
_api_key = APIKeyHeader(name="X-API-Key", auto_error=False, description="A passport (fg_live_…).")

Bearer = Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]
ApiKey = Annotated[str | None, Security(_api_key)]


class NewKey(NamedTuple):
    """A passport's key, which the customer sees once, and the two things of it that are stored."""

    key: str
    hash: str
    prefix: str


def new_key() -> NewKey:
    """Draw a key: 256 random bits, which one SHA-256 protects as well as any slow hash would."""
    key = f"fg_live_{token_urlsafe(32)}"
    return NewKey(key, sha256(key.encode()).hexdigest(), key[:12])


async def user(bearer: Bearer, tokens: UserTokens = use(UserTokens)) -> UUID:
    """Give the id of the user whose token this is.

    Raises FaregateError: unauthenticated, invalid_token, user_required.
    """
    if bearer is None:
        raise FaregateError("unauthenticated")
    if bearer.credentials.startswith("fg_"):
        raise FaregateError("user_required")
    claims = await tokens.claims(bearer.credentials)
    try:
        return UUID(claims["sub"])
    except (ValueError, AttributeError, TypeError) as error:
        raise FaregateError("invalid_token") from error


def address(request: Request) -> str | None:
    """Give the address that a request comes from: what it says itself is not believed.

    Each proxy adds at the end of X-Forwarded-For; whatever came before ours, the caller wrote.
    """
    trusted: int = request.app.state.settings.trusted_proxies
    hops = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
    peer = request.client.host if request.client else ""
    given = hops[-trusted] if 0 < trusted <= len(hops) else peer
    try:
        ip = ip_address(given.strip())
    except ValueError:
        return None
    return str((ip.ipv4_mapped if ip.version == 6 else None) or ip)


async def caller(
    request: Request,
    bearer: Bearer,
    api_key: ApiKey,
    named: Annotated[UUID | None, Header(alias="Faregate-Organization")] = None,
    tokens: UserTokens = use(UserTokens),
) -> Caller:
    """Give the passport or the user that a request shows. SQL knows a passport's organization.

    Raises FaregateError: unauthenticated, invalid_passport, invalid_token.
    """
    key = api_key or (bearer.credentials if bearer else "")
    if not key:
        raise FaregateError("unauthenticated")
    if api_key or key.startswith("fg_"):
        if not _PASSPORT.fullmatch(key):
            raise FaregateError("invalid_passport")
        proved = {"passport_hash": sha256(key.encode()).hexdigest()}
    else:
        proved = {"user_id": str(await user(bearer, tokens))}
    organization_id = str(named) if named else None
    return {**proved, "organization_id": organization_id, "ip": address(request)}


async def invoker(
    bearer: Bearer,
    instead: Annotated[
        str | None, Header(alias="X-Serverless-Authorization", include_in_schema=False)
    ] = None,
    tokens: InvokerTokens = use(InvokerTokens),
) -> None:
    """Let only the invoker's service account pass.

    Raises FaregateError: unauthenticated, invalid_token.
    """
    if bearer is None:
        raise FaregateError("unauthenticated")
    if instead is not None:
        # Where it is given, Cloud Run verifies this one, and nobody the other.
        raise FaregateError("invalid_token")
    await tokens.claims(bearer.credentials)


def going_on(caller: Caller) -> Caller:
    """Give a caller whose request policies have let pass: it is one call, however many SQL has."""
    return {**caller, "goes_on": "yes"}


Customer = Annotated[Caller, Depends(caller)]
User = Annotated[UUID, Depends(user)]
