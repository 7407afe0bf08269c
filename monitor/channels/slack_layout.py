"""A notice as Slack shows it: blocks, a few plain words, and one line for a thread. Touches nothing else.

Names and sentences come from data that anyone may have written, so every one of them is escaped, and cut with room to
spare: a message that is too long must get shorter, never fail.
"""

from __future__ import annotations

from typing import Final

from monitor.channels.blockkit import Block, cut, fitted
from monitor.message import AlertBody, Body, ColumnChange, RetrainBody, WindowFacts

N_COLUMNS: Final = 8
N_RANGES: Final = 5
N_LINES: Final = 25
HEADER, TITLE, SUMMARY, COLUMN, CONTEXT, TEXT, LINE = 140, 300, 2200, 800, 250, 900, 250
ACKNOWLEDGE, SNOOZE, RESOLVE, APPROVE = "acknowledge", "snooze", "resolve", "approve"
SNOOZES: Final = {"4 h": 4 * 3_600_000, "24 h": 24 * 3_600_000}
"""For how long people may snooze, in milliseconds, by the words on the button."""
MAY_REPEAT: Final = "may repeat"

_ICONS: Final = {"info": "🔵", "warning": "🟠", "critical": "🔴"}


def blocks(body: Body, link: str = "", *, buttons: bool = False, repeats: bool = False) -> list[Block]:
    """The message as Block Kit blocks, within Slack's limits for any body.

    link: where people read more. buttons: what people can do about it. repeats: the message may be a second one.
    """
    if isinstance(body, AlertBody) and body.change == "digest":
        return fitted([_header(_headline(body)), _section(_digest(body)), *_notes(body, link, repeats)])
    if isinstance(body, AlertBody):
        opening = [_header(_headline(body)), _section(f"*{_cut(body.title, TITLE)}*\n{_cut(body.summary, SUMMARY)}")]
        closing = [] if body.retraining is None else [_context([f"Retraining: {_cut(body.retraining, CONTEXT)}"])]
    else:
        opening = [_header(_headline(body)), _section(_cut(body.reason, SUMMARY))]
        closing = [_context([f"Rows: {_cut(_rows(body), CONTEXT)}", f"Trigger {_code_span(body.trigger)}"])]
    facts = [_window(body.window), f"Reference {_code_span(body.reference.removeprefix('sha256:')[:12])}"]
    return fitted(
        [
            *opening,
            *(_section(_column(column)) for column in body.columns[:N_COLUMNS]),
            *_more(body.columns),
            *closing,
            *(_actions(body) if buttons and isinstance(body, AlertBody) else []),
            _context([*facts, f"Incident {_code_span(body.incident)}"]),
            *_notes(body, link, repeats),
        ]
    )


def text(body: Body, *, repeats: bool = False) -> str:
    """The message in a few plain words: for notifications, screen readers, and where the blocks are refused."""
    what = f"{body.title}. {body.summary}" if isinstance(body, AlertBody) else body.reason
    names = ", ".join(column.column for column in body.columns[:N_COLUMNS])
    more = len(body.columns) - N_COLUMNS
    tail = f"\nColumns: {_cut(names, 250)}" if names else ""
    tail += f" +{more} more" if more > 0 else ""
    tail += f" ({MAY_REPEAT})" if repeats else ""
    return f"{_cut(_headline(body), HEADER)}\n{_cut(what, TEXT - HEADER - 300)}{tail}"


def reply(body: Body, *, repeats: bool = False) -> str:
    """One line for the thread of an incident: what this change was."""
    tail = f" ({MAY_REPEAT})" if repeats else ""
    if isinstance(body, RetrainBody):
        return _cut(f"Retraining called for: {body.reason}", TEXT) + tail
    return (
        _cut(f"{body.change.capitalize()} in window {body.window.index}, {body.severity}: {body.summary}", TEXT) + tail
    )


def escape(words: str) -> str:
    """The three characters that Slack reads as markup, made harmless; the unprintable and white space become blanks."""
    seen = "".join(letter if letter.isprintable() else " " for letter in words)
    return " ".join(seen.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(words: str, limit: int) -> str:
    return cut(escape(words), limit)


def _headline(body: Body) -> str:
    version = "" if body.version is None else f" {body.version[:20]}"
    model = f"{'TEST · ' if body.test else ''}{body.model[:60]}{version}"
    if isinstance(body, RetrainBody):
        return f"🔁 {model} · retraining called for"
    if body.change == "digest":
        return f"📋 {body.title}"
    icon = "✅" if body.state == "resolved" else _ICONS[body.severity]
    segment = "" if body.segment in {"", "all"} else f" · {body.segment[:30]}"
    return f"{icon} {model}{segment} · {body.severity} · {body.state}"


def _digest(body: AlertBody) -> str:
    lines = body.summary.split("; ")
    more = [f"+{len(lines) - N_LINES} more"] if len(lines) > N_LINES else []
    return cut("\n".join([*(f"• {_cut(line, LINE)}" for line in lines[:N_LINES]), *more]), 2900)


def _actions(body: AlertBody) -> list[Block]:
    """What may be done about the incident as it stands; a button's action_id is the verb and its detail."""
    if body.state == "resolved":
        return []
    buttons = [] if body.acknowledged else [_button("Acknowledge", ACKNOWLEDGE, body.incident)]
    buttons += [_button(f"Snooze {words}", f"{SNOOZE}:{words}", body.incident) for words in SNOOZES]
    buttons.append(_button("Resolve", RESOLVE, body.incident))
    if body.approvable is not None:
        buttons.append({**_button("Approve retraining", APPROVE, body.approvable), "style": "primary"})
    return [{"type": "actions", "elements": buttons}]


def _button(words: str, action: str, value: str) -> Block:
    return {
        "type": "button",
        "text": {"type": "plain_text", "text": words, "emoji": False},
        "action_id": action,
        "value": value,
    }


def _notes(body: Body, link: str, repeats: bool) -> list[Block]:
    who = body.acknowledged if isinstance(body, AlertBody) else None
    notes = [f"Acknowledged by {_cut(who, 100)}"] if who else []
    notes += [f"<{escape(link).replace('|', '%7C')}|More about it>"] if link else []
    notes += ["This message may repeat an earlier one, whose answer was lost"] if repeats else []
    return [_context(notes)] if notes else []


def _column(column: ColumnChange) -> str:
    segment = "" if column.segment in {"", "all"} else f" in {_code_span(column.segment)}"
    numbers = [] if column.effect is None else [f"{_cut(column.measure, 60)} {column.effect:.3g}"]
    if numbers and column.effect_low is not None and column.effect_high is not None:
        numbers[0] += f" (95 % {column.effect_low:.3g} to {column.effect_high:.3g})"
    if column.p_value is not None:
        numbers.append(f"p {column.p_value:.2g}")
    since = "" if column.since is None else f" ({_cut(column.since, 40)})"
    numbers.append(f"since window {column.since_window}{since}")
    return f"{_code_span(column.column)}{segment}  {_cut(column.what, COLUMN - 450)}\n{' · '.join(numbers)}"


def _more(columns: tuple[ColumnChange, ...]) -> list[Block]:
    more = len(columns) - N_COLUMNS
    return [_context([f"+{more} more"])] if more > 0 else []


def _window(window: WindowFacts) -> str:
    span = "" if window.start is None or window.end is None else f", {_cut(f'{window.start} to {window.end}', 100)}"
    return f"Window {window.index}{span}, {window.n_rows:,} rows"


def _rows(body: RetrainBody) -> str:
    ranges = body.rows[:N_RANGES]
    shown = "; ".join(f"{r.topic[:40]}/{r.partition} {r.first_offset}–{r.last_offset}" for r in ranges)
    return f"{shown}; +{len(body.rows) - N_RANGES} more" if len(body.rows) > N_RANGES else shown


def _code_span(words: str) -> str:
    return f"`{_cut(words.replace('`', chr(39)), 80)}`"


def _header(words: str) -> Block:
    # emoji off: a model named "a:fire:b" keeps its name.
    return {"type": "header", "text": {"type": "plain_text", "text": _cut(words, HEADER), "emoji": False}}


def _section(mrkdwn: str) -> Block:
    return {"type": "section", "text": _mrkdwn(mrkdwn)}


def _context(elements: list[str]) -> Block:
    return {"type": "context", "elements": [_mrkdwn(element) for element in elements]}


def _mrkdwn(words: str) -> Block:
    # verbatim: no names or addresses in the data turn into links or mentions.
    return {"type": "mrkdwn", "text": words, "verbatim": True}
