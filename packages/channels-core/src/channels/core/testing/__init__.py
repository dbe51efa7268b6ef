"""Suites that prove a backend, and doubles for tests of what uses one.

Needs pytest and pytest-asyncio: ``pip install channels-core[testing]``.
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"channels.core.testing.{module}"
        for module in (
            "_checks",
            "_keeping",
            "_lifecycle",
            "_listening",
            "_outage",
            "_positions",
            "_publishing",
            "_reading",
            "_resume",
            "_suite",
            "_tap",
            "_watch",
        )
    )
)

from channels.core.testing._backend import BackendContract  # noqa: E402  (rewritten above)
from channels.core.testing._faulty import FaultyBackend  # noqa: E402
from channels.core.testing._history import HistoryContract  # noqa: E402
from channels.core.testing._outage import OutageContract  # noqa: E402
from channels.core.testing._proxy import TcpProxy  # noqa: E402
from channels.core.testing._received import publish_and_wait  # noqa: E402
from channels.core.testing._recording import RecordingBackend  # noqa: E402
from channels.core.testing._resume import ResumeContract  # noqa: E402

__all__ = (
    "BackendContract",
    "FaultyBackend",
    "HistoryContract",
    "OutageContract",
    "RecordingBackend",
    "ResumeContract",
    "TcpProxy",
    "publish_and_wait",
)
