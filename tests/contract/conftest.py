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
def _everything(
    cloud: Cloud, portal: BlockingPortal, postgrest: Postgrest
) -> Iterator[dict[str, Everything]]:
    with template.clone() as database, open_platform(database, cloud) as platform:
        operator, user = platform.operator(), platform.user()
        with ExitStack() as loaded:
            yield {
                way: Everything(
                    platform,
                    {
                        name: loaded.enter_context(load(portal, name, settings))
                        for name in FUNCTIONS
                    },
                    operator,
                    user.token,
                )
                for way in WAYS
                for settings in [postgrest.settings(way, database)]
            }


@pytest.fixture
def everything(
    _everything: dict[str, Everything], postgrest: Postgrest, way: str
) -> Iterator[Everything]:
    """Give every function; whatever a test tries must leave no trace."""
    everything = _everything[way]
    postgrest.settings(way, everything.platform.database)
    before = everything.platform.contents()
    yield everything
    assert everything.platform.contents() == before
