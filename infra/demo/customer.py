"""Who lives through the demo: a person with a browser and a passport; and how it is told."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx

from infra.local.progress import RefusalError, say
from infra.local.stack import Stack

Document = dict[str, Any]

_LABEL_WIDTH = 44
_AMOUNT_WIDTH = 14


def line(label: str, value: str = "", remark: str = "") -> None:
    """Print a line of the story: what happened, how much, and what else."""
    say(f"  {label:<{_LABEL_WIDTH}}{value:>{_AMOUNT_WIDTH}}  {remark}".rstrip())


def usd(amount: str) -> str:
    """Write an amount as people do."""
    return f"${amount}"


def seconds_between(start: str, end: str) -> Decimal:
    """Tell exactly how many seconds lie between two times (RFC 3339)."""
    span = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    return Decimal(span.days * 86_400 + span.seconds) + Decimal(span.microseconds) / 1_000_000


def expect(condition: bool, sentence: str) -> None:
    """Refuse to go on unless it is so."""
    if not condition:
        raise RefusalError(f"the demo did not go as it should: {sentence}.")


@dataclass
class Customer:
    """A person with a browser and, once registered, a passport."""

    stack: Stack
    http: httpx.Client
    passport: str = ""

    def sign_up(self) -> str:
        """Sign up, open the mail, follow its link; give the access token."""
        email = f"ada.{uuid4().hex[:10]}@example.com"
        headers = {"apikey": self.stack.publishable_key}
        self.read(
            self.http.post(
                f"{self.stack.auth_url}/signup",
                json={"email": email, "password": uuid4().hex},
                headers=headers,
            )
        )
        mail = self.read(self.http.get(f"{self.stack.auth_url}/_mailbox", params={"email": email}))
        session = self.read(self.http.get(mail["action_link"]))
        line("signed up, e-mail confirmed", remark=email)
        return str(session["access_token"])

    def get(self, path: str, **parameters: str | int) -> Document:
        """Read something with the passport."""
        return self.read(self.try_call("GET", path, params=parameters))

    def post(self, path: str, body: Document | None = None) -> Document:
        """Do something with the passport, once."""
        return self.read(self.try_call("POST", path, json=body))

    def delete(self, path: str) -> Document:
        """Give something up with the passport."""
        return self.read(self.try_call("DELETE", path))

    def try_call(self, method: str, path: str, **content: Any) -> httpx.Response:  # noqa: ANN401
        """Call and give whatever the answer is."""
        return self.http.request(
            method,
            f"{self.stack.api_url}{path}",
            headers={"Authorization": f"Bearer {self.passport}", "Idempotency-Key": uuid4().hex},
            **content,
        )

    def move_clock(self, seconds: int) -> None:
        """Let time pass: due tasks and sweeps run on the way."""
        self.read(
            self.http.post(f"{self.stack.api_url}/_local/clock", json={"advance_seconds": seconds})
        )

    @staticmethod
    def read(answer: httpx.Response) -> Document:
        """Give what a call answered; one that was refused ends the demo."""
        if not answer.is_success:
            raise RefusalError(
                f"{answer.request.method} {answer.request.url} answered"
                f" {answer.status_code}: {answer.text}"
            )
        document: Document = answer.json()
        return document
