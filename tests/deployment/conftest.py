"""What tests of the deployment may ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import template
from tests.deployment.commands import Commands
from tests.local.stand_ins import StandIns, run_stand_ins


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """Give the clouds' command lines, which do nothing but remember."""
    return Commands(tmp_path / "commands")


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIns]:
    """Give the stand-ins that all tests of a worker share."""
    store = tmp_path_factory.mktemp("stand-ins") / "store.sqlite"
    with template.clone() as database, run_stand_ins(database, store) as running:
        yield running
