"""Endpoints behave alike on both ways into the database."""

import pytest

from infra.local.layout import WAYS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test of an endpoint on both ways."""
    if "way" in metafunc.fixturenames:
        metafunc.parametrize("way", WAYS, indirect=True)
