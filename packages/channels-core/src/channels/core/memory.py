"""The broker inside the process: for one process, for tests, and for development."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Self

from channels.core._backend import (
    DEFAULT_MAX_PAYLOAD,
    ChannelsBackend,
    History,
    HistoryRequest,
    Listener,
    Lost,
    Message,
    Outcome,
)
from channels.core._errors import (
    ConfigurationError,
    HistoryNotSupported,
    NotRunningError,
