from postgres_suite.makers import PsycopgMaker
from postgres_suite.transactions import TransactionSuite


class TestTransactions(PsycopgMaker, TransactionSuite): ...
