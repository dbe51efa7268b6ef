"""What a part says it has, it has; and whoever reads about it finds a sentence."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.packages import discover


def public_modules() -> Iterator[tuple[str, Path]]:
    """Give each module with an ``__all__``, and each part whether it has one or not."""
    for package in discover().values():
        for file in sorted(package.source.rglob("*.py")):
            parts = file.relative_to(package.folder / "src").with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            if name == package.module or "\n__all__" in file.read_text("utf-8"):
                yield name, file


MODULES = dict(public_modules())


@pytest.mark.parametrize("name", MODULES)
def test_all_is_a_sorted_tuple_and_complete(name: str) -> None:
    module = importlib.import_module(name)
    assert isinstance(module.__all__, tuple)
    assert module.__all__ == tuple(sorted(set(module.__all__)))
    for public in module.__all__:
        getattr(module, public)
    if (file := MODULES[name]).name == "__init__.py":
        assert set(module.__all__) == set(names_bound(ast.parse(file.read_text("utf-8"))))


def names_bound(tree: ast.Module) -> Iterator[str]:
    """Give the public names that an ``__init__.py`` re-exports from ``channels`` or defines."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("channels."):
            names = [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        else:
            continue
        yield from (name for name in names if not name.startswith("_"))


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    silent = [f"{name} itself"] if not module.__doc__ else []
    for public in module.__all__:
        member = getattr(module, public)
        if inspect.isclass(member):
            silent += silent_members(member)
        elif inspect.isroutine(member) and not inspect.getdoc(member):
            silent.append(public)
    assert silent == []


def silent_members(cls: type) -> Iterator[str]:
    """Give the public methods and properties of our own that nothing describes."""
    if not inspect.getdoc(cls):
        yield cls.__name__
    for name, member in vars(cls).items():
        ours = inspect.isroutine(member) or isinstance(member, property | classmethod)
        if ours and not name.startswith("_") and not inspect.getdoc(getattr(cls, name)):
            yield f"{cls.__name__}.{name}"
