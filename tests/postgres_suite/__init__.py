"""What both Postgres backends must pass: each package derives its test classes from these.

class TestFaults(AsyncpgMaker, FaultSuite): ...
"""
