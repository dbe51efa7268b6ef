import pytest

from postgres_suite.faults import FaultSuite
from postgres_suite.fixtures import postgres_role
from postgres_suite.makers import PsycopgMaker

__all__ = ("postgres_role",)  # a fixture


class TestFaults(PsycopgMaker, FaultSuite):
    # What an outage without history is told as is no matter of the driver.
    @pytest.fixture(
        params=[pytest.param(0, marks=pytest.mark.extended), 100_000], ids=["live", "history"]
    )
    def history(self, request: pytest.FixtureRequest) -> int:
        return request.param
