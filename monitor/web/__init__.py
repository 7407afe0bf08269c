"""The page that an alert links to, and the JSON API behind it.

Everything is read from the database, in threads of its own; what is to change is asked of the loop. Pages are made
here, without scripts or assets from elsewhere, and work without JavaScript; a small script of our own keeps an open
page up to date.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from litestar import Litestar, Response, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException, NotAuthorizedException
from litestar.exceptions.responses import create_exception_response
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.response import Redirect
from litestar.types import Message, Scope

from monitor import __version__
from monitor.errors import ReportFault, StoreError
from monitor.history import Unknown
from monitor.web import api, column, forms, health, incident, layout, lists, live, model, overview, report
from monitor.web.html import path, tag
from monitor.web.site import Asked, Site, may_read, site_of

log = logging.getLogger(__name__)

BODY_BYTES: Final = 64 * 1024
_SAFE: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
PAGES: Final = Router(
    "/",
    guards=[may_read],
    route_handlers=[
        overview.overview,
        incident.incident,
        report.shown,
        *lists.HANDLERS,
        *model.HANDLERS,
        *column.HANDLERS,
    ],
)
_HEADERS: Final = [(name.encode(), words.encode()) for name, words in _SAFE.items()]


def application(site: Site) -> Litestar:
    """The page and the API of one configuration."""
    schema = OpenAPIConfig(
        title="driftd",
        version=__version__,
        description="What driftd sees of your models, and what you can tell it.",
        openapi_router=Router("/api/schema", route_handlers=[], guards=[may_read], include_in_schema=False),
        render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        use_handler_docstrings=True,
        components=Components(security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}),
    )
    app = Litestar(
        [api.ROUTER, PAGES, *health.HANDLERS, *live.HANDLERS, *forms.HANDLERS, report.made],
        dependencies={"site": Provide(lambda: site, sync_to_thread=False)},
        state=State({"site": site}),
        openapi_config=schema,
        request_max_body_size=BODY_BYTES,
        before_send=[_guarded],
        exception_handlers={
            Unknown: _unknown,
            StoreError: _unreadable,
            ReportFault: _not_made,
            HTTPException: _refused,
        },
        logging_config=None,
        debug=False,
    )
    for name, described in (app.openapi_schema.components.schemas or {}).items():
        if name in api.STRICT:
            described.additional_properties = False
    return app


async def _guarded(message: Message, _: Scope) -> None:
    """Add the headers that make a browser careful; a response may bring its own."""
    if message["type"] == "http.response.start":
        given = {name.lower() for name, _ in message["headers"]}
        message["headers"] = [*message["headers"], *(pair for pair in _HEADERS if pair[0] not in given)]


def _unknown(request: Asked, fault: Exception) -> Response[Any]:
    return _fault(request, 404, str(fault))


def _unreadable(request: Asked, fault: Exception) -> Response[Any]:
    log.error("a page cannot be shown: %s", fault, extra={"event": "page.failed"})
    return _fault(request, 503, str(fault))


def _not_made(request: Asked, fault: Exception) -> Response[Any]:
    log.warning("%s", fault, extra={"event": "report.not_made"})
    return _fault(request, 409, str(fault))


def _refused(request: Asked, fault: HTTPException) -> Response[Any]:
    """Programs get Litestar's own answer; people a page, or the login form where that is what is missing."""
    if not _is_page(request):
        return create_exception_response(request, fault)
    if isinstance(fault, NotAuthorizedException) and site_of(request).gate.has_token:
        return Redirect(path("login", next=layout.back_to(request)), status_code=303)
    return _fault(request, fault.status_code, fault.detail or "this cannot be done", fault.headers)


def _fault(request: Asked, status: int, words: str, headers: Mapping[str, str] | None = None) -> Response[Any]:
    if not _is_page(request):
        return Response({"status_code": status, "detail": words}, status_code=status)
    title = "Not found" if status == 404 else "That did not work"
    back = tag("p", layout.link("To the overview", "/"))
    response = layout.page(request, title, tag("h1", title), tag("p", words), back, status=status)
    for name, value in (headers or {}).items():
        response.set_header(name, value)
    return response


def _is_page(request: Asked) -> bool:
    return not request.url.path.startswith(("/api", "/-/", "/metrics", "/healthz", "/readyz", "/live", "/static"))
