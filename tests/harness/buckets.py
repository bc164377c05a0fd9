"""What is in the buckets of the stand-ins, put there and seen by the providers' own libraries."""

import json
from typing import Any, Protocol

import boto3
from botocore.config import Config
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client as GoogleClient

from tests.harness.cloud import Cloud


class Bucket(Protocol):
    """A bucket, whoever keeps it."""

    def put(self, name: str, content: bytes, kind: str) -> None: ...

    def contents(self) -> dict[str, tuple[bytes, str]]:
        """Give every object and its kind."""


def bucket(cloud: Cloud, provider: str, name: str) -> Bucket:
    """Find a bucket of ours."""
    settings = cloud.layout.functions_environment()
    if provider == "gcs":
        return _Google(settings["STORAGE_API_URL"], settings["GOOGLE_PROJECT"], name)
    return _S3(json.loads(settings["S3_ENDPOINTS"])["local"], name)


class _Google:
    def __init__(self, url: str, project: str, name: str) -> None:
        credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
        options = {"api_endpoint": url.rstrip("/")}
        client = GoogleClient(project=project, credentials=credentials, client_options=options)
        self._bucket = client.bucket(name)

    def put(self, name: str, content: bytes, kind: str) -> None:
        self._bucket.blob(name).upload_from_string(content, kind)

    def contents(self) -> dict[str, tuple[bytes, str]]:
        return {
            blob.name: (blob.download_as_bytes(), blob.content_type)
            for blob in self._bucket.list_blobs()
        }


class _S3:
    def __init__(self, endpoint: dict[str, str], name: str) -> None:
        self._name = name
        self._client: Any = boto3.client(
            "s3",
            region_name="us-east-1",
            endpoint_url=endpoint["url"],
            aws_access_key_id=endpoint["access_key_id"],
            aws_secret_access_key=endpoint["secret_access_key"],
            config=Config(proxies={}, s3={"addressing_style": "path"}),
        )

    def put(self, name: str, content: bytes, kind: str) -> None:
        self._client.put_object(Bucket=self._name, Key=name, Body=content, ContentType=kind)

    def contents(self) -> dict[str, tuple[bytes, str]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name)
        found = {}
        for each in (each for page in pages for each in page.get("Contents", [])):
            answer = self._client.get_object(Bucket=self._name, Key=each["Key"])
            found[each["Key"]] = (answer["Body"].read(), answer["ContentType"])
        return found
