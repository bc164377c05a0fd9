"""Copying what is in one bucket into another, wherever the two are, in bounded memory.

How far it is stands in a bookmark, so that another run can go on: the page of the list, the last
object of it that was copied, and how much of a large one there is.
"""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice, takewhile
from time import monotonic
from typing import Any, Protocol

from faregate.backends.storage import Listing, Object, Outcome, OutcomeError, Place
from faregate.settings import BucketSettings, S3Settings

PART_BYTES = 16 * 1024 * 1024
"""How much of an object is in memory, where it has to pass through here."""

_PAGE_OBJECTS = 200
_AT_ONCE = 8
_SMALL_BYTES = 4 * 1024 * 1024

Part = dict[str, Any]
"""How much of a large object there is, in the words of who keeps it."""

Read = Callable[[int, int], bytes]
"""Gives the bytes of an object from the first number up to the second."""


@dataclass(frozen=True)
class Copied:
    """How much was copied, and where to go on: nowhere, when that was all."""

    bookmark: str | None
    objects: int
    bytes: int


class Bucket(Protocol):
    """Who keeps buckets, and copies objects into them. These calls block, raise OutcomeError."""

    def list_objects(self, place: Place, prefix: str, limit: int, cursor: str | None) -> Listing:
        """Give a page of a bucket's objects."""

    def content_type(self, place: Place, name: str) -> str:
        """Tell what an object says it is."""

    def read(self, place: Place, name: str, start: int, end: int) -> bytes:
        """Give some bytes of an object."""

    def copy(self, source: Place, target: Place, item: Object, part: Part) -> Part | None:
        """Copy an object, or the next part of it, where it is; None: it is there."""

    def write(
        self, target: Place, item: Object, content_type: str, part: Part, read: Read
    ) -> Part | None:
        """Write an object, or the next part of it, from elsewhere; None: it is there."""


class Copies:
    """Copies objects between buckets."""

    def __init__(self) -> None:
        self._gcs = BucketSettings()
        self._s3 = S3Settings()
        self._bucket = cache(self._make)

    async def copy(
        self, source: Place, target: Place, bookmark: str | None, deadline: float
    ) -> Copied:
        """Copy some objects from a bookmark on, of at most one page, until the deadline.

        Raises OutcomeError: what was copied of this page may be copied again.
        """
        # The clients block; a thread keeps the event loop free.
        return await asyncio.to_thread(self._copy, source, target, bookmark, deadline)

    def _copy(self, source: Place, target: Place, bookmark: str | None, deadline: float) -> Copied:
        mark = json.loads(bookmark or "{}")
        bucket = self._bucket(source.provider)
        listing = bucket.list_objects(source, "", _PAGE_OBJECTS, mark.get("page"))
        after, part = mark.get("after", ""), mark.get("part", {})
        left = [
            each
            for each in sorted(listing.objects, key=lambda each: each.object)
            if each.object > after
        ]
        copied: list[Object] = []
        with ThreadPoolExecutor(_AT_ONCE) as pool, _changes():
            has_begun = False
            while left and not (has_begun and monotonic() > deadline):
                has_begun = True
                several = list(islice(takewhile(_is_small, left), _AT_ONCE))
                if several:
                    list(pool.map(lambda each: self._take(source, target, each, {}), several))
                else:
                    several = left[:1]
                    part = self._go_on(source, target, left[0], _same(part, left[0]))
                    if part:
                        continue
                copied += several
                left = left[len(several) :]
                part = {}
        return Copied(
            _bookmark(mark.get("page"), listing, left, part),
            len(copied),
            sum(each.size_bytes for each in copied),
        )

    def _go_on(self, source: Place, target: Place, item: Object, part: Part) -> Part:
        """Take the next part of a large object; from its first one where the last are forgotten."""
        try:
            return self._take(source, target, item, part)
        except OutcomeError as error:
            if not part or error.outcome.reason != "invalid":
                raise
            return self._take(source, target, item, {})

    def _take(self, source: Place, target: Place, item: Object, part: Part) -> Part:
        """Copy an object or the next part of it; give how much there is then, if not all."""
        keeper, name = self._bucket(target.provider), item.object
        if (source.provider, source.endpoint) == (target.provider, target.endpoint):
            taken = keeper.copy(source, target, item, part)
        else:
            origin = self._bucket(source.provider)
            taken = keeper.write(
                target,
                item,
                part.get("content_type") or origin.content_type(source, name),
                part,
                lambda start, end: origin.read(source, name, start, end),
            )
        return {} if taken is None else taken | {"of": _version(item)}

    def _make(self, provider: str) -> Bucket:
        if provider == "s3":
            from faregate.backends.storage.s3_copies import S3Copies

            return S3Copies(self._s3)
        from faregate.backends.storage.gcs_copies import GcsCopies

        return GcsCopies(self._gcs)

    async def close(self) -> None:
        """The clients' connections end with the process."""


def _is_small(item: Object) -> bool:
    return item.size_bytes <= _SMALL_BYTES


def _version(item: Object) -> list[str]:
    return [item.object, str(item.size_bytes), item.updated_at.isoformat()]


def _same(part: Part, item: Object) -> Part:
    """Give the part, if it is of this object as it is now."""
    return part if part.get("of") == _version(item) else {}


def _bookmark(page: str | None, listing: Listing, left: list[Object], part: Part) -> str | None:
    if left:
        names = sorted(each.object for each in listing.objects)
        before = [name for name in names if name < left[0].object]
        return json.dumps({"page": page, "after": before[-1] if before else "", "part": part})
    return json.dumps({"page": listing.cursor}) if listing.cursor else None


@contextmanager
def _changes() -> Iterator[None]:
    """Let an object that was there a moment ago be looked for again: it may be gone, or another."""
    try:
        yield
    except OutcomeError as error:
        if error.outcome.reason != "invalid":
            raise
        changed = Outcome("unavailable", "object_changed", cause=error.outcome.cause)
        raise OutcomeError(changed) from error
