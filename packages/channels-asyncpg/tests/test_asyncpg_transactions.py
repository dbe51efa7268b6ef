from postgres_suite.alchemy import AlchemySuite
from postgres_suite.makers import AsyncpgMaker
from postgres_suite.transactions import TransactionSuite


class TestTransactions(AsyncpgMaker, TransactionSuite): ...


class TestAlchemy(AsyncpgMaker, AlchemySuite): ...
