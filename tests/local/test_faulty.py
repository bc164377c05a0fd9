"""The way on which things go wrong, seen by the clients that take it."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import boto3
import httpx
import pytest
import requests
from botocore.config import Config
from botocore.exceptions import ClientError
from google.api_core.exceptions import (
    Conflict,
    Forbidden,
    GoogleAPICallError,
    InternalServerError,
    ServiceUnavailable,
    TooManyRequests,
    from_http_response,
)
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from infra.local.layout import GOOGLE_PROJECT, SIGNER
from tests.harness.faulty import GOOGLE, S3, STORAGE, Way, after, faulty, hang, hang_up
from tests.local.stand_ins import StandIns
from tests.local.test_gcs import Signing


@pytest.fixture
def way(stand_ins: StandIns) -> Iterator[Way]:
    with faulty(stand_ins.layout.gcs_url) as way:
        yield way


def connect(url: str) -> Client:
    return Client(
        GOOGLE_PROJECT,
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
        client_options={"api_endpoint": url},
    )


@pytest.fixture
def client(way: Way) -> Iterator[Client]:
    with connect(way.url) as client:
        yield client


def new_name() -> str:
    return f"fg-{uuid4().hex}"


def exists(stand_ins: StandIns, name: str) -> bool:
    with connect(stand_ins.layout.gcs_url) as client:
        return client.lookup_bucket(name, retry=None) is not None


def test_by_itself_everything_passes(client: Client, way: Way) -> None:
    bucket = client.create_bucket(new_name(), retry=None)
    blob = bucket.blob("a b/ü")
    blob.upload_from_string(b"1\xff", retry=None)
    url = blob.generate_signed_url(
        version="v4",
        expiration=60,
        credentials=Signing(SIGNER),
        api_access_endpoint=way.url,
    )
    assert httpx.get(url, trust_env=False).content == b"1\xff"
    blob.delete(retry=None)
    assert [request.method for request in way.requests] == ["POST", "POST", "GET", "DELETE"]


@pytest.mark.parametrize(
    ("fault", "is_done", "expected"),
    [
        pytest.param(hang, False, requests.exceptions.ReadTimeout, id="timeout before"),
        pytest.param(after(hang), True, requests.exceptions.ReadTimeout, id="timeout after"),
        pytest.param(hang_up, False, requests.exceptions.ConnectionError, id="cut before"),
        pytest.param(after(hang_up), True, requests.exceptions.ConnectionError, id="cut after"),
        pytest.param(STORAGE["forbidden"], False, Forbidden, id="forbidden"),
        pytest.param(STORAGE["quota"], False, Forbidden, id="quota"),
        pytest.param(STORAGE["conflict"], False, Conflict, id="conflict"),
        pytest.param(STORAGE["rate_limit"], False, TooManyRequests, id="rate limit"),
        pytest.param(STORAGE["internal"], False, InternalServerError, id="internal"),
        pytest.param(after(STORAGE["unavailable"]), True, ServiceUnavailable, id="unavailable"),
    ],
)
def test_a_fault_strikes_once(
    stand_ins: StandIns,
    client: Client,
    way: Way,
    fault: Callable[[Any], Any],
    is_done: bool,
    expected: type[Exception],
) -> None:
    way.strike(fault, "POST", r"/b$")
    name = new_name()
    patience_seconds = 3 if expected is requests.exceptions.ReadTimeout else 20
    with pytest.raises(expected):
        client.create_bucket(name, timeout=patience_seconds, retry=None)
    assert exists(stand_ins, name) is is_done
    client.create_bucket(new_name(), retry=None)


def test_a_fault_strikes_what_was_meant(client: Client, way: Way) -> None:
    bucket = client.create_bucket(new_name(), retry=None)
    way.strike(STORAGE["internal"], "PUT", r"/iam$", nth=(2,))
    way.strike(STORAGE["unavailable"], "GET", nth=None)
    way.strike(hang_up, "PATCH")
    url = f"{way.url}/storage/v1/b/{bucket.name}/iam?x=/b"
    statuses = [
        httpx.put(url, json={"bindings": []}, trust_env=False).status_code for _ in range(3)
    ]
    assert statuses == [200, 500, 200]
    for _ in range(2):
        with pytest.raises(ServiceUnavailable):
            client.get_bucket(bucket.name, retry=None)
    way.heal()
    assert client.get_bucket(bucket.name, retry=None).name == bucket.name


@pytest.mark.parametrize(("name", "fault"), GOOGLE.items())
def test_other_apis_refuse_in_their_words(way: Way, name: str, fault: Callable[[Any], Any]) -> None:
    way.strike(fault)
    answer = requests.get(way.url, timeout=5, proxies={"no_proxy": "*"})
    refusal = from_http_response(answer)  # type: ignore[no-untyped-call]
    assert (refusal.code, type(refusal)) != (None, GoogleAPICallError), name
    assert refusal.message.endswith(answer.json()["error"]["message"])


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("forbidden", "AccessDenied"),
        ("quota", "TooManyBuckets"),
        ("conflict", "BucketAlreadyExists"),
        ("aborted", "OperationAborted"),
        ("rate_limit", "SlowDown"),
        ("internal", "InternalError"),
        ("unavailable", "ServiceUnavailable"),
    ],
)
def test_s3_refuses_in_its_words(stand_ins: StandIns, name: str, code: str) -> None:
    with faulty(stand_ins.layout.s3_url) as way:
        client = boto3.client(
            "s3",
            region_name="us-east-1",
            endpoint_url=way.url,
            aws_access_key_id="local",
            aws_secret_access_key="local",
            config=Config(proxies={}, retries={"max_attempts": 0}),
        )
        way.strike(S3[name], "PUT", nth=(2,))
        client.create_bucket(Bucket=new_name())
        with pytest.raises(ClientError) as refusal:
            client.create_bucket(Bucket=new_name())
        assert refusal.value.response["Error"]["Code"] == code


def test_what_was_to_fail_after_it_was_done_must_have_been_done(stand_ins: StandIns) -> None:
    with (
        pytest.raises(AssertionError, match="it was refused"),
        faulty(stand_ins.layout.gcs_url) as way,
    ):
        way.strike(after(hang_up), "GET")
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{way.url}/storage/v1/b/{new_name()}", trust_env=False)
