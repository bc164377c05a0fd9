"""What every test may ask for: a real database of its own."""

import os
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from infra.local import template


def pytest_configure(config: pytest.Config) -> None:
    """Start the cluster once, before xdist starts the workers that share it."""
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
