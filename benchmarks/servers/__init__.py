"""Servers that fan one channel out to WebSocket clients.

Each module has ``async def serve(texts)``, and runs as ``python -m benchmarks.servers NAME SIZE``
on the core of what is measured. It says where it listens, and publishes as many of the numbered
``texts`` as the value of each byte that reaches its control port, so that publishing costs all of
them the same.
"""
