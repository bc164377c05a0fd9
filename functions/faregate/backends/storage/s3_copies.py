"""Copying into buckets at any S3 endpoint."""

from collections.abc import Callable
from typing import Any

from faregate.backends.storage import Object, Place
from faregate.backends.storage.copying import PART_BYTES, Part, Read
from faregate.backends.storage.s3 import S3

# Within an endpoint nothing passes through here: what one call can copy in its time.
_COPY_BYTES = 256 * 1024 * 1024
_MAX_PARTS = 9_000

Put = Callable[[int, int, int], object]
"""Puts a part in its place: its number, its first byte, and the one after its last."""


class S3Copies(S3):
    """Copies objects into buckets of accounts."""

    def content_type(self, place: Place, name: str) -> str:
        """Tell what an object says it is."""
        with self._at(place) as client:
            answer = client.head_object(Bucket=place.resource_name, Key=name)
            return str(answer.get("ContentType") or "application/octet-stream")

    def read(self, place: Place, name: str, start: int, end: int) -> bytes:
        """Give some bytes of an object."""
        if start == end:
            return b""
        with self._at(place) as client:
            answer = client.get_object(
                Bucket=place.resource_name, Key=name, Range=f"bytes={start}-{end - 1}"
            )
            content: bytes = answer["Body"].read()
            return content

    def copy(self, source: Place, target: Place, item: Object, part: Part) -> Part | None:
        """Have the endpoint copy an object; a large one in parts."""
        of = {"Bucket": source.resource_name, "Key": item.object}
        there = {"Bucket": target.resource_name, "Key": item.object}
        with self._at(target) as client:
            if item.size_bytes <= _COPY_BYTES:
                client.copy_object(**there, CopySource=of)
                return None

            def put(number: int, start: int, end: int) -> None:
                client.upload_part_copy(
                    **there,
                    UploadId=part["upload"],
                    PartNumber=number,
                    CopySource=of,
                    CopySourceRange=f"bytes={start}-{end - 1}",
                )

            if "upload" not in part:
                part = _begin(client, there, self.content_type(source, item.object))
            return _put_next(client, there, item.size_bytes, _COPY_BYTES, part, put)

    def write(
        self, target: Place, item: Object, content_type: str, part: Part, read: Read
    ) -> Part | None:
        """Write an object whole, or a large one in parts."""
        size = item.size_bytes
        there = {"Bucket": target.resource_name, "Key": item.object}
        if size <= PART_BYTES:
            content = read(0, size)
            with self._at(target) as client:
                client.put_object(**there, Body=content, ContentType=content_type)
            return None
        with self._at(target) as client:

            def put(number: int, start: int, end: int) -> None:
                client.upload_part(
                    **there, UploadId=part["upload"], PartNumber=number, Body=read(start, end)
                )

            if "upload" not in part:
                part = _begin(client, there, content_type)
            return _put_next(client, there, size, PART_BYTES, part, put)


def _begin(client: Any, there: dict[str, str], content_type: str) -> Part:  # noqa: ANN401
    begun = client.create_multipart_upload(**there, ContentType=content_type)
    return {"upload": begun["UploadId"], "number": 1, "content_type": content_type}


def _put_next(
    client: Any,  # noqa: ANN401
    there: dict[str, str],
    size: int,
    smallest: int,
    part: Part,
    put: Put,
) -> Part | None:
    """Put the next part in its place; after the last one the object is there."""
    part_bytes = max(smallest, -(-size // _MAX_PARTS))
    start = (part["number"] - 1) * part_bytes
    if start < size:
        put(part["number"], start, min(start + part_bytes, size))
        return part | {"number": part["number"] + 1}
    pages = client.get_paginator("list_parts").paginate(**there, UploadId=part["upload"])
    parts = [
        {"PartNumber": each["PartNumber"], "ETag": each["ETag"]}
        for page in pages
        for each in page.get("Parts", [])
    ]
    client.complete_multipart_upload(
        **there, UploadId=part["upload"], MultipartUpload={"Parts": parts}
    )
    return None
