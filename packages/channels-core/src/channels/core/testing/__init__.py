"""Suites that prove a backend, and doubles for tests of what uses one.

Needs pytest and pytest-asyncio: ``pip install channels-core[testing]``.
"""

import pytest

for _suite in ("_backend", "_history", "_lifecycle", "_listening", "_publishing", "_suite", "_tap"):
    pytest.register_assert_rewrite(f"channels.core.testing.{_suite}")

from channels.core.testing._backend import BackendContract  # noqa: E402  (rewritten above)
from channels.core.testing._history import HistoryContract  # noqa: E402
from channels.core.testing._proxy import TcpProxy  # noqa: E402

__all__ = ("BackendContract", "HistoryContract", "TcpProxy")
