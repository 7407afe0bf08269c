"""An incident's Evidently report: made when somebody asks for it, shown in a frame of its own that can do nothing."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from litestar import MediaType, Response, get, post
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.response import Redirect

from monitor import report
from monitor.account import Explanation
from monitor.web.forms import fields_of, form_at, own
from monitor.web.html import Part, path, tag
from monitor.web.layout import link
from monitor.web.site import Asked, Here, site_of

_ALONE: Final = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The report brings scripts of its own. They run without an origin: no cookie, no request, no page of ours."""


def report_part(request: Asked, found: Explanation) -> Part:
    """The link to the report, and what makes it."""
    incident = found.incident.id
    made = report.place(site_of(request).directory, incident).exists()
    address = path("incidents", incident, "report")
    make = form_at(request, f"{address}/new", "Make it again" if made else "Make the report", {}, lead="Takes a while.")
    if not made and make is None:
        return tag("p", "None was made; log in to make one.", class_="soft")
    return tag("div", tag("p", link("The report", address)) if made else None, make)


@get("/incidents/{identity:str}/report", sync_to_thread=True, include_in_schema=False)
def shown(site: Here, identity: FromPath[str]) -> Response[bytes]:
    """The report that was made last."""
    file = report.place(site.directory, identity)
    if not file.exists():
        raise NotFoundException(
            f"there is no report of {identity}: it is still being made, is not kept any more, or nobody asked for it"
        )
    return Response(file.read_bytes(), media_type=MediaType.HTML, headers={"content-security-policy": _ALONE})


# An address of its own: Litestar calls a thread-run handler wrongly when another one has the same address.
@post("/incidents/{identity:str}/report/new", status_code=200, include_in_schema=False)
async def made(site: Here, request: Asked, identity: FromPath[str]) -> Response[Any]:
    """Make it, and go back to the incident."""
    own(request, await fields_of(request))
    await asyncio.to_thread(report.make, site.directory, identity)
    return Redirect(path("incidents", identity), status_code=303)
