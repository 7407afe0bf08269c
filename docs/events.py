"""The table of log events in docs/operate.md, read off the calls themselves: `python docs/events.py` writes it anew."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
PAGE: Final = ROOT / "docs" / "operate.md"
BEGIN, END = "<!-- events: written by docs/events.py -->\n", "<!-- end of events -->\n"
LEVELS: Final = {name: name for name in ("debug", "info", "warning", "error", "critical")} | {"exception": "error"}


@dataclass(frozen=True)
class Call:
    """One call of a logger. text, event: None where they cannot be read off the function that holds the call."""

    place: str
    level: str
    text: str | None
    event: str | None
    fields: frozenset[str]


def calls() -> list[Call]:
    """Every call of a logger in monitor/."""
    return [call for file in sorted((ROOT / "monitor").rglob("*.py")) for call in _calls_in(file)]


def page() -> str:
    """docs/operate.md as it should be."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return f"{before}{BEGIN}{_table()}{END}{rest.partition(END)[2]}"


def _table() -> str:
    """One row per event."""
    rows = {f"| `{call.event}` | {call.level} | {_text(call)} | {_names(call)} |" for call in calls()}
    return "\n".join(["| event | level | message | more keys |", "|---|---|---|---|", *sorted(rows)]) + "\n"


def _calls_in(file: Path) -> Iterator[Call]:
    tree = ast.parse(file.read_text())
    for scope in ast.walk(tree):
        if not isinstance(scope, ast.Module | ast.FunctionDef):
            continue
        nodes = list(_own(scope))
        for node in nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_log(node.func):
                extra = next((word.value for word in node.keywords if word.arg == "extra"), None)
                entries = _entries(extra, nodes)
                yield Call(
                    f"{file.relative_to(ROOT)}:{node.lineno}",
                    LEVELS[node.func.attr],
                    _string(node.args[0], nodes),
                    _string(entries.get("event"), nodes),
                    frozenset(entries) - {"event", "key"},
                )


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """Everything in a scope that is not in an inner function."""
    for node in ast.iter_child_nodes(scope):
        yield node
        if not isinstance(node, ast.FunctionDef):
            yield from _own(node)


def _is_log(call: ast.Attribute) -> bool:
    return call.attr in LEVELS and isinstance(call.value, ast.Name) and call.value.id in {"log", "_LOGGER"}


def _values(node: ast.expr | None, nodes: list[ast.AST]) -> list[ast.expr]:
    """An expression, or what a name stands for where it is used: its last assignment and what `|=` added since."""
    if not isinstance(node, ast.Name):
        return [] if node is None else [node]
    found: list[ast.expr] = []
    for other in sorted((n for n in nodes if isinstance(n, ast.Assign | ast.AugAssign)), key=lambda n: n.lineno):
        targets = other.targets if isinstance(other, ast.Assign) else [other.target]
        if other.lineno < node.lineno and any(isinstance(t, ast.Name) and t.id == node.id for t in targets):
            found = [other.value] if isinstance(other, ast.Assign) else [*found, other.value]
    return found


def _entries(node: ast.expr | None, nodes: list[ast.AST]) -> dict[str, ast.expr]:
    dictionaries = [part for part in _values(node, nodes) if isinstance(part, ast.Dict)]
    pairs = [pair for part in dictionaries for pair in zip(part.keys, part.values, strict=True)]
    return {key.value: value for key, value in pairs if isinstance(key, ast.Constant)}


def _string(node: ast.expr | None, nodes: list[ast.AST]) -> str | None:
    found = [part.value for part in _values(node, nodes) if isinstance(part, ast.Constant)]
    return found[0] if found and isinstance(found[0], str) else None


def _text(call: Call) -> str:
    return re.sub(r"%(\.0)?[sdf]", "…", call.text or "").replace("|", "\\|")


def _names(call: Call) -> str:
    return ", ".join(f"`{name}`" for name in sorted(call.fields))


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE}: {len(calls())} calls\n")
