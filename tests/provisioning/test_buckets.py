"""Buckets at Cloud Storage: made, changed and deleted by the task, as the queue calls it."""

from tests.harness.answers import done
from tests.harness.provisioning import Provisioning


def test_a_bucket_is_made_and_deleted(storage: Provisioning) -> None:
    storage_id = storage.rent()
    held = storage.held()
    assert held > 0
    task = storage.task(storage_id)
    assert done(storage.deliver(task)) == {"status": "ready"}
    row = storage.row(storage_id)
    assert (row["applied_access"], row["applied_size_gb"]) == ("write", 10)
    assert done(storage.deliver(task)) == {"status": "ready"}
    storage.end(storage_id)
    assert storage.work(storage_id) == "deleted"
    assert storage.held() == 0
    assert storage.notified() == [
        *["storage_provisioning", "storage_ready", "storage_deleting", "storage_deleted"]
    ]
