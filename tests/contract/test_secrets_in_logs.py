"""Nothing that is printed has a secret in it, whatever goes wrong and whoever says it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import quote, unquote

import httpx
import pytest

import faregate.function
import faregate.log
from faregate.function import FUNCTIONS
from infra.local import paths
from infra.local.template import free_port
from infra.openapi import PLACEHOLDERS
from tests.contract.test_invokers import ADDRESSES
from tests.harness.answers import done
from tests.harness.client import Load
from tests.harness.faulty import Answer, Exchange, faulty
from tests.harness.invitations import Invitations
from tests.harness.operations import OPERATIONS
from tests.harness.platform import Organization, Platform
from tests.harness.provisioning import Provisioning
from tests.harness.stripe_events import PATH as WEBHOOK

PASSWORD = "hunter2%zzhunter2"
S3_KEY = "an-s3-secret-access-key"
OTLP_KEY = "an-otlp-receivers-key"
LONELY = f"postgresql://faregate_functions:{PASSWORD}@127.0.0.1:9/nothing"
S3_ENDPOINTS = {"url": "http://127.0.0.1:9", "access_key_id": "id", "secret_access_key": S3_KEY}


@dataclass
class Known:
    """Every secret there is, by name, and where it was found to be printed."""

    secrets: dict[str, str] = field(default_factory=dict)

    def leaked(self, printed: str) -> set[str]:
        """Tell which of them stand in what was printed, in any writing."""
        return {
            name
            for name, secret in self.secrets.items()
            if any(form in printed for form in _forms(secret))
        }

    @property
    def all(self) -> str:
        """Write them down, as somebody does who puts everything into a message."""
        return " ".join(self.secrets.values())


def _forms(secret: str) -> set[str]:
    # Of a signed token its signature is enough to look for, and more than enough to find.
    tail = secret.rpartition(".")[2] if secret.startswith("eyJ") else secret
    return {tail, quote(tail, safe=""), unquote(tail), json.dumps(tail)[1:-1], tail[-20:]}


@pytest.fixture
def operator(platform: Platform) -> Organization:
    return platform.operator()


@pytest.fixture
def customer(platform: Platform) -> Organization:
    return platform.organization("pro", usd=100)


@pytest.fixture
def known(platform: Platform, operator: Organization, customer: Organization) -> Known:
    """Give what a deployment and its callers hold."""
    layout = platform.cloud.layout
    user = platform.user()
    platform.join(user, customer, "owner")
    return Known(
        {
            "a passport": customer.passport,
            "an operator's passport": operator.passport,
            "a user's token": user.token,
            "the invoker's token": platform.cloud.invoker_token(),
            "the project's secret key": layout.secrets.secret_key,
            "Stripe's secret key": layout.secrets.stripe_secret_key,
            "the webhook's secret": layout.secrets.stripe_webhook_secret,
            "the signing key": layout.reader_key.private_jwk["d"],
            "the database's password": layout.secrets.database_password,
            "another password": PASSWORD,
            "the key to S3": S3_KEY,
        }
    )


@dataclass
class Ear:
    """Everything that was printed since it was last asked: both streams, and libraries' logs."""

    capfd: pytest.CaptureFixture[str]
    caplog: pytest.LogCaptureFixture

    def heard(self) -> str:
        out, err = self.capfd.readouterr()
        text = out + err + self.caplog.text
        self.caplog.clear()
        return text


@pytest.fixture
def ear(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Ear:
    return Ear(capfd, caplog)


def _everywhere(function: Load, known: Known, **settings: str) -> None:
    """Call every operation with everything, wherever a caller can write it."""
    clients = {name: function(name, **settings) for name in FUNCTIONS}
    for operation in OPERATIONS:
        client = clients[operation.function]
        for name in ("a passport", "an operator's passport", "a user's token"):
            secret = known.secrets[name]
            operation.call(client, by=secret)
            operation.call(client, headers={"X-API-Key": secret})
            # In the address, where ids belong, and in the headers that are told again.
            operation.call(client, by=secret, subject=quote(secret, safe=""))
            address = f"{operation.address(operation.absent)}?api_key={secret}&limit={secret}"
            told = {"X-Request-Id": secret, "traceparent": secret, "Idempotency-Key": "k" * 8}
            client.request(operation.method, address, by=secret, headers=told)
            if operation.body is not None:
                for body in (f'{{"{secret}": 1}}', f'"{secret}', f'{{"name": "{secret}"}}'):
                    client.raw(
                        operation.method,
                        operation.address(operation.absent),
                        body.encode(),
                        {b"content-type": b"application/json", b"idempotency-key": b"k" * 8},
                    )


def _machines(function: Load, known: Known, **settings: str) -> None:
    """Call schedules, tasks and the webhook, rightly and wrongly."""
    token = known.secrets["the invoker's token"]
    for name, address in ADDRESSES.items():
        client = function(name, **settings)
        client.post(address, {}, by=token)
        client.post(address, {"task_id": token}, by=token, params={"token": token})
        client.post(address, {}, by=token + "x", headers={"X-Serverless-Authorization": token})
    webhook, secret = function("stripe_webhook", **settings), known.secrets["the webhook's secret"]
    for signature in (f"t=1,v1={secret}", secret, f"t={secret}"):
        body = json.dumps({"id": secret, "type": known.all}).encode()
        webhook.raw("POST", WEBHOOK, body, {b"stripe-signature": signature.encode()})


def test_traffic_tells_no_secret(function: Load, known: Known, ear: Ear) -> None:
    _everywhere(function, known)
    _machines(function, known)
    printed = ear.heard()
    assert printed.count('"message": "request"') > 10 * len(OPERATIONS)
    assert known.leaked(printed) == set()


def test_what_is_issued_is_not_told(
    function: Load, platform: Platform, customer: Organization, known: Known, ear: Ear
) -> None:
    """Passports, readers' tokens, signed addresses, invitations: shown once, to one."""
    issued = Known()
    passports, by = function("passports"), customer.passport
    made = done(passports.post("/v1/passports", {"name": "a", "permissions": ["read"]}, by=by), 201)
    rotated = passports.post(f"/v1/passports/{made['id']}/rotate", {}, by=by)
    issued.secrets["a new passport"] = made["key"]
    issued.secrets["its successor"] = done(rotated, 201)["key"]
    issued.secrets["a reader's token"] = done(function("token").post("/v1/token", by=by))["token"]

    provisioning = Provisioning(platform, function)
    objects = function("objects")
    for region, name in (("europe-west4", "Google"), ("local-s3", "S3")):
        _offer(platform)
        bucket = provisioning.ready(region=region, by=customer)
        address = f"/v1/storage/{bucket}/uploads"
        signed = objects.post(address, {"object": "a.txt", "size_bytes": 1}, by=by)
        query = dict(httpx.URL(done(signed)["url"]).params)
        (signature,) = (query[key] for key in query if key.endswith("-Signature"))
        issued.secrets[f"a signature of {name}"] = signature
        objects.get(f"/v1/storage/{bucket}/objects", by=by, params={"X-Goog-Signature": signature})

    invitations = Invitations(platform, function)
    address = invitations.new_address()
    invitations.invite(address)
    arrival = invitations.follow(address)
    issued.secrets["an invitation"] = arrival.token
    issued.secrets["a sign-in"] = arrival.session
    invitations.accept("x" * 43, by=arrival.session)
    desk = function("invitations")
    desk.post(f"/v1/invitations/{arrival.token}", {}, by=arrival.session)
    desk.get("/v1/invitations", params={"invitation": arrival.token})
    desk.post("/v1/invitations/accept", {"token": arrival.token, arrival.token: 1})
    done(invitations.accept(arrival.token, by=arrival.session))
    printed = ear.heard()
    assert printed
    assert all(len(secret) > 20 for secret in issued.secrets.values())
    assert issued.leaked(printed) == set()
    assert known.leaked(printed) == set()


def _offer(platform: Platform) -> None:
    platform.run(
        "insert into billing.regions (kind, id, provider, location, endpoint)"
        " values ('bucket', 'local-s3', 's3', 'us-east-1', 'local') on conflict do nothing"
    )


def _blab(known: Known) -> Callable[[Exchange], Answer]:
    """Have a provider fail, and repeat in its message what it was told, and all else there is."""

    def say(exchange: Exchange) -> Answer:
        asked = exchange.request
        said = f"{asked.path} {asked.headers} {asked.body!r} {known.all}"
        if any("AWS4-HMAC" in value for _, value in asked.headers):
            told = f"<Error><Code>InternalError</Code><Message>{_xml(said)}</Message></Error>"
            return Answer(500, [("Content-Type", "application/xml")], told.encode())
        error = {"type": "api_error", "code": 500, "status": "INTERNAL", "message": said}
        document: dict[str, object] = {
            "error": error,
            "message": said,
            "msg": said,
            "code": "XX000",
            "details": said,
        }
        return Answer(500, [("Content-Type", "application/json")], json.dumps(document).encode())

    return say


def _xml(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _failures(
    function: Load, platform: Platform, customer: Organization, known: Known, url: str
) -> None:
    """Have every provider fail, at one address."""
    invoker, by = known.secrets["the invoker's token"], customer.passport
    # Rented while all is well, provisioned when nothing is.
    provisioning = Provisioning(platform, function)
    ready = provisioning.ready(by=customer)
    _offer(platform)
    s3 = json.dumps({"local": S3_ENDPOINTS | {"url": url}})
    failing = function(
        "provision_storage", STORAGE_API_URL=url, FILESTORE_API_URL=url, S3_ENDPOINTS=s3
    )
    for kind, region in (
        *[("bucket", "europe-west4"), ("bucket", "local-s3"), ("filestore", "us-central1")],
    ):
        provisioning.deliver(
            provisioning.task(provisioning.rent(kind, region, 1024, by=customer)), failing
        )
    for task in platform.fetch(
        "select organization_id::text, id::text from billing.outbox"
        " where topic = 'provision_identity'"
    ):
        body = dict(zip(("organization_id", "task_id"), task, strict=True))
        worker = function("provision_identity", IAM_API_URL=url)
        worker.post("/tasks/provision-identity", body, by=invoker)
    objects = function("objects", IAM_CREDENTIALS_API_URL=url, STORAGE_API_URL=url)
    objects.post(f"/v1/storage/{ready}/uploads", {"object": "a", "size_bytes": 1}, by=by)
    objects.get(f"/v1/storage/{ready}/objects", by=by)
    checkout = {"amount": "25.00"}
    function("credits", STRIPE_API_URL=url).post("/v1/credits/checkout", checkout, by=by)
    function("reconcile", STRIPE_API_URL=url).post("/schedules/reconcile", by=invoker)
    cron = function("enqueue_outbox", TASKS_API_URL=url)
    cron.post("/schedules/enqueue-outbox", by=invoker)
    function("storage", TASKS_API_URL=url).post(
        "/v1/storage", {"kind": "bucket", "size_gb": 1}, by=by
    )
    invitations = Invitations(platform, function)
    done(invitations.ask(invitations.new_address(), "member"), 201)
    invitations.strike()
    mails = function("send_invitation", SUPABASE_URL=url)
    invitations.work(invitations.tasks()[-1], mails)
    # The project's own API, and its keys and Google's.
    elsewhere = function("credits", DATABASE_URL="", SUPABASE_URL=url)
    elsewhere.get("/v1/credits", by=by)
    elsewhere.get("/v1/credits", by=known.secrets["a user's token"])
    function("report_health", GOOGLE_JWKS_URL=url).post(ADDRESSES["report_health"], by=invoker)


def _lose_the_database(function: Load, platform: Platform, by: str) -> None:
    """Have functions not reach it, and wait for it in vain."""
    function("credits", DATABASE_URL=LONELY).get("/v1/credits", by=by)
    nothing = platform.database.functions_url.rpartition("/")[0] + "/nothing"
    for url in (LONELY.replace("%zz", ""), nothing):
        function("credits", DATABASE_URL=url).get("/healthz")


def _have_it_raise(function: Load, platform: Platform, known: Known, by: str) -> None:
    """Have the database say everything."""
    platform.alter(
        "create or replace function api.get_wallet(p_caller jsonb) returns setof api.wallets"
        " language plpgsql as $$ begin raise exception '%', (select c.told from public.told as c)"
        " using detail = (select c.told from public.told as c); end $$"
    )
    platform.run("create table public.told (told text)")
    platform.run("grant select on public.told to public")
    platform.run("insert into public.told values (%s)", known.all)
    function("credits").get("/v1/credits", by=by)


def test_failures_tell_no_secret(
    function: Load, platform: Platform, customer: Organization, known: Known, ear: Ear
) -> None:
    with faulty("http://127.0.0.1:9") as way:
        way.strike(_blab(known), nth=None)
        # A function knows what it was given, here all of them together.
        function("token", DATABASE_URL=LONELY)
        _failures(function, platform, customer, known, way.url)
        assert len(way.requests) > 15
    _lose_the_database(function, platform, customer.passport)
    _have_it_raise(function, platform, known, customer.passport)
    printed = ear.heard()
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    assert sum("exception" in line for line in lines) >= 12
    assert known.leaked(printed) == set()


def test_without_concealment_it_would_be_found(
    function: Load,
    platform: Platform,
    customer: Organization,
    known: Known,
    ear: Ear,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tests of this file can fail: the same traffic shows every secret."""
    for module, name in ((faregate.log, "conceal"), (faregate.function, "conceal_path")):
        monkeypatch.setattr(module, name, lambda text: text)
    with faulty("http://127.0.0.1:9") as way:
        way.strike(_blab(known), nth=None)
        _failures(function, platform, customer, known, way.url)
    assert known.leaked(ear.heard()) == set(known.secrets)
    _have_it_raise(function, platform, known, customer.passport)
    assert known.leaked(ear.heard()) == set(known.secrets)
    client = function("credits")
    for path in ("/v1/{}", "/{}/x"):
        client.get(path.format(customer.passport))
        assert "a passport" in known.leaked(ear.heard())


@contextmanager
def _server(command: list[str], settings: Mapping[str, str], name: str, log: Path) -> Iterator[str]:
    """Serve a function as a process; give its address."""
    port = free_port()
    environment = {
        **{key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
        **settings,
        "FUNCTION_TARGET": name,
        "FUNCTION_SOURCE": str(paths.ROOT / "functions" / "main.py"),
        "PORT": str(port),
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=paths.ROOT / "functions",
            env=environment,
            stdout=out,
            stderr=out,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _await(f"{address}/nothing", process)
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _await(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = monotonic() + 120
    while True:
        try:
            httpx.get(url, trust_env=False)
        except httpx.HTTPError:
            assert process.poll() is None, "it ended"
            assert monotonic() < deadline, "it does not answer"
            sleep(0.1)
        else:
            return


# What is recognized wherever it stands; of the rest a function knows what it was given.
SHOWN = (
    *("a passport", "an operator's passport", "a user's token", "the invoker's token"),
    *("the project's secret key", "Stripe's secret key", "the webhook's secret"),
)
AS_DEPLOYED = ["functions_framework"]
WITH_ACCESS_LOG = ["uvicorn", "functions_framework.aio:app"]


@pytest.mark.parametrize(
    "command", [AS_DEPLOYED, WITH_ACCESS_LOG], ids=["as deployed", "uvicorn with its access log"]
)
def test_a_server_tells_no_secret(
    settings: dict[str, str], known: Known, tmp_path: Path, command: list[str]
) -> None:
    traced = {
        "TRACING": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization={OTLP_KEY}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    with ExitStack() as servers:
        for number, database in enumerate((settings["DATABASE_URL"], LONELY)):
            environment = settings | traced | {"DATABASE_URL": database}
            log = tmp_path / f"log-{number}"
            address = servers.enter_context(_server(command, environment, "credits", log))
            shown = [known.secrets[name] for name in SHOWN]
            # Whoever waits for the lonely one waits for seconds.
            for secret in [PASSWORD] if number else [*shown, settings["DATABASE_URL"]]:
                _call(f"{address}/v1/credits?api_key={quote(secret)}", secret)
                _call(f"{address}/{quote(secret, safe='')}/x?token={quote(secret)}", secret)
                _call(f"{address}/healthz?password={secret}", secret)
    printed = "".join(file.read_text() for file in tmp_path.iterdir())
    known.secrets["the receiver's key"] = OTLP_KEY
    assert printed.count('"message": "request"') > 3 * 8
    assert "error connecting" in printed  # what the pool says of the lonely one
    assert known.leaked(printed) == set()
    is_told_twice = "GET /v1/credits" in printed
    assert is_told_twice is (command is WITH_ACCESS_LOG)


def _call(url: str, secret: str) -> None:
    headers = {"Authorization": f"Bearer {secret}", "X-Request-Id": secret}
    httpx.get(url, headers=headers, trust_env=False, timeout=20)


@pytest.mark.parametrize(
    ("name", "setting", "value"),
    [
        ("credits", "DATABASE_URL", f"mysql://someone:{PASSWORD}@db/x"),
        ("credits", "DATABASE_URL", f"postgresql://someone:{PASSWORD}@db:port/x"),
        ("credits", "STRIPE_SECRET_KEY", f"{S3_KEY}\n{PASSWORD}"),
        ("credits", "SUPABASE_SECRET_KEY", f"{S3_KEY}\n{PASSWORD}"),
        ("credits", "SUPABASE_JWT_SECRET", PASSWORD),
        ("token", "TOKEN_SIGNING_KEY", f'{{"kty": "oct", "k": "{PASSWORD}'),
        ("token", "TOKEN_SIGNING_KEY", f'{{"kty": "EC", "d": "{PASSWORD}"}}'),
        ("objects", "S3_ENDPOINTS", f'{{"r2": {{"secret_access_key": "{PASSWORD}"'),
        ("objects", "S3_ENDPOINTS", f'{{"r2": {{"secret_access_key": "{PASSWORD}"}}}}'),
        ("objects", "S3_ENDPOINTS", f'{{"r2": {json.dumps(S3_ENDPOINTS | {"url": PASSWORD})}}}'),
    ],
)
def test_a_function_that_does_not_start_tells_why_and_no_secret(
    tmp_path: Path, name: str, setting: str, value: str
) -> None:
    known = Known({"a password": PASSWORD, "a key": S3_KEY})
    process = subprocess.run(
        [sys.executable, "-m", *AS_DEPLOYED, "--port", str(free_port())],
        cwd=paths.ROOT / "functions",
        env={**PLACEHOLDERS, setting: value, "FUNCTION_TARGET": name},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert process.returncode != 0
    printed = process.stdout + process.stderr
    assert setting.lower() in printed.lower()
    assert known.leaked(printed) == set()
    (line,) = map(json.loads, process.stdout.splitlines())
    assert (line["severity"], line["message"]) == ("CRITICAL", "the process ends")
    assert process.stderr == ""
