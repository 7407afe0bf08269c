"""Assets, and word to open pages that something has changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from litestar import Response, get
from litestar.exceptions import NotFoundException, ServiceUnavailableException
from litestar.params import FromPath
from litestar.response import ServerSentEvent
from litestar.response.sse import ServerSentEventMessage

from monitor.database import read_only
from monitor.web.layout import STATIC
from monitor.web.site import Here, Site, may_read

LOOK_SECONDS: Final = 2.0
LONGEST_SECONDS: Final = 600.0
"""How long one stream lasts; a browser comes back by itself."""
_STREAMS: Final = asyncio.Semaphore(40)
"""How many pages may follow at a time."""
_KINDS: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@get("/static/{name:str}", sync_to_thread=False, include_in_schema=False)
def static(name: FromPath[str]) -> Response[bytes]:
    """An asset; its address changes with its content, so a browser may keep it."""
    if name not in STATIC:
        raise NotFoundException(f"there is no {name}")
    headers = {"cache-control": "public, max-age=31536000, immutable"}
    return Response(STATIC[name], media_type=_KINDS[name.rpartition(".")[2]], headers=headers)


@get("/live", guards=[may_read], include_in_schema=False)
async def live(site: Here) -> ServerSentEvent:
    """Says "changed" whenever something was committed, at most every other second."""
    if _STREAMS.locked():
        raise ServiceUnavailableException("too many open pages; this one does not follow by itself")
    return ServerSentEvent(_changes(site))


async def _changes(site: Site) -> AsyncIterator[ServerSentEventMessage]:
    async with _STREAMS:
        db = read_only(site.directory)
        try:
            before = db.execute("PRAGMA data_version").fetchone()
            yield ServerSentEventMessage(event="ready", data="", retry=5_000)
            for _ in range(int(LONGEST_SECONDS / LOOK_SECONDS)):
                await asyncio.sleep(LOOK_SECONDS)
                now = db.execute("PRAGMA data_version").fetchone()
                if now != before:
                    yield ServerSentEventMessage(event="changed", data="")
                before = now
        finally:
            db.close()


HANDLERS: Final = [static, live]
