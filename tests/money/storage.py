"""Storage in the ledger's tests: asked for, and what the cloud would make of it, as the owner."""

from dataclasses import dataclass

from tests.money.ledger import Customer, Ledger, told


@dataclass(frozen=True)
class Storage:
    """What provisioning and its owner do to a customer's storage, without a cloud."""

    ledger: Ledger
    customer: Customer

    def ask(self, gb: int, kind: str = "bucket") -> str:
        """Ask for it; give its id."""
        with told():
            (storage_id,) = self.ledger.fetch_one(
                "select billing.open_storage("
                "%s, %s, 'us-central1', %s, null, null, 0, null, 0, 'test')",
                self.customer.id,
                kind,
                gb,
            )
        return str(storage_id)

    def rent(self, gb: int) -> str:
        """Ask for a bucket, which the cloud then has."""
        storage_id = self.ask(gb)
        self.start(storage_id)
        return storage_id

    def start(self, storage_id: str) -> None:
        self._do("select billing.start_storage(%s, %s)", storage_id)

    def end(self, storage_id: str, status: str = "deleting") -> None:
        self._do("select billing.end_storage(%s, %s, %s, null)", storage_id, status)

    def grow(self, storage_id: str, gb: int) -> None:
        """Charge what it cost so far, and from now on for so many GB."""
        self.ledger.run("update billing.storage set size_gb = %s where id = %s", gb, storage_id)
        self.settle(storage_id)

    def settle(self, storage_id: str) -> None:
        """Accrue, whether it is due or not."""
        self._do("select billing.settle_storage(%s, %s, false)", storage_id)

    def _do(self, statement: str, storage_id: str, *values: object) -> None:
        with self.ledger.owner.transaction():
            self.ledger.run("select billing.lock_storage(%s, %s)", self.customer.id, storage_id)
            self.ledger.owner.execute(statement.encode(), [self.customer.id, storage_id, *values])
