from postgres_suite.fixtures import postgres_role
from postgres_suite.makers import PsycopgMaker
from postgres_suite.servers import ServerSuite

__all__ = ("postgres_role",)  # a fixture


class TestServers(PsycopgMaker, ServerSuite): ...
