import pytest

from postgres_suite.alchemy import AlchemySuite
from postgres_suite.makers import PsycopgMaker
from postgres_suite.transactions import TransactionSuite


@pytest.mark.extended
class TestTransactions(PsycopgMaker, TransactionSuite): ...


class TestAlchemy(PsycopgMaker, AlchemySuite): ...
