"""What every test may ask for: a database of its own, and functions that run against it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from infra.local import template
from infra.local.layout import WAYS
from tests.harness.client import Client, Load, load
from tests.harness.cloud import Cloud, run_cloud
from tests.harness.platform import Platform, open_platform
from tests.harness.postgrest import Postgrest, Rest
from tests.harness.recycling import Recycler


def pytest_configure(config: pytest.Config) -> None:
    """Start the cluster once, before xdist starts the workers that share it."""
    # Stripe's library still says data= to httpx.
    config.addinivalue_line("filterwarnings", "ignore:Use 'content=<...>':DeprecationWarning")
    if "PYTEST_XDIST_WORKER" in os.environ or config.option.collectonly:
        return
    resources = ExitStack()
    config.add_cleanup(resources.close)
    resources.enter_context(template.cluster())


@pytest.fixture
def database() -> Iterator[template.Database]:
    """Give a migrated database that no other test sees."""
    with template.clone() as clone:
        yield clone


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Give the stand-ins and keys that all tests of a worker share."""
    with run_cloud(tmp_path_factory.mktemp("cloud") / "store.sqlite") as cloud:
        yield cloud


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    """Give the event loop that the functions of a worker run on."""
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(scope="session")
def recycler() -> Iterator[Recycler]:
    """Give the database that the tests of a worker hand on."""
    recycler = Recycler()
    yield recycler
    recycler.close()


@pytest.fixture
def platform(recycler: Recycler, cloud: Cloud) -> Iterator[Platform]:
    """Give a platform without customers; when the test is done its books must agree."""
    is_spoiled = True
    try:
        with open_platform(recycler.take(), cloud) as platform:
            yield platform
            assert platform.differences() == []
            is_spoiled = platform.is_altered
    finally:
        recycler.give_back(is_spoiled=is_spoiled)


@pytest.fixture
def way(request: pytest.FixtureRequest) -> str:
    """Name the way into the database; tests that are for both are parametrized with it."""
    way: str = getattr(request, "param", WAYS[0])
    return way


@pytest.fixture
def settings(platform: Platform, postgrest: Postgrest, way: str) -> dict[str, str]:
    """Give what functions read that go this way."""
    return postgrest.settings(way, platform.database)


@pytest.fixture
def function(
    platform: Platform, settings: dict[str, str], portal: BlockingPortal
) -> Iterator[Load]:
    """Load functions by name, as the cloud does, with further settings if any."""
    with ExitStack() as loaded:

        def load_function(name: str, **environment: str) -> Client:
            if "SUPABASE_URL" in environment:
                # Another project, without a database of ours behind it.
                environment.setdefault("DATABASE_URL", platform.database.functions_url)
            return loaded.enter_context(load(portal, name, settings | environment))

        yield load_function


@pytest.fixture(scope="session")
def postgrest(cloud: Cloud) -> Iterator[Postgrest]:
    """Give the PostgREST of a worker."""
    postgrest = Postgrest(cloud)
    yield postgrest
    postgrest.stop()


@pytest.fixture
def rest(platform: Platform, postgrest: Postgrest) -> Iterator[Rest]:
    """Give a client of the platform's PostgREST."""
    postgrest.serve(platform.database)
    with httpx.Client(trust_env=False) as http:
        yield Rest(platform.cloud, http)
