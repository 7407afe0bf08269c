"""Commands in the documents: every one they name exists, with its options, and the README names every command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from monitor.cli import app

HOME = Path(__file__).parents[1]
DOCUMENTS = sorted([HOME / "README.md", *(HOME / "docs").glob("*.md")])
COMMAND = re.compile(r"^ {4}(?:sudo )?driftd (.*?)(?:  +#.*)?$|`driftd ([^`\n]+)`", re.MULTILINE)


def verbs(group: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command, as its words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, (*before, name))
        else:
            yield (*before, name)


def used(text: str) -> Iterator[str]:
    """Every use of the command in a document, without what follows a pipe."""
    for match in COMMAND.finditer(text):
        yield (match[1] or match[2]).split(" | ")[0].replace("\\", "").strip()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_every_command_and_option_in_the_documents_exists(document: Path):
    for line in used(document.read_text()):
        words = line.split()
        command: Any = get_command(app)
        while hasattr(command, "commands") and words:
            name = words.pop(0)
            assert name in command.commands, f"{document.name}: driftd {line}"
            command = command.commands[name]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        wanted = {word.strip("[],") for word in words if word.strip("[").startswith("--")}
        assert wanted <= known, f"{document.name}: driftd {line}"


def test_the_readme_names_every_command():
    named = list(used((HOME / "README.md").read_text()))
    missing = [
        verb for verb in verbs(get_command(app)) if not any(line.split()[: len(verb)] == [*verb] for line in named)
    ]
    assert missing == []
