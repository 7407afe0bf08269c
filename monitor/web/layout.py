"""What all pages share: the frame around the content, and how times, states and links look."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from litestar import MediaType, Response

from monitor.web.gate import Session
from monitor.web.html import Html, Part, path, tag
from monitor.web.site import Asked, session_of, site_of
from monitor.window import WHOLE

STATIC: Final = {
    name: (files("monitor.web") / "static" / name).read_bytes() for name in ("page.css", "page.js", "icon.svg")
}
"""Every asset there is."""
_VERSIONS: Final = {name: hashlib.sha256(content).hexdigest()[:12] for name, content in STATIC.items()}
_PLACES: Final = (
    ("/", "Overview"), ("/incidents", "Incidents"), ("/triggers", "Retraining"), ("/silences", "Silences"),
    ("/outbox", "Outbox"), ("/dead-letters", "Dead letters"),
)  # fmt: skip
_SIGNS: Final = {"firing": "▲", "nodata": "∅", "error": "✕", "resolved": "✓", "pending": "…", "ok": "✓", "unknown": "?"}


def page(request: Asked, title: str, *content: Part, status: int = 200) -> Response[str]:
    """A page. Its content comes with the first heading."""
    session = session_of(request)
    words = "<!doctype html>" + tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", f"{title} · driftd"),
            tag("link", rel="icon", href=asset("icon.svg")),
            tag("link", rel="stylesheet", href=asset("page.css")),
            tag("script", src=asset("page.js"), defer=True),
        ),
        tag(
            "body",
            tag("a", "Skip to the content", href="#content", class_="skip"),
            _top(request, session),
            tag("main", content, id="content", tabindex=-1),
            _hatching(),
        ),
        lang="en",
    )
    return Response(words, media_type=MediaType.HTML, status_code=status)


def asset(name: str) -> str:
    """The address of an asset; a new content has a new one."""
    return path("static", name, v=_VERSIONS[name])


def badge(state: str, words: str | None = None) -> Html:
    """A state by colour, sign and word."""
    sign = tag("span", _SIGNS.get(state, "•"), aria_hidden="true")
    return tag("span", sign, " ", words or state, class_=f"badge {state}")


def moment(time: str | None) -> Html:
    """A point in time."""
    if time is None:
        return tag("span", "no time", class_="soft")
    return tag("time", time[:16].replace("T", " "), datetime=time, title=f"{time} (UTC)")


def section(title: str, *content: Part, id_: str | None = None, level: int = 2) -> Html:
    """A part of a page under a heading."""
    return tag("section", tag(f"h{level}", title), content, id=id_)


def facts(*pairs: tuple[str, Part]) -> Html:
    """Short facts: name and value."""
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs], class_="facts")


def link(words: Part, href: str, class_: str | None = None) -> Html:
    """A link inside the page."""
    return tag("a", words, href=href, class_=class_)


def column_link(model: str, column: str, segment: str = WHOLE) -> Html:
    """A link to a column's history; a column may have any name, or none."""
    return link(column or "(no name)", path("models", model, "column", name=column, segment=in_query(segment)))


def in_query(segment: str) -> str | None:
    """A segment as addresses name it: the whole goes without saying."""
    return None if segment == WHOLE else segment


def few(columns: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(name or "(no name)" for name in columns[:5]) + (" …" if len(columns) > 5 else "")


def model_link(model: str) -> Html:
    """A link to a model."""
    return link(model, path("models", model))


def incident_link(incident: str) -> Html:
    """The permanent link to an incident."""
    return link(incident, path("incidents", incident))


def back_to(request: Asked) -> str:
    """This page's own address, to come back to."""
    query = request.scope.get("query_string", b"").decode("latin-1")
    raw = request.scope.get("raw_path", b"/").decode("latin-1")
    return f"{raw}?{query}" if query and "?" not in raw else raw


def _top(request: Asked, session: Session | None) -> Html:
    here = request.url.path
    places = [
        tag("li", tag("a", words, href=href, aria_current="page" if href == here else None)) for href, words in _PLACES
    ]
    return tag(
        "header",
        link([tag("span", "▚", aria_hidden="true"), " driftd"], "/", "brand"),
        tag("nav", tag("ul", places), aria_label="Main"),
        _account(request, session),
    )


def _account(request: Asked, session: Session | None) -> Html | None:
    gate = site_of(request).gate
    if session is not None:
        mark = tag("input", type="hidden", name="mark", value=gate.form_mark(session))
        leave = tag("form", mark, tag("button", "Log out", class_="quiet"), method="post", action="/logout")
        return tag("div", tag("span", session.name), leave, class_="account")
    if not gate.has_token:
        return None
    return tag("div", link("Log in", path("login", next=back_to(request))), class_="account")


def _hatching() -> Html:
    """The pattern that marks what is more than in the reference, for whoever cannot tell the colours apart."""
    stroke = tag("path", d="M0 6 L6 0", class_="hatch-line")
    pattern = tag(
        "pattern", tag("rect", width=6, height=6, class_="hatch-ground"), stroke, id="hatch", width=6, height=6,
        patternUnits="userSpaceOnUse",
    )  # fmt: skip
    return tag("svg", tag("defs", pattern), width=0, height=0, class_="defs", aria_hidden="true", focusable="false")
