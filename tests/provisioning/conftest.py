"""Storage that is rented, and the queue that delivers its tasks."""

import pytest

from tests.harness.client import Load
from tests.harness.platform import Platform
from tests.harness.provisioning import Provisioning


@pytest.fixture
def storage(platform: Platform, function: Load) -> Provisioning:
    return Provisioning(platform, function)
