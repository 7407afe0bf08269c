"""The page in a real browser, as people meet it: by mouse, by keyboard, in the dark, on a phone, without scripts.

Pictures of every page are kept in $DRIFTD_SCREENSHOTS, where that is set. axe-core judges accessibility where
`make axe` has put it.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from scipy.stats import ks_2samp, kstwobign

from monitor import report
from tests.waiting import until
from tests.web.world import NAMES, TOKEN, World, odd_rows

AXE = Path(os.environ.get("DRIFTD_AXE", "~/.cache/driftd/axe/node_modules/axe-core/axe.min.js")).expanduser()
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


def test_from_the_overview_to_the_incident_to_a_column(world: World, opened: Opened):
    incident = world.incident()
    with opened(world) as page:
        page.get_by_role("region", name="Open incidents").get_by_role("link", name=incident).click()
        assert page.url == f"{world.url}/incidents/{incident}"
        assert page.get_by_role("heading", level=1).inner_text().startswith(incident)
        changed = page.get_by_role("table", name="Columns that drift")
        assert changed.get_by_role("row").count() > 3
        assert page.locator("#columns").get_by_text("median").first.is_visible()
        assert page.locator("svg.chart rect.excess").count() > 0
        changed.get_by_role("link", name="car_value").click()
        assert page.get_by_role("heading", level=1).inner_text().startswith("car_value")
        assert page.get_by_role("heading", name="Values over time").is_visible()
        assert page.get_by_role("row", name=re.compile("^ks ")).is_visible()
        shown = page.get_by_role("row", name=re.compile("^wasserstein ")).get_by_role("cell").all_inner_texts()
        assert float(shown[-2]) < 1e-6  # the chance of its drawn law
        assert page.get_by_text(re.compile(r"All columns together: MMD [\d.]+, p 0\.00[12], of \d+ rows")).is_visible()
        told = page.get_by_text(re.compile(r"A classifier tells them apart with AUC 0\.[6-9]\d")).inner_text()
        assert "car_value" in told  # it leans on what drifts


def test_the_overview_has_the_ledger_of_the_budget_and_the_flow_of_records(world: World, opened: Opened):
    with opened(world) as page:
        assert page.get_by_text("1 a week, over everything together").is_visible()
        ledger = page.get_by_role("table", name="Pages expected by chance, and pages that came")
        with world.history() as history:
            (book,) = next(m for m in history.status().models if m.model == "car-loan").budget.values()
        row = ledger.get_by_role("row").filter(has=page.get_by_role("link", name="car-loan", exact=True))
        cells = row.get_by_role("cell").all_inner_texts()
        assert cells[-4:-2] == [f"{book.expected:.2g}", str(book.pages)]
        assert book.pages > 0
        assert page.get_by_text("records a second").is_visible()


def test_an_incident_is_acknowledged_snoozed_silenced_and_resolved(fresh: World, opened: Opened):
    incident = fresh.incident()
    with opened(fresh, f"/incidents/{incident}") as page:
        log_in(page, "ana <b>")
        assert page.url.endswith(f"/incidents/{incident}")  # back where one was
        page.get_by_role("button", name="Acknowledge").click()
        page.get_by_text("acknowledged by ana <b>").first.wait_for()
        page.get_by_label("Snooze for").select_option("4 hours")
        page.get_by_role("button", name="Snooze").click()
        page.get_by_text(re.compile("snoozed until")).first.wait_for()
        page.get_by_label("Why").fill("known: <i>load</i> test")
        page.get_by_role("button", name="Silence").click()
        page.get_by_role("link", name="Silences").click()
        assert page.get_by_role("cell", name="known: <i>load</i> test").is_visible()
        page.get_by_role("button", name="End now").click()
        page.get_by_text("Nothing is silenced.").wait_for()
        page.goto(f"/incidents/{incident}")
        page.get_by_label("Note").fill("the new price list")
        page.get_by_role("button", name="Resolve").click()
        page.get_by_text("It is over.").wait_for()
        assert page.get_by_text("the new price list").first.is_visible()
        page.get_by_role("button", name="Log out").click()
        page.get_by_role("link", name="Log in").wait_for()
    with fresh.history() as history:
        changes = history.explain(incident).changes
    assert [change.change for change in changes][-3:] == ["acknowledged", "snoozed", "resolved"]
    assert changes[-1].episode.acknowledged is not None


def test_a_retraining_is_approved_from_the_incident(fresh: World, opened: Opened):
    with opened(fresh, f"/incidents/{fresh.incident()}") as page:
        log_in(page)
        page.get_by_role("button", name="Approve").click()
        page.get_by_text("called", exact=True).first.wait_for()
        until(lambda: fresh.hook.runs)
        assert page.get_by_role("button", name="Approve").count() == 0


def test_without_a_login_nothing_can_be_pressed(world: World, opened: Opened):
    with opened(world, f"/incidents/{world.incident()}") as page:
        assert page.get_by_role("button").count() == 0
        assert page.get_by_role("link", name="Log in").count() == 2


def test_a_permanent_link_keeps_to_its_incident_and_a_login_comes_back_to_it(world: World, opened: Opened):
    incident = world.incident()
    with opened(world, f"/incidents/{incident[:-2]}") as page:  # a beginning is enough
        assert page.get_by_role("heading", level=1).inner_text().startswith(incident)
    with opened(world, f"/login?next=/incidents/{incident}") as page:
        page.get_by_label("Your name").fill("ana")
        page.get_by_label("The token").fill(TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/incidents/{incident}")
    for elsewhere in ("https://evil.example/", "//evil.example", "/\\evil.example"):
        with opened(world, f"/login?next={quote(elsewhere)}") as page:
            page.get_by_label("Your name").fill("ana")
            page.get_by_label("The token").fill(TOKEN)
            page.keyboard.press("Enter")
            page.get_by_role("heading", name="Overview", exact=True).wait_for()


@pytest.mark.parametrize("name", NAMES)
def test_a_column_of_any_name_is_shown_as_it_is_and_never_runs(world: World, opened: Opened, name: str):
    with opened(world, "/models/odd") as page:
        page.get_by_role("link", name=name or "(no name)", exact=True).first.click()
        assert page.get_by_role("heading", level=1).inner_text().startswith(name or "(no name)")
        assert page.locator("main script").count() == 0
        assert page.title().startswith(name or "(no name)")


def test_a_columns_page_says_what_its_rows_say_and_what_chance_would(world: World, opened: Opened):
    """Quantiles by the share of raw rows below them; Kolmogorov-Smirnov by SciPy on those rows, and its law without
    drift by the closed form of its limit."""
    calm, reference = (
        np.array([row[NAMES[-1]] for row in odd_rows(n_rows, drift_from)])
        for n_rows, drift_from in ((3_000, 1_400), (4_000, 4_000))
    )
    with opened(world, f"/models/odd/column?name={quote(NAMES[-1])}&window=12") as page:
        windows = page.get_by_role("table", name="The latest windows")
        heads = windows.get_by_role("columnheader").all_inner_texts()
        levels = {i: float(head.split()[1]) for i, head in enumerate(heads) if head.startswith("quantile")}
        assert len(levels) == 5
        for index in range(15):
            row = windows.get_by_role("row", name=re.compile(f"^{index} "))
            cells = [row.get_by_role("rowheader").inner_text(), *row.get_by_role("cell").all_inner_texts()]
            cells = cells if len(cells) == len(heads) else cells[1:]
            rows = calm[200 * index : 200 * (index + 1)]
            for i, level in levels.items():
                assert np.mean(rows < number_in(cells[i])) == pytest.approx(level, abs=0.03)
            assert cells[heads.index("missing")] == "0 %"
        assert page.locator("svg.chart .narrow").count() > 0
        ks = page.get_by_role("table", name="Every statistic").get_by_role("row", name=re.compile("^ks "))
        here, median, high = (number_in(text) for text in ks.get_by_role("cell").all_inner_texts()[-5:-2])
    assert here == pytest.approx(ks_2samp(reference, calm[2_400:2_600]).statistic, abs=0.01)
    spread = np.sqrt(1 / 4_000 + 1 / 200)
    assert median == pytest.approx(kstwobign.ppf(0.5) * spread, rel=0.1)
    assert high == pytest.approx(kstwobign.ppf(0.95) * spread, rel=0.1)


def number_in(text: str) -> float:
    return float(text.replace("\u2212", "-").replace(",", ""))


def test_an_inline_script_does_not_run(world: World, browser: Browser):
    context = browser.new_context(base_url=world.url)
    page = context.new_page()
    page.goto("/")
    page.evaluate(
        """() => {
            const script = document.createElement("script");
            script.textContent = "window.ran = true";
            document.body.append(script);
            document.body.insertAdjacentHTML("beforeend", "<img src='x' onerror='window.ran = true'>");
        }"""
    )
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran") is None
    context.close()


def test_a_report_shows_itself_within_its_frame(world: World, opened: Opened):
    incident = world.incident("odd")
    report.make(world.state, incident)
    with opened(world, f"/incidents/{incident}/report") as page:
        page.get_by_text("This report is made of").wait_for()
        page.get_by_text("Dataset Drift").first.wait_for()
        assert page.evaluate("self.origin") == "null"


def test_everything_can_be_read_without_scripts(world: World, opened: Opened):
    with opened(world, java_script_enabled=False) as plain, opened(world) as scripted:
        for name in ("overview", "incident", "model", "column", "outbox"):
            place = places(world)[name]
            plain.goto(place)
            scripted.goto(place)
            # How many records come a second is another thing a moment later.
            words, others = (
                re.sub(r"(a second\s+)[\d,]+", r"\1n", page.locator("main").inner_text()) for page in (plain, scripted)
            )
            assert words == others, place


def test_an_incident_can_be_acknowledged_without_scripts(fresh: World, opened: Opened):
    with opened(fresh, f"/incidents/{fresh.incident()}", java_script_enabled=False) as page:
        log_in(page)
        page.get_by_role("button", name="Acknowledge").click()
        page.get_by_text("acknowledged by ana").first.wait_for()


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


def test_an_open_page_follows_by_itself_and_leaves_a_form_alone(fresh: World, opened: Opened):
    incident = fresh.incident()
    with opened(fresh, f"/incidents/{incident}") as page, fresh.client() as client:
        log_in(page)
        page.get_by_label("Note").fill("half a sent")
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert client.post(f"/api/incidents/{incident}/acknowledge", json={"by": "bo"}, headers=headers).json()["done"]
        page.wait_for_timeout(3_000)
        assert page.get_by_label("Note").input_value() == "half a sent"
        assert page.get_by_text("acknowledged by bo").count() == 0
        page.get_by_label("Note").fill("")
        page.get_by_role("heading", level=1).click()
        page.get_by_text("acknowledged by bo").first.wait_for()


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
