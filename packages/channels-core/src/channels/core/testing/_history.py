"""The suite that every backend passes that keeps history."""

from __future__ import annotations

from channels.core.testing._backend import BackendContract
from channels.core.testing._keeping import KeepContract
from channels.core.testing._positions import PositionContract
from channels.core.testing._reading import ReadContract


class HistoryContract(PositionContract, ReadContract, KeepContract, BackendContract):
    """Prove a backend that keeps history: everything in ``BackendContract``, and this.

    :meth:`~BackendContract.backend` must give backends that keep :attr:`history` events of a
    channel.
    """
