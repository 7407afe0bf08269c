"""The `driftd` command. Exit codes: 0 done, 1 it failed (or drift was found, where said), 2 usage, 78 configuration.

One file per group of commands; importing this package imports every file beside it. What a command prints for people
goes through `out`; with --json it prints one JSON document and nothing else on stdout.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec
import typer
from rich.console import Console

from detectors import REGISTRY as DETECTORS
from monitor.channels import REGISTRY as CHANNELS
from monitor.config import Channel, Config, Model
from monitor.configfile import Known, load
from monitor.decode import REGISTRY as DECODERS
from monitor.errors import ConfigError, DriftdError, StoreNewer
from monitor.history import History

EX_CONFIG: Final = 78

app = typer.Typer(
    help="Watches machine-learning models in production for drift.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_WIDTH: Final = None if sys.stdout.isatty() or "COLUMNS" in os.environ else 1_000  # nothing is broken for a pipe
out = Console(width=_WIDTH)
err = Console(stderr=True)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
ConfigFile = Annotated[Path, typer.Option("--config", help="The configuration file.")]
ModelName = Annotated[str, typer.Option("--model", help="The model's name in the configuration.")]
IncidentId = Annotated[str, typer.Argument(metavar="ID", help="An incident; a beginning of its id is enough.")]
Named = TypeVar("Named", Model, Channel)


def read_config(file: Path) -> Config:
    """The configuration, checked against every format, detector and channel there is."""
    options = {kind: channel.Options for kind, channel in CHANNELS.items()}
    return load(file, Known(DECODERS, DETECTORS, options))


def chosen(tables: Sequence[Named], file: Path, what: str, name: str) -> Named:
    """The model or channel of that name; a usage error when the configuration has none."""
    for table in tables:
        if table.name == name:
            return table
    known = ", ".join(table.name for table in tables)
    raise typer.BadParameter(f"{file} has no {what} {name!r}; it has: {known or 'none'}")


@contextmanager
def history_of(file: Path) -> Iterator[History]:
    """What the service of this configuration remembers."""
    with closing(History(file.parent / read_config(file).state.directory)) as history:
        yield history


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(msgspec.json.encode(document).decode() + "\n")


def exit_code(error: DriftdError) -> int:
    """78 tells systemd that only a person can help; every other failure may be tried again."""
    return EX_CONFIG if isinstance(error, ConfigError | StoreNewer) else 1


def main() -> None:
    """Run the command line; driftd's own errors become a message and an exit code."""
    try:
        app()
    except DriftdError as error:
        said = str(error) if isinstance(error, ConfigError) else f"driftd: {error}"
        err.print(said, markup=False, highlight=False, soft_wrap=True)
        raise SystemExit(exit_code(error)) from error


for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
