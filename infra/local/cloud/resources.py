"""What customers rent in the cloud, on one machine: buckets, file shares, service accounts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from fastapi import APIRouter, FastAPI

from infra.local.cloud.clock import Clock
from infra.local.cloud.filestore import Filestore
from infra.local.cloud.gcs import Gcs
from infra.local.cloud.google_errors import GoogleError, refuse
from infra.local.cloud.iam import Iam
from infra.local.cloud.iam_accounts import Accounts
from infra.local.cloud.s3 import S3
from infra.local.cloud.store import Store
from infra.local.layout import Layout


class Resources:
    """The stand-ins for Cloud Storage, S3, Filestore and IAM; what they hold is in a folder."""

    def __init__(
        self,
        layout: Layout,
        store: Store,
        folder: Path,
        clock: Clock,
        http: httpx.AsyncClient,
        *,
        file_share_seconds: float,
    ) -> None:
        accounts = Accounts(store, layout.secrets.google_private_key)
        self._gcs = Gcs(layout.gcs_url, accounts, store, folder / "gcs", http)
        self._s3 = S3(layout.s3_port, folder / "s3.jsonl")
        self.router = APIRouter()
        filestore = Filestore(store, clock, file_share_seconds)
        for part in (self._gcs, filestore, Iam(accounts, store)):
            self.router.include_router(part.router)

    def join(self, app: FastAPI) -> None:
        """Be served by an app."""
        app.add_exception_handler(GoogleError, refuse)
        app.include_router(self.router)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run what does not run within the app."""
        self._gcs.start()
        self._s3.start()
        try:
            yield
        finally:
            self._s3.stop()
            self._gcs.stop()
