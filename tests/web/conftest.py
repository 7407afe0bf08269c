"""One service with its page for a whole run; tests that change what it remembers have one of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.waiting import until
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
