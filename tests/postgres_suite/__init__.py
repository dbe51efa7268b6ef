"""What both Postgres backends must pass: each package derives its test classes from these.

class TestFaults(AsyncpgMaker, FaultSuite): ...
"""

from postgres_suite._maker import Maker, Tap, position, send, tapped, until

__all__ = ("Maker", "Tap", "position", "send", "tapped", "until")
