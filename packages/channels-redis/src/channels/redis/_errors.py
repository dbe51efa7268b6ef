"""Translate what the driver raises and the server replies to our errors."""

from __future__ import annotations

import redis.exceptions as driver

from channels.core import (
    BackendException,
    BackendRefused,
    BackendUnavailable,
    PublishUnconfirmed,
)
from channels.redis._resp import ReplyError
from channels.redis._wire import Answer, NoReply, NotSent

DRIVER_ERRORS = (driver.RedisError, driver.RedisClusterException, OSError, TimeoutError, EOFError)
"""What connecting with redis-py may raise because of the server or the network."""

_REFUSED = frozenset({"NOAUTH", "NOPERM", "WRONGPASS", "DENIED"})
# A script that meets a command or key its user may not use has no code of its own.
_REFUSED_IN_SCRIPT = ("user executing the script can't", "ACL failure in script")
_HUNG_UP = ("Error while reading", "while writing to socket", "Connection closed by server")
# The server says that it did not do it, and it may do it later.
_LATER = frozenset(
    {
        *("ASK", "BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "MOVED"),
        *("NOREPLICAS", "NOSCRIPT", "OOM", "READONLY", "TRYAGAIN"),
    }
)


def from_driver(exc: BaseException, address: str, *, tls: bool) -> BackendException:
    """Say what a failure to connect means.

    Args:
        exc: What was raised.
        address: The server's.
        tls: Whether TLS was to be spoken. Redis takes the first bytes of a handshake for the
            begin of a command and waits for more; with TLS it hangs up on a command.
    """
    match exc:
        case driver.BusyLoadingError():
            return BackendUnavailable(f"{address} is loading its data")
        case driver.AuthenticationError() if str(exc).startswith("HELLO must be called"):
            return BackendRefused(f"{address} wants a password: redis://:password@host")
        case (
            driver.AuthenticationError()
            | driver.AuthorizationError()
            | driver.NoPermissionError()
            | driver.AuthenticationWrongNumberOfArgsError()
        ):
            return BackendRefused(f"{address} refused the login: {exc}")
        case driver.ResponseError() if str(exc).partition(" ")[0] in _LATER:
            return BackendUnavailable(f"{address} is not ready: {exc}")
        case driver.ResponseError():
            return BackendRefused(f"{address} refused the connection: {exc}")
        case driver.TimeoutError() | TimeoutError() if tls:
            return BackendUnavailable(
                f"{address} did not answer in time; does it speak TLS, as rediss:// has it?"
            )
        case driver.TimeoutError() | TimeoutError():
            return BackendUnavailable(f"{address} did not answer in time")
        case driver.ConnectionError() if not tls and any(words in str(exc) for words in _HUNG_UP):
            return BackendUnavailable(
                f"{address} hung up on the first command: {exc}; does it want TLS (rediss://)?"
            )
        case _:
            return BackendUnavailable(f"{address} cannot be reached: {exc}")


def from_reply(error: ReplyError) -> BackendException:
    """Say what an error reply means."""
    if error.code in _LATER:
        return BackendUnavailable(str(error))
    text = str(error)
    if error.code in _REFUSED or any(words in text for words in _REFUSED_IN_SCRIPT):
        return BackendRefused(text)
    return BackendException(text)


def why_failed(answer: Answer, *, publishing: bool = False) -> BackendException | None:
    """Return the error that an answer stands for, None for a result.

    Args:
        answer: Of one command.
        publishing: Whether it makes a difference that the command may have taken effect.
    """
    error: BackendException
    match answer:
        case ReplyError():
            error = from_reply(answer)
        case NoReply() if publishing:
            error = PublishUnconfirmed(f"sent, but not confirmed: {answer}")
        case NoReply() | NotSent():
            error = BackendUnavailable(str(answer))
        case _:
            return None
    error.__cause__ = answer
    return error
