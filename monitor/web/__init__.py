"""The page that an alert links to, and the JSON API behind it.

Everything is read from the database, in threads of its own; what is to change is asked of the loop. Pages are made
here, without scripts or assets from elsewhere, and work without JavaScript; a small script of our own keeps an open
page up to date.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from litestar import Litestar, Request, Response, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.types import Message, Scope

from monitor import __version__
from monitor.errors import StoreError
from monitor.history import Unknown
from monitor.web import api, health
from monitor.web.site import Site, may_read

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
        [api.ROUTER, *health.HANDLERS],
        dependencies={"site": Provide(lambda: site, sync_to_thread=False)},
        state=State({"site": site}),
        openapi_config=schema,
        request_max_body_size=BODY_BYTES,
        before_send=[_guarded],
        exception_handlers={Unknown: _unknown, StoreError: _unreadable},
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


def _unknown(_: Request[Any, Any, Any], fault: Exception) -> Response[dict[str, Any]]:
    return _fault(404, str(fault))


def _unreadable(_: Request[Any, Any, Any], fault: Exception) -> Response[dict[str, Any]]:
    log.error("a page cannot be shown: %s", fault)
    return _fault(503, str(fault))


def _fault(status: int, words: str) -> Response[dict[str, Any]]:
    return Response({"status_code": status, "detail": words}, status_code=status)
