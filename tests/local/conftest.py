"""What tests of the laptop may ask for."""

from collections.abc import Iterator

import pytest

from infra.local import template
from tests.local.stand_ins import Receiver, StandIns, run_stand_ins


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:
    """Give the stand-ins that all tests of a worker share."""
    store = tmp_path_factory.mktemp("stand-ins") / "store.sqlite"
    with template.clone() as database, run_stand_ins(database, store) as running:
        yield running


@pytest.fixture
def receiver(stand_ins: StandIns) -> Receiver:
    """Give whoever the stand-ins call."""
    return stand_ins.receiver
