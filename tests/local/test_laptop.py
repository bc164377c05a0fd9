"""The stack of `make up`, from outside: its description, its doors, its clock and its queue."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from time import monotonic, sleep
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest

from infra.demo.customer import Customer
from infra.demo.money import buy_credits, register
from infra.local import paths
from infra.local.layout import PORT_VARIABLE, QUEUE, Layout
from infra.local.progress import RefusalError
from infra.local.stack import Stack
from tests.local.laptop import Laptop, Running

PROMISED = {
    *["api_url", "rest_url", "auth_url", "database_url", "publishable_key", "secret_key"],
    *["stripe_url", "stripe_webhook_secret", "admin_passport"],
}


@pytest.fixture(scope="module")
def running(laptop: Laptop) -> Iterator[Running]:
    """Give a stack that was started on a new machine."""
    with laptop.up() as running:
        yield running


@pytest.fixture
def stack(running: Running) -> Stack:
    return running.stack


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=20, trust_env=False) as client:
        yield client


@pytest.fixture
def customer(stack: Stack, http: httpx.Client) -> Customer:
    """Give a customer who has signed up, with the free bonus."""
    customer = Customer(stack, http)
    register(customer)
    return customer


def test_the_first_start_tells_each_step(running: Running, laptop: Laptop) -> None:
    steps = [line.split(" .")[0].strip() for line in running.told.splitlines() if " s" in line]
    assert steps[:4] == [
        "PostgreSQL: data directory",
        f"PostgreSQL on port {laptop.port + 3}",
        "database",
        "migrations",
    ]
    assert f"Faregate serves {running.stack.api_url}" in running.told


def test_the_description_is_complete_and_private(running: Running, laptop: Laptop) -> None:
    described = json.loads(laptop.stack_file.read_text())
    assert {name for name, value in described.items() if value} >= PROMISED
    assert laptop.stack_file.stat().st_mode & 0o777 == 0o600
    assert described["pid"] == running.process.pid


def test_it_is_healthy_and_documented(stack: Stack, http: httpx.Client) -> None:
    assert http.get(f"{stack.api_url}/healthz").json()["status"] == "ok"
    paths_documented = http.get(f"{stack.api_url}/openapi.json").json()["paths"]
    assert {"/v1/register", "/v1/sessions", "/v1/credits"} <= set(paths_documented)
    assert "/_local/clock" not in paths_documented


def test_the_demo_passes_against_it(running: Running, laptop: Laptop) -> None:
    status, told, complaint = laptop.run("infra.demo")
    assert (status, complaint) == (0, "")
    assert told.rstrip().endswith("verify: 0 differences")
    assert "PostgreSQL" not in told, "it started another stack"
    assert running.process.poll() is None


def test_the_readmes_examples_of_usage_can_be_typed(running: Running, laptop: Laptop) -> None:
    assert laptop.run("infra.prices")[0] == 0
    text = (paths.ROOT / "README.md").read_text()
    usage = text.partition("## Usage\n")[2].partition("\n## Policies")[0]
    typed = "\n".join(re.findall(r"```bash\n(.*?)```", usage, re.DOTALL))
    for there, here in (
        ("http://127.0.0.1:8787", running.stack.api_url),
        (".local/stack.json", str(laptop.stack_file)),
    ):
        assert there in typed
        typed = typed.replace(there, here)
    bash = subprocess.run(
        ["bash", "-euc", typed],
        cwd=laptop.state,
        env=os.environ | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert '"status":4' not in bash.stdout, bash.stdout
    assert bash.stdout.count('{"accepted":1,"duplicate":0,"rejected":0,') == 2
    assert '{"staged":1,"duplicate":0,"rejected":0,' in bash.stdout
    assert '"status":"closed","staged":1,"recorded":1,' in bash.stdout
    assert '"status":"reverted","staged":1,"recorded":1,' in bash.stdout
    assert '"available":"19.992813"' in bash.stdout
    assert '"feature":"chat","kind":"metered","allowed":true,"reason":null' in bash.stdout
    history = laptop.state / "history.parquet"
    assert history.read_bytes()[:4] == b"PAR1"


def test_nobody_makes_up_an_address_of_their_own(customer: Customer) -> None:
    (bonus,) = customer.get("/v1/grants")["data"]
    rule = {
        **{"description": "one a day", "match": {"organization": [bonus["organization_id"]]}},
        **{"effect": "limit", "limit_per": "ip"},
        **{"capacity": 1, "refill": 1, "refill_seconds": 86_400},
    }
    Customer(customer.stack, customer.http, customer.stack.admin_passport).post(
        "/v1/policies", rule
    )
    statuses = [
        customer.http.get(
            f"{customer.stack.api_url}/v1/credits",
            headers={"Authorization": f"Bearer {customer.passport}", "X-Forwarded-For": address},
        ).status_code
        for address in ("198.51.100.1", "198.51.100.2")
    ]
    assert statuses == [200, 429]


def test_the_queue_ends_a_session_at_its_very_second(customer: Customer) -> None:
    """The task comes when the clock passes, long before the sweep that would mend it."""
    session = customer.post("/v1/sessions", {"tier": "small", "max_seconds": 90})
    end = datetime.fromisoformat(session["started_at"]) + timedelta(seconds=90)
    assert datetime.fromisoformat(session["expires_at"]) == end
    move(customer, 0)
    (task,) = [each for each in queue(customer) if scheduled(each) == end]
    assert task["httpRequest"]["url"] == f"{customer.stack.api_url}/tasks/stop-session"

    # Its own, and perhaps those of what came with the registration.
    assert move(customer, 3600)["tasks_delivered"] >= 1
    assert task["name"] not in {each["name"] for each in queue(customer)}
    ended = customer.get(f"/v1/sessions/{session['id']}")
    assert (ended["status"], ended["close_reason"]) == ("closed", "expired")
    assert datetime.fromisoformat(ended["ended_at"]) == end
    assert Decimal(ended["cost"]) == Decimal(session["hourly_price"]) * 90 / 3600
    last, *_ = customer.get("/v1/credits/transactions")["data"]
    assert Decimal(last["amount"]) == -Decimal(ended["cost"])
    late = datetime.fromisoformat(last["created_at"]) - end
    assert timedelta(0) <= late < timedelta(seconds=5)


def test_a_refund_stops_what_runs_and_what_was_spent_is_owed(customer: Customer) -> None:
    buy_credits(customer)
    payment = payments(customer)[0]
    session = customer.post("/v1/sessions", {"tier": "large"})
    move(customer, 150 * 3600)  # $7.50: the bonus and a tenth of the payment
    refund = stripe(customer, "/v1/refunds", payment_intent=payment["id"])
    stopped = customer.get(f"/v1/sessions/{session['id']}")
    assert stopped["close_reason"] == "frozen"
    balance = customer.get("/v1/credits")
    assert Decimal(balance["settled"]) == 0
    assert Decimal(balance["debt"]) == Decimal(stopped["cost"]) - 5
    refused = customer.try_call("POST", "/v1/sessions", json={"tier": "small"})
    assert refused.status_code == 402
    assert (refused.json()["code"], refused.json()["debt"]) == ("debt_outstanding", balance["debt"])

    stripe(customer, f"/_refunds/{refund['id']}", outcome="failed")
    after = customer.get("/v1/credits")
    assert (Decimal(after["settled"]), after["debt"]) == (30 - Decimal(stopped["cost"]), "0.000000")
    customer.post("/v1/sessions", {"tier": "small"})


@pytest.mark.parametrize(("outcome", "left"), [("won", 30), ("lost", 5)])
def test_a_dispute_takes_the_money_until_it_is_won(
    customer: Customer, outcome: str, left: int
) -> None:
    buy_credits(customer)
    payment = payments(customer)[0]
    dispute = stripe(customer, "/_disputes", payment_intent=payment["id"])
    assert Decimal(customer.get("/v1/credits")["settled"]) == 5
    stripe(customer, f"/_disputes/{dispute['id']}", outcome=outcome)
    assert Decimal(customer.get("/v1/credits")["settled"]) == left


def payments(customer: Customer) -> list[dict[str, Any]]:
    """Tell what Stripe lists, newest first."""
    listed: list[dict[str, Any]] = stripe(customer, "/v1/payment_intents", "GET")["data"]
    return listed


def stripe(customer: Customer, path: str, method: str = "POST", **form: str) -> dict[str, Any]:
    """Do something at Stripe, as its dashboard or the customer's bank would."""
    answer = customer.http.request(
        method,
        f"{customer.stack.stripe_url}{path}",
        data=form,
        headers={"Authorization": f"Bearer {customer.stack.stripe_secret_key}"},
    )
    assert answer.is_success, answer.text
    document: dict[str, Any] = answer.json()
    return document


def test_a_balance_that_runs_low_is_filled_by_the_saved_card(customer: Customer) -> None:
    """Everything by itself: cron, queue, card, and the webhook beside the task."""
    top_up = customer.post("/v1/credits/checkout", {"amount": "10.00", "save_card": True})
    customer.http.post(top_up["checkout_url"], data={"method": "card"})
    settings = {"threshold": "14.90", "amount": "100.00", "monthly_cap": "100.00"}
    answer = customer.try_call("PUT", "/v1/credits/auto-top-up", json=settings)
    assert answer.status_code == 200, answer.text
    move(customer, 0)
    assert Decimal(customer.get("/v1/credits")["settled"]) == 15
    session = customer.post("/v1/sessions", {"tier": "large"})

    move(customer, 3 * 3600)
    deadline = monotonic() + 60
    while (charged := customer.get("/v1/credits/top-ups")["data"][0])["status"] != "paid":
        assert monotonic() < deadline, charged
        sleep(0.1)
    assert (charged["kind"], charged["amount"]) == ("automatic", "100.000000")
    customer.post(f"/v1/sessions/{session['id']}/stop", {})
    move(customer, 3 * 3600)
    assert len(customer.get("/v1/credits/top-ups")["data"]) == 2
    settled = Decimal(customer.get("/v1/credits")["settled"])
    assert Decimal("119.8") < settled < Decimal("119.9"), "100, its bonus of 5, and what was left"
    told = {each["kind"] for each in customer.get("/v1/notifications")["data"]}
    assert told <= {"identity_ready", "storage_provisioning", "storage_ready"}


def test_an_invitation_is_mailed_and_accepted(customer: Customer, http: httpx.Client) -> None:
    stack, email = customer.stack, "invited@example.com"
    operator = Customer(stack, http, stack.admin_passport)
    (bonus,) = customer.get("/v1/grants")["data"]
    path = f"/v1/organizations/{bonus['organization_id']}/invitations"
    operator.post(path, {"email": email, "role": "member"})
    move(customer, 60)
    mail = http.get(f"{stack.auth_url}/_mailbox", params={"email": email}).json()
    place = httpx.URL(http.get(mail["action_link"]).headers["location"])
    assert str(place).startswith(f"{stack.api_url}/docs?")
    session = dict(parse_qsl(place.fragment))["access_token"]
    invited = Customer(stack, http, session)
    body = {"token": place.params["invitation"]}
    assert invited.post("/v1/invitations/accept", body)["role"] == "member"
    assert invited.get("/v1/credits")["settled"] == "5.000000"


def move(customer: Customer, seconds: int) -> dict[str, Any]:
    url = f"{customer.stack.api_url}/_local/clock"
    answer = customer.http.post(url, json={"advance_seconds": seconds})
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def queue(customer: Customer) -> list[dict[str, Any]]:
    tasks = customer.http.get(f"{customer.stack.tasks_url}/v2/{QUEUE}/tasks").json()["tasks"]
    return list(tasks)


def scheduled(task: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(task["scheduleTime"])


def test_the_clock_brings_grants_and_takes_what_is_over(customer: Customer) -> None:
    operator = Customer(customer.stack, customer.http, customer.stack.admin_passport)
    (bonus,) = customer.get("/v1/grants")["data"]
    mine = {"organization_id": bonus["organization_id"], "amount": "1.00"}
    begin = datetime.fromisoformat(move(customer, 0)["now"]) + timedelta(hours=1)
    time = {
        "effective_at": begin.isoformat(),
        "expires_at": (begin + timedelta(days=1)).isoformat(),
    }
    grant = operator.post("/v1/grants", {**mine, **time, "note": "a day's gift"})
    hold = operator.post("/v1/holds", {**mine, "expires_in_seconds": 7200})
    seen = []
    for hours in (0, 1, 1, 24):
        move(customer, hours * 3600 + 1)
        balance = customer.get("/v1/credits")
        seen.append((balance["settled"], balance["held"]))
    one, five, six = "1.000000", "5.000000", "6.000000"
    assert seen == [(five, one), (six, one), (six, "0.000000"), (five, "0.000000")]
    assert customer.get(f"/v1/holds/{hold['id']}")["status"] == "expired"
    ends = {each["id"]: each["status"] for each in customer.get("/v1/grants")["data"]}
    assert ends == {bonus["id"]: "active", grant["id"]: "expired"}


def test_the_clock_tells_and_moves(stack: Stack, http: httpx.Client) -> None:
    url = f"{stack.api_url}/_local/clock"
    before = datetime.fromisoformat(http.get(url).json()["now"])
    answer = http.post(url, json={"advance_seconds": 3600}).json()
    passed = datetime.fromisoformat(answer["now"]) - before
    assert timedelta(hours=1) <= passed < timedelta(hours=1, minutes=1)
    assert answer["tasks_delivered"] == 0
    assert answer["sweeps"] >= 1
    assert answer["now"] <= http.get(url).json()["now"]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"advance_seconds": -1}', id="back"),
        pytest.param(b'{"advance_seconds": 1.5}', id="half a second"),
        pytest.param(b'{"advance_seconds": "60"}', id="a number as text"),
        pytest.param(b'{"advance_seconds": true}', id="a boolean"),
        pytest.param(b'{"advance_seconds": 1e12}', id="ages"),
        pytest.param(b'{"advance_seconds": 60, "hours": 1}', id="an unknown field"),
        pytest.param(b"{}", id="nothing"),
        pytest.param(b"{", id="no JSON"),
    ],
)
def test_the_clock_does_not_move(stack: Stack, http: httpx.Client, body: bytes) -> None:
    url = f"{stack.api_url}/_local/clock"
    before = datetime.fromisoformat(http.get(url).json()["now"])
    answer = http.post(url, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    after = datetime.fromisoformat(http.get(url).json()["now"])
    assert after - before < timedelta(minutes=1)


def rest(stack: Stack, http: httpx.Client, key: str, token: str = "") -> httpx.Response:
    headers = {"apikey": key} | ({"Authorization": f"Bearer {token}"} if token else {})
    return http.post(
        f"{stack.rest_url}/rpc/list_outbox",
        json={"p_topic": "stop_session", "p_limit": 1},
        headers=headers,
    )


def test_the_secret_key_calls_functions_over_rest(stack: Stack, http: httpx.Client) -> None:
    answer = rest(stack, http, stack.secret_key)
    assert answer.status_code == 200
    assert isinstance(answer.json(), list)
    assert rest(stack, http, stack.secret_key, stack.secret_key).status_code == 200


def test_nobody_else_calls_functions_over_rest(
    stack: Stack, http: httpx.Client, customer: Customer
) -> None:
    anonymous = rest(stack, http, stack.publishable_key)
    assert (anonymous.status_code, anonymous.json()["code"]) == (401, "42501")
    signed_in = rest(stack, http, stack.publishable_key, customer.sign_up())
    assert (signed_in.status_code, signed_in.json()["code"]) == (403, "42501")
    assert rest(stack, http, "sb_publishable_of_somebody_else").status_code == 401


def test_a_passport_reads_its_rows_over_rest(
    stack: Stack, http: httpx.Client, customer: Customer
) -> None:
    token = http.post(
        f"{stack.api_url}/v1/token", headers={"Authorization": f"Bearer {customer.passport}"}
    ).json()
    answer = http.get(
        f"{token['rest_url']}/wallets?select=settled_micros",
        headers={"apikey": stack.publishable_key, "Authorization": f"Bearer {token['token']}"},
    )
    assert (answer.status_code, answer.json()) == (200, [{"settled_micros": 5_000_000}])
    keys = http.get(stack.jwks_url).json()["keys"]
    assert {key["kid"] for key in keys} == {"local-es256", "local-reader"}
    assert not any("d" in key for key in keys)


def test_a_second_up_says_where_the_first_is(running: Running, laptop: Laptop) -> None:
    status, told, complaint = laptop.run("infra.local.up")
    assert (status, told) == (1, "")
    assert complaint == (
        f"faregate: the stack of this checkout runs already at {running.stack.api_url}"
        f" (process {running.process.pid}).\n"
    )
    assert laptop.stack() == running.stack


def test_a_port_in_use_is_named(running: Running, laptop: Laptop) -> None:
    elsewhere = Laptop(laptop.state / "elsewhere", laptop.port - 1)
    status, told, complaint = elsewhere.run("infra.local.up")
    assert (status, told) == (1, "")
    assert complaint == (
        f"faregate: port {laptop.port} is in use; end what listens there, or set {PORT_VARIABLE}"
        f" to the first of 5 free ports in a row (now {laptop.port - 1}).\n"
    )
    assert running.process.poll() is None


@pytest.mark.parametrize("port", ["80", "65531", "-1", "eight", ""])
def test_a_port_that_cannot_be_is_named(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv(PORT_VARIABLE, port)
    sentence = f"{PORT_VARIABLE} must be a port from 1024 to 65530, not {port!r}."
    with pytest.raises(RefusalError, match=re.escape(sentence)):
        Layout.load()
