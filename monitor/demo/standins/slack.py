"""Slack: messages, threads, history, files and incoming webhooks, with its limits on text and blocks."""

from __future__ import annotations

import hmac
import json
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from monitor.channels import blockkit
from monitor.demo.standins import Answer, Json, Received, StandIn

SCOPES = frozenset({"chat:write", "channels:history", "channels:read", "files:write"})
_HISTORY_PAGE = 15
"""Fewer messages a page than anyone asks for, so that whoever reads history has to turn pages."""


@dataclass(slots=True)
class Message:
    """One message in the stand-in's channel. edits: what it said before, oldest first; replies: its thread."""

    channel: str
    ts: str
    text: str
    blocks: list[Json]
    metadata: Json
    edits: list[str] = field(default_factory=list)
    replies: list[Message] = field(default_factory=list)
    loud: bool = False

    def shown(self) -> Json:
        """As the API tells of it."""
        return {"type": "message", "ts": self.ts, "text": self.text, "blocks": self.blocks, "metadata": self.metadata}


@dataclass(slots=True)
class Upload:
    """A file: what was uploaded, and where it was shared."""

    name: str
    length: int
    content: bytes = b""
    channel: str = ""
    thread: str = ""


class SlackStandIn(StandIn):
    """Slack's Web API under `api_url`, and an incoming webhook at `hook_url`.

    messages: the channel's own messages by ts, oldest first. hooked: what came through the webhook. whispers: messages
    for one user only, as user and text. channels: names that exist; None lets every name exist. scopes: what the app
    may do.
    """

    def __init__(
        self,
        token: str,
        channels: tuple[str, ...] | None = None,
        scopes: frozenset[str] = SCOPES,
        clock: Callable[[], float] = time.time,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(tls)
        self.messages: dict[str, Message] = {}
        self.uploads: dict[str, Upload] = {}
        self.hooked: list[Json] = []
        self.whispers: list[tuple[str, str]] = []
        self.scopes = scopes
        self._token = token
        self._clock = clock
        self._channels = channels
        self._ids: dict[str, str] = {}
        self._n_posted = 0
        self._methods: dict[str, tuple[str, Callable[[Json], Answer]]] = {
            "chat.postMessage": ("chat:write", self._post),
            "chat.update": ("chat:write", self._update),
            "chat.postEphemeral": ("chat:write", self._whisper),
            "conversations.list": ("channels:read", self._list),
            "conversations.history": ("channels:history", self._history),
            "conversations.replies": ("channels:history", self._replies),
            "files.getUploadURLExternal": ("files:write", self._upload_url),
            "files.completeUploadExternal": ("files:write", self._complete),
            "auth.test": ("", lambda _: _yes(url=self.url, team="stand-in", user="driftd", team_id="T1", user_id="U1")),
        }

    @property
    def api_url(self) -> str:
        """What to configure as base_url."""
        return f"{self.url}/api/"

    @property
    def hook_url(self) -> str:
        """The address of an incoming webhook, which is a secret."""
        return f"{self.url}/services/{self._token}"

    def _apply(self, request: Received) -> Answer:
        path = urlsplit(request.path).path
        if path.startswith("/services/"):
            return self._hook(path, request)
        if path.startswith("/upload/"):
            return self._receive(path.removeprefix("/upload/"), request)
        method = self._methods.get(path.removeprefix("/api/"))
        if method is None:
            return self._other(path, request)
        form = _form(request)
        token = request.headers.get("authorization", "").removeprefix("Bearer ") or str((form or {}).get("token", ""))
        if not token:
            return _no("not_authed")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            return _no("invalid_auth")
        scope, call = method
        if scope and scope not in self.scopes:
            return _no("missing_scope")
        return _no("invalid_json") if form is None else call(form)

    def _other(self, path: str, request: Received) -> Answer:  # noqa: ARG002  # for stand-ins that can do more
        return _no("unknown_method")

    def _hook(self, path: str, request: Received) -> Answer:
        if path != f"/services/{self._token}":
            return Answer(404, "no_service")
        form = request.json
        if not isinstance(form, dict):
            return Answer(400, "invalid_payload")
        if fault := blockkit.fault(form.get("text"), form.get("blocks") or []):
            return Answer(400, fault)
        self.hooked.append(form)
        return Answer(200, "ok")

    def _post(self, form: Json) -> Answer:
        channel = self._id(str(form.get("channel", "")))
        fault = "channel_not_found" if channel is None else _fault(form)
        if channel is None or fault:
            return _no(fault)
        thread = form.get("thread_ts")
        if thread is not None and thread not in self.messages:
            return _no("thread_not_found")
        said = Message(channel, self._ts(), form["text"], form.get("blocks") or [], form.get("metadata") or {})
        said.loud = str(form.get("reply_broadcast", "")).lower() in {"1", "true"}
        if thread is None:
            self.messages[said.ts] = said
        else:
            self.messages[thread].replies.append(said)
        return _yes(channel=channel, ts=said.ts, message={"text": said.text, "ts": said.ts})

    def _update(self, form: Json) -> Answer:
        if form.get("channel") not in self._ids.values():
            return _no("channel_not_found")
        message = self.messages.get(str(form.get("ts")))
        if message is None:
            return _no("message_not_found")
        if fault := _fault(form):
            return _no(fault)
        message.edits.append(message.text)
        message.text = form["text"]
        # As with Slack: what is left out stays as it was.
        message.blocks = form.get("blocks", message.blocks)
        message.metadata = form.get("metadata", message.metadata)
        return _yes(channel=message.channel, ts=message.ts, text=message.text)

    def _whisper(self, form: Json) -> Answer:
        self.whispers.append((str(form.get("user")), str(form.get("text"))))
        return _yes(message_ts=self._ts())

    def _list(self, form: Json) -> Answer:  # noqa: ARG002
        return _yes(channels=[{"id": found, "name": name.lstrip("#")} for name, found in self._ids.items()])

    def _history(self, form: Json) -> Answer:
        if form.get("channel") not in self._ids.values():
            return _no("channel_not_found")
        return self._page([m for m in reversed(self.messages.values()) if m.channel == form["channel"]], form)

    def _replies(self, form: Json) -> Answer:
        message = self.messages.get(str(form.get("ts")))
        return _no("thread_not_found") if message is None else self._page([message, *message.replies], form)

    def _page(self, found: list[Message], form: Json) -> Answer:
        begin, size = int(form.get("cursor") or 0), min(int(form.get("limit") or 100), _HISTORY_PAGE)
        since = float(form.get("oldest") or 0)
        found = [message for message in found if float(message.ts) >= since]
        shown = [message.shown() for message in found[begin : begin + size]]
        if str(form.get("include_all_metadata", "")).lower() not in {"1", "true"}:
            shown = [{key: value for key, value in message.items() if key != "metadata"} for message in shown]
        more = begin + size < len(found)
        return _yes(messages=shown, has_more=more, response_metadata={"next_cursor": str(begin + size) if more else ""})

    def _upload_url(self, form: Json) -> Answer:
        if not form.get("filename") or not int(form.get("length") or 0):
            return _no("invalid_arguments")
        name = f"F{len(self.uploads) + 1:08d}"
        self.uploads[name] = Upload(str(form["filename"]), int(form["length"]))
        return _yes(file_id=name, upload_url=f"{self.url}/upload/{name}")

    def _receive(self, name: str, request: Received) -> Answer:
        upload = self.uploads.get(name)
        if upload is None or len(request.body) != upload.length:
            return Answer(400, "the length is not the one that was announced")
        upload.content = request.body
        return Answer(200, f"OK - {upload.length}")

    def _complete(self, form: Json) -> Answer:
        files = json.loads(str(form.get("files", "[]")))
        for file in files:
            upload = self.uploads.get(file["id"])
            if upload is None or not upload.content:
                return _no("file_not_found")
            upload.channel, upload.thread = str(form.get("channel_id", "")), str(form.get("thread_ts", ""))
        return _yes(files=files)

    def _ts(self) -> str:
        self._n_posted += 1
        return f"{int(self._clock())}.{self._n_posted:06d}"

    def _id(self, name: str) -> str | None:
        if name in self._ids.values():
            return name
        if not name.lstrip("#") or (self._channels is not None and name not in self._channels):
            return None
        return self._ids.setdefault(name, f"C{len(self._ids) + 1:08d}")


def _fault(form: Json) -> str:
    metadata = form.get("metadata")
    if metadata is not None and not {"event_type", "event_payload"} <= metadata.keys():
        return "invalid_metadata_format"
    return blockkit.fault(form.get("text"), form.get("blocks") or [])


def _yes(**facts: Any) -> Answer:
    return Answer(200, {"ok": True, **facts})


def _no(code: str) -> Answer:
    return Answer(200, {"ok": False, "error": code})


def _form(request: Received) -> Json | None:
    if request.method == "GET":
        return dict(request.query)
    try:
        if request.headers.get("content-type", "").startswith("application/json"):
            form = json.loads(request.body)
        else:
            form = dict(parse_qsl(request.body.decode(), strict_parsing=bool(request.body)))
            for name in form.keys() & {"blocks", "metadata"}:
                form[name] = json.loads(form[name])
    except ValueError:
        return None
    return form if isinstance(form, dict) else None
