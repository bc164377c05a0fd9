"""A database that tests only look at, or try in vain to change."""

from collections.abc import Iterator

import pytest

from infra.local import template


@pytest.fixture(scope="module")
def unchanged() -> Iterator[template.Database]:
    with template.clone() as clone:
        yield clone
