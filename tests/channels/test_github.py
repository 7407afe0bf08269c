"""GitHub: which run a trigger started comes back where the server tells it, and an event starts one without a name."""

from __future__ import annotations

from typing import Any

import pytest

from monitor.channels import Attempt, Sent
from monitor.channels.github import GitHubChannel, GitHubOptions
from monitor.message import Purpose
from tests.bodies import make_notice, make_retrain
from tests.standins.github import GitHubStandIn

TOKEN = "ghp_canary0123456789"
RUN = "https://github.com/acme/models/actions/runs/1001"


@pytest.mark.parametrize(
    ("knows_details", "options", "receipt"),
    [
        (True, {"workflow": "retrain.yml"}, RUN),
        (True, {"workflow": "retrain.yml", "run_details": False}, ""),
        (False, {"workflow": "42", "run_details": False}, ""),
        (True, {}, ""),
    ],
    ids=["workflow", "not asked", "an older server", "event"],
)
def test_the_run_that_was_started_comes_back_where_it_is_told(
    knows_details: bool, options: dict[str, Any], receipt: str
) -> None:
    body = make_retrain()
    notice = make_notice(body, id=body.trigger, channel="job", purpose=Purpose.RETRAIN)
    with GitHubStandIn(TOKEN, knows_details=knows_details) as github:
        settings = {"repository": "acme/models", "token_file": "t", "api_url": github.url, "allow_private": True}
        channel = GitHubChannel("job", GitHubOptions(**settings, **options), {"token": TOKEN})
        assert channel.send(notice, Attempt()) == Sent(receipt)
    assert [run["trigger_id"] for run in github.runs] == [body.trigger]
