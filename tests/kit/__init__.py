"""Private servers for tests: start, kill, freeze, restart and empty them.

See ``README.md`` beside this file; the fixtures are the pytest plugin ``kit.fixtures``.
"""

from kit._binaries import PostgresVersion, missing
from kit._ports import Port
from kit._resp import ReplyError
from kit._server import Server, ServerFailed
from kit._tls import Authority, Certificate, authority
from kit._wait import eventually, wait_until
from kit.cluster import ClusterNode, RedisCluster
from kit.pgbouncer import PgBouncer
from kit.postgres import PostgresServer
from kit.redis import RedisServer
from kit.sentinel import RedisSentinel, SentinelNode

__all__ = (
    "Authority",
    "Certificate",
    "ClusterNode",
    "PgBouncer",
    "Port",
    "PostgresServer",
    "PostgresVersion",
    "RedisCluster",
    "RedisSentinel",
    "RedisServer",
    "ReplyError",
    "SentinelNode",
    "Server",
    "ServerFailed",
    "authority",
    "eventually",
    "missing",
    "wait_until",
)
