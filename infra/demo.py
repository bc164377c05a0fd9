"""The whole loop as a customer lives it, over HTTP only: sign up, pay, run, be charged, run dry."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx

from infra.local.progress import RefusalError, run, say
from infra.local.stack import Stack, stack
from infra.verify import differences

Document = dict[str, Any]

_LABEL_WIDTH = 44
_AMOUNT_WIDTH = 14


def _line(label: str, value: str = "", remark: str = "") -> None:
    say(f"  {label:<{_LABEL_WIDTH}}{value:>{_AMOUNT_WIDTH}}  {remark}".rstrip())


def _usd(amount: str) -> str:
    return f"${amount}"


def _seconds_between(start: str, end: str) -> Decimal:
    span = datetime.fromisoformat(end) - datetime.fromisoformat(start)
    return Decimal(span.days * 86_400 + span.seconds) + Decimal(span.microseconds) / 1_000_000


def _expect(condition: bool, sentence: str) -> None:
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
        self._answer(
            self.http.post(
                f"{self.stack.auth_url}/signup",
                json={"email": email, "password": uuid4().hex},
                headers=headers,
            )
        )
        mail = self._answer(
            self.http.get(f"{self.stack.auth_url}/_mailbox", params={"email": email})
        )
        session = self._answer(self.http.get(mail["action_link"]))
        _line("signed up, e-mail confirmed", remark=email)
        return str(session["access_token"])

    def get(self, path: str, **parameters: str | int) -> Document:
        """Read something with the passport."""
        return self._answer(self.try_call("GET", path, params=parameters))

    def post(self, path: str, body: Document | None = None) -> Document:
        """Do something with the passport, once."""
        return self._answer(self.try_call("POST", path, json=body))

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
        self._answer(
            self.http.post(f"{self.stack.api_url}/_local/clock", json={"advance_seconds": seconds})
        )

    @staticmethod
    def _answer(answer: httpx.Response) -> Document:
        if not answer.is_success:
            raise RefusalError(
                f"{answer.request.method} {answer.request.url} answered"
                f" {answer.status_code}: {answer.text}"
            )
        document: Document = answer.json()
        return document


def register(customer: Customer) -> None:
    """Become an organization with a wallet, a bonus and a passport."""
    customer.passport = customer.sign_up()
    registration = customer.post("/v1/register", {"organization_name": "Ada's lab"})
    customer.passport = registration["passport"]["key"]
    wallet = registration["wallet"]
    _line("registered on plan", registration["organization"]["plan"])
    _line("free bonus", _usd(wallet["available"]))


def buy_credits(customer: Customer) -> None:
    """Pay $25 on the pay page; the provider's signed notification credits it."""
    top_up = customer.post("/v1/credits/checkout", {"amount": "25.00"})
    customer.http.post(top_up["checkout_url"], data={"method": "card"})
    paid = customer.get(f"/v1/credits/top-ups/{top_up['id']}")
    _expect(paid["status"] == "paid", "the top-up is not paid")
    _line("paid on the pay page, webhook verified", _usd(paid["amount"]))
    _line("balance", _usd(customer.get("/v1/credits")["available"]))


def run_a_session(customer: Customer) -> None:
    """Run for a while, watch the cost, stop, and pay for exactly that long."""
    session = customer.post("/v1/sessions", {"tier": "large"})
    path = f"/v1/sessions/{session['id']}"
    _line("started a large session, per hour", _usd(session["hourly_price"]))
    for minutes in (20, 40):
        customer.move_clock(minutes * 60)
        _line(f"{minutes} minutes later, cost as of now", _usd(customer.get(path)["cost"]))
    stopped = customer.post(f"{path}/stop", {})
    seconds = _seconds_between(stopped["started_at"], stopped["ended_at"])
    exact = (Decimal(stopped["hourly_price"]) * seconds / 3600).quantize(Decimal("0.000001"))
    _expect(str(exact) == stopped["cost"], f"{stopped['cost']} is not {exact}")
    _line("stopped, charged exactly", _usd(stopped["cost"]), f"{seconds:.6f} s")


def run_dry(customer: Customer) -> None:
    """Let the money run out: the session ends on that second, and nothing more starts."""
    before = customer.get("/v1/credits")["available"]
    session = customer.post("/v1/sessions", {"tier": "large"})
    path = f"/v1/sessions/{session['id']}"
    _line("started another with all there is", _usd(before))
    price = Decimal(session["hourly_price"])
    affordable_hours = Decimal(before) / price
    customer.move_clock(int(affordable_hours * 3600) + 24 * 3600)
    ended = customer.get(path)
    seconds = _seconds_between(ended["started_at"], ended["ended_at"])
    _expect(ended["close_reason"] == "exhausted", "the session did not end exhausted")
    _expect(Decimal(ended["cost"]) <= Decimal(before), "more was charged than there was")
    _expect(
        price * (seconds + 1) / 3600 > Decimal(before), "the money would have lasted a second more"
    )
    _line(f"a day too late: {ended['close_reason']}", _usd(ended["cost"]), f"after {seconds} s")
    after = customer.get("/v1/credits")["available"]
    _expect(Decimal(after) >= 0, "the balance is below zero")
    _line("balance, not below zero", _usd(after))
    refused = customer.try_call("POST", "/v1/sessions", json={"tier": "large"})
    problem = refused.json()
    _expect(refused.status_code == 402, "a start without money was not refused")
    _line(
        f"another start: {refused.status_code} {problem['code']}",
        _usd(problem["required"]),
        f"required, {_usd(problem['available'])} available",
    )


def read_postgres(customer: Customer) -> None:
    """Read the ledger straight from Postgres: of all customers' rows, one's own."""
    token = customer.post("/v1/token")["token"]
    headers = {"apikey": customer.stack.publishable_key, "Authorization": f"Bearer {token}"}
    url = f"{customer.stack.rest_url}/transactions"
    answer = customer.http.get(url, headers=headers, params={"order": "sequence.asc"})
    _expect(answer.is_success, f"PostgREST answered {answer.status_code}")
    rows = answer.json()
    total = sum(row["amount_micros"] for row in rows)
    _expect(len({row["organization_id"] for row in rows}) == 1, "others' rows were told")
    _expect(total == rows[-1]["balance_micros"], "the rows do not add up to the balance")
    _line("own ledger by PostgREST, summed up", f"{total} µ$", f"{len(rows)} rows")


def revoke(customer: Customer) -> None:
    """End a passport: the next call with it is refused."""
    second = customer.post("/v1/passports", {"name": "laptop", "permissions": ["read"]})
    guest = Customer(customer.stack, customer.http, second["key"])
    _expect(guest.try_call("GET", "/v1/credits").is_success, "a new passport does not work")
    customer.post(f"/v1/passports/{second['id']}/revoke")
    refused = guest.try_call("GET", "/v1/credits")
    _expect(refused.status_code == 401, "a revoked passport still works")
    _line(f"revoked passport {second['key_prefix']}…: {refused.status_code}")


def print_ledger(customer: Customer) -> None:
    """Print every movement of the wallet, oldest first, and prove that the books agree."""
    say("")
    say(f"  {'#':>3}  {'when (UTC)':<19}  {'what':<20}{'amount':>14}{'balance':>14}")
    ledger = customer.get("/v1/credits/transactions", limit=100)
    for entry in reversed(ledger["data"]):
        when = datetime.fromisoformat(entry["created_at"])
        say(
            f"  {entry['sequence']:>3}  {when:%Y-%m-%d %H:%M:%S}  {entry['reason']:<20}"
            f"{entry['amount']:>14}{entry['balance']:>14}"
        )
    say("")
    found = len(differences(customer.stack.database_url))
    say(f"  verify: {found} differences")
    _expect(found == 0, "the books disagree")


def main() -> None:
    """Live through it."""
    with stack() as running, httpx.Client(timeout=60, trust_env=False) as http:
        customer = Customer(running, http)
        say("")
        acts = (register, buy_credits, run_a_session, run_dry, read_postgres, revoke, print_ledger)
        for act in acts:
            act(customer)
        say("")


if __name__ == "__main__":
    run(main)
