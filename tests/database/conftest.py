"""Databases that tests only look at, or try in vain to change."""

from collections.abc import Iterator

import pytest
from anyio.from_thread import BlockingPortal

from infra.local import template
from tests.database.town import Town, furnished
from tests.harness.cloud import Cloud
from tests.harness.postgrest import Postgrest


@pytest.fixture(scope="module")
def unchanged() -> Iterator[template.Database]:
    with template.clone() as clone:
        yield clone


@pytest.fixture(scope="module")
def town(cloud: Cloud, portal: BlockingPortal, postgrest: Postgrest) -> Iterator[Town]:
    with furnished(cloud, portal, postgrest) as town:
        yield town


@pytest.fixture(scope="module")
def migrated() -> Iterator[template.Database]:
    """Give what a push makes of a project: what production has, without the sandbox."""
    with template.clone(sandbox=False) as clone:
        yield clone
