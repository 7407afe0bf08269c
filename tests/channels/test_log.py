"""The log channel."""

from __future__ import annotations

import json
import logging

import pytest

from monitor.channels import REGISTRY, Attempt, Sent
from monitor.logs import Objects
from monitor.message import decode
from tests.bodies import make_alert, make_notice


def test_log_writes_the_notice_as_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    channel = REGISTRY["log"]("console", REGISTRY["log"].Options(), {})
    body = make_alert(summary="two\nlines\u2028and more")
    assert channel.send(make_notice(body), Attempt("C1/2")) == Sent()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("driftd.channel", logging.INFO)
    assert record.getMessage() == f"ntc-1: {body.title}"
    line = Objects(journal=False).format(record)
    assert len(line.splitlines()) == 1
    told = json.loads(line)
    assert told["event"] == "notice"
    assert (told["channel"], told["notice"], told["purpose"], told["follows"]) == ("console", "ntc-1", "alert", "C1/2")
    assert decode(json.dumps(told["body"]).encode()) == body
