"""The guide shows the examples, all of them, and no code that nothing runs."""

import re
from pathlib import Path

import pytest

from tools.packages import ROOT

DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples" / "guide"
PAGES = [DOCS / "getting-started.rst", DOCS / "demo.rst", *sorted((DOCS / "guide").glob("*.rst"))]


def shown(page: Path, directive: str) -> set[Path]:
    """Return the files that a page shows by a directive."""
    names = re.findall(rf"(?m)^\.\. {directive}:: (\S+)$", page.read_text("utf-8"))
    return {(page.parent / name).resolve() for name in names}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_in_the_guide_is_a_file_that_runs(page: Path) -> None:
    assert ".. code-block:: python" not in page.read_text("utf-8")


def test_each_example_is_shown_and_run() -> None:
    examples = set(EXAMPLES.glob("*.py")) - {EXAMPLES / "__init__.py"}
    included = set().union(*(shown(page, "literalinclude") for page in PAGES))
    assert {file for file in included if file.parent == EXAMPLES} == examples
    tests = "".join(file.read_text("utf-8") for file in Path(__file__).parent.glob("test_*.py"))
    assert [file.stem for file in examples if not re.search(rf"\b{file.stem}\b", tests)] == []


def test_each_picture_is_shown_and_small() -> None:
    pictures = set((DOCS / "images").iterdir())
    assert set().union(*(shown(page, "image") for page in PAGES)) == pictures
    assert [file for file in pictures if file.stat().st_size > 150_000] == []
