import pytest

from postgres_suite.faults import FaultSuite
from postgres_suite.fixtures import postgres_role
from postgres_suite.makers import PsycopgMaker

__all__ = ("postgres_role",)  # a fixture


@pytest.mark.extended
class TestFaults(PsycopgMaker, FaultSuite): ...
