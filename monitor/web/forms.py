"""What a person can do from a page: the forms, and what becomes of them.

A form carries its session's mark, so that no other site can send it; who did something is the name given at the login.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from litestar import Response, get, post
from litestar.datastructures import Cookie
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException, ValidationException
from litestar.params import FromQuery
from litestar.response import Redirect

from detectors.season import HOUR_MS
from monitor.account import Explanation, TriggerEntry
from monitor.order import (
    Acknowledge,
    Approve,
    Drop,
    ExpireSilence,
    Order,
    Refuse,
    Resend,
    Resolve,
    Silence,
    Snooze,
)
from monitor.retrain import Step
from monitor.web.gate import COOKIE, SESSION_SECONDS, Session, TooMany, is_same_site
from monitor.web.html import Html, Part, path, tag
from monitor.web.layout import back_to, link, page
from monitor.web.site import Asked, Here, address_of, session_of, site_of, too_many

SPANS: Final = {"1": "1 hour", "4": "4 hours", "24": "1 day", "168": "1 week", "720": "30 days"}
Fields = Mapping[str, str]


def incident_forms(request: Asked, found: Explanation) -> Part:
    """What can be done about an incident."""
    one = found.incident
    if one.state == "resolved":
        return tag("p", "It is over.")
    if session_of(request) is None:
        return _ask_to_log_in(request)
    silence = [
        field("column", "Column", one.columns[0] if len(one.columns) == 1 else "*"),
        field("comment", "Why", required=True),
        spans("Silence for", "24"),
    ]
    return tag(
        "div",
        form(
            request, "acknowledge", "Acknowledge", {"incident": one.id}, lead="No repeats; only what is graver is told."
        ),
        form(request, "snooze", "Snooze", {"incident": one.id}, spans("Snooze for", "4")),
        form(request, "silence", "Silence", {"model": one.model}, *silence),
        form(request, "resolve", "Resolve", {"incident": one.id}, field("note", "Note")),
        class_="forms",
    )


def trigger_forms(request: Asked, entry: TriggerEntry) -> Part:
    """What can be done about a retraining trigger that waits for somebody."""
    ready = entry.step == Step.SUCCEEDED and entry.reference is not None
    if (entry.step != Step.AWAITS_APPROVAL and not ready) or session_of(request) is None:
        return None
    lead = (
        f"The job succeeded. Approve to compare with its reference {entry.reference} from now on."
        if ready
        else f"{entry.id} waits for approval: it would call {entry.channel}."
    )
    return tag(
        "div",
        form(request, "approve", "Approve", {"trigger": entry.id}, lead=lead),
        form(request, "refuse", "Refuse", {"trigger": entry.id}),
        class_="forms",
    )


def form(request: Asked, action: str, words: str, fixed: Fields, *fields: Part, lead: str = "") -> Part:
    """One form that gives an order, for who has logged in."""
    return form_at(request, path("do", action), words, fixed, *fields, lead=lead)


def form_at(request: Asked, address: str, words: str, fixed: Fields, *fields: Part, lead: str = "") -> Part:
    """One form, for who has logged in."""
    session = session_of(request)
    if session is None:
        return None
    hidden = {"mark": site_of(request).gate.form_mark(session), "next": back_to(request), **fixed}
    return tag(
        "form",
        [tag("input", type="hidden", name=name, value=value) for name, value in hidden.items()],
        tag("p", lead) if lead else None,
        fields,
        tag("button", words, type="submit"),
        method="post",
        action=address,
        class_="act",
    )


def field(name: str, label: str, value: str = "", *, required: bool = False) -> Html:
    """A line of text."""
    return tag("label", label, " ", tag("input", name=name, value=value, required=required, maxlength=2_000))


def spans(label: str, chosen: str) -> Html:
    """How long."""
    options = [tag("option", words, value=hours, selected=hours == chosen) for hours, words in SPANS.items()]
    return tag("label", label, " ", tag("select", options, name="hours"))


def _ask_to_log_in(request: Asked) -> Html:
    if not site_of(request).gate.has_token:
        return tag("p", "Nothing can be changed here: the configuration has no token under [http].", class_="soft")
    return tag(
        "p", link("Log in", path("login", next=back_to(request))), " to acknowledge, snooze, silence or resolve it."
    )


@get("/login", sync_to_thread=False, include_in_schema=False)
def login(request: Asked, next_: FromQuery[str] = "/") -> Response[str]:
    """The login form."""
    return _login(request, local(request.query_params.get("next", next_)))


@post("/login", status_code=200, include_in_schema=False)
async def log_in(request: Asked) -> Response[Any]:
    """Give a session for the token."""
    fields = await fields_of(request)
    following, name, gate = local(fields.get("next", "/")), fields.get("name", "").strip()[:80], site_of(request).gate
    if not is_same_site(request.headers):
        raise PermissionDeniedException("this form was sent by another site")
    try:
        right = gate.admits(fields.get("token", ""), address_of(request))
    except TooMany as fault:
        raise too_many(fault) from None
    if not right or not name:
        return _login(request, following, "The token is not the one of [http]." if name else "Say who you are.", name)
    response = Redirect(following, status_code=303)
    response.set_cookie(_cookie(request, gate.opened(name), SESSION_SECONDS))
    return response


@post("/logout", status_code=200, include_in_schema=False)
async def log_out(request: Asked) -> Response[Any]:
    """End the session in this browser."""
    own(request, await fields_of(request))
    response = Redirect("/", status_code=303)
    response.set_cookie(_cookie(request, "", 0))
    return response


@post("/do/{action:str}", status_code=200, include_in_schema=False)
async def act(site: Here, request: Asked) -> Response[Any]:
    """Do what a form asks."""
    fields = await fields_of(request)
    session = own(request, fields)
    make = ORDERS.get(str(request.path_params["action"]))
    if make is None:
        raise ValidationException("no such form")
    answer = await site.ordered(make(fields, session.name))
    following = local(fields.get("next", "/"))
    if answer.done:
        return Redirect(following, status_code=303)
    words = tag("p", answer.words)
    return page(request, "Not done", tag("h1", "Not done"), words, tag("p", link("Back", following)), status=409)


ORDERS: Final[Mapping[str, Callable[[Fields, str], Order]]] = {
    "acknowledge": lambda f, by: Acknowledge(incident=_text(f, "incident"), by=by),
    "snooze": lambda f, by: Snooze(incident=_text(f, "incident"), by=by, until_ms=_until_ms(f)),
    "resolve": lambda f, by: Resolve(incident=_text(f, "incident"), by=by, note=f.get("note", "")[:2_000]),
    "silence": lambda f, by: Silence(
        by=by, comment=_text(f, "comment"), ends_ms=_until_ms(f), model=f.get("model") or "*",
        segment=f.get("segment") or "*", column=f.get("column") or "*", severity=f.get("severity") or "*",
    ),
    "expire": lambda f, by: ExpireSilence(silence=_text(f, "silence"), by=by),
    "approve": lambda f, by: Approve(trigger=_text(f, "trigger"), by=by),
    "refuse": lambda f, by: Refuse(trigger=_text(f, "trigger"), by=by),
    "replay": lambda f, by: Resend(notice=_text(f, "notice"), by=by),
    "drop": lambda f, by: Drop(notice=_text(f, "notice"), by=by),
}  # fmt: skip
HANDLERS: Final = [login, log_in, log_out, act]


def local(address: str) -> str:
    """The address if it is one of this page's own, else the overview: nobody is led elsewhere by a link."""
    is_own = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_own and address.isascii() else "/"


def _login(request: Asked, following: str, fault: str = "", name: str = "") -> Response[str]:
    return page(
        request,
        "Log in",
        tag("h1", "Log in"),
        tag("p", fault, class_="fault", role="alert") if fault else None,
        tag(
            "form",
            tag("input", type="hidden", name="next", value=following),
            tag("label", "Your name, shown beside what you do ", tag("input", name="name", value=name, required=True,
                autocomplete="username", maxlength=80)),
            tag("label", "The token of [http] in driftd's configuration ", tag("input", name="token", type="password",
                required=True, autocomplete="current-password")),
            tag("button", "Log in", type="submit"),
            method="post",
            action="/login",
            class_="act login",
        ),
        status=403 if fault else 200,
    )  # fmt: skip


async def fields_of(request: Asked) -> Fields:
    """What a form sent; files are left out."""
    form_data = await request.form()
    return {name: value for name, value in form_data.items() if isinstance(value, str)}


def own(request: Asked, fields: Fields) -> Session:
    """The session of a form that was made for it."""
    session = session_of(request)
    if session is None:
        raise NotAuthorizedException("log in first")
    if not is_same_site(request.headers) or not site_of(request).gate.is_own_form(session, fields.get("mark", "")):
        raise PermissionDeniedException("this form was not made for your session; go back, reload and try again")
    return session


def _cookie(request: Asked, value: str, seconds: int) -> Cookie:
    secure = site_of(request).public_url.startswith("https:")
    return Cookie(COOKIE, value=value, max_age=seconds, path="/", httponly=True, samesite="strict", secure=secure)


def _text(fields: Fields, name: str) -> str:
    if not fields.get(name, "").strip():
        raise ValidationException(f"{name}: empty")
    return fields[name][:2_000]


def _until_ms(fields: Fields) -> int:
    hours = fields.get("hours", "")
    if hours not in SPANS:
        raise ValidationException(f"hours: found {hours[:20]!r}, wanted one of {', '.join(SPANS)}")
    return int(time.time() * 1000) + int(hours) * HOUR_MS
