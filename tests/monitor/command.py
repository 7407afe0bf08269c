"""The command line as a user types it, and what comes of a reference and a log."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

from monitor.config import Config
from monitor.reference import unseal
from monitor.replay import Log, replay


def driftd(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monitor", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def sealed_home(home: Path, configuration: str, model: str, rows: pd.DataFrame) -> Path:
    """A folder with a configuration and a reference of these rows, made as a user makes it."""
    (home / "driftd.toml").write_text(configuration)
    rows.to_parquet(home / "train.parquet")
    built = driftd("reference", "build", "--config", home / "driftd.toml", "--model", model, home / "train.parquet")
    assert built.returncode == 0, built.stderr
    return home


def replayed(home: Path, config: Config, log: pd.DataFrame, out: Path) -> tuple[list[dict], list[dict]]:
    """Verdicts of drift and incidents of a log."""
    log.to_parquet(out / "log.parquet")
    replay(config, config.model[0], unseal(home / "ref"), Log([out / "log.parquet"]), out / "out")
    verdicts, incidents = (
        [json.loads(line) for line in (out / "out" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("verdicts", "incidents")
    )
    return [v for v in verdicts if v["verdict"] == "drift"], incidents
