"""Every test of the money ends with the proof that the books agree."""

from collections.abc import Iterator

import pytest

from infra.local.template import Database
from tests.money.desk import Desk
from tests.money.ledger import Ledger, open_ledger


@pytest.fixture
def ledger(database: Database) -> Iterator[Ledger]:
    """Give a ledger of its own, and verify it when the test is done."""
    with open_ledger(database) as ledger:
        yield ledger
        assert ledger.differences() == []


@pytest.fixture
def desk(ledger: Ledger) -> Desk:
    """Give an operator and a customer who has the registration bonus."""
    return Desk(ledger.create_operator(), ledger.register())
