"""Messages lead to a page that exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor import message
from monitor.assembly import tools
from monitor.batch import Severity
from monitor.config import Alert, Config, Http
from monitor.daemon import Outside
from monitor.message import Purpose, digest_body, notice
from tests.bodies import make_notice

INCIDENT = make_notice()
DIGEST = notice("d-1", "ops", Purpose.ALERT, digest_body("digest-1", "two incidents", ("a", "b"), Severity.INFO))


@pytest.mark.parametrize(
    ("about", "place"),
    [
        (INCIDENT, f"/incidents/{INCIDENT.incident}"),
        (DIGEST, "/"),
        (message.test_notice("ops", "credit", 1), "/"),
        (message.test_call("job", "credit", 1), "/"),
    ],
    ids=["incident", "digest", "test", "test call"],
)
def test_a_message_leads_to_its_incident_and_what_is_none_to_the_overview(about, place, tmp_path: Path):
    told = Config.model_construct(http=Http(public_url="https://driftd.example/ml/"))
    assert tools(told, tmp_path, Outside()).link(about) == f"https://driftd.example/ml{place}"
    assert tools(Config.model_construct(http=Http()), tmp_path, Outside()).link(about) == ""


def test_a_message_leads_to_the_report_where_one_is_made_by_itself(tmp_path: Path):
    told = Config.model_construct(http=Http(public_url="https://driftd.example/ml/"), alert=Alert(report="firing"))
    links = tools(told, tmp_path, Outside())
    assert links.report_link(INCIDENT) == f"https://driftd.example/ml/incidents/{INCIDENT.incident}/report"
    assert links.report_link(DIGEST) == ""
    assert links.report_link(message.test_notice("ops", "credit", 1)) == ""
    for other in (
        Config.model_construct(http=Http(public_url="https://driftd.example"), alert=Alert()),
        Config.model_construct(http=Http(), alert=Alert(report="firing")),
    ):
        assert tools(other, tmp_path, Outside()).report_link(INCIDENT) == ""
