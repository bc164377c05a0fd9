"""Storage in the cloud: one port, and behind it Cloud Storage, any S3 endpoint and Filestore.

A step is idempotent: it looks first, never adopts what is not marked as this storage resource's,
and goes on from whatever an earlier attempt left.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Literal, Protocol, TypeVar
from uuid import UUID

from faregate.errors import FaregateError
from faregate.settings import BucketSettings, FilestoreSettings, S3Settings, SignerSettings

CALL_SECONDS = 20.0
"""How long one call of a provider may take."""

RUN_SECONDS = 60.0
"""After how long a step begins nothing more; with its last call still within the task's lease."""

URL_SECONDS = 900
"""For how long a signed address is good, by the real clock."""

Step = Literal["create", "update", "delete"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a storage resource is in the cloud."""

    provider: Literal["gcs", "s3", "filestore"]
    location: str
    endpoint: str | None
    resource_name: str
    soft_delete_days: int = 0


@dataclass(frozen=True, kw_only=True)
class Wanted(Place):
    """What a storage resource should be in the cloud, and whose it is."""

    organization_id: UUID
    storage_id: UUID
    size_gb: int
    access: Literal["write", "read"]
    principal: str | None
    delete_after_days: int | None
    operation: str | None

    @property
    def labels(self) -> dict[str, str]:
        """Give the marks that tell whose it is."""
        return {
            "faregate-organization": str(self.organization_id),
            "faregate-storage": str(self.storage_id),
        }


@dataclass(frozen=True)
class Outcome:
    """What became of a step.

    done: it is as it was wanted. pending: the cloud is at it. taken: the name is another's.
    refused: repetition does not help. unavailable: perhaps it was done, perhaps not.
    """

    outcome: Literal["done", "pending", "taken", "refused", "unavailable"]
    reason: str | None = None
    mount: str | None = None
    operation: str | None = None
    cause: BaseException | None = field(default=None, compare=False)


DONE = Outcome("done")
PENDING = Outcome("pending")
TAKEN = Outcome("taken", "name_taken")


class OutcomeError(Exception):
    """A call of a provider that came to nothing, and what that means."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


@dataclass(frozen=True)
class Signed:
    """A signed address: whoever has it may do one thing, with just these headers."""

    url: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Object:
    """An object in a bucket."""

    object: str
    size_bytes: int
    updated_at: datetime


@dataclass(frozen=True)
class Listing:
    """A page of objects, and what to ask for the next one with."""

    objects: list[Object]
    cursor: str | None


class Provider(Protocol):
    """Who keeps storage. These calls block."""

    def take(self, step: Step, wanted: Wanted) -> Outcome:
        """Take a step. Whatever goes wrong is an outcome."""


class Keeper(Provider, Protocol):
    """Who keeps buckets, and tells how much is in them."""

    def used_bytes(self, place: Place, deadline: float) -> int:
        """Add up all that a bucket keeps, old versions and deleted objects included.

        Raises OutcomeError.
        """


class Buckets(Protocol):
    """Who gives access to what is in buckets. These calls block, and raise OutcomeError."""

    def sign_upload(self, place: Place, name: str, size_bytes: int, content_type: str) -> Signed:
        """Sign for one object that is no larger than this."""

    def sign_download(self, place: Place, name: str) -> Signed:
        """Sign for reading one object."""

    def list_objects(self, place: Place, prefix: str, limit: int, cursor: str | None) -> Listing:
        """Give a page of a bucket's objects, by name."""

    def delete_object(self, place: Place, name: str) -> None:
        """Delete an object; one that is not there is deleted already."""


T = TypeVar("T")


async def _call(call: Callable[[], T]) -> T:
    # The clients block; a thread keeps the event loop free.
    try:
        return await asyncio.to_thread(call)
    except OutcomeError as error:
        if error.outcome.reason == "invalid":
            raise FaregateError("invalid_request") from error
        raise FaregateError("unavailable") from error


class Storage:
    """All providers. Their libraries are imported when there is something to do with them."""

    def __init__(self) -> None:
        self._buckets = BucketSettings()
        self._shares = FilestoreSettings()
        self._s3 = S3Settings()
        self._provider = cache(self._make_provider)
        self._keeper = cache(self._make_keeper)

    async def take(self, step: Step, wanted: Wanted) -> Outcome:
        """Take a step in the cloud. It may take a minute and a half."""
        # The clients block; a thread keeps the event loop free.
        return await asyncio.to_thread(lambda: self._provider(wanted.provider).take(step, wanted))

    async def used_bytes(self, place: Place, deadline: float) -> int:
        """Add up all that a bucket keeps, old versions and deleted objects included.

        Raises FaregateError: unavailable, also when it is not through by the deadline.
        """
        return await _call(lambda: self._keeper(place.provider).used_bytes(place, deadline))

    def _make_provider(self, provider: str) -> Provider:
        return self._make_filestore() if provider == "filestore" else self._keeper(provider)

    def _make_keeper(self, provider: str) -> Keeper:
        if provider == "s3":
            from faregate.backends.storage.s3 import S3

            return S3(self._s3)
        from faregate.backends.storage.gcs import Gcs

        return Gcs(self._buckets)

    def _make_filestore(self) -> Provider:
        from faregate.backends.storage.filestore import Filestore

        return Filestore(self._shares)

    async def close(self) -> None:
        """The clients' connections end with the process."""


class Objects:
    """What is in buckets."""

    def __init__(self) -> None:
        self._gcs = SignerSettings()
        self._s3 = S3Settings()
        self._buckets = cache(self._make)

    async def sign_upload(
        self, place: Place, name: str, size_bytes: int, content_type: str
    ) -> Signed:
        """Sign for one object that is no larger than this.

        Raises FaregateError: unavailable.
        """
        return await _call(
            lambda: self._at(place).sign_upload(place, name, size_bytes, content_type)
        )

    async def sign_download(self, place: Place, name: str) -> Signed:
        """Sign for reading one object.

        Raises FaregateError: unavailable.
        """
        return await _call(lambda: self._at(place).sign_download(place, name))

    async def list_objects(
        self, place: Place, prefix: str, limit: int, cursor: str | None
    ) -> Listing:
        """Give a page of a bucket's objects, by name.

        Raises FaregateError: invalid_request (the cursor), unavailable.
        """
        return await _call(lambda: self._at(place).list_objects(place, prefix, limit, cursor))

    async def delete_object(self, place: Place, name: str) -> None:
        """Delete an object; one that is not there is deleted already.

        Raises FaregateError: unavailable.
        """
        await _call(lambda: self._at(place).delete_object(place, name))

    def _at(self, place: Place) -> Buckets:
        return self._buckets(place.provider)

    def _make(self, provider: str) -> Buckets:
        if provider == "s3":
            from faregate.backends.storage.s3 import S3

            return S3(self._s3)
        from faregate.backends.storage.gcs import GcsObjects

        return GcsObjects(self._gcs)

    async def close(self) -> None:
        """The clients' connections end with the process."""
