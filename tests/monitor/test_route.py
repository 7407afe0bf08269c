"""Which channels hear of an incident: the first route that matches, by model, segment, severity and time of day."""

from __future__ import annotations

import tomllib

import pytest

from monitor.alert import Change, Policy, advance
from monitor.batch import Severity
from monitor.config import Config
from monitor.route import recipients
from tests.monitor.test_alert import HOUR, judged


def configured(routes: str) -> Config:
    channels = '[[channel]]\nname = "a"\nkind = "log"\n[[channel]]\nname = "b"\nkind = "log"\n'
    retrain = '[[retrain]]\nmodel = "m"\nchannel = "b"\n'
    return Config.model_validate(tomllib.loads(f'[[model]]\nname = "m"\nreference = "r"\n{channels}{retrain}{routes}'))


def change(severity: Severity = Severity.WARNING, segment: str = "all") -> Change:
    _, found = advance("m", None, [judged(1), judged(1, "a", segment=segment, severity=severity)], Policy(), {})
    assert found is not None
    return found


def test_without_routes_every_channel_hears_but_retraining_jobs():
    assert recipients(configured(""), "m", change(), 0) == ["a"]


def test_the_first_route_that_matches_decides():
    routes = (
        '[[route]]\nmodels = ["m"]\nmin_severity = "critical"\nchannels = ["b"]\n'
        '[[route]]\nmodels = ["m*"]\nmin_severity = "warning"\nchannels = ["a"]\n'
    )
    config = configured(routes)
    assert list(recipients(config, "m", change(Severity.CRITICAL), 0)) == ["b"]
    assert list(recipients(config, "m", change(), 0)) == ["a"]
    assert list(recipients(config, "m", change(Severity.INFO), 0)) == []
    assert list(recipients(config, "other", change(Severity.CRITICAL), 0)) == []


def test_a_route_may_be_for_a_segment():
    config = configured('[[route]]\nsegments = ["region=*"]\nchannels = ["b"]\n[[route]]\nchannels = ["a"]\n')
    assert list(recipients(config, "m", change(segment="region=EU"), 0)) == ["b"]
    assert list(recipients(config, "m", change(), 0)) == ["a"]


@pytest.mark.parametrize(
    ("hours", "open_at"),
    [("08:00-18:00", {8, 17}), ("22:00-06:00", {23, 0, 5}), ("", set(range(24)))],
)
def test_a_route_may_be_for_a_time_of_day(hours: str, open_at: set[int]):
    config = configured(f'[[route]]\nhours = "{hours}"\nchannels = ["a"]\n')
    heard = {hour for hour in (0, 5, 6, 7, 8, 17, 18, 22, 23) if recipients(config, "m", change(), hour * HOUR)}
    wanted = {0, 5, 6, 7, 8, 17, 18, 22, 23} & open_at
    assert heard >= wanted
    if hours:
        assert heard == {"08:00-18:00": {8, 17}, "22:00-06:00": {22, 23, 0, 5}}[hours]
