"""usage: batches of events over HTTP, as JSON and as CloudEvents."""

import gzip
import json
import zlib
from itertools import count
from typing import Any
from uuid import uuid4

import httpx
import pytest
from psycopg.types.json import Jsonb

from tests.harness.answers import done, problem
from tests.harness.client import Client, Load
from tests.harness.operations import ABSENT
from tests.harness.platform import Organization, Platform

_numbers = count()
EVENTS = "/v1/usage/events"
CLOUD_EVENT = "application/cloudevents+json"
CLOUD_EVENTS = "application/cloudevents-batch+json"


@pytest.fixture
def client(function: Load) -> Client:
    return function("usage")


@pytest.fixture
def customer(platform: Platform) -> Organization:
    """A customer with $10, to whom an image costs ten cents."""
    customer = platform.organization(usd=10)
    platform.run(
        "select billing.add_usage_rate(jsonb_populate_record(null::billing.usage_rates, %s),"
        """ '{"images": "0.1"}')""",
        Jsonb(
            {
                "id": ABSENT,
                "organization_id": customer.id,
                "may_be_below_cost": False,
                "effective_at": "2026-01-02T00:00:00Z",
                "created_by": "operator",
            }
        ),
    )
    return customer


def _event(customer: Organization, **said: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON
    return {
        "organization_id": customer.id,
        "source": "gateway",
        "id": f"event-{next(_numbers)}",
        "feature": "images",
        "quantities": {"images": 1},
    } | said


def _cloud_event(customer: Organization, **said: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON
    return {
        "specversion": "1.0",
        "id": f"cloud-{next(_numbers)}",
        "source": "/gateways/eu",
        "type": "com.example.image.made",
        "subject": customer.id,
        "datacontenttype": "application/json",
        "data": {"quantities": {"images": 2}},
    } | said


def _send(
    client: Client, operator: Organization, content: object, media_type: str
) -> httpx.Response:
    return client.request(
        "POST",
        EVENTS,
        by=operator.passport,
        content=json.dumps(content).encode(),
        headers={"Content-Type": media_type},
    )


def _reasons(answer: dict[str, Any]) -> list[str | None]:
    assert [each["index"] for each in answer["events"]] == list(range(len(answer["events"])))
    counts = [answer["accepted"], answer["duplicate"], answer["rejected"]]
    statuses = [each["status"] for each in answer["events"]]
    assert counts == [statuses.count(each) for each in ("accepted", "duplicate", "rejected")]
    for each in answer["events"]:
        assert (each["message"] is None) is (each["reason"] is None), each
    return [each["reason"] or each["status"] for each in answer["events"]]


def test_events_are_recorded_charged_and_known_again(
    client: Client, operator: Organization, customer: Organization, platform: Platform
) -> None:
    batch = {"events": [_event(customer), _event(customer, occurred_at="2026-11-01T12:00:00Z")]}
    batch["events"][1]["occurred_at"] = str(
        platform.value("select to_json(billing.now() - interval '3 days') #>> '{}'")
    )
    answer = done(client.post(EVENTS, batch, by=operator.passport))
    assert answer == {
        "accepted": 2,
        "duplicate": 0,
        "rejected": 0,
        "events": [
            {"index": index, "status": "accepted", "reason": None, "message": None}
            for index in range(2)
        ],
    }
    assert platform.wallet(customer) == (9_800_000, 0)
    again = done(client.post(EVENTS, batch, by=operator.passport))
    assert _reasons(again) == ["duplicate", "duplicate"]
    assert platform.wallet(customer) == (9_800_000, 0)


@pytest.mark.parametrize(
    "said",
    [
        {"organization_id": "x"},
        {"source": ""},
        {"source": "a\x00b"},
        {"id": "x" * 201},
        {"occurred_at": "2026-11-01T12:00:00"},
        {"feature": "Chat"},
        {"provider": "openai"},
        {"model": "gpt"},
        {"quantities": {}},
        {"quantities": {"images": -1}},
        {"quantities": {"images": "1"}},
        {"quantities": {"images": True}},
        {"quantities": {"images": 1e13}},
        {"quantities": {"images": 0.0000001}},
        {"quantities": {"Images": 1}},
        {"quantities": {"cache_read_tokens": 1}},
        {"quantities": {"input_tokens": 9, "cache_read_tokens": 5, "cache_write_tokens": 5}},
        {"quantities": {f"m{n}": 1 for n in range(33)}},
        {"price": "0"},
    ],
    ids=str,
)
def test_what_is_wrong_with_one_event_stops_no_other(
    client: Client,
    operator: Organization,
    customer: Organization,
    platform: Platform,
    said: dict[str, Any],
) -> None:
    events = [_event(customer), _event(customer, **said), _event(customer)]
    answer = done(client.post(EVENTS, {"events": events}, by=operator.passport))
    assert _reasons(answer) == ["accepted", "invalid_event", "accepted"]
    assert answer["events"][1]["message"]
    assert platform.wallet(customer) == (9_800_000, 0)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        *[("999999999.123456", "999999999.123456"), ("999999999999", "999999999999")],
        *[("1.5e3", "1500"), ("0.000001", "0.000001"), ("2.0000000000", "2")],
        *[("99999999999.1234567", None), ("123456789012.123456", None)],
        *[("0.1000000000000000000000001", None), ("1e400", None), ("1e-400", None)],
    ],
)
def test_a_quantity_is_recorded_to_the_last_digit_or_refused(
    client: Client,
    operator: Organization,
    customer: Organization,
    platform: Platform,
    written: str,
    stored: str | None,
) -> None:
    event = _event(customer, quantities={"free": 0.25})
    answer = client.request(
        "POST",
        EVENTS,
        by=operator.passport,
        content=json.dumps({"events": [event]}).replace("0.25", written).encode(),
        headers={"Content-Type": "application/json"},
    )
    assert _reasons(done(answer)) == (["rate_unknown"] if stored else ["invalid_event"])
    rows = platform.fetch(
        "select trim_scale((quantities ->> 'free')::numeric)::text from billing.usage_events"
    )
    assert rows == ([(stored,)] if stored else [])


def test_a_number_that_is_none_is_refused(client: Client, operator: Organization) -> None:
    refused = client.request(
        "POST",
        EVENTS,
        by=operator.passport,
        content=b'{"events": [1e9999999999999999999999]}',
        headers={"Content-Type": "application/json"},
    )
    problem(refused, 400, "invalid_request")


@pytest.mark.parametrize("said", [{"source": ""}, {"quantities": {"images": 101}}], ids=str)
def test_all_or_none(
    client: Client,
    operator: Organization,
    customer: Organization,
    platform: Platform,
    said: dict[str, Any],
) -> None:
    batch = {"events": [_event(customer), _event(customer, **said)]}
    before = platform.contents()
    refused = client.post(f"{EVENTS}?all_or_none=true", batch, by=operator.passport)
    (rejected,) = problem(refused, 409, "batch_rejected")["rejected"]
    assert rejected["index"] == 1
    assert rejected["reason"] in ("invalid_event", "insufficient_credits")
    assert rejected["message"]
    assert rejected.keys() == {"index", "reason", "message"}
    assert platform.contents() == before


@pytest.mark.parametrize("number", [0, 1001])
def test_a_batch_has_1_to_1000_events(
    client: Client, operator: Organization, customer: Organization, number: int
) -> None:
    batch = {"events": [_event(customer) for _ in range(number)]}
    problem(client.post(EVENTS, batch, by=operator.passport), 400, "invalid_request")


def test_999_good_events_and_a_bad_one(
    client: Client, operator: Organization, customer: Organization, platform: Platform
) -> None:
    platform.give(customer.id, 100_000_000)
    events = [_event(customer) for _ in range(999)]
    events.insert(500, _event(customer, organization_id=ABSENT))
    answer = done(client.post(EVENTS, {"events": events}, by=operator.passport))
    assert _reasons(answer) == ["accepted"] * 500 + ["organization_not_found"] + ["accepted"] * 499
    assert platform.wallet(customer) == (10_100_000, 0)


def test_cloud_events_one_and_many(
    client: Client, operator: Organization, customer: Organization, platform: Platform
) -> None:
    at = platform.value("select to_json(billing.now() - interval '1 hour') #>> '{}'")
    one = _cloud_event(customer, time=at)
    assert _reasons(done(_send(client, operator, one, CLOUD_EVENT))) == ["accepted"]
    other = _cloud_event(customer)
    answer = done(_send(client, operator, [one, other], f"{CLOUD_EVENTS}; charset=utf-8"))
    assert _reasons(answer) == ["duplicate", "accepted"]
    assert platform.wallet(customer) == (9_600_000, 0)
    stored = platform.fetch(
        "select source, event_id, feature, occurred_at = %s::timestamptz"
        " from billing.usage_events order by id limit 1",
        at,
    )
    assert stored == [("/gateways/eu", one["id"], "com.example.image.made", True)]


@pytest.mark.parametrize(
    ("said", "where"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"data": "text"}, "data"),
        ({"data": None}, "data"),
        ({"data_base64": "e30="}, "data"),
        ({"data": {"images": 1}}, "quantities"),
        ({"subject": "acme"}, "organization_id"),
        ({"id": None}, "id"),
        ({"time": "yesterday"}, "occurred_at"),
        ({"time": 1_700_000_000}, "occurred_at"),
    ],
    ids=str,
)
def test_what_is_no_cloud_event_of_ours_is_rejected(
    client: Client,
    operator: Organization,
    customer: Organization,
    said: dict[str, Any],
    where: str,
) -> None:
    event = {key: value for key, value in (_cloud_event(customer) | said).items() if value}
    answer = done(_send(client, operator, [event, 7, _cloud_event(customer)], CLOUD_EVENTS))
    assert _reasons(answer) == ["invalid_event", "invalid_event", "accepted"]
    assert answer["events"][0]["message"].startswith(f"{where}: ")


def test_an_envelope_outweighs_what_it_carries(
    client: Client, operator: Organization, customer: Organization, platform: Platform
) -> None:
    data = {"quantities": {"images": 1}, "organization_id": ABSENT}
    event = _cloud_event(customer, data=data)
    assert _reasons(done(_send(client, operator, event, CLOUD_EVENT))) == ["accepted"]
    assert platform.wallet(customer) == (9_900_000, 0)


def test_a_batch_of_cloud_events_is_a_list(
    client: Client, operator: Organization, customer: Organization
) -> None:
    refused = _send(client, operator, _cloud_event(customer), CLOUD_EVENTS)
    problem(refused, 400, "invalid_request")


def _zipped(
    client: Client, operator: Organization, content: bytes, coding: str = "gzip"
) -> httpx.Response:
    return client.request(
        "POST",
        EVENTS,
        by=operator.passport,
        content=content,
        headers={"Content-Type": "application/json", "Content-Encoding": coding},
    )


def test_a_body_may_be_zipped(
    client: Client, operator: Organization, customer: Organization
) -> None:
    content = json.dumps({"events": [_event(customer)]}).encode()
    told = []
    for coding in ("gzip", "GZIP", "identity, gzip", "Identity", ""):
        body = gzip.compress(content) if "gzip" in coding.lower() else content
        told += _reasons(done(_zipped(client, operator, body, coding)))
    assert told == ["accepted", *["duplicate"] * 4]


def test_a_body_is_encoded_as_the_address_takes_it_or_not_at_all(
    client: Client, function: Load, operator: Organization, customer: Organization
) -> None:
    content = gzip.compress(json.dumps({"events": [_event(customer)]}).encode())
    for coding in ("br", "deflate", "gzip, gzip", "gzip, br", "none"):
        refused = _zipped(client, operator, content, coding)
        (error,) = problem(refused, 415, "unsupported_media_type")["errors"]
        assert error == {
            "where": "header.Content-Encoding",
            "message": "must be gzip or identity",
        }
        assert refused.headers["accept-encoding"] == "gzip, identity"
    refused = function("rates").post(
        "/v1/usage/rates", {}, by=operator.passport, headers={"Content-Encoding": "gzip"}
    )
    problem(refused, 415, "unsupported_media_type")
    assert refused.headers["accept-encoding"] == "identity"
    told = problem(_send(client, operator, [], "text/csv"), 415, "unsupported_media_type")
    assert told["errors"][0]["where"] == "header.Content-Type"


def test_a_zipped_body_is_whole(
    client: Client, operator: Organization, customer: Organization
) -> None:
    content = gzip.compress(json.dumps({"events": [_event(customer)]}).encode())
    for broken in (content[:-4], content + b"x", b"{}", zlib.compress(b"{}")):
        problem(_zipped(client, operator, broken), 400, "invalid_request")


def test_a_body_has_five_megabytes_at_most_zipped_or_not(
    client: Client, operator: Organization, customer: Organization
) -> None:
    batch = json.dumps({"events": [_event(customer)]}).encode()
    most = batch + b" " * (5 * 2**20 - len(batch))
    headers = {"Content-Type": "application/json"}
    for content, status in ((most, 200), (most + b" ", 413)):
        plain = client.request(
            "POST", EVENTS, by=operator.passport, content=content, headers=headers
        )
        zipped = _zipped(client, operator, gzip.compress(content))
        assert (plain.status_code, zipped.status_code) == (status, status)
    bomb = gzip.compress(b" " * 200_000_000, 1)
    problem(_zipped(client, operator, bomb), 413, "body_too_large")


def test_events_that_cannot_be_rated_are_listed(
    client: Client, operator: Organization, customer: Organization, platform: Platform
) -> None:
    said = {"provider": "acme", "model": "m", "quantities": {"input_tokens": 5, "seconds": 1.5}}
    events = [_event(customer, **said) for _ in range(3)]
    answer = done(client.post(EVENTS, {"events": events}, by=operator.passport))
    assert answer["accepted"] == 3
    assert [each["reason"] for each in answer["events"]] == ["unknown_model"] * 3
    assert platform.wallet(customer) == (10_000_000, 0)
    first = done(client.get("/v1/usage/reviews?limit=2", by=operator.passport))
    rest = done(
        client.get(f"/v1/usage/reviews?cursor={first['next_cursor']}", by=operator.passport)
    )
    listed = first["data"] + rest["data"]
    assert [each["event_id"] for each in listed] == [each["id"] for each in reversed(events)]
    assert listed[0] | {"id": "", "occurred_at": ""} == {
        "id": "",
        "organization_id": customer.id,
        "source": "gateway",
        "event_id": events[2]["id"],
        "occurred_at": "",
        "feature": "images",
        "provider": "acme",
        "model": "m",
        "quantities": {"input_tokens": 5, "seconds": 1.5},
        "reason": "unknown_model",
    }


def test_customers_report_no_usage(
    client: Client, customer: Organization, platform: Platform
) -> None:
    before = platform.contents()
    batch = {"events": [_event(customer)]}
    refused = client.post(EVENTS, batch, by=customer.passport)
    assert problem(refused, 403, "permission_denied")["permission"] == "admin"
    refused = client.get("/v1/usage/reviews", by=customer.passport)
    assert problem(refused, 403, "permission_denied")["permission"] == "admin"
    assert platform.contents() == before


def _correction(of: dict[str, Any], **said: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON
    return {
        "organization_id": of["organization_id"],
        "source": "desk",
        "id": f"correction-{next(_numbers)}",
        "corrects": {"source": of["source"], "id": of["id"]},
    } | said


def test_a_correction_amends_or_voids(
    client: Client, platform: Platform, operator: Organization, customer: Organization
) -> None:
    first = _event(customer, quantities={"images": 5})
    amended = _correction(first, quantities={"images": 2}, feature="images")
    body = {"events": [amended, first, _correction(_event(customer), void=True)]}
    answer = done(client.post(EVENTS, body, by=operator.passport))
    assert (answer["accepted"], answer["rejected"]) == (2, 1)
    assert answer["events"][2]["reason"] == "event_not_found"
    assert platform.wallet(customer) == (9_800_000, 0)
    body = {"events": [_correction(first, void=True)]}
    assert done(client.post(EVENTS, body, by=operator.passport))["accepted"] == 1
    assert platform.wallet(customer) == (10_000_000, 0)


def test_an_event_is_a_request_unless_it_says_how_many_none_too(
    client: Client, platform: Platform, operator: Organization, customer: Organization
) -> None:
    """What says nothing of requests is one; what says 0 is none, also where none is priced."""
    none = _event(customer, quantities={"images": 1, "requests": 0})
    assert done(client.post(EVENTS, {"events": [none]}, by=operator.passport))["accepted"] == 1
    assert platform.wallet(customer) == (9_900_000, 0)
    platform.run(
        "select billing.add_usage_rate(jsonb_populate_record(null::billing.usage_rates, %s),"
        """ '{"requests": "0.01"}')""",
        Jsonb(
            {
                "id": str(uuid4()),
                "organization_id": customer.id,
                "feature": "search",
                "may_be_below_cost": False,
                "effective_at": "2026-01-02T00:00:00Z",
                "created_by": "operator",
            }
        ),
    )
    said = [{"requests": 0}, {"requests": 5}, {"requests": 0.0}]
    events = [_event(customer, feature="search", quantities=each) for each in said]
    assert done(client.post(EVENTS, {"events": events}, by=operator.passport))["accepted"] == 3
    assert platform.wallet(customer) == (9_850_000, 0)
    corrections = [
        _correction(event, quantities={"requests": requests}, feature="search")
        for event, requests in zip(events, (7, 0, 1), strict=True)
    ]
    assert _reasons(done(client.post(EVENTS, {"events": corrections}, by=operator.passport))) == (
        ["accepted"] * 3
    )
    assert platform.wallet(customer) == (9_820_000, 0)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "a correction says quantities, or void: true"),
        ({"quantities": {"images": 1}, "void": True}, "a correction says quantities"),
        ({"void": False}, "void"),
        ({"quantities": {}}, "quantities"),
        ({"void": True, "corrects": {"id": "1"}}, "corrects.source"),
        ({"quantities": {"input_tokens": 1, "cache_read_tokens": 2}}, "input_tokens must not"),
        ({"quantities": {"images": 1}, "model": "m"}, "provider and model belong together"),
    ],
)
def test_a_correction_that_is_none(
    client: Client,
    operator: Organization,
    customer: Organization,
    said: dict[str, Any],
    message: str,
) -> None:
    body = {"events": [_correction(_event(customer), **said)]}
    (outcome,) = done(client.post(EVENTS, body, by=operator.passport))["events"]
    assert (outcome["status"], outcome["reason"]) == ("rejected", "invalid_event")
    assert message in outcome["message"]


def test_a_review_is_charged_or_dismissed(
    client: Client, platform: Platform, operator: Organization, customer: Organization
) -> None:
    body = {"events": [_event(customer, quantities={"minutes": 1}) for _ in range(2)]}
    done(client.post(EVENTS, body, by=operator.passport))
    reviews = done(client.get("/v1/usage/reviews", by=operator.passport))["data"]
    charge, dismiss = (
        f"/v1/usage/reviews/{each['id']}/{verb}"
        for each, verb in zip(reviews, ("charge", "dismiss"), strict=True)
    )
    whose = {"organization_id": customer.id}
    refused = client.post(charge, whose, by=operator.passport)
    assert problem(refused, 409, "usage_not_ratable")["reason"] == "rate_unknown"
    refused = client.post(charge, whose | {"price": "10.000001"}, by=operator.passport)
    problem(refused, 402, "insufficient_credits")
    charged = done(client.post(charge, whose | {"price": "2.5"}, by=operator.passport))
    assert (charged["price"], charged["cost"]) == ("2.500000", "0.000000")
    assert charged["priced_by"].startswith("passport:")
    assert done(client.post(dismiss, whose, by=operator.passport))["price"] == "0.000000"
    refused = client.post(dismiss.replace("dismiss", "charge"), whose, by=operator.passport)
    problem(refused, 409, "review_closed")
    assert platform.wallet(customer) == (7_500_000, 0)
    refused = client.post(f"/v1/usage/reviews/{ABSENT}/dismiss", whose, by=operator.passport)
    problem(refused, 404, "usage_event_not_found")


def test_a_review_is_charged_by_rates_that_came_after_it(
    function: Load, platform: Platform, operator: Organization, customer: Organization
) -> None:
    client = function("usage")
    said = {"provider": "own", "model": "late", "feature": "chat", "quantities": {"requests": 3}}
    body = {"events": [_event(customer, **said)]}
    answer = done(client.post(EVENTS, body, by=operator.passport))
    assert _reasons(answer) == ["unknown_model"]
    (review,) = done(client.get("/v1/usage/reviews", by=operator.passport))["data"]
    charge = f"/v1/usage/reviews/{review['id']}/charge"
    whose = {"organization_id": customer.id}
    problem(client.post(charge, whose, by=operator.passport), 409, "usage_not_ratable")
    rate = {"provider": "own", "model": "late", "costs": {"requests": "0.01"}, "markup": "2"}
    done(function("rates").post("/v1/usage/rates", whose | rate, by=operator.passport), 201)
    charged = done(client.post(charge, whose, by=operator.passport))
    assert (charged["cost"], charged["price"]) == ("0.030000", "0.060000")
    assert charged["priced_by"] is None
    assert platform.wallet(customer) == (9_940_000, 0)
    assert done(client.post(charge, whose, by=operator.passport)) == charged
    assert platform.differences() == []
