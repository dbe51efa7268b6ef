"""Servers that fan one channel out to WebSocket clients; each module has ``async def serve()``.

A server runs as ``python -m benchmarks.servers NAME``, on the core of what is measured. It says
where it listens, and publishes as many events as the value of each byte that reaches its control
port, so that publishing costs all of them the same.
"""
