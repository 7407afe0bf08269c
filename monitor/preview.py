"""A message as Slack shows it, drawn without Slack: the blocks that driftd uses, as a page that loads nothing."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any, Final

import msgspec

from monitor.channels.slack_layout import blocks
from monitor.errors import DriftdError
from monitor.message import Body, decode

_STYLE: Final = """
body { font: 15px/1.47 Lato, "Helvetica Neue", Arial, sans-serif; color: #1d1c1d; background: #fff; margin: 24px; }
main { max-width: 640px; display: grid; grid-template-columns: 44px 1fr; gap: 0 12px; }
.face { width: 36px; height: 36px; border-radius: 6px; background: #2f6f8f; color: #fff; text-align: center;
  font: bold 20px/36px sans-serif; }
.name { font-weight: 900; } .app { font-size: 10px; font-weight: 700; background: #e8e8e8; color: #616061;
  border-radius: 2px; padding: 1px 3px; margin-left: 4px; }
.header { font-size: 18px; font-weight: 900; margin: 6px 0; } .section { margin: 6px 0; white-space: pre-wrap; }
.context { font-size: 12.5px; color: #616061; margin: 4px 0; } .context span { margin-right: 10px; }
code { font: 12px Monaco, Menlo, Consolas, monospace; background: #f6f6f6; border: 1px solid #ddd; border-radius: 3px;
  color: #c01343; padding: 1px 3px; }
.actions { margin: 8px 0; display: flex; flex-wrap: wrap; gap: 8px; }
.button { border: 1px solid #bbb; border-radius: 4px; padding: 4px 12px; font-size: 14px; font-weight: 700; }
.primary { background: #007a5a; border-color: #007a5a; color: #fff; } a { color: #1264a3; text-decoration: none; }
.header i { display: inline-block; width: 15px; height: 15px; border-radius: 50%; vertical-align: -1px; }
.divider { border-top: 1px solid #ddd; margin: 10px 0; }
"""
_DOTS: Final = {"🔵": "#2f7de1", "🟠": "#e8912d", "🔴": "#d72b3f"}
_MRKDWN: Final = re.compile(r"<(https?://[^|>]+)\|([^>]*)>|`([^`\n]+)`|\*([^*\n]+)\*")


class Unreadable(DriftdError):
    """What was given to be drawn is no message of driftd's."""


def read(file: Path) -> Body:
    """The message in a file: a body, a notice with one, or the first notice of many, one a line."""
    try:
        text = file.read_bytes()
    except OSError as error:
        raise Unreadable(f"{file} cannot be read: {error.strerror}") from error
    for candidate in (text, text.splitlines()[0] if text.strip() else b""):
        try:
            document = msgspec.json.decode(candidate)
            body = document.get("body", document) if isinstance(document, dict) else document
            return decode(msgspec.json.encode(body))
        except msgspec.DecodeError as error:
            fault = str(error)
    raise Unreadable(f"{file} holds no message: {fault}; wanted the body of a notice, as replay writes it")


def page(body: Body, link: str = "https://driftd.example.com/incidents/…") -> str:
    """The page. link: where the message would point."""
    drawn = "\n".join(_block(block) for block in blocks(body, link, buttons=True))
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>driftd</title><style>{_STYLE}</style>\n'
        f'<main><div class="face">d</div><div><div><span class="name">driftd</span><span class="app">APP</span></div>\n'
        f"{drawn}\n</div></main></html>\n"
    )


def _block(block: dict[str, Any]) -> str:
    kind = block["type"]
    if kind == "divider":
        return '<div class="divider"></div>'
    if kind == "actions":
        return f'<div class="actions">{"".join(map(_button, block["elements"]))}</div>'
    if kind == "context":
        inside = "".join(f"<span>{_text(element)}</span>" for element in block["elements"])
        return f'<div class="context">{inside}</div>'
    return f'<div class="{kind}">{_text(block["text"])}</div>'


def _button(element: dict[str, Any]) -> str:
    style = " primary" if element.get("style") == "primary" else ""
    return f'<span class="button{style}">{_text(element["text"])}</span>'


def _text(part: dict[str, Any]) -> str:
    """Plain text as it is; mrkdwn, whose text is escaped already, with its marks drawn."""
    if part["type"] == "plain_text":
        # Drawn, since not every machine has a font with pictures.
        plain = escape(part["text"].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
        return "".join(f'<i style="background:{_DOTS[sign]}"></i>' if sign in _DOTS else sign for sign in plain)
    return _MRKDWN.sub(_mark, part["text"].replace('"', "&quot;"))


def _mark(match: re.Match[str]) -> str:
    url, label, code, bold = match.groups()
    if url is not None:
        return f'<a href="{url}" rel="noreferrer">{label}</a>'
    return f"<code>{code}</code>" if code is not None else f"<b>{bold}</b>"
