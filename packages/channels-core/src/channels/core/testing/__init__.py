"""Tools for testing backends, and applications that use channels."""

from channels.core.testing._proxy import TcpProxy

__all__ = ("TcpProxy",)
