import pytest

from postgres_suite.contract import (
    LiveContract,
    NewerServerContract,
    PollingContract,
    PooledContract,
    RecordContract,
    on_postgres,
)
from postgres_suite.makers import AsyncpgMaker


class TestLive(AsyncpgMaker, LiveContract): ...


@pytest.mark.extended
class TestPooled(AsyncpgMaker, PooledContract): ...


class TestRecord(AsyncpgMaker, RecordContract): ...


@pytest.mark.extended
class TestPolling(AsyncpgMaker, PollingContract): ...


@pytest.mark.extended
@on_postgres(18)
class TestOnPostgres18(AsyncpgMaker, NewerServerContract): ...
