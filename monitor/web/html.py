"""Markup from values: text is escaped unless it is `Html` already, which only this file makes.

>>> print(tag("a", "R&D ", tag("b", "<script>"), href='?q="x"', class_="link", hidden=False))
<a href="?q=&quot;x&quot;" class="link">R&amp;D <b>&lt;script&gt;</b></a>
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote, urlencode


class Html(str):
    """Text that is markup."""

    __slots__ = ()


Part = str | int | float | None | Iterable["Part"]
"""What may stand inside an element: text, markup, or several of both; None is nothing."""
Attribute = str | int | float | bool | None

_VOID: Final = frozenset({"br", "hr", "img", "input", "link", "meta"})
_SHAPES: Final = frozenset({"circle", "line", "path", "polygon", "polyline", "rect", "use"})
"""Parts of drawings that hold nothing; inside them HTML wants the slash."""


def markup(part: Part) -> Html:
    """The part as markup."""
    if isinstance(part, Html):
        return part
    if part is None:
        return Html()
    if isinstance(part, str | int | float):
        return Html(html.escape(str(part)))
    return Html("".join(map(markup, part)))


def tag(element: str, /, *content: Part, **attributes: Attribute) -> Html:
    """An element. Attributes: True stands without a value, None and False are left out; `class_` is class, and any
    other underscore a hyphen."""
    words = [element]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        shown = key.rstrip("_").replace("_", "-")
        words.append(shown if value is True else f'{shown}="{html.escape(str(value))}"')
    head = " ".join(words)
    if element in _SHAPES:
        return Html(f"<{head}/>")
    return Html(f"<{head}>") if element in _VOID else Html(f"<{head}>{''.join(map(markup, content))}</{element}>")


def path(*parts: str, **query: str | int | None) -> str:
    """An address on this page: each part and value may be any text."""
    asked = {key: value for key, value in query.items() if value is not None}
    return "/" + "/".join(quote(part, safe="") for part in parts) + (f"?{urlencode(asked)}" if asked else "")


def table(head: Iterable[Part], rows: Iterable[Iterable[Part]], caption: str, *, shown: bool = False) -> Html:
    """A table whose rows are headed by their first cell, scrolling by itself where it is too wide. shown: whether its
    caption is for all to see, not only for who has it read out."""
    body = [tag("tr", tag("th", first, scope="row"), [tag("td", cell) for cell in rest]) for first, *rest in rows]
    return scrolling(
        tag(
            "table",
            tag("caption", caption, class_=None if shown else "unseen"),
            tag("thead", tag("tr", [tag("th", cell, scope="col") for cell in head])),
            tag("tbody", body),
        ),
        caption,
    )


def scrolling(content: Part, label: str, *, latest: bool = False) -> Html:
    """What may be wider than the screen; the keyboard can scroll it. latest: whether its right end is shown first."""
    class_ = "scroll latest" if latest else "scroll"
    return tag("div", content, class_=class_, tabindex=0, role="region", aria_label=label)
