"""The server-side scripts and how a pipeline calls them."""

from __future__ import annotations

from hashlib import sha1
from importlib.resources import files

from channels.redis._resp import argument


class Script:
    """A script that may have been forgotten by the server at any time.

    The first command of a batch carries the source and those after it the digest, so no
    ``NOSCRIPT`` puts a batch out of order.

    Args:
        name: Of the file, without its ending.
        arguments: How many it takes besides its two keys.
    """

    def __init__(self, name: str, arguments: int) -> None:
        text = files("channels.redis").joinpath(f"{name}.lua").read_text()
        lines = (line.strip() for line in text.splitlines())
        source = "\n".join(line for line in lines if not line.startswith("--")).encode()
        digest = sha1(source, usedforsecurity=False).hexdigest()
        size = b"*%d\r\n" % (arguments + 5)
        self.first = size + argument("EVAL") + argument(source) + argument(2)
        """How the command begins, up to the keys, that needs nothing on the server."""
        self.next = size + argument("EVALSHA") + argument(digest) + argument(2)
        """How the commands after it begin."""


PUBLISH = Script("publish", 9)
HISTORY = Script("history", 3)
