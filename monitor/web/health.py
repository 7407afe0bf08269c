"""Health, metrics and reload, for machines that look after the service."""

from __future__ import annotations

from typing import Final

import msgspec
from litestar import MediaType, Response, get, head, post

from monitor.health import Checks
from monitor.metrics import CONTENT_TYPE
from monitor.order import Answer
from monitor.web.site import Asked, Here, is_reader, may_change, may_read


@get(["/healthz", "/-/healthy"], sync_to_thread=False, include_in_schema=False)
def alive(site: Here, request: Asked) -> Response[Checks]:
    """Whether the process does anything at all."""
    return _answer(site.service.alive(), request)


@get(["/readyz", "/-/ready"], sync_to_thread=False, include_in_schema=False)
def ready(site: Here, request: Asked) -> Response[Checks]:
    """Whether records are read, judged and remembered."""
    return _answer(site.service.ready(), request)


@head(["/healthz", "/-/healthy", "/readyz", "/-/ready"], sync_to_thread=False, include_in_schema=False)
def heads(site: Here, request: Asked) -> Response[None]:
    """The same without words."""
    checks = site.service.alive() if "health" in request.url.path else site.service.ready()
    return Response(None, status_code=200 if checks.ok else 503)


@get("/metrics", sync_to_thread=False, guards=[may_read], include_in_schema=False)
def metrics(site: Here) -> Response[bytes]:
    """What Prometheus scrapes."""
    return Response(site.service.metrics(), media_type=CONTENT_TYPE)


@post("/-/reload", sync_to_thread=False, guards=[may_change], status_code=200, include_in_schema=False)
def reload(site: Here) -> Answer:
    """Read the configuration again, as SIGHUP does."""
    site.service.reload()
    return Answer(True, "the configuration is read again; /readyz says whether it was taken")


HANDLERS: Final = [alive, ready, heads, metrics, reload]


def _answer(checks: Checks, request: Asked) -> Response[Checks]:
    """Who may not read is told which check fails, and not why."""
    if not is_reader(request):
        checks = msgspec.structs.replace(
            checks, checks={name: "ok" if words == "ok" else "not ok" for name, words in checks.checks.items()}
        )
    return Response(checks, status_code=200 if checks.ok else 503, media_type=MediaType.JSON)
