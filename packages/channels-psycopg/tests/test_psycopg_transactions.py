from postgres_suite.alchemy import AlchemySuite
from postgres_suite.makers import PsycopgMaker
from postgres_suite.transactions import TransactionSuite


class TestTransactions(PsycopgMaker, TransactionSuite): ...


class TestAlchemy(PsycopgMaker, AlchemySuite): ...
