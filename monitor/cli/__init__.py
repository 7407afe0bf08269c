"""The `driftd` command. Exit codes: 0 done, 1 it failed (or drift was found, where said), 2 usage, 78 configuration.

One file per group of commands; importing this package imports every file beside it. What a command prints for people
goes through `out`; with --json it prints one JSON document and nothing else on stdout.
"""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console

from detectors import REGISTRY as DETECTORS
from monitor.channels import REGISTRY as CHANNELS
from monitor.config import Config, Known, Model, load
from monitor.decode import REGISTRY as DECODERS
from monitor.errors import ConfigError, DriftdError

EX_CONFIG: Final = 78

app = typer.Typer(
    help="Watches machine-learning models in production for drift.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
out = Console()
err = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
ConfigFile = Annotated[Path, typer.Option("--config", help="The configuration file.")]
ModelName = Annotated[str, typer.Option("--model", help="The model's name in the configuration.")]


def read_config(file: Path) -> Config:
    """The configuration, checked against every format, detector and channel there is."""
    options = {kind: channel.Options for kind, channel in CHANNELS.items()}
    return load(file, Known(DECODERS, DETECTORS, options))


def chosen_model(config: Config, file: Path, name: str) -> Model:
    """The model of that name; a usage error when the configuration has none."""
    for model in config.model:
        if model.name == name:
            return model
    known = ", ".join(model.name for model in config.model)
    raise typer.BadParameter(f"{file} has no model {name!r}; it has: {known}")


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")


def log_to_stderr() -> None:
    """Lines for people, or under systemd with the priority that its journal reads."""
    journal = "JOURNAL_STREAM" in os.environ
    handler = logging.StreamHandler()
    handler.setFormatter(
        _Lines("%(name)s: %(message)s" if journal else "%(asctime)s %(levelname)s %(name)s: %(message)s", journal)
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class _Lines(logging.Formatter):
    """One line per event, with systemd's priority before it if asked."""

    _PRIORITY: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

    def __init__(self, layout: str, priority: bool) -> None:
        super().__init__(layout)
        self._with_priority = priority

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record).replace("\n", "\n  ")
        return f"<{self._PRIORITY.get(record.levelno, 6)}>{line}" if self._with_priority else line


def main() -> None:
    """Run the command line; driftd's own errors become a message and an exit code."""
    try:
        app()
    except ConfigError as error:
        err.print(str(error), markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(EX_CONFIG) from error
    except DriftdError as error:
        err.print(f"driftd: {error}", markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(1) from error


for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
