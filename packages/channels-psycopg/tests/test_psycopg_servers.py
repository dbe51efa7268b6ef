from postgres_suite.fixtures import postgres_role as postgres_role
from postgres_suite.makers import PsycopgMaker
from postgres_suite.servers import ServerSuite


class TestServers(PsycopgMaker, ServerSuite): ...
