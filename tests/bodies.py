"""Bodies and notices for tests, with plausible values wherever a test does not care."""

from __future__ import annotations

from typing import Any

import msgspec

from monitor.message import (
    AlertBody,
    Body,
    ColumnChange,
    Notice,
    Purpose,
    RetrainBody,
    RowRange,
    Severity,
    WindowFacts,
)

WINDOW = WindowFacts(index=12, start="2026-03-01T10:00:00Z", end="2026-03-01T11:00:00Z", n_rows=12_345)
REFERENCE = "sha256:0123456789abcdef0123456789abcdef"


def make_column(name: str = "amount", **changes: Any) -> ColumnChange:
    column = ColumnChange(
        column=name,
        segment="all",
        what="values moved up by about one standard deviation",
        measure="psi",
        effect=0.4321,
        effect_low=0.4,
        effect_high=0.47,
        p_value=1.2e-9,
        since_window=9,
        since="2026-03-01T07:00:00Z",
    )
    return msgspec.structs.replace(column, **changes)


def make_columns(n: int) -> tuple[ColumnChange, ...]:
    return tuple(make_column(f"column_{i:03d}") for i in range(n))


def make_alert(**changes: Any) -> AlertBody:
    alert = AlertBody(
        incident="inc-7f3a",
        model="fraud",
        version="v3",
        segment="all",
        state="firing",
        change="opened",
        severity=Severity.WARNING,
        title="2 of 30 columns drifted",
        summary="amount and country moved away from the reference.",
        columns=(make_column("amount"), make_column("country", measure="js", p_value=None)),
        n_columns=30,
        window=WINDOW,
        since="2026-03-01T07:00:00Z",
        reference=REFERENCE,
    )
    return msgspec.structs.replace(alert, **changes)


def make_retrain(**changes: Any) -> RetrainBody:
    retrain = RetrainBody(
        trigger="trg-19",
        incident="inc-7f3a",
        model="fraud",
        version="v3",
        reason="drift held for 3 windows in a row",
        columns=(make_column("amount"),),
        window=WINDOW,
        since="2026-03-01T07:00:00Z",
        rows=(RowRange(topic="predictions", partition=0, first_offset=100, last_offset=12_444),),
        reference=REFERENCE,
        config="cfg-5e1",
    )
    return msgspec.structs.replace(retrain, **changes)


def make_notice(body: Body | None = None, **changes: Any) -> Notice:
    body = body or make_alert()
    notice = Notice(
        id="ntc-1",
        incident=body.incident,
        channel="ops",
        purpose=Purpose.RETRAIN if isinstance(body, RetrainBody) else Purpose.ALERT,
        model=body.model,
        window=body.window.index,
        body=body,
    )
    return msgspec.structs.replace(notice, **changes)
