"""A browser, and the demo to look at."""

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from kit import Port, missing
from tools.packages import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# Only `nox -s browser` installs what drives the browser.
collect_ignore_glob = [] if importlib.util.find_spec("playwright") else ["test_*.py"]

SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
ACTION_TIMEOUT = 10_000  # milliseconds


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--screenshots", action="store_true", help="take the pictures of the documentation anew"
    )


class Demo:
    """The demo's server, which can be killed and started again on the same port."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "examples.chat", "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.url in self.process.stdout.readline()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def demo() -> Iterator[Demo]:
    """Serve the demo."""
    port = Port.claim()
    demo = Demo(port.number)
    yield demo
    demo.kill()
    port.release()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Start Debian's Chromium, as the one that Playwright brings along is not wanted here."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        missing("no chromium on PATH (Debian package chromium)", debian=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def enter(demo: Demo, browser: "Browser") -> Iterator[Callable[..., "Page"]]:
    """Open the demo in a window of its own and come in under a name."""
    contexts = []
    errors: list[str] = []

    def open_page(
        name: str,
        room: str = "lobby",
        *,
        size: tuple[int, int] = (1120, 720),
        scheme: str = "light",
        **options: object,
    ) -> "Page":
        context = browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, **options
        )
        contexts.append(context)
        context.set_default_timeout(ACTION_TIMEOUT)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: said.type == "error" and errors.append(said.text))
        page.goto(f"{demo.url}#{room}")
        page.get_by_label("Name").fill(name)
        page.get_by_role("button", name="Come in").click()
        page.locator("#state[data-state=online]").wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    # While the server is away the browser says so, and that is all.
    assert [error for error in errors if not re.search("ERR_CONNECTION|closed before", error)] == []


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[["Page", str], None]:
    """Take a picture, for the documentation if that was asked for."""
    wanted = request.config.getoption("--screenshots")
    folder = ROOT / "docs" / "images" if wanted else ROOT / ".nox" / "screenshots"

    def take(page: "Page", name: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        image = page.screenshot(animations="disabled", caret="hide")
        (folder / f"{name}.png").write_bytes(image)

    return take
