"""The table of metrics in docs/operate.md, read off the registry itself: `python docs/metrics.py` writes it anew."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from monitor.metrics import Metrics

PAGE: Final = Path(__file__).parent / "operate.md"
BEGIN, END = "<!-- metrics: written by docs/metrics.py -->\n", "<!-- end of metrics -->\n"


def page() -> str:
    """docs/operate.md as it should be."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return f"{before}{BEGIN}{_table()}{END}{rest.partition(END)[2]}"


def _table() -> str:
    """One row per metric, in the order of the registry."""
    rows = ["| metric | kind | labels | what |", "|---|---|---|---|"]
    for collector in Metrics().registry._collector_to_names:
        labels = ", ".join(f"`{name}`" for name in collector._labelnames)
        for family in collector.describe():
            ending = {"counter": "_total", "info": "_info"}.get(family.type, "")
            rows.append(f"| `{family.name}{ending}` | {family.type} | {labels} | {family.documentation} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
