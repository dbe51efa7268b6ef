"""Use installed distributions as a stranger would: ``python -I smoke.py channels.core ...``.

Imports each part, loads every backend that its entry points name, and sends one event through the
memory backend. It must not run from the source tree, so it imports nothing of ``tools``.
"""

import asyncio
import importlib
import sys
import sysconfig
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType


def load(name: str) -> ModuleType:
    """Import a part and everything it says it has."""
    module = importlib.import_module(name)
    installed = Path(sysconfig.get_path("purelib")).resolve()
    where = Path(module.__file__ or "").resolve()
    if not where.is_relative_to(installed):
        sys.exit(f"{name} comes from {where}, not from a wheel")
    if not where.with_name("py.typed").exists():
        sys.exit(f"{name} has no py.typed")
    for public in module.__all__:
        getattr(module, public)
    return module


async def publish_and_receive(plugin_class: type) -> None:
    """Send one event through the memory backend."""
    from channels.core import MemoryChannelsBackend

    async with (
        asyncio.timeout(10),
        plugin_class(MemoryChannelsBackend(), channels=["smoke"]) as channels,
        channels.start_subscription("smoke") as subscriber,
    ):
        channels.publish({"message": "Hello"}, "smoke")
        async for event in subscriber.iter_events():
            if event != b'{"message":"Hello"}':
                sys.exit(f"received {event!r}")
            break


def main() -> None:
    """Try every part that the command line names."""
    core = load("channels.core")
    for backend in entry_points(group="channels.backends"):
        backend.load()
        print(f"backend {backend.name}: {backend.value}")
    for name in sys.argv[1:]:
        module = load(name)
        asyncio.run(publish_and_receive(getattr(module, "ChannelsPlugin", core.ChannelsPlugin)))
        print(f"{name}: imported, and an event went through")


if __name__ == "__main__":
    main()
