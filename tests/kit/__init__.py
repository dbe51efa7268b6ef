"""Private servers for tests: start, kill, freeze, restart and empty them.

See ``README.md`` beside this file; the fixtures are the pytest plugin ``kit.fixtures``.
"""

from kit._binaries import missing
from kit._ports import Port
from kit._resp import ReplyError
from kit._server import Server, ServerFailed
from kit._wait import eventually, wait_until
from kit.postgres import PostgresServer, copy_data
from kit.redis import RedisServer

__all__ = (
    "Port",
    "PostgresServer",
    "RedisServer",
    "ReplyError",
    "Server",
    "ServerFailed",
    "copy_data",
    "eventually",
    "missing",
    "wait_until",
)
