"""Buckets at Cloud Storage."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from time import monotonic

from google.api_core.exceptions import (
    BadRequest,
    Conflict,
    Forbidden,
    GoogleAPICallError,
    NotFound,
)
from google.api_core.iam import Policy
from google.auth.credentials import Signing
from google.auth.exceptions import GoogleAuthError
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Bucket, Client

from faregate.backends.google import credentials
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
from faregate.backends.storage.google import outcome
from faregate.settings import BucketSettings, SignerSettings

_ROLES = {"write": "roles/storage.objectUser", "read": "roles/storage.objectViewer"}
_BATCH_OBJECTS = 100

# The queue repeats, not the client: of its many attempts we would not know what they did.
ONCE = {"timeout": CALL_SECONDS, "retry": None}


def connect(settings: BucketSettings) -> Client:
    """Give the client of a project's buckets."""
    url = str(settings.storage_api_url).rstrip("/")
    return Client(
        project=settings.google_project,
        credentials=credentials(url),
        client_options={"api_endpoint": url},
    )


class Gcs:
    """Makes, changes and deletes buckets of one project."""

    def __init__(self, settings: BucketSettings) -> None:
        self._client = connect(settings)

    def take(self, step: Step, wanted: Wanted) -> Outcome:
        """Take a step."""
        try:
            if step == "create":
                return self._create(wanted)
            if step == "update":
                return self._let_in(self._client.bucket(wanted.resource_name), wanted)
            return self._delete(wanted)
        except (GoogleAPICallError, GoogleAuthError, OSError) as error:
            return outcome(error)

    def _find(self, name: str) -> Bucket | None:
        # Asked for by its name, another project's bucket is forbidden, as one of ours may be for a
        # moment. The list of our project knows no others.
        found = self._client.list_buckets(prefix=name, **ONCE)
        return next((bucket for bucket in found if bucket.name == name), None)

    def _create(self, wanted: Wanted) -> Outcome:
        bucket = self._find(wanted.resource_name)
        if bucket is None:
            bucket = self._new(wanted)
            try:
                self._client.create_bucket(bucket, location=wanted.location, **ONCE)
            except Conflict:
                bucket = self._find(wanted.resource_name)
        if bucket is None or not _is_ours(bucket, wanted):
            return TAKEN
        return self._let_in(bucket, wanted)

    def _new(self, wanted: Wanted) -> Bucket:
        bucket = self._client.bucket(wanted.resource_name)
        bucket.iam_configuration.uniform_bucket_level_access_enabled = True
        bucket.iam_configuration.public_access_prevention = "enforced"
        bucket.labels = wanted.labels
        bucket.soft_delete_policy.retention_duration_seconds = wanted.soft_delete_days * 86_400
        if wanted.delete_after_days is not None:
            bucket.add_lifecycle_delete_rule(age=wanted.delete_after_days)
        return bucket

    def _let_in(self, bucket: Bucket, wanted: Wanted) -> Outcome:
        """Have the policy name the organization's own service account and nobody else."""
        try:
            policy = Policy(bucket.get_iam_policy(**ONCE).etag)  # type: ignore[no-untyped-call]
            if wanted.principal:
                policy[_ROLES[wanted.access]] = [f"serviceAccount:{wanted.principal}"]
            bucket.set_iam_policy(policy, **ONCE)
        except (BadRequest, Forbidden) as error:
            # A service account is unknown here for a while after it was made, and so may our own
            # right be to a bucket that is as new.
            return Outcome("unavailable", "principal_unknown", cause=error)
        return DONE

    def _delete(self, wanted: Wanted) -> Outcome:
        deadline = monotonic() + RUN_SECONDS
        bucket = self._find(wanted.resource_name)
        if bucket is None or not _is_ours(bucket, wanted):
            return DONE
        while names := self._some_objects(bucket):
            if monotonic() > deadline:
                return PENDING
            with self._client.batch(raise_exception=False):
                for name, generation in names:
                    bucket.delete_blob(name, generation=generation, **ONCE)
        try:
            bucket.delete(**ONCE)
        except NotFound:
            return DONE
        except Conflict:
            return PENDING  # something was put into it just now
        return DONE

    def _some_objects(self, bucket: Bucket) -> list[tuple[str, int]]:
        found = self._client.list_blobs(
            bucket,
            versions=True,
            max_results=_BATCH_OBJECTS,
            fields="items(name,generation)",
            **ONCE,
        )
        return [(blob.name, blob.generation) for blob in found]

    def used_bytes(self, place: Place, deadline: float) -> int:
        """Add up all that a bucket keeps, old versions and deleted objects included."""
        with outcomes():
            return sum(
                self._add_up(place, deadline, **kept)
                for kept in ({"versions": True}, {"soft_deleted": True})
            )

    def _add_up(self, place: Place, deadline: float, **kept: bool) -> int:
        pages = self._client.list_blobs(
            place.resource_name, fields="items(size),nextPageToken", **kept, **ONCE
        ).pages
        total = 0
        for page in pages:
            total += sum(blob.size for blob in page)
            if monotonic() > deadline:
                raise OutcomeError(Outcome("unavailable", "too_many_objects"))
        return total


def _is_ours(bucket: Bucket, wanted: Wanted) -> bool:
    return bool(wanted.labels.items() <= bucket.labels.items())


class GcsObjects:
    """What is in buckets of one project."""

    def __init__(self, settings: SignerSettings) -> None:
        self._client = connect(settings)
        self._url = str(settings.storage_api_url).rstrip("/")
        self._signer = _Signer(settings)

    def sign_upload(self, place: Place, name: str, size_bytes: int, content_type: str) -> Signed:
        """Sign for one object that is no larger than this."""
        headers = {
            "Content-Type": content_type,
            "x-goog-content-length-range": f"0,{size_bytes}",
        }
        return Signed(self._sign("PUT", place, name, headers=headers), headers)

    def sign_download(self, place: Place, name: str) -> Signed:
        """Sign for reading one object; no browser shows it as a page."""
        return Signed(self._sign("GET", place, name, response_disposition="attachment"), {})

    def _sign(self, method: str, place: Place, name: str, **options: object) -> str:
        with outcomes():
            url: str = (
                self._client.bucket(place.resource_name)
                .blob(name)
                .generate_signed_url(
                    version="v4",
                    method=method,
                    expiration=timedelta(seconds=URL_SECONDS),
                    api_access_endpoint=self._url,
                    credentials=self._signer,
                    **options,
                )
            )
            return url

    def list_objects(self, place: Place, prefix: str, limit: int, cursor: str | None) -> Listing:
        """Give a page of a bucket's objects, by name."""
        with outcomes():
            found = self._client.list_blobs(
                place.resource_name,
                prefix=prefix or None,
                page_size=limit,
                page_token=cursor,
                fields="items(name,size,updated),nextPageToken",
                **ONCE,
            )
            page = next(found.pages, ())
            objects = [Object(blob.name, blob.size, blob.updated) for blob in page]
            return Listing(objects, found.next_page_token)

    def delete_object(self, place: Place, name: str) -> None:
        """Delete an object; one that is not there is deleted already."""
        with outcomes(), suppress(NotFound):
            self._client.bucket(place.resource_name).blob(name).delete(**ONCE)


class _Signer(Signing):
    """Has IAM sign as a service account, whose key nobody has."""

    def __init__(self, settings: SignerSettings) -> None:
        url = str(settings.iam_credentials_api_url).rstrip("/")
        self._email = settings.storage_signer
        self._address = f"{url}/v1/projects/-/serviceAccounts/{self._email}:signBlob"
        self._http = AuthorizedSession(credentials(url))  # type: ignore[no-untyped-call]

    def sign_bytes(self, message: bytes) -> bytes:
        """Sign bytes."""
        answer = self._http.post(
            self._address,
            json={"payload": base64.b64encode(message).decode()},
            timeout=CALL_SECONDS,
        )
        answer.raise_for_status()
        return base64.b64decode(answer.json()["signedBlob"])

    @property
    def signer_email(self) -> str:
        """Tell who signs."""
        return self._email

    @property
    def signer(self) -> "_Signer":
        """Tell who signs."""
        return self


@contextmanager
def outcomes() -> Iterator[None]:
    """Have what goes wrong be an OutcomeError."""
    try:
        yield
    except (GoogleAPICallError, GoogleAuthError, OSError) as error:
        raise OutcomeError(outcome(error)) from error
