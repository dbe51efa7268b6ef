"""What all tests of the package share."""

import asyncio
import sys

import pytest
from hypothesis import HealthCheck, settings

# An example that takes long tells of a busy machine, not of a defect.
settings.register_profile("any pace", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any pace")


@pytest.fixture
async def eager_tasks() -> None:
    """Let a task run as soon as it is created, before whoever creates it goes on."""
    if sys.version_info < (3, 12):
        pytest.skip("eager tasks came with Python 3.12")
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
