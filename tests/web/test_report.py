"""Evidently's report of an incident: rows as counted, a bounded process, and nothing it could do to a page."""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from monitor import child, report, reporter
from monitor.batch import Partition
from monitor.decode.value import word
from monitor.errors import ReportFault
from monitor.history import Unknown
from monitor.report import LIMITS, make, place, table
from monitor.rowsample import lots
from tests.monitor.command import driftd
from tests.waiting import until
from tests.web.test_act import configured
from tests.web.world import TOKEN, ListSource, World, read_up, running


@pytest.fixture(scope="module")
def made(world: World, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of the model whose columns have names that a page could stumble over."""
    return make(world.state, world.incident("odd"), tmp_path_factory.mktemp("report") / "odd.html").read_text()


def test_the_report_stands_alone_and_says_where_its_rows_come_from(made: str):
    assert "of the window's 200 rows" in made
    assert "Drift" in made
    assert re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=", made) == []


def test_names_mean_nothing_to_a_browser(made: str):
    assert "alert(1)" in made
    assert "<script>alert(1)" not in made
    assert "</script>alert" not in made.replace("‹", "<x")


def test_rows_that_are_laid_out_have_the_shares_of_the_counts(world: World):
    with world.history() as history:
        _, compared = report._window(history, world.incident())
    before, after, words = table(compared, None)
    pair = compared.pair
    assert set(words) >= {"salary_range"}
    row = pair.bins.names.index("salary_range")
    for frame, side in ((before, pair.reference), (after, pair.current)):
        shares = frame["salary_range"].value_counts(normalize=True)
        for cell, name in enumerate(pair.bins.columns[row].vocabulary):
            wanted = side.counts[row, 3 + cell] / side.n_valid[row]
            assert shares.get(report.plain(name), 0.0) == pytest.approx(wanted, abs=2 / len(frame))
    row = pair.bins.names.index("car_value")
    edges = pair.bins.columns[row].edges
    for frame, side in ((before, pair.reference), (after, pair.current)):
        values = np.sort(frame["car_value"].dropna().to_numpy())
        upto = np.searchsorted(values, edges[1:], "right") / values.size
        wanted = side.counts[row, 2 : 3 + edges.size - 1].cumsum()[1:] / side.n_valid[row]
        assert np.abs(upto - wanted).max() < 2 * edges.size / values.size / 10


def test_rows_that_were_kept_are_shown_as_they_were_read(world: World):
    """Of the window those of its lowest lots, decoded once more from the log; of the reference, of its table."""
    with world.history() as history:
        model, compared = report._window(history, world.incident())
        rows = history.rows(compared, model)
    assert rows is not None
    before, after, words = table(compared, rows)
    assert (len(before), len(after)) == (rows[0].n_rows, rows[1].n_rows) == (1_000, 300)
    log = ListSource.logs[Partition("loans", 0)]
    records = [json.loads(log[offset])["features"] for offset in rows[1].offsets.tolist()]
    for name in before.columns.intersection(records[0]):
        found, wanted = after[name].tolist(), [record[name] for record in records]
        if name in words:
            known = rows[1].bins.columns[rows[1].bins.names.index(name)].vocabulary
            wanted = [word if word in known else found[i] for i, word in enumerate(map(word, wanted))]
        assert found == wanted
    lot = lots(Partition("loans", 0), rows[1].offsets)
    assert (np.diff(lot.astype(float)) > 0).all()


def test_no_name_leads_out_of_the_folder(tmp_path: Path):
    for name in ("../../etc/passwd", "/etc/passwd", "a/b", "..", "\0", "x" * 10_000):
        assert place(tmp_path, name).parent == tmp_path / "reports"


@pytest.mark.parametrize(
    "limits", [replace(LIMITS, seconds=1), replace(LIMITS, n_bytes=300 * 2**20)], ids=["time", "memory"]
)
def test_a_report_that_takes_too_much_is_given_up_and_leaves_nothing(
    world: World, tmp_path: Path, limits: child.Limits
):
    with pytest.raises(ReportFault, match=r"could not be made within|took more than"):
        make(world.state, world.incident(), tmp_path / "report.html", limits)
    assert list(tmp_path.iterdir()) == []


def test_the_child_has_no_secret_and_no_telemetry(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The child's environment is written down by a stand-in for Python."""
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\nenv > "$HOME/../environment"\necho given up >&2\nexit 1\n')
    stand_in.chmod(0o755)
    monkeypatch.setattr(child.sys, "executable", str(stand_in))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("DRIFTD_TEST_SECRET", "very-secret")
    with pytest.raises(ReportFault, match="given up"):
        make(world.state, world.incident(), tmp_path / "report.html")
    environment = (tmp_path / "environment").read_text()
    assert "very-secret" not in environment
    assert "DO_NOT_TRACK=1" in environment.splitlines()
    assert not {line.split("=")[0].lower() for line in environment.splitlines()} & {
        "http_proxy",
        "credentials_directory",
    }


def test_one_report_at_a_time(world: World, tmp_path: Path):
    with report._ONE_AT_A_TIME, pytest.raises(ReportFault, match="another report"):
        make(world.state, world.incident(), tmp_path / "report.html")
    assert not report._ONE_AT_A_TIME.locked()


def test_the_newest_are_kept(tmp_path: Path):
    for i in range(report.N_KEPT + 5):
        (tmp_path / f"{i}.html").touch()
        os.utime(tmp_path / f"{i}.html", (i, i))
    report._keep_the_latest(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {f"{i}.html" for i in range(5, report.N_KEPT + 5)}


def test_what_is_not_there_has_no_report(world: World, tmp_path: Path):
    with pytest.raises(Unknown):
        make(world.state, "none", tmp_path / "report.html")
    done = driftd("report", "none", "--config", configured(world), "--out", tmp_path / "report.html")
    assert (done.returncode, "there is no incident none" in done.stderr) == (1, True)


def test_the_page_makes_a_report_and_shows_it_where_it_can_do_nothing(fresh: World):
    incident = fresh.incident()
    address = f"/incidents/{incident}/report"
    with fresh.client() as client:
        assert client.get(address).status_code == 404
        assert client.post(f"{address}/new").status_code in {303, 401}
        assert client.post(f"{address}/new", headers={"Authorization": f"Bearer {TOKEN}"}).status_code in {303, 401}
        client.post("/login", data={"name": "ana", "token": TOKEN})
        assert client.post(f"{address}/new", data={"mark": "of another"}).status_code == 403
        page = client.get(f"/incidents/{incident}").text
        mark = re.search(r'name="mark" value="([0-9a-f]+)"', page)
        assert mark
        threads = threading.active_count()
        answer = client.post(f"{address}/new", data={"mark": mark[1]}, timeout=httpx.Timeout(250))
        assert (answer.status_code, answer.headers["location"]) == (303, f"/incidents/{incident}")
        assert threading.active_count() <= threads + 1
        shown = client.get(address)
        assert shown.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none';")
        assert "allow-same-origin" not in shown.headers["content-security-policy"]
        assert "chosen by a hash" in shown.text
        assert address in client.get(f"/incidents/{incident}").text
        outside = client.get(address, headers={"Host": "evil.example", "Cookie": ""})
        assert outside.status_code in {303, 401}


def test_a_report_is_made_when_an_incident_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The real one once; those of the other models only as far as they are asked for."""
    asked: list[str] = []

    def make_one(directory: Path, incident: str, **options: float) -> Path:
        asked.append(incident)
        return make(directory, incident, **options) if len(asked) == 1 else tmp_path / "none"

    monkeypatch.setattr(reporter, "make", make_one)
    with running(tmp_path, '[alert]\nreport = "firing"\n') as world:
        until(lambda: read_up(world))
        incidents = {world.incident(model) for model in ("car-loan", "segmented", "odd")}
        until(lambda: incidents <= set(asked), seconds=250)
        assert "chosen by a hash" in place(world.state, asked[0]).read_text()
