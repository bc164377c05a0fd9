"""Buckets at any S3 endpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from time import monotonic
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from faregate.backends.storage import (
    CALL_SECONDS,
    DONE,
    PENDING,
    RUN_SECONDS,
    TAKEN,
    URL_SECONDS,
    Listing,
    Object,
    Outcome,
    OutcomeError,
    Place,
    Signed,
    Step,
    Wanted,
)
from faregate.settings import S3Settings

_DEFAULT_REGION = "us-east-1"
"""The one that must not be named when a bucket is made."""

_UNSUPPORTED = {"NotImplemented", "MethodNotAllowed", "501", "405"}


class S3:
    """Buckets of accounts, and what is in them; customers reach it by signed addresses only."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._client = cache(self._connect)

    def take(self, step: Step, wanted: Wanted) -> Outcome:
        """Take a step."""
        try:
            with self._at(wanted) as client:
                if step == "create":
                    return _create(client, wanted)
                if step == "delete":
                    return _delete(client, wanted)
        except OutcomeError as error:
            return error.outcome
        return DONE  # size and access are ours to hold to

    def used_bytes(self, place: Place, deadline: float) -> int:
        """Add up all that a bucket keeps, old versions included."""
        total = 0
        with self._at(place) as client:
            for page in _pages(client, place):
                total += sum(each.get("Size", 0) for each in page)
                if monotonic() > deadline:
                    raise OutcomeError(Outcome("unavailable", "too_many_objects"))
        return total

    def sign_upload(self, place: Place, name: str, size_bytes: int, content_type: str) -> Signed:
        """Sign for one object of exactly this size."""
        request = {
            **{"Bucket": place.resource_name, "Key": name},
            **{"ContentLength": size_bytes, "ContentType": content_type},
        }
        headers = {"Content-Type": content_type, "Content-Length": str(size_bytes)}
        return Signed(self._sign("put_object", place, request), headers)

    def sign_download(self, place: Place, name: str) -> Signed:
        """Sign for reading one object; no browser shows it as a page."""
        request = {
            **{"Bucket": place.resource_name, "Key": name},
            "ResponseContentDisposition": "attachment",
        }
        return Signed(self._sign("get_object", place, request), {})

    def _sign(self, operation: str, place: Place, request: dict[str, Any]) -> str:
        with self._at(place) as client:
            url: str = client.generate_presigned_url(
                operation, Params=request, ExpiresIn=URL_SECONDS
            )
            return url

    def list_objects(self, place: Place, prefix: str, limit: int, cursor: str | None) -> Listing:
        """Give a page of a bucket's objects, by name."""
        from_there = {"ContinuationToken": cursor} if cursor else {}
        with self._at(place) as client:
            answer = client.list_objects_v2(
                Bucket=place.resource_name, Prefix=prefix, MaxKeys=limit, **from_there
            )
        objects = [
            Object(each["Key"], each["Size"], each["LastModified"])
            for each in answer.get("Contents", [])
        ]
        return Listing(objects, answer.get("NextContinuationToken"))

    def delete_object(self, place: Place, name: str) -> None:
        """Delete an object; one that is not there is deleted already."""
        with self._at(place) as client:
            client.delete_object(Bucket=place.resource_name, Key=name)

    @contextmanager
    def _at(self, place: Place) -> Iterator[Any]:
        """Give the client of a place; what goes wrong with it is an OutcomeError."""
        if place.endpoint not in self._settings.s3_endpoints:
            raise OutcomeError(Outcome("unavailable", "endpoint_unknown"))
        try:
            yield self._client(place.endpoint, place.location)
        except ClientError as error:
            raise OutcomeError(_outcome(error)) from error
        except (BotoCoreError, OSError) as error:
            raise OutcomeError(Outcome("unavailable", "no_answer", cause=error)) from error

    def _connect(self, name: str, region: str) -> Any:  # noqa: ANN401  boto3 makes its classes
        endpoint = self._settings.s3_endpoints[name]
        return boto3.client(
            "s3",
            region_name=region,
            endpoint_url=str(endpoint.url),
            aws_access_key_id=endpoint.access_key_id,
            aws_secret_access_key=endpoint.secret_access_key.get_secret_value(),
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                # Not every endpoint knows the newer checksums.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=CALL_SECONDS / 2,
                read_timeout=CALL_SECONDS,
                # The queue repeats, not the client.
                retries={"total_max_attempts": 1},
            ),
        )


def _create(client: Any, wanted: Wanted) -> Outcome:  # noqa: ANN401
    name = wanted.resource_name
    # Some endpoints say that all is well to whoever makes a bucket that they have: we look first.
    if not _has(client, name):
        place = {"LocationConstraint": wanted.location}
        options = {} if wanted.location == _DEFAULT_REGION else {"CreateBucketConfiguration": place}
        try:
            client.create_bucket(Bucket=name, **options)
        except ClientError as error:
            if _code(error) not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                raise
            if not _has(client, name):
                return TAKEN
    if not _is_ours(client, wanted):
        return TAKEN
    tags = [{"Key": key, "Value": value} for key, value in wanted.labels.items()]
    with _if_supported():
        client.put_bucket_tagging(Bucket=name, Tagging={"TagSet": tags})
    with _if_supported():
        client.put_public_access_block(
            Bucket=name,
            PublicAccessBlockConfiguration=dict.fromkeys(
                [
                    *["BlockPublicAcls", "IgnorePublicAcls"],
                    *["BlockPublicPolicy", "RestrictPublicBuckets"],
                ],
                True,
            ),
        )
    # What the customer chose must be there, or the bucket is not what was sold.
    if wanted.soft_delete_days:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    if rules := list(_rules(wanted)):
        client.put_bucket_lifecycle_configuration(
            Bucket=name, LifecycleConfiguration={"Rules": rules}
        )
    return DONE


def _rules(wanted: Wanted) -> Iterator[dict[str, Any]]:
    every = {"Status": "Enabled", "Filter": {"Prefix": ""}}
    if wanted.soft_delete_days:
        # Soft deletion is made of versions: what is deleted is no longer the current one.
        days = {"NoncurrentDays": wanted.soft_delete_days}
        yield {"ID": "soft-delete", "NoncurrentVersionExpiration": days, **every}
    if wanted.delete_after_days is not None:
        yield {"ID": "delete-after", "Expiration": {"Days": wanted.delete_after_days}, **every}


def _delete(client: Any, wanted: Wanted) -> Outcome:  # noqa: ANN401
    deadline = monotonic() + RUN_SECONDS
    name = wanted.resource_name
    if not _has(client, name) or not _is_ours(client, wanted, is_new=False):
        return DONE
    while objects := _some_objects(client, wanted):
        if monotonic() > deadline:
            return PENDING
        client.delete_objects(Bucket=name, Delete={"Objects": objects, "Quiet": True})
    try:
        client.delete_bucket(Bucket=name)
    except ClientError as error:
        if _code(error) == "BucketNotEmpty":
            return PENDING  # something was put into it just now
        if _code(error) != "NoSuchBucket":
            raise
    return DONE


def _has(client: Any, name: str) -> bool:  # noqa: ANN401
    """Tell whether a bucket is our account's: its list has no others."""
    token: dict[str, str] = {}
    while True:
        answer = client.list_buckets(Prefix=name, **token)
        if any(bucket["Name"] == name for bucket in answer.get("Buckets", [])):
            return True
        if not answer.get("ContinuationToken"):
            return False
        token = {"ContinuationToken": answer["ContinuationToken"]}


def _is_ours(client: Any, wanted: Wanted, *, is_new: bool = True) -> bool:  # noqa: ANN401
    """Tell whether a bucket of our account was made for this storage resource.

    By its tags. An attempt that ended before it could write them left a bucket without tags and
    objects. Where an endpoint knows no tags, the name must do, which nobody can guess; but what is
    said to be new must be empty.
    """
    try:
        answer = client.get_bucket_tagging(Bucket=wanted.resource_name)
        tags = {tag["Key"]: tag["Value"] for tag in answer["TagSet"]}
        if tags:
            return wanted.labels.items() <= tags.items()
    except ClientError as error:
        if _is_unsupported(error) and not is_new:
            return True
        if _code(error) != "NoSuchTagSet" and not _is_unsupported(error):
            raise
    return not _some_objects(client, wanted)


def _pages(client: Any, place: Place) -> Iterator[list[dict[str, Any]]]:  # noqa: ANN401
    """Give what a bucket keeps, with all versions where we keep any."""
    # Not every endpoint that knows no versions says so.
    operation = "list_object_versions" if place.soft_delete_days else "list_objects_v2"
    for answer in client.get_paginator(operation).paginate(Bucket=place.resource_name):
        yield [
            each
            for kind in ("Contents", "Versions", "DeleteMarkers")
            for each in answer.get(kind, [])
        ]


def _some_objects(client: Any, place: Place) -> list[dict[str, str]]:  # noqa: ANN401
    """Give up to a thousand of the objects to delete."""
    return [
        {key: each[key] for key in ("Key", "VersionId") if key in each}
        for each in next(_pages(client, place), [])
    ]


@contextmanager
def _if_supported() -> Iterator[None]:
    """Go on where an endpoint knows no such thing: its buckets are private by themselves."""
    try:
        yield
    except ClientError as error:
        if not _is_unsupported(error):
            raise


def _code(error: ClientError) -> str:
    return str(error.response["Error"].get("Code", ""))


def _is_unsupported(error: ClientError) -> bool:
    status = error.response["ResponseMetadata"].get("HTTPStatusCode")
    return _code(error) in _UNSUPPORTED or status == 501


def _outcome(error: ClientError) -> Outcome:
    """Tell what a refusal means: as of Google's."""
    code = _code(error)
    status = error.response["ResponseMetadata"].get("HTTPStatusCode", 500)
    if code in {"TooManyBuckets", "QuotaExceeded"}:
        return Outcome("refused", "quota_exceeded", cause=error)
    if status == 429 or code in {"SlowDown", "ThrottlingException", "TooManyRequests"}:
        return Outcome("unavailable", "too_many_requests", cause=error)
    if status == 403 and code != "RequestTimeTooSkewed":
        return Outcome("refused", "permission_denied", cause=error)
    if _is_unsupported(error) or status in {400, 404, 405}:
        return Outcome("refused", "invalid", cause=error)
    return Outcome("unavailable", "no_answer" if status >= 500 else "conflict", cause=error)
