"""Serve the chat."""

import argparse
import socket

import uvicorn

from channels.core import ConfigurationError
from examples.chat.app import create_app


class Server(uvicorn.Server):
    """Says where it is once it is there."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            url = f"http://{shown}:{port}/"
            print(f"The chat is at {url} (open it in two tabs; Ctrl+C ends it)", flush=True)


def main() -> None:
    """Read the options and serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m examples.chat", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", default=8000, type=int, help="port, 0: any free (%(default)s)")
    parser.add_argument(
        "--backend",
        default="memory://?history=1000",
        metavar="URL",
        help="where the events go, such as redis+stream://localhost?history=1000 (%(default)s)",
    )
    options = parser.parse_args()
    try:
        app = create_app(options.backend)
    except ConfigurationError as exc:
        parser.error(str(exc))
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        log_level="warning",
        timeout_graceful_shutdown=3,
    )
    try:
        Server(config).run()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
