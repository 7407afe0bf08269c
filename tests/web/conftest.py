"""One service with its page for a whole run; tests that change what it remembers have one of their own.

And a browser to look at them with.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.waiting import until
from tests.web.browsing import Opened
from tests.web.world import World, read_up, running


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("world")) as found:
        until(lambda: read_up(found))
        yield found


@pytest.fixture
def fresh(tmp_path: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running(tmp_path_factory.mktemp("fresh")) as found:
        until(lambda: read_up(found))
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium, of Debian's package of that name, is not here")
    with sync_playwright() as playwright:
        # Without its sandbox, since tests run as root in containers; it sees nothing but our own page.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser) -> Opened:
    """Opens a page; what the browser complains of (an error, a broken policy, a foreign address) is a failure."""

    @contextmanager
    def opened(world: World, place: str = "/", **options: Any) -> Iterator[Page]:
        context = browser.new_context(base_url=world.url, **options)
        complaints: list[str] = []
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda said: complaints.append(said.text) if said.type in {"error", "warning"} else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda asked: complaints.append(asked.url) if not asked.url.startswith(world.url) else None)
        page.goto(place)
        yield page
        context.close()
        assert complaints == []

    return opened
