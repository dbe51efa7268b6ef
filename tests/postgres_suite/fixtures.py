"""Fixtures of the suites; imported by the test modules that want them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from kit.fixtures import PostgresSpace

_numbers = count(1)


@pytest.fixture
def postgres_role(postgres_space: PostgresSpace) -> Iterator[Callable[[str], str]]:
    """Give a function that makes a role with just the grants it is given, and returns its URL."""
    made: list[str] = []

    def make(grants: str) -> str:
        role = f"role{next(_numbers)}"
        postgres_space.server.create_role(role)
        made.append(role)
        postgres_space.execute(grants.replace("{role}", role))
        return postgres_space.server.url_for(postgres_space.name, user=role, password="secret")

    yield make
    for role in made:
        postgres_space.execute(f"DROP OWNED BY {role}")
        postgres_space.server.execute(f"DROP ROLE {role}")
