"""File shares at Filestore."""

from urllib.parse import urlsplit

from google.api_core.exceptions import Conflict, GoogleAPICallError, NotFound
from google.auth.exceptions import GoogleAuthError
from google.cloud.filestore_v1 import (
    CloudFilestoreManagerClient,
    FileShareConfig,
    Instance,
    NetworkConfig,
    NfsExportOptions,
)
from google.cloud.filestore_v1.services.cloud_filestore_manager.transports.rest import (
    CloudFilestoreManagerRestTransport,
)

from faregate.backends.google import credentials
from faregate.backends.storage import (
    CALL_SECONDS,
    DONE,
    PENDING,
    TAKEN,
    Outcome,
    Step,
    Wanted,
)
from faregate.backends.storage.google import operation_outcome, outcome
from faregate.settings import FilestoreSettings

_SHARE = "share"
# Whoever can reach the instance: it has an address of the network's private ranges only.
_EVERYBODY = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"]
_MODES = {
    "write": NfsExportOptions.AccessMode.READ_WRITE,
    "read": NfsExportOptions.AccessMode.READ_ONLY,
}


class Filestore:
    """Makes, changes and deletes instances of one share each.

    Each takes minutes. Nobody waits for it: a later attempt asks how it ended, and then looks.
    """

    def __init__(self, settings: FilestoreSettings) -> None:
        address = urlsplit(str(settings.filestore_api_url))
        self._settings = settings
        self._client = CloudFilestoreManagerClient(
            transport=CloudFilestoreManagerRestTransport(
                host=address.netloc + address.path.rstrip("/"),
                url_scheme=address.scheme,
                credentials=credentials(address.geturl()),
            )
        )

    def take(self, step: Step, wanted: Wanted) -> Outcome:
        """Take a step."""
        try:
            if wanted.operation and (unfinished := self._operation(step, wanted.operation)):
                return unfinished
            instance = self._find(wanted)
            if step == "delete":
                return self._delete(instance, wanted)
            if instance is None:
                return self._create(wanted)
            if not _is_ours(instance, wanted):
                return TAKEN
            return self._change(instance, wanted)
        except (GoogleAPICallError, GoogleAuthError, OSError) as error:
            return outcome(error)

    def _operation(self, step: Step, name: str) -> Outcome | None:
        """Tell how an operation stands; None: it is over, and it is time to look."""
        try:
            operation = self._client.get_operation({"name": name}, timeout=CALL_SECONDS, retry=None)
        except NotFound:
            return None  # it was over long ago
        if not operation.done:
            return Outcome("pending", operation=name)
        if operation.HasField("error") and step != "delete":
            return operation_outcome(operation.error.code, operation.error.message)
        return None

    def _find(self, wanted: Wanted) -> Instance | None:
        try:
            return self._client.get_instance(
                name=self._path(wanted), timeout=CALL_SECONDS, retry=None
            )
        except NotFound:
            return None

    def _create(self, wanted: Wanted) -> Outcome:
        instance = Instance(
            tier=Instance.Tier.ZONAL,
            labels=wanted.labels,
            file_shares=[_share(wanted)],
            networks=[
                NetworkConfig(
                    network=self._settings.filestore_network,
                    modes=[NetworkConfig.AddressMode.MODE_IPV4],
                )
            ],
        )
        try:
            made = self._client.create_instance(
                parent=self._path(wanted).partition("/instances/")[0],
                instance_id=wanted.resource_name,
                instance=instance,
                timeout=CALL_SECONDS,
                retry=None,
            )
        except Conflict as error:
            # The next attempt looks whose it is.
            return Outcome("unavailable", "conflict", cause=error)
        return Outcome("pending", operation=made.operation.name)

    def _change(self, instance: Instance, wanted: Wanted) -> Outcome:
        """Have an instance be as it is wanted, if it is not so yet."""
        if instance.state == Instance.State.ERROR:
            return Outcome("refused", "broken", cause=RuntimeError(instance.status_message))
        if instance.state != Instance.State.READY:
            return PENDING
        (share,) = instance.file_shares
        is_as_wanted = share.capacity_gb == wanted.size_gb and [
            options.access_mode for options in share.nfs_export_options
        ] == [_MODES[wanted.access]]
        if is_as_wanted:
            (address,) = instance.networks[0].ip_addresses
            return Outcome("done", mount=f"{address}:/{share.name}")
        changed = self._client.update_instance(
            {
                "instance": Instance(name=instance.name, file_shares=[_share(wanted)]),
                "update_mask": {"paths": ["file_shares"]},
            },
            timeout=CALL_SECONDS,
            retry=None,
        )
        return Outcome("pending", operation=changed.operation.name)

    def _delete(self, instance: Instance | None, wanted: Wanted) -> Outcome:
        if instance is None or not _is_ours(instance, wanted):
            return DONE
        if instance.state in {Instance.State.CREATING, Instance.State.DELETING}:
            return PENDING
        gone = self._client.delete_instance(
            {"name": instance.name, "force": True}, timeout=CALL_SECONDS, retry=None
        )
        return Outcome("pending", operation=gone.operation.name)

    def _path(self, wanted: Wanted) -> str:
        return self._client.instance_path(
            self._settings.google_project, wanted.location, wanted.resource_name
        )


def _share(wanted: Wanted) -> FileShareConfig:
    return FileShareConfig(
        name=_SHARE,
        capacity_gb=wanted.size_gb,
        nfs_export_options=[
            NfsExportOptions(
                ip_ranges=_EVERYBODY,
                access_mode=_MODES[wanted.access],
                squash_mode=NfsExportOptions.SquashMode.NO_ROOT_SQUASH,
            )
        ],
    )


def _is_ours(instance: Instance, wanted: Wanted) -> bool:
    return wanted.labels.items() <= dict(instance.labels).items()
