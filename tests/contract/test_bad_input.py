"""Bad input, everywhere: an answer that says what is wrong and where, and nothing is changed."""

import json
import re

import pytest

from faregate.function import FUNCTIONS
from tests.contract.conftest import Everything
from tests.harness.answers import problem
from tests.harness.operations import ABSENT, OPERATIONS, Operation

WITH_BODY = [each for each in OPERATIONS if each.body is not None]
# Safe to repeat by themselves.
WITHOUT_KEY = re.compile(
    "heartbeat|/reconciliation|/token|/storage/.*tach|/uploads|/downloads|/usage/events"
    "|/usage/estimate|/evaluate|/backfills/|/reviews/"
)
WITH_KEY = [
    each for each in OPERATIONS if each.method == "POST" and not WITHOUT_KEY.search(each.path)
]
TEN_MEGABYTES = 10 * 1024 * 1024

BODIES = {
    "half an object": b'{"',
    "a list": b"[]",
    "a list of one": b"[{}]",
    "null": b"null",
    "a number": b"7",
    "a text": b'"text"',
    "NaN": b"NaN",
    "an infinity": b"-Infinity",
    "Python": b"{'tier': 'small'}",
    "a comment": b"{} // x",
    "two objects": b"{}{}",
    "a trailing comma": b'{"a": 1,}',
    "invalid UTF-8": b'{"\xff": 1}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a NUL byte": b'{"a": "\x00"}',
    "depth": b"[" * 10_000,
    "balanced depth": b"[" * 10_000 + b"]" * 10_000,
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "an unknown field": b'{"unknown": 1}',
    "a field of Python's": b'{"__class__": "x"}',
    "an empty field name": b'{"": 1}',
    "a form": b"tier=small",
}

VALUES = {
    "NaN": b"NaN",
    "1e400": b"1e400",
    "-1": b"-1",
    "0": b"0",
    "huge": b"9" * 5000,
    "an object": b"{}",
    "an object in a list": b"[{}]",
    "a NUL": rb'"a\u0000b"',
    "a lone surrogate": rb'"\ud800"',
    "a megabyte": b'"' + b"x" * 1_000_000 + b'"',
    "depth": b"[" * 5_000 + b"]" * 5_000,
    "an escape": rb'"\u001b[2J"',
}

# An object may be empty; an event that is none is rejected by itself; a rule without conditions
# matches everything; a feature may be in no plan, and terms are simple ones by default.
ALLOWED = {
    *(("size_bytes", b"0"), ("events", b"[{}]"), ("match", b"{}")),
    *(("plans", b"{}"), ("terms", b"{}")),
}


def _post(
    everything: Everything, operation: Operation, content: bytes, content_type: str | None
) -> int:
    """Post raw bytes where they must be refused; give the status."""
    headers = {"Idempotency-Key": "bad-input"}
    if content_type is not None:
        headers["Content-Type"] = content_type
    response = everything.functions[operation.function].request(
        operation.method,
        operation.address(operation.absent),
        by=everything.credential(operation),
        content=content,
        headers=headers,
    )
    document = problem(response, response.status_code, response.json()["code"])
    assert document["code"] in ("invalid_request", "body_too_large", "unsupported_media_type")
    if document["code"] == "invalid_request":
        places = [error["where"].split(".") for error in document["errors"]]
        assert all(place[0] == "body" and "body" not in place[1:] for place in places)
        assert document["errors"]
    return response.status_code


@pytest.mark.parametrize("content", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
def test_a_body_is_what_the_contract_says(
    everything: Everything, operation: Operation, content: bytes
) -> None:
    assert _post(everything, operation, content, "application/json") == 400


@pytest.mark.parametrize("operation", [each for each in WITH_BODY if each.body], ids=str)
def test_a_body_is_not_nothing(everything: Everything, operation: Operation) -> None:
    assert _post(everything, operation, b"", "application/json") == 400


@pytest.mark.parametrize("operation", [each for each in WITH_BODY if each.body], ids=str)
def test_a_body_with_fields_is_not_left_out(everything: Everything, operation: Operation) -> None:
    assert _post(everything, operation, b"", "application/json") == 400


@pytest.mark.parametrize("operation", [each for each in WITH_BODY if each.body], ids=str)
def test_a_field_is_named_once(everything: Everything, operation: Operation) -> None:
    for name, value in (operation.body or {}).items():
        again = b'{"%s": %s, ' % (name.encode(), json.dumps(value).encode())
        content = again + json.dumps(operation.body).encode()[1:]
        assert _post(everything, operation, content, "application/json") == 400


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
@pytest.mark.parametrize("operation", [each for each in WITH_BODY if each.body], ids=str)
def test_every_field_of_a_body_is_what_the_contract_says(
    everything: Everything, operation: Operation, value: bytes
) -> None:
    for name in operation.body or {}:
        if (name, value) in ALLOWED:
            continue
        others = {key: each for key, each in (operation.body or {}).items() if key != name}
        rest = json.dumps(others).encode()[1:-1]
        content = b'{"%s": %s%s}' % (name.encode(), value, b", " + rest if rest else b"")
        assert _post(everything, operation, content, "application/json") == 400


@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
def test_a_body_has_an_end(everything: Everything, operation: Operation) -> None:
    content = b'{"name": "' + b"x" * TEN_MEGABYTES + b'"}'
    assert _post(everything, operation, content, "application/json") == 413


@pytest.mark.parametrize(
    "content_type",
    [
        pytest.param(None, id="none"),
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "application/problem+json",
        "application/json, text/plain",
        "json",
    ],
)
@pytest.mark.parametrize("operation", WITH_BODY, ids=str)
def test_a_body_is_json_by_its_type(
    everything: Everything, operation: Operation, content_type: str | None
) -> None:
    content = json.dumps(operation.body).encode()
    assert _post(everything, operation, content, content_type) == 415


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="empty"),
        pytest.param("1234567", id="short"),
        pytest.param("x" * 129, id="long"),
        pytest.param("with space", id="a space"),
        pytest.param("caf\u00e9-caf\u00e9".encode(), id="not ASCII"),
        pytest.param(None, id="none"),
    ],
)
@pytest.mark.parametrize("operation", WITH_KEY, ids=str)
def test_a_key_is_what_the_contract_says(
    everything: Everything, operation: Operation, key: str | bytes | None
) -> None:
    headers = {b"Authorization": f"Bearer {everything.credential(operation)}".encode()}
    if key is not None:
        headers[b"Idempotency-Key"] = key.encode() if isinstance(key, str) else key
    if operation.body is not None:
        headers[b"Content-Type"] = b"application/json"
    response = everything.functions[operation.function].raw(
        "POST",
        operation.address(operation.absent),
        json.dumps(operation.body).encode(),
        headers,
    )
    (error,) = problem(response, 400, "invalid_request")["errors"]
    assert error["where"] == "header.Idempotency-Key"


@pytest.mark.parametrize(
    "subject",
    [
        "x",
        "1",
        "-1",
        "null",
        ABSENT[:-1],
        ABSENT + "0",
        "%00",
        "%ff",
        "'; drop table billing.wallets; --",
        "x" * 5000,
    ],
    ids=lambda subject: str(subject)[:12],
)
@pytest.mark.parametrize("operation", [each for each in OPERATIONS if "_id}" in each.path], ids=str)
def test_an_id_is_an_id(everything: Everything, operation: Operation, subject: str) -> None:
    response = operation.call(
        everything.functions[operation.function],
        subject=subject,
        by=everything.credential(operation),
    )
    errors = problem(response, 400, "invalid_request")["errors"]
    assert len(errors) == operation.path.count("_id}")
    assert all(error["where"].startswith("path.") for error in errors)


LISTS = [each for each in OPERATIONS if each.method == "GET" and each.path.endswith("s")]


QUERIES = [
    *["limit=0", "limit=101", "limit=-1", "limit=x", "limit=1e2", "limit=1.5", "limit="],
    *["limit=" + "9" * 5000, "limit=%00", "cursor=%00", "cursor="],
]
# Lists that are short.
WHOLE = {
    *("/v1/credits", "/v1/storage/regions", "/v1/sessions/presets"),
    *("/v1/features", "/v1/entitlements", "/v1/spend-caps"),
    "/v1/usage/backfills/{backfill_id}/rejections",
}
# Where a cursor is an id. A bucket's is whatever its provider says.
ID_QUERIES = ["cursor=x", "cursor=-1", "cursor=" + "9" * 30, "cursor=1e3"]


@pytest.mark.parametrize(
    ("operation", "query"),
    [
        pytest.param(each, query, id=f"{each} {query[:16]}")
        for each in LISTS
        if each.path not in WHOLE
        for query in QUERIES + (ID_QUERIES if each.function != "objects" else [])
    ],
)
def test_a_page_is_asked_for_in_numbers(
    everything: Everything, operation: Operation, query: str
) -> None:
    client = everything.functions[operation.function]
    address = operation.address(operation.absent)
    response = client.get(f"{address}?{query}", by=everything.credential(operation))
    (error,) = problem(response, 400, "invalid_request")["errors"]
    assert error["where"] == f"query.{query.partition('=')[0]}"


def _addresses() -> list[tuple[str, str]]:
    found = dict.fromkeys((each.function, each.path) for each in OPERATIONS)
    return [
        *found,
        ("stripe_webhook", "/v1/stripe/webhook"),
        ("sweep_sessions", "/schedules/sweep-sessions"),
        ("accrue_storage", "/schedules/accrue-storage"),
        ("expire_grants", "/schedules/expire-grants"),
        ("expire_holds", "/schedules/expire-holds"),
        ("fold_usage", "/schedules/fold-usage"),
        ("start_auto_top_ups", "/schedules/start-auto-top-ups"),
        ("enqueue_outbox", "/schedules/enqueue-outbox"),
        ("charge_top_up", "/tasks/charge-top-up"),
        ("send_invitation", "/tasks/send-invitation"),
        ("provision_identity", "/tasks/provision-identity"),
        ("stop_session", "/tasks/stop-session"),
        ("measure_storage", "/schedules/measure-storage"),
        ("keep_usage", "/schedules/keep-usage"),
        ("report_health", "/schedules/report-health"),
        ("provision_storage", "/tasks/provision-storage"),
        *((name, "/healthz") for name in FUNCTIONS),
    ]


@pytest.mark.parametrize(("name", "path"), _addresses())
def test_another_method_is_told_which_are_taken(
    everything: Everything, name: str, path: str
) -> None:
    taken = {each.method for each in OPERATIONS if each.path == path} or {
        "GET" if path == "/healthz" else "POST"
    }
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - taken:
        address = path.replace("{", "").replace("}", "")
        response = everything.functions[name].request(
            method, address, by=everything.operator.passport
        )
        problem(response, 405, "method_not_allowed")
        assert {each.strip() for each in response.headers["allow"].split(",")} == taken


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_unknown_address_is_not_found(everything: Everything, name: str) -> None:
    client = everything.functions[name]
    for path in ("/", "/v1", "/v2/credits", "/v1/nothing", "/healthz/x", "/%00", "/" + "x" * 5000):
        problem(client.get(path), 404, "not_found")
        problem(client.post(path, {}), 404, "not_found")
