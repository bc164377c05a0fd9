"""stripe_webhook: only what Stripe signed, and signed now, is heard."""

import json
from collections.abc import Callable
from time import time

import pytest

from infra.local.cloud.stripe_webhooks import sign
from tests.harness.answers import done, problem
from tests.harness.client import Load
from tests.harness.platform import Platform
from tests.harness.stripe_events import PATH, Event, Stripe, paid

DAY = 24 * 3600
Forge = Callable[[bytes, str], str | None]
"""A signature header for this body by who knows this secret; None: no header at all."""


def _now() -> int:
    return int(time())


def _v1(body: bytes, secret: str, timestamp: int | None = None) -> str:
    return sign(body, secret, timestamp or _now()).partition(",v1=")[2]


@pytest.fixture
def stripe(function: Load, platform: Platform) -> Stripe:
    return Stripe(platform, function("credits"), function("stripe_webhook"))


FORGED: dict[str, Forge] = {
    "no header": lambda body, secret: None,
    "empty": lambda body, secret: "",
    "garbage": lambda body, secret: "garbage",
    "wrong secret": lambda body, secret: sign(body, secret + "x", _now()),
    "empty secret": lambda body, secret: sign(body, "", _now()),
    "another body": lambda body, secret: sign(body + b" ", secret, _now()),
    "truncated": lambda body, secret: sign(body, secret, _now())[:-1],
    "longer": lambda body, secret: sign(body, secret, _now()) + "0",
    "v0 only": lambda body, secret: f"t={_now()},v0={_v1(body, secret)}",
    "no v1": lambda body, secret: f"t={_now()}",
    "empty v1": lambda body, secret: f"t={_now()},v1=",
    "no timestamp": lambda body, secret: f"v1={_v1(body, secret)}",
    "another timestamp": lambda body, secret: f"t={_now() - 1},v1={_v1(body, secret)}",
    "five minutes and a second ago": lambda body, secret: sign(body, secret, _now() - 301),
    "a day ahead": lambda body, secret: sign(body, secret, _now() + DAY),
    "two timestamps": lambda body, secret: f"t={_now()},{sign(body, secret, _now() - DAY)}",
    "two timestamps, the other way": lambda body, secret: (
        f"{sign(body, secret, _now() + DAY)},t={_now()}"
    ),
    "a negative timestamp": lambda body, secret: sign(body, secret, -1),
    "a timestamp of many digits": lambda body, secret: sign(body, secret, 10**40),
    "a timestamp in words": lambda body, secret: f"t=now,v1={_v1(body, secret)}",
    "capitals": lambda body, secret: f"t={_now()},v1={_v1(body, secret).upper()}",
    "longer than any": lambda body, secret: f"t={_now()}" + f",v1={_v1(body, 'x')}" * 200,
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_signature_is_refused(stripe: Stripe, platform: Platform, forge: Forge) -> None:
    body = json.dumps(paid(stripe.buy(platform.organization()))).encode()
    before = platform.contents()
    signature = forge(body, stripe.secret)
    response = stripe.deliver(body, signature) if signature is not None else stripe.unsigned(body)
    assert response.json()["code"] in ("invalid_signature", "invalid_request")
    problem(response, 400, response.json()["code"])
    assert platform.contents() == before


@pytest.mark.parametrize(
    "signature",
    [
        pytest.param("t=1,v1=\u00e9".encode(), id="UTF-8"),
        pytest.param("t=1,v1=\u00e9".encode("latin-1"), id="Latin-1"),
        pytest.param("t=\u0661\u0661,v1=00".encode(), id="Arabic digits"),
    ],
)
def test_a_signature_is_ascii(stripe: Stripe, signature: bytes) -> None:
    problem(stripe.unsigned(b"{}", {b"Stripe-Signature": signature}), 400, "invalid_signature")


HONEST: dict[str, Callable[[bytes, str], str]] = {
    "now": lambda body, secret: sign(body, secret, _now()),
    "almost five minutes ago": lambda body, secret: sign(body, secret, _now() - 295),
    "a clock that is a little ahead": lambda body, secret: sign(body, secret, _now() + 60),
    "two keys while one is rotated": lambda body, secret: (
        f"t={_now()},v1={_v1(body, 'old')},v1={_v1(body, secret)}"
    ),
    "a test signature beside it": lambda body, secret: f"{sign(body, secret, _now())},v0=00",
}


@pytest.mark.parametrize("signed", HONEST.values(), ids=HONEST)
def test_an_honest_signature_is_heard(
    stripe: Stripe, platform: Platform, signed: Callable[[bytes, str], str]
) -> None:
    body = json.dumps(paid(stripe.buy(platform.organization()))).encode()
    assert done(stripe.deliver(body, signed(body, stripe.secret)))["outcome"] == "credited"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param(b"", "invalid_request", id="nothing"),
        pytest.param(b"null", "invalid_request", id="null"),
        pytest.param(b"7", "invalid_request", id="a number"),
        pytest.param(b'"text"', "invalid_request", id="a text"),
        pytest.param(b"[]", "invalid_request", id="a list"),
        pytest.param(b"{}", "invalid_request", id="an empty object"),
        pytest.param(b"{", "invalid_request", id="half an object"),
        pytest.param(b'{"id": 7, "type": "x"}', "invalid_request", id="an id that is a number"),
        pytest.param(b'{"id": "", "type": "x"}', "invalid_request", id="an empty id"),
        pytest.param(b'{"id": "evt_1", "type": null}', "invalid_request", id="no type"),
        pytest.param(b'{"id": "evt_1", "type": "x", "a": NaN}', "invalid_request", id="NaN"),
        pytest.param(b'{"id": "evt_1", "type": "x", "a": 1e400}', "invalid_request", id="1e400"),
        pytest.param(
            b'{"id": "evt_1", "type": "x", "a": "\\ud800"}', "invalid_request", id="half a pair"
        ),
        pytest.param(
            b'{"id": "evt_1", "type": "x", "a": %s}' % (b"9" * 5000),
            "invalid_request",
            id="thousands of digits",
        ),
        pytest.param(b"[" * 10_000, "invalid_request", id="depth"),
        pytest.param(
            b'{"id": "evt_1", "type": "x", "a": %s%s}' % (b"[" * 9_000, b"]" * 9_000),
            "invalid_request",
            id="balanced depth",
        ),
        pytest.param(b'{"id": "\xff\xfe"}', "invalid_signature", id="invalid UTF-8"),
        pytest.param(
            b'{"id": "%s", "type": "x"}' % (b"e" * 5000), "invalid_request", id="a long id"
        ),
    ],
)
def test_a_signed_body_that_is_no_event_is_refused(
    stripe: Stripe, platform: Platform, body: bytes, code: str
) -> None:
    before = platform.contents()
    problem(stripe.deliver(body), 400, code)
    assert platform.contents() == before


def test_a_body_too_large_is_refused_before_its_signature(
    stripe: Stripe, platform: Platform
) -> None:
    body = json.dumps({"id": "evt_1", "type": "x", "a": "x" * 1_100_000}).encode()
    problem(stripe.deliver(body), 413, "body_too_large")


@pytest.mark.parametrize(
    "event",
    [
        pytest.param({"id": "evt_nul", "type": "a\x00b"}, id="in the type"),
        pytest.param({"id": "evt\x00nul", "type": "x"}, id="in the id"),
        pytest.param({"id": "evt_nul", "type": "x", "data": {"\x00": "\x00"}}, id="in the data"),
        pytest.param({"id": "evt_nul", "type": "x", "a": "\\u0000"}, id="an escaped escape"),
    ],
)
def test_a_nul_is_stored_as_what_it_can_be(
    stripe: Stripe, platform: Platform, event: Event
) -> None:
    done(stripe.tell(event | {"livemode": False}))
    assert platform.value("select count(*) from billing.payment_events") == 1


def test_a_notification_needs_no_content_type(stripe: Stripe) -> None:
    body = b'{"id": "evt_1", "type": "x", "livemode": false}'
    signature = sign(body, stripe.secret, _now()).encode()
    done(stripe.unsigned(body, {b"Stripe-Signature": signature}))


def test_the_webhook_has_no_other_door(function: Load) -> None:
    client = function("stripe_webhook")
    problem(client.get(PATH), 405, "method_not_allowed")
    problem(client.get("/v1/credits"), 404, "not_found")
