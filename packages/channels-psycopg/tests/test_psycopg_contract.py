import pytest

from postgres_suite.contract import (
    LiveContract,
    NewerServerContract,
    PooledContract,
    RecordContract,
    on_postgres,
)
from postgres_suite.makers import PsycopgMaker


class TestLive(PsycopgMaker, LiveContract): ...


@pytest.mark.extended
class TestPooled(PsycopgMaker, PooledContract): ...


@pytest.mark.extended
class TestRecord(PsycopgMaker, RecordContract): ...


@pytest.mark.extended
@on_postgres(16)
class TestOnPostgres16(PsycopgMaker, NewerServerContract): ...
