from postgres_suite.faults import FaultSuite
from postgres_suite.fixtures import postgres_role as postgres_role
from postgres_suite.makers import AsyncpgMaker


class TestFaults(AsyncpgMaker, FaultSuite): ...
