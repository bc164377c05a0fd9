"""Tokens: a passport's holder reads the organization's rows straight from Postgres."""

from typing import Literal

from pydantic import AwareDatetime

from faregate.backends.database import Database
from faregate.backends.reader_tokens import ReaderTokens
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.contract import customer_refuses
from faregate.function import Answer, new_router, use

router = new_router("token")
backends = (Database, UserTokens, ReaderTokens)


class Token(Answer):
    """A bearer token for rest_url, where each view of schema api is an address."""

    token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105  a kind
    expires_in: int
    expires_at: AwareDatetime
    rest_url: str


@router.post("/v1/token", responses=customer_refuses("passport_required"))
async def create_token(
    caller: Customer,
    database: Database = use(Database),
    tokens: ReaderTokens = use(ReaderTokens),
) -> Token:
    """Give a passport a token to read with: what the passport may, for five minutes. Needs `read`.

    Nothing is stored. Each read asks what the passport may then: once revoked, nothing.
    """
    row = await database.call_one("create_token", caller=caller)
    token, expires_at = tokens.issue(**row)
    return Token(
        token=token,
        expires_in=row["expires_in_seconds"],
        expires_at=expires_at,
        rest_url=tokens.rest_url,
    )
