"""Endpoints behave alike on both ways into the database."""

import pytest

from infra.local.layout import WAYS
from tests.harness.platform import Organization, Platform


@pytest.fixture
def operator(platform: Platform) -> Organization:
    """Give the platform's own organization."""
    return platform.operator()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test of an endpoint on both ways."""
    if "way" in metafunc.fixturenames:
        metafunc.parametrize("way", WAYS, indirect=True)
