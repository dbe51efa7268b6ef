from postgres_suite.contract import (
    LiveContract,
    PollingContract,
    PooledContract,
    RecordContract,
)
from postgres_suite.makers import AsyncpgMaker


class TestLive(AsyncpgMaker, LiveContract): ...


class TestPooled(AsyncpgMaker, PooledContract): ...


class TestRecord(AsyncpgMaker, RecordContract): ...


class TestPolling(AsyncpgMaker, PollingContract): ...
