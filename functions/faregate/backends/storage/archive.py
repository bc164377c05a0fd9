"""Our own bucket: what has left the database, for good."""

import asyncio

from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError
from google.cloud.exceptions import GoogleCloudError
from google.cloud.storage import Client
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

from faregate.backends.storage.gcs import ONCE, connect
from faregate.errors import FaregateError
from faregate.settings import ArchiveSettings

_FAILURES = (
    *(GoogleAPICallError, GoogleAuthError, GoogleCloudError, DataCorruption, InvalidResponse),
    OSError,
)


class Archive:
    """The bucket, if there is one."""

    def __init__(self) -> None:
        self._settings = ArchiveSettings()
        self._client: Client | None = None

    @property
    def is_there(self) -> bool:
        """Tell whether anything can be kept."""
        return bool(self._settings.usage_archive_bucket)

    async def keep(self, name: str, content: bytes) -> bytes:
        """Write an object, over one that an earlier attempt left, and give what the bucket has.

        Raises FaregateError: unavailable.
        """
        # The client blocks; a thread keeps the event loop free.
        try:
            return await asyncio.to_thread(self._keep, name, content)
        except _FAILURES as error:
            raise FaregateError("unavailable") from error

    def _keep(self, name: str, content: bytes) -> bytes:
        self._client = self._client or connect(self._settings)
        bucket = self._client.bucket(self._settings.usage_archive_bucket)
        bucket.blob(name).upload_from_string(content, "application/vnd.apache.parquet", **ONCE)
        # Found by its name, as whoever needs it one day will.
        kept: bytes = bucket.blob(name).download_as_bytes(**ONCE)
        return kept

    async def close(self) -> None:
        """The client's connections end with the process."""
