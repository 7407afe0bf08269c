"""A notice as Slack shows it: blocks, a few plain words, and one line for a thread. Touches nothing else.

Names and sentences come from data that anyone may have written, so every one of them is escaped, and cut with room to
spare: a message that is too long must get shorter, never fail.
"""

from __future__ import annotations

from typing import Final

from detectors.season import HOUR_MS
from monitor.channels import words
from monitor.channels.blockkit import Block, cut, fitted
from monitor.channels.mask import printable
from monitor.channels.words import N_COLUMNS
from monitor.message import AlertBody, Body, ColumnChange

N_LINES: Final = 25
HEADER, TITLE, SUMMARY, COLUMN, CONTEXT, TEXT, LINE = 140, 300, 2200, 800, 250, 900, 250
ACKNOWLEDGE, SNOOZE, RESOLVE, APPROVE = "acknowledge", "snooze", "resolve", "approve"
SNOOZES: Final = {"4 h": 4 * HOUR_MS, "24 h": 24 * HOUR_MS}
"""For how long people may snooze, in milliseconds, by the words on the button."""
MAY_REPEAT: Final = "may repeat"


def blocks(
    body: Body, link: str = "", *, report: str = "", buttons: bool = False, repeats: bool = False
) -> list[Block]:
    """The message as Block Kit blocks, within Slack's limits for any body.

    link: where people read more; report: where the report is. buttons: what people can do about it. repeats: the
    message may be a second one.
    """
    opening = _header(words.headline(body))
    if words.is_digest(body):
        return fitted([opening, _section(_digest(body)), *_notes(body, link, "", repeats)])
    if isinstance(body, AlertBody):
        what = f"*{_cut(body.title, TITLE)}*\n{_cut(body.summary, SUMMARY)}"
        closing = [] if body.retraining is None else [_context([f"Retraining: {_cut(body.retraining, CONTEXT)}"])]
        closing += _actions(body) if buttons else []
    else:
        what = _cut(body.reason, SUMMARY)
        closing = [_context([f"Rows: {_cut(words.rows(body), CONTEXT)}", f"Trigger {_code_span(body.trigger)}"])]
    facts = [_cut(words.window(body.window), CONTEXT), f"Reference {_code_span(words.reference(body))}"]
    return fitted(
        [
            opening,
            _section(what),
            *(_section(_column(column)) for column in body.columns[:N_COLUMNS]),
            *([_context([f"+{words.n_more(body)} more"])] if words.n_more(body) else []),
            *closing,
            _context([*facts, f"Incident {_code_span(body.incident)}"]),
            *_notes(body, link, report, repeats),
        ]
    )


def text(body: Body, *, repeats: bool = False) -> str:
    """The message in a few plain words: for notifications, screen readers, and where the blocks are refused."""
    tail = f"\nColumns: {_cut(words.names(body), 250)}" if body.columns else ""
    tail += f" +{words.n_more(body)} more" if words.n_more(body) else ""
    tail += f" ({MAY_REPEAT})" if repeats else ""
    return f"{_cut(words.headline(body), HEADER)}\n{_cut(words.about(body), TEXT - HEADER - 300)}{tail}"


def reply(body: Body, *, repeats: bool = False) -> str:
    """One line for the thread of an incident: what this change was."""
    return _cut(words.change(body), TEXT) + (f" ({MAY_REPEAT})" if repeats else "")


def escape(text: str) -> str:
    """The three characters that Slack reads as markup, made harmless; the unprintable and white space become blanks."""
    return " ".join(printable(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(text: str, limit: int) -> str:
    return cut(escape(text), limit)


def _column(column: ColumnChange) -> str:
    segment = f" in {_code_span(words.place(column))}" if words.place(column) else ""
    what = f"{_code_span(column.column)}{segment}  {_cut(column.what, COLUMN - 450)}"
    return f"{what}\n{_cut(words.numbers(column), 250)}"


def _digest(body: AlertBody) -> str:
    found = words.lines(body)
    more = [f"+{len(found) - N_LINES} more"] if len(found) > N_LINES else []
    return cut("\n".join([*(f"• {_cut(line, LINE)}" for line in found[:N_LINES]), *more]), 2900)


def _actions(body: AlertBody) -> list[Block]:
    """What may be done about the incident as it stands; a button's action_id is the verb and its detail."""
    if body.state == "resolved":
        return []
    buttons = [] if body.acknowledged else [_button("Acknowledge", ACKNOWLEDGE, body.incident)]
    buttons += [_button(f"Snooze {span}", f"{SNOOZE}:{span}", body.incident) for span in SNOOZES]
    buttons.append(_button("Resolve", RESOLVE, body.incident))
    if body.approvable is not None:
        buttons.append({**_button("Approve retraining", APPROVE, body.approvable), "style": "primary"})
    return [{"type": "actions", "elements": buttons}]


def _button(label: str, action: str, value: str) -> Block:
    return {
        "type": "button",
        "text": {"type": "plain_text", "text": label, "emoji": False},
        "action_id": action,
        "value": value,
    }


def _notes(body: Body, link: str, report: str, repeats: bool) -> list[Block]:
    who = body.acknowledged if isinstance(body, AlertBody) else None
    notes = [f"Acknowledged by {_cut(who, 100)}"] if who else []
    led = (("More about it", link), ("Report on its rows", report))
    notes += [f"<{escape(url).replace('|', '%7C')}|{label}>" for label, url in led if url]
    notes += ["This message may repeat an earlier one, whose answer was lost"] if repeats else []
    return [_context(notes)] if notes else []


def _code_span(text: str) -> str:
    return f"`{_cut(text.replace('`', chr(39)), 80)}`"


def _header(text: str) -> Block:
    # emoji off: a model named "a:fire:b" keeps its name.
    return {"type": "header", "text": {"type": "plain_text", "text": _cut(text, HEADER), "emoji": False}}


def _section(mrkdwn: str) -> Block:
    return {"type": "section", "text": _mrkdwn(mrkdwn)}


def _context(elements: list[str]) -> Block:
    return {"type": "context", "elements": [_mrkdwn(element) for element in elements]}


def _mrkdwn(text: str) -> Block:
    # verbatim: no names or addresses in the data turn into links or mentions.
    return {"type": "mrkdwn", "text": text, "verbatim": True}
