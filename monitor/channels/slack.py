"""Notices in Slack: one message per incident, edited in place, with a short reply in its thread per change.

Slack knows no idempotency key. After an attempt that may have got through, the channel's history is asked for a message
with the notice's id before anything is posted again; where the app may not read it, `on_ambiguous` decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Final, Literal

import msgspec
from pydantic import BaseModel, Field, model_validator
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web import SlackResponse

from monitor.channels import (
    TOOLS,
    Ask,
    Attempt,
    Channel,
    Outcome,
    Refused,
    Sent,
    Tools,
    exactly_one,
    own,
    word,
)
from monitor.channels.http import Http, HttpOptions, secret_url, shown
from monitor.channels.slack_client import (
    GONE,
    PAYLOAD,
    Client,
    UnansweredError,
    code,
    outcome,
)
from monitor.channels.slack_history import History
from monitor.channels.slack_hook import IncomingWebhook
from monitor.channels.slack_layout import blocks, reply, text
from monitor.channels.slack_socket import Listener
from monitor.message import AlertBody, Notice, RetrainBody

_LOGGER: Final = logging.getLogger("driftd.channel")
_API: Final = "https://slack.com/api/"
_NO_PREVIEW: Final[dict[str, Any]] = {"unfurl_links": False, "unfurl_media": False}
_EVENT: Final = "driftd_incident"
_PICTURED: Final = frozenset({"opened", "updated"})
_DROPPED: Final = "an earlier attempt may have been posted; not repeated, as on_ambiguous says"


class SlackOptions(HttpOptions):
    """Keys of a `[[channel]]` of kind slack."""

    channel: str | None = Field(
        default=None, min_length=1, max_length=100, description='Where to post: "#ml-alerts" or a channel id.'
    )
    token_file: str | None = Field(default=None, description="File with the app's bot token (xoxb-…).")
    token_env: str | None = Field(default=None, description="Environment variable with the app's bot token.")
    webhook_file: str | None = Field(
        default=None,
        description="File with the URL of an incoming webhook, instead of a token and a channel. It can only post: no "
        "edits, threads, pictures or buttons.",
    )
    webhook_env: str | None = Field(default=None, description="Environment variable with that URL.")
    app_token_file: str | None = Field(
        default=None,
        description="File with the app-level token (xapp-…) for Socket Mode; messages then have buttons to "
        "acknowledge, snooze, resolve and approve.",
    )
    app_token_env: str | None = Field(default=None, description="Environment variable with the app-level token.")
    users: tuple[str, ...] = Field(
        default=(), description='Ids of those who may use the buttons, such as ["U024BE7LH"].'
    )
    picture: bool = Field(default=True, description="Upload a picture of the worst columns (scope files:write).")
    report: bool = Field(
        default=True,
        description='Upload Evidently\'s report to the thread where [alert] report = "firing" (scope files:write).',
    )
    on_ambiguous: Literal["retry", "drop"] = Field(
        default="retry",
        description="What to do when a message may have been posted and the channel's history cannot be read (scopes "
        "channels:history, for private channels groups:history): post it again, marked, or give it up.",
    )
    pace: float = Field(
        default=1.0, ge=0, le=60, description="Seconds between two messages; Slack takes about one a second."
    )
    base_url: str = Field(default=_API, description="Where the Slack API is; for stand-ins and forwarding proxies.")

    @property
    def has_buttons(self) -> bool:
        """Whether people can act on messages."""
        return self.app_token_file is not None or self.app_token_env is not None

    @model_validator(mode="after")
    def _check(self) -> SlackOptions:
        self.checked(base_url=self.base_url)
        if self.webhook_file is not None or self.webhook_env is not None:
            exactly_one("webhook", self.webhook_file, self.webhook_env)
            if self.token_file is not None or self.token_env is not None or self.has_buttons:
                raise ValueError("an incoming webhook takes no token_* and no app_token_*; set one or the other")
            return self
        exactly_one("token", self.token_file, self.token_env)
        if self.channel is None:
            raise ValueError("channel: is required with a token")
        if self.has_buttons:
            exactly_one("app_token", self.app_token_file, self.app_token_env)
            if not self.users:
                raise ValueError("users: name those who may use the buttons")
        return self


class SlackChannel(Channel):
    """Posts to one Slack channel. One call of `send` tries each request once.

    The first message of an incident is posted; later alerts edit it and add a reply to its thread; calls for
    retraining become replies. A message that was deleted meanwhile is posted anew. Where the layout is refused the
    same words go out once as plain text.
    """

    kind: ClassVar[str] = "slack"
    Options: ClassVar[type[BaseModel]] = SlackOptions

    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        self._options = own(options, SlackOptions)
        self._name = name
        self.pace = self._options.pace
        self._tools = tools
        http = Http(self._options, secrets, tools)
        self._hook: IncomingWebhook | None = None
        self._listener: Listener | None = None
        if "webhook" in secrets:
            self._hook = IncomingWebhook(secret_url(secrets, "webhook", self._options), http)
            return
        self._client = Client(word(secrets, "token"), self._options.base_url, http)
        self._history = History(self._client, self._options.channel or "")
        if self._options.has_buttons:
            self._listener = Listener(word(secrets, "app_token"), self._client, self._options.users)

    def send(self, notice: Notice, attempt: Attempt) -> Outcome:
        now = self._tools.clock()
        try:
            if self._hook is None:
                return self._deliver(notice, attempt)
            if attempt.ambiguous and self._options.on_ambiguous == "drop":
                return Refused(_DROPPED)
            return self._hook.send(notice, attempt, self._links(notice), now)
        except UnansweredError as error:
            return error.outcome
        except SlackApiError as error:
            return outcome(error, now)

    def show(self, notice: Notice) -> str:
        if self._hook is not None:
            return shown(self._hook.request(notice, self._links(notice)))
        message = self._message(notice, repeats=False)
        body = msgspec.json.encode({"channel": self._options.channel, **message}).decode()
        return f"POST {self._options.base_url}chat.postMessage\n\n{body}"

    def listen(self, ask: Ask) -> None:
        if self._listener is not None:
            self._listener.start(ask)

    def close(self) -> None:
        if self._listener is not None:
            self._listener.close()

    def _deliver(self, notice: Notice, attempt: Attempt) -> Outcome:
        place, _, ts = (attempt.parent or "").partition("/")
        if not ts:
            return self._first(notice, attempt)
        if isinstance(notice.body, AlertBody):
            try:
                self._say(self._client.chat_update, notice, {"channel": place, "ts": ts}, repeats=False)
            except SlackApiError as error:
                if code(error) not in GONE:
                    raise
                return self._first(notice, attempt)
        return self._reply(notice, attempt, place, ts)

    def _first(self, notice: Notice, attempt: Attempt) -> Outcome:
        """The incident's message, unless an earlier attempt has posted it."""
        earlier = self._history.earlier(notice.id, attempt)
        if earlier:
            return Sent(f"{self._history.place}/{earlier}")
        if earlier is None and self._options.on_ambiguous == "drop":
            return Refused(_DROPPED)
        where = {"channel": self._options.channel, **_NO_PREVIEW}
        posted = self._say(self._client.chat_postMessage, notice, where, repeats=earlier is None)
        channel, ts = posted.get("channel"), posted.get("ts")
        if not isinstance(channel, str) or not isinstance(ts, str):
            return Sent()
        self._history.place = channel
        self._picture(notice, channel, ts)
        self._report(notice, channel, ts)
        return Sent(f"{channel}/{ts}")

    def _reply(self, notice: Notice, attempt: Attempt, place: str, ts: str) -> Outcome:
        """What changed, in the incident's thread, unless an earlier attempt has said it."""
        earlier = self._history.earlier(notice.id, attempt, (place, ts))
        if earlier is None and self._options.on_ambiguous == "drop":
            earlier = ts
        if earlier:
            return Sent(f"{place}/{ts}")
        where = {"channel": place, "thread_ts": ts, **_NO_PREVIEW}
        if isinstance(notice.body, RetrainBody):
            self._say(self._client.chat_postMessage, notice, where, repeats=earlier is None)
            return Sent(f"{place}/{ts}")
        # What has become critical is to be seen by those who do not follow the thread, too.
        loud = notice.body.change == "updated" and notice.body.severity == "critical"
        words = reply(notice.body, repeats=earlier is None)
        self._client.chat_postMessage(text=words, metadata=_metadata(notice), reply_broadcast=loud, **where)
        self._picture(notice, place, ts)
        return Sent(f"{place}/{ts}")

    def _say(
        self, call: Callable[..., SlackResponse], notice: Notice, where: dict[str, Any], *, repeats: bool
    ) -> SlackResponse:
        message = self._message(notice, repeats=repeats)
        try:
            return call(**where, **message)
        except SlackApiError as error:
            if code(error) not in PAYLOAD:
                raise
        # An edit without `blocks` keeps the old ones; the empty list takes them away.
        return call(**where, **{**message, "blocks": []})

    def _message(self, notice: Notice, *, repeats: bool) -> dict[str, Any]:
        link, report = self._links(notice)
        layout = blocks(notice.body, link, report=report, buttons=self._listener is not None, repeats=repeats)
        return {"text": text(notice.body, repeats=repeats), "blocks": layout, "metadata": _metadata(notice)}

    def _links(self, notice: Notice) -> tuple[str, str]:
        return self._tools.link(notice), self._tools.report_link(notice)

    def _report(self, notice: Notice, place: str, ts: str) -> None:
        """Add the report to the thread once it is made, minutes later perhaps, and in another thread of execution."""
        if not self._options.report or not isinstance(notice.body, AlertBody):
            return

        def attach(page: bytes) -> None:
            try:
                self._client.files_upload_v2(
                    file=page, filename=f"{notice.incident}.html", title="Rows beside the reference", channel=place,
                    thread_ts=ts,
                )  # fmt: skip
            except (UnansweredError, SlackClientError) as error:
                self._not_uploaded("report", notice, error)

        self._tools.report(notice, attach)

    def _not_uploaded(self, what: str, notice: Notice, error: Exception) -> None:
        why = code(error) if isinstance(error, SlackApiError) else type(error).__name__
        lost = {"event": "slack.not_uploaded", "channel": self._name, "incident": notice.incident}
        _LOGGER.warning("channel %s: its %s was not uploaded: %s", self._name, what, why, extra=lost)

    def _picture(self, notice: Notice, place: str, ts: str) -> None:
        """Add a picture to the thread where there is one, once it is drawn; other messages do not wait for it."""
        if not self._options.picture or not isinstance(notice.body, AlertBody) or notice.body.change not in _PICTURED:
            return
        if not self._tools.later(partial(self._show, notice, place, ts)):
            skipped = {"event": "picture.skipped", "incident": notice.incident}
            _LOGGER.warning("no picture of %s: too many are to be drawn at this moment", notice.incident, extra=skipped)

    def _show(self, notice: Notice, place: str, ts: str) -> None:
        """Draw a picture and upload it. The message stands without it, so nothing here may fail."""
        try:
            png = self._tools.picture(notice)
            if png is not None:
                self._client.files_upload_v2(
                    file=png, filename=f"{notice.incident}.png", channel=place, thread_ts=ts,
                    title=f"Window {notice.window}: reference against current",
                    alt_txt="The worst columns, reference against current, and the evidence over time",
                )  # fmt: skip
        except (UnansweredError, SlackClientError) as error:
            self._not_uploaded("picture", notice, error)
        except Exception:  # drawing is the shell's, and whatever goes wrong there must not repeat the message
            missing = {"event": "slack.no_picture", "channel": self._name, "incident": notice.incident}
            _LOGGER.exception("channel %s: no picture of %s", self._name, notice.incident, extra=missing)


def _metadata(notice: Notice) -> dict[str, Any]:
    return {"event_type": _EVENT, "event_payload": {"incident": notice.incident, "notice": notice.id}}
