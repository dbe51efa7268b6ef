"""Hand out TCP ports that no other test process takes."""

import random
import socket

# Below the ephemeral range: a client that reconnects to a dead server's ephemeral port may be
# given that very port as its own and then talks to itself.
FIRST, LAST = 15000, 25000


class Port:
    """A loopback TCP port that is ours until released.

    The claim is a UDP socket bound to the same number. TCP and UDP ports are separate, so a
    server can listen while we hold it; the kernel gives the number to one process only, and
    takes it back when that process dies.
    """

    def __init__(self, number: int, claim: socket.socket) -> None:
        self.number = number
        self._claim = claim

    @classmethod
    def claim(cls) -> "Port":
        """Claim a free port.

        Raises:
            OSError: All ports of the range are taken.
        """
        start = random.SystemRandom().randrange(FIRST, LAST)
        for number in (*range(start, LAST), *range(FIRST, start)):
            claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                claim.bind(("127.0.0.1", number))
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", number))
                    probe.listen()
            except OSError:
                claim.close()
                continue
            return cls(number, claim)
        raise OSError(f"no free port between {FIRST} and {LAST}")

    def release(self) -> None:
        """Let others have the port."""
        self._claim.close()
