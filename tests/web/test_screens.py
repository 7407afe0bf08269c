"""The page in a real browser, for everybody: by keyboard alone, in the dark, on a phone, and as axe-core judges it.

Pictures of every page are kept in $DRIFTD_SCREENSHOTS, where that is set. axe-core is where `make axe` has put it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.web.browsing import SCREENS, Opened, log_in, places
from tests.web.world import TOKEN, World

AXE = Path(os.environ.get("DRIFTD_AXE", "~/.cache/driftd/axe/node_modules/axe-core/axe.min.js")).expanduser()


def test_the_keyboard_is_enough(world: World, opened: Opened):
    incident = world.incident()
    with opened(world) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.innerText") == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.innerText") == incident:
                break
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/incidents/{incident}")


def reach(page: Page, words: str) -> None:
    """Press Tab until the focus, which must be seen, is on what begins with these words."""
    for _ in range(100):
        named, outline = page.evaluate(
            """() => {
                const one = document.activeElement;
                if (one === document.body) return ["", "solid"];
                return [(one.labels?.[0] ?? one).innerText.trim(), getComputedStyle(one).outlineStyle];
            }"""
        )
        assert outline == "solid", named
        if named.startswith(words):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the keyboard does not reach {words!r}")


@pytest.mark.parametrize("screen", ["light", "phone"])
def test_an_incident_is_found_and_acknowledged_with_the_keyboard_alone(fresh: World, opened: Opened, screen: str):
    incident = fresh.incident()
    with opened(fresh, **SCREENS[screen]) as page:
        reach(page, incident)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/incidents/{incident}")
        reach(page, "Log in")
        page.keyboard.press("Enter")
        page.wait_for_url("**/login?**")
        reach(page, "Your name")
        page.keyboard.type("ana")
        reach(page, "The token")
        page.keyboard.type(TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/incidents/{incident}")
        reach(page, "Acknowledge")
        page.keyboard.press("Enter")
        page.get_by_text("acknowledged by ana").first.wait_for()


@pytest.mark.parametrize("name", ["overview", "incident", "model", "column", "silences"])
def test_the_keyboard_reaches_all_that_a_mouse_can(world: World, opened: Opened, name: str):
    with opened(world) as page:
        log_in(page)
        page.goto(places(world)[name])
        page.evaluate(
            """() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary")]
                .filter((one) => one.checkVisibility() && one.type !== "hidden" && !one.disabled)
                .forEach((one, i) => { one.dataset.stop = i; })"""
        )
        wanted = set(page.evaluate("[...document.querySelectorAll('[data-stop]')].map((one) => one.dataset.stop)"))
        assert len(wanted) > 5
        met: set[str | None] = set()
        for _ in range(3 * len(wanted)):  # what scrolls is a stop too
            page.keyboard.press("Tab")
            met.add(page.evaluate("document.activeElement?.dataset?.stop ?? null"))
            if wanted <= met:
                break
        assert wanted - met == set()


@pytest.mark.parametrize("screen", SCREENS)
def test_every_page_fits_its_screen(world: World, opened: Opened, screen: str):
    with opened(world, **SCREENS[screen]) as page:
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (ground == "rgb(17, 21, 27)") is (SCREENS[screen].get("color_scheme") == "dark")
        for name, place in places(world).items():
            page.goto(place)
            if pictures := os.environ.get("DRIFTD_SCREENSHOTS"):
                page.screenshot(path=f"{pictures}/{screen}-{name}.png", full_page=True)
            wide = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
            assert wide[0] <= wide[1], place


@pytest.mark.parametrize("screen", ["light", "phone"])
def test_all_that_is_drawn_can_be_seen(world: World, opened: Opened, screen: str):
    with opened(world, **SCREENS[screen]) as page:
        for name, place in places(world).items():
            page.goto(place)
            hidden = page.evaluate(
                """() => [...document.querySelectorAll("main svg *:not(title)")]
                    .filter((one) => !one.checkVisibility()).map((one) => one.outerHTML)"""
            )
            assert hidden == [], place
            clipped = page.evaluate(
                """() => [...document.querySelectorAll("main svg.chart text")].filter((one) => {
                    const [own, whole] = [one.getBoundingClientRect(), one.ownerSVGElement.getBoundingClientRect()];
                    return own.left < whole.left - 1 || own.right > whole.right + 1;
                }).map((one) => one.outerHTML)"""
            )
            assert clipped == [], (name, place)


@pytest.mark.parametrize("screen", ["light", "phone"])
def test_a_heat_map_begins_at_its_latest_windows_and_scrolls_to_the_oldest(world: World, opened: Opened, screen: str):
    look = """() => {
        const map = document.querySelector(".heat");
        const view = map.closest(".scroll").getBoundingClientRect();
        const row = [...map.querySelectorAll("tbody tr")[0].children].map((one) => one.getBoundingClientRect());
        const caption = map.querySelector("caption span").getBoundingClientRect();
        return {view: [view.left, view.right], caption: [caption.left, caption.right],
                name: [row[0].left, row[0].right], first: row[1].left, last: row[row.length - 1].right,
                fits: map.offsetWidth <= view.width};
    }"""
    with opened(world, "/", **SCREENS[screen]) as page:
        seen = page.evaluate(look)
        assert seen["fits"] is (screen == "light")
        assert seen["last"] <= seen["view"][1] + 1
        assert abs(seen["name"][0] - seen["view"][0]) <= 1, "names stay at the left"
        assert seen["view"][0] - 1 <= seen["caption"][0] <= seen["caption"][1] <= seen["view"][1] + 1
        if not seen["fits"]:
            assert seen["first"] < seen["view"][0]
            page.evaluate("document.querySelector('.heat').closest('.scroll').scrollLeft = -10_000")
            seen = page.evaluate(look)
            assert seen["first"] >= seen["view"][0]
            assert seen["last"] > seen["view"][1]


@pytest.mark.skipif(not AXE.exists(), reason=f"axe-core is not here: `make axe` puts it at {AXE}")
@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_serious_stands_in_the_way_of_anybody(world: World, opened: Opened, screen: str):
    with opened(world, **SCREENS[screen]) as page:
        page.goto("/login")
        judge(page, "/login")
        log_in(page)
        for name, place in places(world).items():
            if name == "login":
                continue
            page.goto(place)
            judge(page, place)


def judge(page: Page, place: str) -> None:
    """Let axe-core look at what is shown."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    grave = [
        (one["id"], one["help"], [node["html"][:150] for node in one["nodes"][:3]])
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
    assert grave == [], place
    assert len(found["passes"]) > 5
