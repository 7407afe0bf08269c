"""Bodies survive the outbox: what is written is what is read, in the same bytes."""

from __future__ import annotations

import msgspec
import pytest

from monitor.errors import ConfigError, Problem
from monitor.message import AlertBody, RetrainBody, RowRange, Severity, WindowFacts, decode, encode

WINDOW = WindowFacts(index=5, start=None, end=None, n_rows=5000)
ALERT = AlertBody(
    incident="i1", model="credit", version=None, segment="", state="firing", change="opened",
    severity=Severity.WARNING, title="drift", summary="one column", columns=(), n_columns=8, window=WINDOW,
    since=None, reference="abc",
)  # fmt: skip
RETRAIN = RetrainBody(
    trigger="t1", incident="i1", model="credit", version=None, reason="drift", columns=(), window=WINDOW, since=None,
    rows=(RowRange(topic="predictions", partition=0, first_offset=3, last_offset=9),), reference="abc", config="def",
)  # fmt: skip


@pytest.mark.parametrize("body", [ALERT, RETRAIN], ids=["alert", "retrain"])
def test_a_body_reads_back_equal_and_writes_the_same_bytes(body: AlertBody | RetrainBody):
    assert decode(encode(body)) == body
    assert encode(decode(encode(body))) == encode(body)


def test_a_body_of_no_known_purpose_is_refused():
    with pytest.raises(msgspec.ValidationError, match="purpose"):
        decode(b'{"purpose": "poem"}')


def test_severities_are_ordered():
    assert Severity.INFO.rank < Severity.WARNING.rank < Severity.CRITICAL.rank


def test_a_configuration_error_names_every_problem():
    error = ConfigError("driftd.toml", [Problem("model[0].window", "found 5, wanted a duration"), Problem("x", "y")])
    assert "2 problems" in str(error)
    assert "model[0].window: found 5" in str(error)
