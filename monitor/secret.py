"""Secrets, read when they are needed: from a file or an environment variable that the configuration names."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from monitor.errors import ConfigError, Problem

_MAX_BYTES: Final = 1024 * 1024
_KNOWN: Final[set[str]] = set()


def known() -> frozenset[str]:
    """Every secret that was read since the process began: what no log line may hold."""
    return frozenset(_KNOWN)


def secrets(table: Mapping[str, Any], folder: Path, where: str) -> dict[str, str]:
    """The secrets that a table names as `x_file` or `x_env`, by their x.

    A relative file lies in $CREDENTIALS_DIRECTORY if that is set, else in `folder`. ConfigError names all that cannot
    be read, and never what is in them.
    """
    found: dict[str, str] = {}
    problems = []
    for key, value in table.items():
        name, _, kind = key.rpartition("_")
        if value is None or kind not in {"file", "env"}:
            continue
        secret, fault = _from_file(value, folder) if kind == "file" else _from_environment(value)
        if fault:
            problems.append(Problem(f"{where}.{key}", fault))
        found[name] = secret
    _KNOWN.update(filter(None, found.values()))
    if problems:
        raise ConfigError(str(folder), problems)
    return found


def _from_file(name: str, folder: Path) -> tuple[str, str]:
    file = Path(os.environ.get("CREDENTIALS_DIRECTORY") or folder) / name
    try:
        with file.open("rb") as handle:
            content = handle.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            return "", f"{file} has more than {_MAX_BYTES} bytes, which is no secret"
        text = content.decode().strip()
    except OSError as error:
        return "", f"{file} cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        return "", f"{file} is not text"
    return text, "" if text else f"{file} is empty"


def _from_environment(name: str) -> tuple[str, str]:
    text = os.environ.get(name, "").strip()
    return text, "" if text else f"the environment variable {name} is not set"
