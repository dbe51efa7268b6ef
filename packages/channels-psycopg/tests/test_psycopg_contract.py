from postgres_suite.contract import (
    LiveContract,
    PooledContract,
    RecordContract,
)
from postgres_suite.makers import PsycopgMaker


class TestLive(PsycopgMaker, LiveContract): ...


class TestPooled(PsycopgMaker, PooledContract): ...


class TestRecord(PsycopgMaker, RecordContract): ...
