"""Objects of a bucket: signed addresses for uploads and downloads, a list, and deletion."""

import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query
from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

from faregate.backends.database import Database
from faregate.backends.storage import URL_SECONDS, Objects, Place
from faregate.backends.tokens import UserTokens
from faregate.caller import Customer
from faregate.contract import WHOLE, Limit, Page, customer_refuses
from faregate.function import Answer, Body, new_router, use

router = new_router("objects")
backends = (Database, UserTokens, Objects)

MAX_NAME_BYTES = 1024
MAX_OBJECT_BYTES = 5 * 2**30
"""The most that S3 takes in one request."""

_REFUSED_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def _check_text(text: str) -> str:
    if len(text.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"must not be longer than {MAX_NAME_BYTES} bytes in UTF-8")
    # Control, formatting and bidirectional characters, and what is none: nobody sees what they are.
    if any(unicodedata.category(each) in _REFUSED_CATEGORIES for each in text):
        raise ValueError("must not have invisible characters")
    if "\\" in text:
        raise ValueError("must not have backslashes")
    return text


def _check_name(name: str) -> str:
    _check_text(name)
    if any(part in {"", ".", ".."} for part in name.split("/")):
        raise ValueError("must not have empty parts, . or .. between slashes")
    if name.startswith(".well-known/acme-challenge/"):
        raise ValueError("must not begin with .well-known/acme-challenge/")
    return name


ObjectName = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_NAME_BYTES), AfterValidator(_check_name)
]
Prefix = Annotated[str, Query(max_length=MAX_NAME_BYTES), AfterValidator(_check_text)]
ObjectCursor = Annotated[
    str | None,
    Query(min_length=1, max_length=2048, pattern="^[!-~]+$", description="next_cursor of before."),
]
ContentType = Annotated[
    str,
    StringConstraints(
        max_length=100, pattern=r"^[a-z]+/[a-z0-9][a-z0-9.+-]*(; charset=[A-Za-z0-9-]+)?$"
    ),
]
SizeBytes = Annotated[int, Field(strict=True, ge=0, le=MAX_OBJECT_BYTES), WHOLE]


class UploadRequest(Body):
    """What is to be uploaded. size_bytes is the most that the address takes; at S3, exactly it."""

    object: ObjectName
    size_bytes: SizeBytes
    content_type: ContentType = "application/octet-stream"


class DownloadRequest(Body):
    """What is to be downloaded."""

    object: ObjectName


class Upload(Answer):
    """How to upload it: with this method, to this address, with these headers, until then."""

    url: str
    method: Literal["PUT"]
    headers: dict[str, str]
    expires_at: AwareDatetime


class Download(Answer):
    """Where to download it with GET, until then."""

    url: str
    expires_at: AwareDatetime


class Object(Answer):
    """An object in a bucket."""

    object: str
    size_bytes: int
    updated_at: AwareDatetime


_NO_BUCKET = ("storage_not_found", "bucket_required", "storage_not_ready")


def _expiry() -> datetime:
    # Whoever signs has a clock of their own; a few seconds too early is never wrong.
    return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=URL_SECONDS)


@router.post(
    "/v1/storage/{storage_id}/uploads",
    responses=customer_refuses(
        *[*_NO_BUCKET, "storage_full", "body_too_large", "unsupported_media_type"]
    ),
)
async def sign_upload(
    storage_id: UUID,
    request: UploadRequest,
    caller: Customer,
    database: Database = use(Database),
    objects: Objects = use(Objects),
) -> Upload:
    """Sign an address to upload an object to, for 15 minutes. Needs `write`."""
    place = await database.call_one(
        "sign_upload",
        caller=caller,
        storage_id=storage_id,
        object=request.object,
        size_bytes=request.size_bytes,
    )
    expires_at = _expiry()
    signed = await objects.sign_upload(
        Place(**place), request.object, request.size_bytes, request.content_type
    )
    return Upload(url=signed.url, method="PUT", headers=signed.headers, expires_at=expires_at)


@router.post(
    "/v1/storage/{storage_id}/downloads",
    responses=customer_refuses(*[*_NO_BUCKET, "body_too_large", "unsupported_media_type"]),
)
async def sign_download(
    storage_id: UUID,
    request: DownloadRequest,
    caller: Customer,
    database: Database = use(Database),
    objects: Objects = use(Objects),
) -> Download:
    """Sign an address to download an object from, for 15 minutes. Needs `read`."""
    place = await database.call_one(
        "find_bucket", caller=caller, storage_id=storage_id, permission="read"
    )
    expires_at = _expiry()
    signed = await objects.sign_download(Place(**place), request.object)
    return Download(url=signed.url, expires_at=expires_at)


@router.get("/v1/storage/{storage_id}/objects", responses=customer_refuses(*_NO_BUCKET))
async def list_objects(
    storage_id: UUID,
    caller: Customer,
    prefix: Prefix = "",
    limit: Limit = 50,
    cursor: ObjectCursor = None,
    database: Database = use(Database),
    objects: Objects = use(Objects),
) -> Page[Object]:
    """List a bucket's objects by name, those whose name begins with a prefix. Needs `read`."""
    place = await database.call_one(
        "find_bucket", caller=caller, storage_id=storage_id, permission="read"
    )
    listing = await objects.list_objects(Place(**place), prefix, limit, cursor)
    return Page[Object](
        data=[
            Object(object=each.object, size_bytes=each.size_bytes, updated_at=each.updated_at)
            for each in listing.objects
        ],
        has_more=listing.cursor is not None,
        next_cursor=listing.cursor,
    )


@router.delete(
    "/v1/storage/{storage_id}/objects",
    status_code=204,
    responses=customer_refuses(*_NO_BUCKET),
)
async def delete_object(
    storage_id: UUID,
    caller: Customer,
    object: Annotated[ObjectName, Query()],  # noqa: A002  the contract's word
    database: Database = use(Database),
    objects: Objects = use(Objects),
) -> None:
    """Delete an object; one that is not there is deleted already. Needs `write`."""
    place = await database.call_one(
        "find_bucket", caller=caller, storage_id=storage_id, permission="write"
    )
    await objects.delete_object(Place(**place), object)
