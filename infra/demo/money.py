"""Money and sessions: sign up, pay, run, be charged, run dry."""

from datetime import datetime
from decimal import Decimal

from infra.demo.customer import Customer, expect, line, seconds_between, usd
from infra.local.progress import say
from infra.verify import differences


def register(customer: Customer) -> None:
    """Become an organization with a wallet, a bonus and a passport."""
    customer.passport = customer.sign_up()
    registration = customer.post("/v1/register", {"organization_name": "Ada's lab"})
    customer.passport = registration["passport"]["key"]
    wallet = registration["wallet"]
    line("registered on plan", registration["organization"]["plan"])
    line("free bonus", usd(wallet["available"]))


def buy_credits(customer: Customer) -> None:
    """Pay $25 on the pay page; the provider's signed notification credits it."""
    top_up = customer.post("/v1/credits/checkout", {"amount": "25.00"})
    customer.http.post(top_up["checkout_url"], data={"method": "card"})
    paid = customer.get(f"/v1/credits/top-ups/{top_up['id']}")
    expect(paid["status"] == "paid", "the top-up is not paid")
    line("paid on the pay page, webhook verified", usd(paid["amount"]))
    line("balance", usd(customer.get("/v1/credits")["available"]))


def run_a_session(customer: Customer) -> None:
    """Run for a while, watch the cost, stop, and pay for exactly that long."""
    session = customer.post("/v1/sessions", {"tier": "large"})
    path = f"/v1/sessions/{session['id']}"
    line("started a large session, per hour", usd(session["hourly_price"]))
    for minutes in (20, 40):
        customer.move_clock(minutes * 60)
        line(f"{minutes} minutes later, cost as of now", usd(customer.get(path)["cost"]))
    stopped = customer.post(f"{path}/stop", {})
    seconds = seconds_between(stopped["started_at"], stopped["ended_at"])
    exact = (Decimal(stopped["hourly_price"]) * seconds / 3600).quantize(Decimal("0.000001"))
    expect(str(exact) == stopped["cost"], f"{stopped['cost']} is not {exact}")
    line("stopped, charged exactly", usd(stopped["cost"]), f"{seconds:.6f} s")


def run_dry(customer: Customer) -> None:
    """Let the money run out: the session ends on that second, and nothing more starts."""
    before = customer.get("/v1/credits")["available"]
    session = customer.post("/v1/sessions", {"tier": "large"})
    path = f"/v1/sessions/{session['id']}"
    line("started another with all there is", usd(before))
    price = Decimal(session["hourly_price"])
    affordable_hours = Decimal(before) / price
    customer.move_clock(int(affordable_hours * 3600) + 24 * 3600)
    ended = customer.get(path)
    seconds = seconds_between(ended["started_at"], ended["ended_at"])
    expect(ended["close_reason"] == "exhausted", "the session did not end exhausted")
    expect(Decimal(ended["cost"]) <= Decimal(before), "more was charged than there was")
    expect(
        price * (seconds + 1) / 3600 > Decimal(before), "the money would have lasted a second more"
    )
    line(f"a day too late: {ended['close_reason']}", usd(ended["cost"]), f"after {seconds} s")
    after = customer.get("/v1/credits")["available"]
    expect(Decimal(after) >= 0, "the balance is below zero")
    line("balance, not below zero", usd(after))
    refused = customer.try_call("POST", "/v1/sessions", json={"tier": "large"})
    problem = refused.json()
    expect(refused.status_code == 402, "a start without money was not refused")
    line(
        f"another start: {refused.status_code} {problem['code']}",
        usd(problem["required"]),
        f"required, {usd(problem['available'])} available",
    )


def read_postgres(customer: Customer) -> None:
    """Read the ledger straight from Postgres: of all customers' rows, one's own."""
    token = customer.post("/v1/token")["token"]
    headers = {"apikey": customer.stack.publishable_key, "Authorization": f"Bearer {token}"}
    url = f"{customer.stack.rest_url}/transactions"
    answer = customer.http.get(url, headers=headers, params={"order": "sequence.asc"})
    expect(answer.is_success, f"PostgREST answered {answer.status_code}")
    rows = answer.json()
    total = sum(row["amount_micros"] for row in rows)
    expect(len({row["organization_id"] for row in rows}) == 1, "others' rows were told")
    expect(total == rows[-1]["balance_micros"], "the rows do not add up to the balance")
    line("own ledger by PostgREST, summed up", f"{total} µ$", f"{len(rows)} rows")


def revoke(customer: Customer) -> None:
    """End a passport: the next call with it is refused."""
    second = customer.post("/v1/passports", {"name": "laptop", "permissions": ["read"]})
    guest = Customer(customer.stack, customer.http, second["key"])
    expect(guest.try_call("GET", "/v1/credits").is_success, "a new passport does not work")
    customer.post(f"/v1/passports/{second['id']}/revoke")
    refused = guest.try_call("GET", "/v1/credits")
    expect(refused.status_code == 401, "a revoked passport still works")
    line(f"revoked passport {second['key_prefix']}…: {refused.status_code}")


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
    expect(found == 0, "the books disagree")
