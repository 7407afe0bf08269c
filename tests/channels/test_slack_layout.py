"""How Slack shows a notice: the words, within the limits whatever the data say, and nothing that marks up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.channels.slack_layout import blocks, escape, reply, text
from monitor.message import Body, RowRange, Severity, WindowFacts
from tests.bodies import make_alert, make_column, make_columns, make_retrain


def every_text(layout: list[dict[str, Any]]) -> list[str]:
    parts = [block["text"] for block in layout if "text" in block]
    parts += [part for block in layout for part in block.get("fields", []) + block.get("elements", [])]
    return [part["text"] for part in parts]


def test_layout_of_an_alert() -> None:
    layout = blocks(make_alert(retraining="called for, run follows"))
    words = every_text(layout)
    assert [block["type"] for block in layout] == ["header", "section", "section", "section", "context", "context"]
    assert words[0] == "🟠 fraud v3 · warning · firing"
    assert words[1] == "*2 of 30 columns drifted*\namount and country moved away from the reference."
    assert words[2] == (
        "`amount`  values moved up by about one standard deviation\n"
        "psi 0.432 (95 % 0.4 to 0.47) · p 1.2e-09 · since window 9 (2026-03-01T07:00:00Z)"
    )
    assert words[-4:] == [
        "Retraining: called for, run follows",
        "Window 12, 2026-03-01T10:00:00Z to 2026-03-01T11:00:00Z, 12,345 rows",
        "Reference `0123456789ab`",
        "Incident `inc-7f3a`",
    ]


def test_layout_of_a_call_for_retraining() -> None:
    words = every_text(blocks(make_retrain()))
    assert words[0] == "🔁 fraud v3 · retraining called for"
    assert "Rows: predictions/0 100–12444" in words
    assert "Trigger `trg-19`" in words


def test_layout_says_what_is_a_test_and_what_is_over() -> None:
    over = make_alert(state="resolved", severity=Severity.CRITICAL, test=True, segment="eu", version=None)
    assert every_text(blocks(over))[0] == "✅ TEST · fraud · eu · critical · resolved"


@pytest.mark.parametrize("n", [9, 51, 500])
@pytest.mark.parametrize("make", [make_alert, make_retrain])
def test_layout_shows_eight_columns_and_counts_the_rest(n: int, make: Any) -> None:
    body = make(columns=make_columns(n))
    words = every_text(blocks(body))
    assert sum(word.startswith("`column_") for word in words) == 8
    assert f"+{n - 8} more" in words
    assert text(body).endswith(f" +{n - 8} more")


def test_layout_of_nothing_unusual() -> None:
    bare = WindowFacts(index=0, start=None, end=None, n_rows=0)
    lean = make_column("", effect=None, effect_low=None, p_value=None, since=None, what="")
    words = every_text(blocks(make_alert(columns=(lean,), window=bare, summary="", title="", version=None)))
    assert all(word.strip() for word in words)
    assert "Window 0, 0 rows" in words
    assert text(make_alert(columns=(), summary="", title=""))


def test_names_cannot_mark_up_or_mention() -> None:
    evil = "<script>`&</script> <!channel>\u202e\n*x*"
    body = make_alert(
        model=evil,
        title=evil,
        summary=evil,
        incident=evil,
        reference=evil,
        retraining=evil,
        columns=(make_column(evil, segment=evil, what=evil, measure=evil, since=evil),),
        window=WindowFacts(index=1, start=evil, end=evil, n_rows=1),
    )
    rows = (RowRange(topic=evil, partition=0, first_offset=0, last_offset=1),)
    other = make_retrain(model=evil, reason=evil, trigger=evil, rows=rows)
    for words in [*every_text(blocks(body)), *every_text(blocks(other)), text(body), text(other), reply(body)]:
        assert "<" not in words
        assert ">" not in words
        assert "\u202e" not in words
        assert "&" not in words.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
    assert escape("a<b & c>\t\n d") == "a&lt;b &amp; c&gt; d"
    for part in [part for block in blocks(body) for part in [*block.get("elements", []), block.get("text", {})]]:
        assert part.get("verbatim", True) is True


NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(
    ["<script>alert(1)</script>", "&" * 4000, "𝄞" * 3000, "x" * 50_000, "`" * 500, "&amp;" * 1000]
)
COLUMNS = st.builds(make_column, NAMES, segment=NAMES, what=NAMES, measure=NAMES, since=st.none() | NAMES)
WINDOWS = st.builds(
    WindowFacts, index=st.integers(0, 2**60), start=st.none() | NAMES, end=NAMES, n_rows=st.integers(0, 2**60)
)
ALERTS = st.builds(
    make_alert,
    incident=NAMES,
    model=NAMES,
    version=st.none() | NAMES,
    segment=NAMES,
    title=NAMES,
    summary=NAMES,
    columns=st.lists(COLUMNS, max_size=12).map(tuple),
    window=WINDOWS,
    reference=NAMES,
    retraining=st.none() | NAMES,
    severity=st.sampled_from(Severity),
)
ROWS = st.builds(RowRange, topic=NAMES, partition=st.just(0), first_offset=st.just(2**62), last_offset=st.just(2**62))
RETRAINS = st.builds(
    make_retrain,
    trigger=NAMES,
    model=NAMES,
    reason=NAMES,
    columns=st.lists(COLUMNS, max_size=12).map(tuple),
    rows=st.lists(ROWS, max_size=8).map(tuple),
    window=WINDOWS,
)


def units(words: str) -> int:
    return len(words.encode("utf-16-le")) // 2


@settings(derandomize=True, max_examples=60, deadline=None)
@given(body=ALERTS | RETRAINS)
def test_every_body_keeps_within_the_limits(body: Body) -> None:
    layout = blocks(body)
    assert len(layout) <= 50
    longest = {"header": 150, "section": 3000, "context": 2000}
    for block in layout:
        assert len(block.get("elements", [])) <= 10
        for words in every_text([block]):
            assert 0 < units(words) <= longest[block["type"]]
            assert words.strip()
            assert "&" not in words.replace("&amp;", "").replace("&lt;", "").replace("&gt;", "")
    assert 0 < units(text(body)) < 1000
    assert 0 < units(reply(body)) <= 1000
    assert sum(map(units, every_text(layout))) + units(text(body)) < 13_000
