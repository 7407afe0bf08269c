"""Unit tests of a configuration, for users."""

from __future__ import annotations

from pathlib import Path

import msgspec
import typer

from monitor.cli import AsJson, app, out, print_json, read_config
from monitor.errors import ConfigError


class Result(msgspec.Struct, frozen=True):
    """One test: what failed in it, and every message that came."""

    name: str
    passed: bool
    faults: tuple[str, ...]
    messages: tuple[str, ...]


@app.command("test", epilog="Example: driftd test alerts.test.toml")
def run_tests(rules: Path, *, json: AsJson = False) -> None:
    """Play stories of drift through a configuration and check which messages come, when, and which do not."""
    from monitor.reference import unseal
    from monitor.scenario import faults_of, play, read, verdict

    script = read(rules)
    file = rules.parent / script.config
    config = read_config(file)
    places = {model.name: file.parent / model.reference for model in config.model}
    references = {name: unseal(place) for name, place in places.items() if name in {case.model for case in script.test}}
    if problems := [problem for case in script.test for problem in faults_of(case, config, references)]:
        raise ConfigError(str(rules), problems)
    results = []
    for case in script.test:
        heard = play(case, config, references[case.model])
        faults = tuple(verdict(case, heard))
        results.append(Result(case.name, not faults, faults, tuple(message.words for message in heard)))
    if json:
        print_json(results)
    for result in () if json else results:
        out.print(f"{'passed' if result.passed else 'FAILED'}  {result.name}", markup=False)
        for fault in result.faults:
            out.print(f"        {fault}", markup=False, soft_wrap=True)
    if not all(result.passed for result in results):
        raise typer.Exit(1)
