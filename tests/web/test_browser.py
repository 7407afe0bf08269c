"""The page in a real browser, as people meet it: what they see, press and are told, also without scripts."""

from __future__ import annotations

import re
from urllib.parse import quote

import numpy as np
import pytest
from playwright.sync_api import Browser
from scipy.stats import ks_2samp, kstwobign

from monitor import report
from tests.waiting import until
from tests.web.browsing import Opened, log_in, places
from tests.web.world import NAMES, TOKEN, World, odd_rows


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
