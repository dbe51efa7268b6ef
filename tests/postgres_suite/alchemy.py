"""Publishing in the transactions of Advanced Alchemy, whose sessions are SQLAlchemy's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from channels.core.postgres import PostgresChannelsBackend
from kit.fixtures import PostgresSpace
from postgres_suite._maker import Maker, Tap, tapped


class Model(DeclarativeBase):
    """What the application stores."""


class Order(Model):
    """An order."""

    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    item: Mapped[str] = mapped_column(unique=True)


class AlchemySuite(Maker):
    """An event is published if, and only if, the row beside it is stored."""

    @pytest.fixture(params=[0, 1000], ids=["live", "history"])
    def history(self, request: pytest.FixtureRequest) -> int:
        return request.param

    async def test_service(self, postgres_space: PostgresSpace, history: int) -> None:
        from advanced_alchemy.exceptions import RepositoryError
        from advanced_alchemy.repository import SQLAlchemyAsyncRepository
        from advanced_alchemy.service import SQLAlchemyAsyncRepositoryService

        class Orders(SQLAlchemyAsyncRepositoryService[Order]):
            class Repo(SQLAlchemyAsyncRepository[Order]):
                model_type = Order

            repository_type = Repo

        async with self.stage(postgres_space, history) as (backend, tap, engine):

            async def place(session: Any, item: str) -> None:
                async with Orders.new(session=session) as orders:
                    order = await orders.create({"item": item})
                    news = {"id": order.id, "item": order.item}
                    await backend.publish_in(orders.repository.session, news, "a")

            async with AsyncSession(engine) as session:
                await place(session, "tea")
                await session.commit()
                await place(session, "never")
                await session.rollback()
                with pytest.raises(RepositoryError):
                    await place(session, "tea")
                await session.rollback()
                await place(session, "milk")
                await session.commit()
            assert [event.decode() for event in await tap.count(2)] == [
                '{"id":1,"item":"tea"}',
                '{"id":4,"item":"milk"}',
            ]
            assert postgres_space.execute("SELECT item FROM orders ORDER BY id") == [
                ("tea",),
                ("milk",),
            ]

    async def test_repository(self, postgres_space: PostgresSpace, history: int) -> None:
        from advanced_alchemy.repository import SQLAlchemyAsyncRepository

        class Orders(SQLAlchemyAsyncRepository[Order]):
            model_type = Order

        async with self.stage(postgres_space, history) as (backend, tap, engine):
            async with AsyncSession(engine) as session, session.begin():
                orders = Orders(session=session)
                await backend.publish_in(orders.session, "before the first statement", "a")
                await orders.add_many([Order(item="tea"), Order(item="milk")])
                await backend.publish_in(orders.session, "2 orders", "a")
            with pytest.raises(IntegrityError):
                async with AsyncSession(engine) as session, session.begin():
                    await backend.publish_in(Orders(session=session).session, "never", "a")
                    session.add(Order(item="tea"))
            async with AsyncSession(engine) as session, session.begin():
                await backend.publish_in(Orders(session=session).session, "last", "a")
            assert await tap.count(3) == [b"before the first statement", b"2 orders", b"last"]

    @asynccontextmanager
    async def stage(
        self, space: PostgresSpace, history: int
    ) -> AsyncIterator[tuple[PostgresChannelsBackend, Tap, Any]]:
        """A backend, who listens to a, and an engine whose database has the table."""
        engine = create_async_engine(space.url.replace("postgresql", self.sqlalchemy_url, 1))
        try:
            async with engine.begin() as connection:
                await connection.run_sync(Model.metadata.create_all)
            backend = self.make(space.url, history=history, create_schema=True)
            async with backend, tapped(backend, "a") as tap:
                yield backend, tap, engine
        finally:
            await engine.dispose()
