"""How a test looks at the page in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Page

from tests.web.world import NAMES, TOKEN, World

SCREENS: dict[str, dict[str, Any]] = {
    "light": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
}
SCREENS["dark-phone"] = SCREENS["phone"] | {"color_scheme": "dark"}
Opened = Callable[..., AbstractContextManager[Page]]


def log_in(page: Page, name: str = "ana") -> None:
    page.get_by_role("link", name="Log in").first.click()
    page.get_by_label("Your name").fill(name)
    page.get_by_label("The token").fill(TOKEN)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("button", name="Log out").wait_for()


def places(world: World) -> dict[str, str]:
    """Every kind of page, by name."""
    return {
        "overview": "/",
        "incidents": "/incidents",
        "incident": f"/incidents/{world.incident()}",
        "incident-odd": f"/incidents/{world.incident('odd')}",
        "incident-segmented": f"/incidents/{world.incident('segmented')}",
        "model": "/models/car-loan",
        "column": "/models/car-loan/column?name=car_value",
        "words": "/models/car-loan/column?name=salary_range",
        "script": f"/models/odd/column?name={quote(NAMES[0])}",
        "triggers": "/triggers",
        "silences": "/silences",
        "outbox": "/outbox",
        "dead-letters": "/dead-letters",
        "login": "/login",
    }
