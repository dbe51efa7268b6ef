from postgres_suite.fixtures import postgres_role as postgres_role
from postgres_suite.makers import AsyncpgMaker
from postgres_suite.servers import ServerSuite


class TestServers(AsyncpgMaker, ServerSuite): ...
