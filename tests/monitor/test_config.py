"""The configuration: the example and the types agree, and every mistake is named at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from monitor import config
from monitor.channels import REGISTRY as CHANNELS
from monitor.channels.http import HttpOptions
from monitor.config import Config, Rows, Span
from monitor.configfile import Known, load, without_effect
from monitor.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


class NoOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")


KNOWN = Known(["json"], ["psi", "ks"], {"log": NoOptions})
MINIMAL = '[[model]]\nname = "credit"\nreference = "r"\n'


def problems(tmp_path: Path, text: str) -> list[str]:
    file = tmp_path / "driftd.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, KNOWN)
    return [str(problem) for problem in caught.value.problems]


def read(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "driftd.toml"
    file.write_text(text)
    return load(file, KNOWN)


def test_the_example_is_a_valid_configuration():
    kinds = {kind: channel.Options for kind, channel in CHANNELS.items()}
    assert load(EXAMPLE, Known(["json"], ["psi"], kinds)).model[0].name == "credit"


@pytest.mark.parametrize(
    "table",
    [config.Kafka, config.State, config.Budget, config.Model, config.Fields, config.Labels, config.Column, config.Rule,
     config.Channel, config.Route, config.Retrain, config.Alert, config.Http],
)  # fmt: skip
def test_every_key_of_the_types_is_in_the_example(table: type[BaseModel]):
    text = EXAMPLE.read_text()
    for key in table.model_fields:
        if key in ("fields", "labels", "columns"):
            assert f"[model.{key}" in text
        elif not key.endswith("_env"):  # stands beside its _file
            assert re.search(rf"^\s*#?\s*{key} = ", text, re.MULTILINE), key


def channels_in_the_example() -> dict[str, str]:
    """The tables of channels by their kind, with what is commented out once made part of them."""
    text = re.sub(r"(?m)^# ?", "", EXAMPLE.read_text())
    tables = [table.split("\n\n")[0] for table in text.split("[[channel]]")[1:]]
    return {re.search(r'kind = "(\w+)"', table)[1]: table for table in tables}


@pytest.mark.parametrize("kind", sorted(CHANNELS))
def test_every_key_of_every_channel_is_in_the_example(kind: str):
    tables = channels_in_the_example()
    for key in CHANNELS[kind].Options.model_fields:
        table = tables["slack" if key in HttpOptions.model_fields else kind]
        assert re.search(rf"\b{key}\b" if key.endswith("_env") else rf"(?m)^(# )?{key} = ", table), key


@pytest.mark.parametrize("kind", sorted(CHANNELS))
def test_every_channel_of_the_example_is_valid(tmp_path: Path, kind: str):
    kinds = {kind: channel.Options for kind, channel in CHANNELS.items()}
    table = channels_in_the_example()[kind]
    if kind == "slack":
        table = "\n".join(line for line in table.splitlines() if "webhook_file" not in line)
    file = tmp_path / "driftd.toml"
    file.write_text(f"{MINIMAL}[[channel]]{table}\n")
    assert load(file, Known(["json"], ["psi"], kinds)).channel[0].kind == kind


def test_defaults_stand_for_what_is_left_out(tmp_path: Path):
    model = read(tmp_path, MINIMAL).model[0]
    assert (model.window, model.lateness, model.decision) == (Span(width_ms=3_600_000), 600_000, "budget")


@pytest.mark.parametrize(
    ("text", "window"),
    [("5000 rows", Rows(n_rows=5000)), ("1h", Span(width_ms=3_600_000)), ("7d", Span(width_ms=604_800_000))],
)
def test_windows_are_time_or_rows(tmp_path: Path, text: str, window: Span | Rows):
    assert read(tmp_path, f'{MINIMAL}window = "{text}"\n').model[0].window == window


def test_all_mistakes_are_named_at_once_with_the_nearest_name(tmp_path: Path):
    found = problems(
        tmp_path, MINIMAL + 'windw = "1h"\nlateness = 5\n[budget]\nper = "year"\n[sate]\n[[model]]\nname = "a b"\n'
    )
    text = "\n".join(found)
    assert "model[0].windw: unknown key; did you mean 'window'?" in text
    assert "model[0].lateness: found 5: wanted a duration" in text
    assert "budget.per: found 'year'" in text
    assert "sate: unknown key; did you mean 'state'?" in text
    assert "model[1].name" in text
    assert "model[1].reference: is required and absent" in text


def test_a_mistake_in_the_only_model_is_one_mistake(tmp_path: Path):
    assert problems(tmp_path, MINIMAL + 'windw = "1h"\n') == ["model[0].windw: unknown key; did you mean 'window'?"]
    assert problems(tmp_path, "model = []\n")[0].startswith("model: ")


def test_a_value_is_repeated_only_as_far_as_it_can_be_read(tmp_path: Path):
    (found,) = problems(tmp_path, f'{MINIMAL}decision = "{"x" * 10_000}"\n')
    assert "found 'xxx" in found
    assert len(found) < 300


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[model.columns.age]\nmin = nan\n", "model[0].columns.age.min: found nan: should be a finite number"),
        ("[model.columns.age]\nmin = 120\nmax = 0.5\n", "model[0].columns.age.min: found 120, beyond max = 0.5"),
        ("[budget]\nfalse_alarms = inf\n", "budget.false_alarms: found inf: should be a finite number"),
        ('[[rule]]\ndetector = "psi"\nthreshold = nan\n', "rule[0].threshold: found nan: should be"),
        ('[http]\nlisten = "8787"\n', "http.listen: found '8787': wanted an address and a port"),
        ('[http]\nlisten = "localhost:99999"\n', "http.listen: found 'localhost:99999': wanted an address"),
    ],
)
def test_values_that_no_service_could_work_with_are_mistakes(tmp_path: Path, text: str, words: str):
    (found,) = problems(tmp_path, MINIMAL + text)
    assert found.startswith(words)


@pytest.mark.parametrize("key", ["window", "lateness", "silent_after"])
def test_durations_beyond_a_century_are_refused(tmp_path: Path, key: str):
    assert read(tmp_path, f'{MINIMAL}{key} = "36500d"\n').model[0]
    for duration in ("36501d", "1ms 36500d", f"{'9' * 5_000}d"):
        (found,) = problems(tmp_path, f'{MINIMAL}{key} = "{duration}"\n')
        assert 'wanted a duration of "36500d" or less' in found


@pytest.mark.parametrize("n_rows", [str(10**13), "9" * 5_000])
def test_windows_of_more_rows_than_there_can_be_are_refused(tmp_path: Path, n_rows: str):
    (found,) = problems(tmp_path, f'{MINIMAL}window = "{n_rows} rows"\n')
    assert "or a number of rows" in found


def test_a_key_that_changes_nothing_is_told(tmp_path: Path):
    (problem,) = without_effect(read(tmp_path, f'{MINIMAL}slide = "15m"\n'))
    assert str(problem).startswith("model[0].slide: changes nothing: windows of 1h do not overlap")
    assert not list(without_effect(read(tmp_path, MINIMAL)))


@pytest.mark.parametrize(
    "text",
    [
        'format = "json"\nschema_registry = "https://me:canary@registry.example"\n',
        '[kafka]\nbootstrap_servers = ["sasl://me:canary@broker:9092"]\n',
        '[http]\npublic_url = "https://me:canary@driftd.example"\n',
    ],
)
def test_an_address_with_a_password_is_refused_and_never_repeated(tmp_path: Path, text: str):
    found = "\n".join(problems(tmp_path, MINIMAL + text))
    assert "an address with user:password@" in found
    assert "canary" not in found


def test_names_that_point_nowhere_are_mistakes(tmp_path: Path):
    found = "\n".join(
        problems(
            tmp_path,
            MINIMAL + '[[rule]]\ndetector = "pssi"\nthreshold = 1\n[[route]]\nchannels = ["slck"]\n'
            '[[channel]]\nname = "slack"\nkind = "log"\ncolour = 1\n[[retrain]]\nmodel = "x"\nchannel = "slack"\n'
            '[http]\nscores = ["evidence", "ks", "kss"]\n',
        )
    )
    assert "http.scores: found 'kss', no such detector; did you mean 'ks'?" in found
    assert "rule[0].detector: found 'pssi', no such detector; did you mean 'psi'?" in found
    assert "route[0].channels: found 'slck', no such channel; did you mean 'slack'?" in found
    assert "channel[0].colour" in found
    assert "retrain[0].model: found 'x'" in found


def test_an_age_needs_time(tmp_path: Path):
    text = (
        MINIMAL
        + 'window = "500 rows"\n[[channel]]\nname = "a"\nkind = "log"\n[[retrain]]\nmodel = "credit"\nchannel = "a"\n'
    )
    assert read(tmp_path, text).retrain[0].max_age == 0
    found = problems(tmp_path, f'{text}max_age = "90d"\n')
    assert found == ['retrain[0].max_age: found a window of "500 rows", wanted one of event time']


def test_a_secret_in_the_open_is_refused_and_never_repeated(tmp_path: Path):
    found = "\n".join(problems(tmp_path, MINIMAL + '[[channel]]\nname = "a"\nkind = "log"\ntoken = "xoxb-canary"\n'))
    assert "channel[0].token" in found
    assert "token_file" in found
    assert "canary" not in found


@pytest.mark.parametrize("text", ["[[model", "\x00", ""])
def test_what_is_not_a_configuration_is_a_configuration_error(tmp_path: Path, text: str):
    assert problems(tmp_path, text)


def test_an_absent_file_says_so(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.toml", KNOWN)


@pytest.mark.parametrize("duration", ["5", "-1h", "1 week", "h", ""])
def test_durations_that_are_none_are_refused(tmp_path: Path, duration: str):
    assert "wanted a duration" in problems(tmp_path, f'{MINIMAL}lateness = "{duration}"\n')[0]


def test_what_one_table_says_of_another_is_checked_beside_values_that_are_wrong(tmp_path: Path):
    text = (
        MINIMAL
        + """format = "jsn"
window = "1 hour"
segments = "region"
[budget]
per = "year"
[[rule]]
detector = "pis"
threshold = 0.2
[[route]]
channels = ["nobody"]
[[channel]]
name = "lines"
kind = "lgo"
"""
    )
    places = [problem.split(": ")[0] for problem in problems(tmp_path, text)]
    wanted = ["budget.per", "channel[0].kind", "model[0].format", "model[0].segments", "model[0].window"]
    assert sorted(places) == [*wanted, "route[0].channels", "rule[0].detector"]
    assert "model[0].segments: found 'region': wanted a list" in problems(tmp_path, text)


@pytest.mark.parametrize("broken", ["kind = 5", "kind = 'log'\nname = 7", ""])
def test_a_channel_that_cannot_be_read_is_not_said_to_be_absent_as_well(tmp_path: Path, broken: str):
    text = MINIMAL + "[[channel]]\n" + broken + '\n[[route]]\nchannels = ["lines"]\n'
    assert not [problem for problem in problems(tmp_path, text) if "no such channel" in problem]
