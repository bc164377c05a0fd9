"""The S3 endpoint, seen by Amazon's own library."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from infra.local.cloud.s3 import S3
from infra.local.template import free_port
from tests.local.stand_ins import StandIns


def connect(url: str, access_key_id: str, secret_access_key: str) -> Any:  # noqa: ANN401
    return boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        config=Config(proxies={}, s3={"addressing_style": "path"}, retries={"max_attempts": 0}),
    )


@pytest.fixture
def client(stand_ins: StandIns) -> Any:  # noqa: ANN401
    """Give Amazon's client with the functions' settings."""
    endpoints = json.loads(stand_ins.layout.functions_environment()["S3_ENDPOINTS"])
    return connect(**endpoints["local"])


def refused(error: ClientError) -> str:
    return str(error.response["Error"]["Code"])


def test_a_bucket_keeps_objects_tags_and_rules(client: Any) -> None:  # noqa: ANN401
    name = f"fg-{uuid4().hex}"
    client.create_bucket(Bucket=name)
    client.put_bucket_tagging(
        Bucket=name, Tagging={"TagSet": [{"Key": "faregate-storage", "Value": "7"}]}
    )
    client.put_public_access_block(
        Bucket=name, PublicAccessBlockConfiguration={"BlockPublicAcls": True}
    )
    rule = {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 30}}
    client.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [rule]})
    client.put_object(Bucket=name, Key="a b/ü.json", Body=b'{"a": 1}')
    assert client.get_bucket_tagging(Bucket=name)["TagSet"][0]["Value"] == "7"
    (found,) = client.list_objects_v2(Bucket=name)["Contents"]
    assert (found["Key"], found["Size"]) == ("a b/ü.json", 8)
    with pytest.raises(ClientError) as refusal:
        client.delete_bucket(Bucket=name)
    assert refused(refusal.value) == "BucketNotEmpty"
    client.delete_object(Bucket=name, Key="a b/ü.json")
    client.delete_bucket(Bucket=name)
    with pytest.raises(ClientError) as refusal:
        client.get_bucket_tagging(Bucket=name)
    assert refused(refusal.value) == "NoSuchBucket"


def test_a_signed_address_takes_and_gives_an_object(client: Any) -> None:  # noqa: ANN401
    name = f"fg-{uuid4().hex}"
    client.create_bucket(Bucket=name)
    at = {"Bucket": name, "Key": "a/b"}
    put = client.generate_presigned_url("put_object", {**at, "ContentLength": 3}, ExpiresIn=60)
    assert httpx.put(put, content=b"123", trust_env=False).status_code == 200
    get = client.generate_presigned_url("get_object", at, ExpiresIn=60)
    assert httpx.get(get, trust_env=False).content == b"123"


@contextmanager
def endpoint(journal: Path) -> Iterator[Any]:
    port = free_port()
    s3 = S3(port, journal)
    s3.start()
    try:
        yield connect(f"http://127.0.0.1:{port}", "local", "local-secret")
    finally:
        s3.stop()


def test_what_was_done_is_done_again_after_a_restart(tmp_path: Path) -> None:
    journal, name = tmp_path / "s3" / "journal", f"fg-{uuid4().hex}"
    with endpoint(journal) as client:
        client.create_bucket(Bucket=name)
        client.put_object(Bucket=name, Key="ü", Body=b"\xff\r\n")
        client.put_object(Bucket=name, Key="b", Body=b"2")
        client.delete_object(Bucket=name, Key="b")
        # In this process moto keeps what it has: take it away behind the journal's back.
        kept = journal.read_text()
        client.delete_object(Bucket=name, Key="ü")
        client.delete_bucket(Bucket=name)
    journal.write_text(kept)
    with endpoint(journal) as client:
        (found,) = client.list_objects_v2(Bucket=name)["Contents"]
        assert found["Key"] == "ü"
        assert client.get_object(Bucket=name, Key="ü")["Body"].read() == b"\xff\r\n"


def test_an_endpoint_that_nobody_called_ends_at_once(tmp_path: Path) -> None:
    with endpoint(tmp_path / "journal"):
        pass
    assert not (tmp_path / "journal").exists()
