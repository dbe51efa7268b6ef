import asyncpg

from channels.asyncpg import AsyncPgChannelsBackend


async def order(backend: AsyncPgChannelsBackend, connection: asyncpg.Connection, item: str) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO orders (item) VALUES ($1)", item)
        await backend.publish_in(connection, {"item": item}, "orders")
