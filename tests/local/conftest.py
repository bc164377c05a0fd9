"""What tests of the laptop may ask for."""

import shutil
from collections.abc import Iterator

import pytest

from infra.local import paths, template
from tests.local.laptop import Laptop
from tests.local.stand_ins import Receiver, StandIns, adjacent_listeners, run_stand_ins


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


@pytest.fixture(scope="session")
def laptop() -> Iterator[Laptop]:
    """Give a laptop on which nothing has ever run."""
    with template.unused_name("laptop") as name:
        with adjacent_listeners(5) as listeners:
            port = listeners[0].getsockname()[1]
        shutil.rmtree(paths.LOCAL / name, ignore_errors=True)
        (paths.LOCAL / name).mkdir()
        yield Laptop(paths.LOCAL / name, port)
