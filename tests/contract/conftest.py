"""One database for all that must change nothing."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from anyio.from_thread import BlockingPortal

from faregate.function import FUNCTIONS
from infra.local import template
from infra.local.layout import WAYS
from tests.harness.client import Client, load
from tests.harness.cloud import Cloud
from tests.harness.operations import Operation
from tests.harness.platform import Organization, Platform, open_platform
from tests.harness.postgrest import Postgrest


@dataclass(frozen=True)
class Everything:
    """Every function, and somebody who may call it."""

    platform: Platform
    functions: dict[str, Client]
    operator: Organization
    user: str

    def credential(self, operation: Operation) -> str:
        """Give what opens an operation."""
        return self.operator.passport if operation.permission else self.user


@pytest.fixture(scope="session")
def _everything(cloud: Cloud, portal: BlockingPortal, postgrest: Postgrest) -> Iterator[Everything]:
    with template.clone() as database, open_platform(database, cloud) as platform:
        operator, user = platform.operator(), platform.user()
        settings = postgrest.settings(WAYS[0], database)
        with ExitStack() as loaded:
            functions = {
                name: loaded.enter_context(load(portal, name, settings)) for name in FUNCTIONS
            }
            yield Everything(platform, functions, operator, user.token)


@pytest.fixture
def everything(_everything: Everything) -> Iterator[Everything]:
    """Give every function; whatever a test tries must leave no trace."""
    before = _everything.platform.contents()
    yield _everything
    assert _everything.platform.contents() == before
