"""Notices as Slack messages: one message per incident, edited in place, with a short reply in its thread per change.

`blocks` and `text` lay a body out and touch nothing else. Names and sentences come from data that anyone may have
written, so every one of them is escaped, and cut to Slack's limits with room to spare: a message that is too long must
get shorter, never fail. Slack answers in error codes; the tables below say which of them a person has to mend.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any, ClassVar, Final
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from pydantic import BaseModel, ConfigDict, Field, model_validator
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.web import SlackResponse

from monitor.channels import Channel, Outcome, Refused, Retry, Sent, checked_url, exactly_one, seconds_asked
from monitor.message import AlertBody, Body, ColumnChange, Notice, RetrainBody, RowRange, WindowFacts

Block = dict[str, Any]

N_COLUMNS: Final = 8
N_RANGES: Final = 5
HEADER, TITLE, SUMMARY, COLUMN, CONTEXT, TEXT = 140, 300, 2200, 800, 250, 900

_NO_PREVIEW: Final[dict[str, Any]] = {"unfurl_links": False, "unfurl_media": False}
_ICONS: Final = {"info": "🔵", "warning": "🟠", "critical": "🔴"}
_LATER: Final = frozenset(
    {
        "ratelimited",
        "rate_limited",
        "service_unavailable",
        "request_timeout",
        "team_added_to_org",
        "org_login_required",
        # These two may have posted the message; sending it again is the lesser evil.
        "internal_error",
        "fatal_error",
    }
)
_PAYLOAD: Final = frozenset(
    {
        "invalid_blocks",
        "invalid_blocks_format",
        "msg_blocks_too_long",
        "msg_too_long",
        "no_text",
        "too_many_attachments",
        "invalid_arguments",
        "invalid_metadata_format",
        "invalid_metadata_schema",
        "metadata_too_large",
    }
)
_GONE: Final = frozenset({"message_not_found", "cant_update_message", "edit_window_closed", "thread_not_found"})
_FOR_PEOPLE: Final = {
    "invalid_auth": "the token is not valid",
    "not_authed": "the request carried no token",
    "token_revoked": "the token was revoked",
    "token_expired": "the token has expired",
    "account_inactive": "the app or its account was removed",
    "missing_scope": "the app needs the scope chat:write",
    "no_permission": "the app may not write there",
    "not_allowed_token_type": "a bot token (xoxb-) is wanted",
    "access_denied": "the app may not write there",
    "channel_not_found": "no such channel, or it is private and the app is not a member",
    "not_in_channel": "invite the app to the channel",
    "is_archived": "the channel is archived",
    "ekm_access_denied": "an administrator suspended messages",
}


class SlackOptions(BaseModel):
    """Keys of a `[[channel]]` of kind slack."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    channel: str = Field(min_length=1, max_length=100, description='Where to post: "#ml-alerts" or a channel id.')
    token_file: str | None = Field(default=None, description="File with the app's bot token (xoxb-…).")
    token_env: str | None = Field(default=None, description="Environment variable with the app's bot token.")
    base_url: str = Field(
        default="https://slack.com/api/", description="Where the Slack API is; for stand-ins and forwarding proxies."
    )
    timeout: float = Field(default=10.0, gt=0, le=120, description="Seconds to wait for Slack.")
    allow_http: bool = Field(
        default=False, description="Allow http to other machines in base_url; anyone on the way can read the token."
    )

    @model_validator(mode="after")
    def _check(self) -> SlackOptions:
        exactly_one("token", self.token_file, self.token_env)
        try:
            checked_url(self.base_url, self.allow_http)
        except ValueError as error:
            raise ValueError(f"base_url: {error}") from None
        return self


class SlackChannel(Channel):
    """Posts to one Slack channel. One call of `send` tries each request once.

    The first message of an incident is posted; later alerts edit it and add a reply to its thread; calls for
    retraining become replies. A message that was deleted meanwhile is posted anew. Where the layout is refused the
    same words go out once as plain text.
    """

    kind: ClassVar[str] = "slack"
    Options: ClassVar[type[BaseModel]] = SlackOptions

    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str]) -> None:  # noqa: ARG002  # contract
        if not isinstance(options, SlackOptions):
            raise TypeError(f"a slack channel needs SlackOptions, not {type(options).__name__}")
        self._channel = options.channel
        self._client = _Client(_token(secrets), options.base_url, options.timeout)

    def send(self, notice: Notice, parent: str | None) -> Outcome:
        try:
            return Sent(self._deliver(notice, parent))
        except SlackApiError as error:
            return _outcome(error.response)
        except (OSError, HTTPException, ValueError) as error:
            return Retry(f"no answer from Slack: {_cause(error)}")

    def _deliver(self, notice: Notice, parent: str | None) -> str:
        place, _, ts = (parent or "").partition("/")
        if not ts:
            return self._post(notice)
        if isinstance(notice.body, RetrainBody):
            self._say(self._client.chat_postMessage, notice, {"channel": place, "thread_ts": ts, **_NO_PREVIEW})
            return f"{place}/{ts}"
        try:
            self._say(self._client.chat_update, notice, {"channel": place, "ts": ts})
        except SlackApiError as error:
            if _code(error.response) not in _GONE:
                raise
            return self._post(notice)
        self._client.chat_postMessage(channel=place, thread_ts=ts, text=reply(notice.body), **_NO_PREVIEW)
        return f"{place}/{ts}"

    def _post(self, notice: Notice) -> str:
        posted = self._say(self._client.chat_postMessage, notice, {"channel": self._channel, **_NO_PREVIEW})
        channel, ts = posted.get("channel"), posted.get("ts")
        return f"{channel}/{ts}" if channel and ts else ""

    def _say(self, call: Callable[..., SlackResponse], notice: Notice, where: dict[str, Any]) -> SlackResponse:
        words = text(notice.body)
        payload = {"incident": notice.incident, "notice": notice.id}
        metadata = {"event_type": "driftd_incident", "event_payload": payload}
        try:
            return call(**where, text=words, blocks=blocks(notice.body), metadata=metadata)
        except SlackApiError as error:
            if _code(error.response) not in _PAYLOAD:
                raise
        # An edit without `blocks` keeps the old ones; the empty list takes them away.
        return call(**where, text=words, blocks=[])


def blocks(body: Body) -> list[Block]:
    """The message as Block Kit blocks, within Slack's documented limits for any body."""
    if isinstance(body, AlertBody):
        opening = [_header(_headline(body)), _section(f"*{_cut(body.title, TITLE)}*\n{_cut(body.summary, SUMMARY)}")]
        closing = [] if body.retraining is None else [_context([f"Retraining: {_cut(body.retraining, CONTEXT)}"])]
    else:
        opening = [_header(_headline(body)), _section(_cut(body.reason, SUMMARY))]
        closing = [_context([f"Rows: {_cut(_rows(body.rows), CONTEXT)}", f"Trigger {_code_span(body.trigger)}"])]
    facts = [_window(body.window), f"Reference {_code_span(body.reference.removeprefix('sha256:')[:12])}"]
    return [
        *opening,
        *(_section(_column(column)) for column in body.columns[:N_COLUMNS]),
        *_more(body.columns),
        *closing,
        _context([*facts, f"Incident {_code_span(body.incident)}"]),
    ]


def text(body: Body) -> str:
    """The message in a few plain words: for notifications, screen readers, and where the blocks are refused."""
    what = f"{body.title}. {body.summary}" if isinstance(body, AlertBody) else body.reason
    names = ", ".join(column.column for column in body.columns[:N_COLUMNS])
    more = len(body.columns) - N_COLUMNS
    tail = f"\nColumns: {_cut(names, 250)}" if names else ""
    tail += f" +{more} more" if more > 0 else ""
    return f"{_cut(_headline(body), HEADER)}\n{_cut(what, TEXT - HEADER - 300)}{tail}"


def reply(body: Body) -> str:
    """One line for the thread of an incident: what this change was."""
    if isinstance(body, RetrainBody):
        return _cut(f"Retraining called for: {body.reason}", TEXT)
    return _cut(f"{body.change.capitalize()} in window {body.window.index}, {body.severity}: {body.summary}", TEXT)


def escape(words: str) -> str:
    """The three characters that Slack reads as markup, made harmless; the unprintable and white space become blanks."""
    seen = "".join(letter if letter.isprintable() else " " for letter in words)
    return " ".join(seen.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(words: str, limit: int) -> str:
    """Escaped, and at most `limit` UTF-16 units long: the stricter of the two ways in which Slack may count."""
    safe = escape(words)
    units = safe.encode("utf-16-le", "replace")
    if len(units) <= 2 * limit:
        return safe or "–"
    kept = units[: 2 * (limit - 1)].decode("utf-16-le", "ignore")
    # Half an entity would show as such.
    return re.sub(r"&[a-z]*$", "", kept) + "…"


def _headline(body: Body) -> str:
    version = "" if body.version is None else f" {body.version[:20]}"
    model = f"{'TEST · ' if body.test else ''}{body.model[:60]}{version}"
    if isinstance(body, RetrainBody):
        return f"🔁 {model} · retraining called for"
    icon = "✅" if body.state == "resolved" else _ICONS[body.severity]
    segment = "" if body.segment in {"", "all"} else f" · {body.segment[:30]}"
    return f"{icon} {model}{segment} · {body.severity} · {body.state}"


def _column(column: ColumnChange) -> str:
    segment = "" if column.segment in {"", "all"} else f" in {_code_span(column.segment)}"
    numbers = [] if column.effect is None else [f"{_cut(column.measure, 60)} {column.effect:.3g}"]
    if numbers and column.effect_low is not None and column.effect_high is not None:
        numbers[0] += f" (95 % {column.effect_low:.3g} to {column.effect_high:.3g})"
    numbers += column.certainty
    since = "" if column.since is None else f" ({_cut(column.since, 40)})"
    numbers.append(f"since window {column.since_window}{since}")
    return f"{_code_span(column.column)}{segment}  {_cut(column.what, COLUMN - 450)}\n{' · '.join(numbers)}"


def _more(columns: tuple[ColumnChange, ...]) -> list[Block]:
    more = len(columns) - N_COLUMNS
    return [_context([f"+{more} more"])] if more > 0 else []


def _window(window: WindowFacts) -> str:
    span = "" if window.start is None or window.end is None else f", {_cut(f'{window.start} to {window.end}', 100)}"
    return f"Window {window.index}{span}, {window.n_rows:,} rows"


def _rows(rows: tuple[RowRange, ...]) -> str:
    shown = "; ".join(f"{r.topic[:40]}/{r.partition} {r.first_offset}–{r.last_offset}" for r in rows[:N_RANGES])
    return f"{shown}; +{len(rows) - N_RANGES} more" if len(rows) > N_RANGES else shown


def _code_span(words: str) -> str:
    return f"`{_cut(words.replace('`', chr(39)), 80)}`"


def _header(words: str) -> Block:
    # emoji off: a model named "a:fire:b" keeps its name.
    return {"type": "header", "text": {"type": "plain_text", "text": _cut(words, HEADER), "emoji": False}}


def _section(mrkdwn: str) -> Block:
    return {"type": "section", "text": _mrkdwn(mrkdwn)}


def _context(elements: list[str]) -> Block:
    return {"type": "context", "elements": [_mrkdwn(element) for element in elements]}


def _mrkdwn(words: str) -> Block:
    # verbatim: no names or addresses in the data turn into links or mentions.
    return {"type": "mrkdwn", "text": words, "verbatim": True}


class _NoRedirect(HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """urllib would take the token along to wherever the answer points."""


class _Client(WebClient):
    """The SDK's client, talking to `base_url` directly: no retries, redirects, or proxies of the environment."""

    def __init__(self, token: str, base_url: str, timeout: float) -> None:
        # What goes wrong is in the outcome; the SDK's own lines would repeat it, at DEBUG with whole messages.
        quiet = logging.getLogger("driftd.channel.slack_sdk")
        quiet.setLevel(logging.CRITICAL)
        super().__init__(token, base_url, timeout=timeout, retry_handlers=[], logger=quiet)  # type: ignore[arg-type]
        # The SDK takes a proxy from the environment by itself, and without one asks urllib, which does the same.
        self._opener = build_opener(ProxyHandler({}), _NoRedirect(), HTTPSHandler())

    def _perform_urllib_http_request_internal(self, url: str, req: Request) -> dict[str, Any]:  # noqa: ARG002
        try:
            answer = self._opener.open(req, timeout=self.timeout)
        except HTTPError as error:
            answer = error
        with answer:
            body = answer.read(1 << 20).decode("utf-8", "replace").strip()
            headers = {name.lower(): value for name, value in answer.headers.items()}
        # The SDK chokes on answers that are JSON but no object; what is not Slack's is an answer without a code.
        return {"status": answer.status, "headers": headers, "body": body if body.startswith("{") else "{}"}


def _token(secrets: Mapping[str, str]) -> str:
    token = secrets.get("token", "").strip()
    # Anything else would surface inside the error that http.client raises about a header.
    if not re.fullmatch(r"[!-~]+", token):
        raise ValueError("token: wanted one word of printable ASCII, like xoxb-…; look into token_file or token_env")
    return token


def _code(response: SlackResponse) -> str:
    """Slack's error code, or "" for anything that is not one: an answer may come from elsewhere and hold anything."""
    code = response.data.get("error") if isinstance(response.data, dict) else None
    return code if isinstance(code, str) and re.fullmatch(r"[a-z0-9_]{1,60}", code) else ""


def _outcome(response: SlackResponse) -> Outcome:
    code, status = _code(response), response.status_code
    reason = code or f"HTTP {status} without an error code of Slack"
    if status == 429 or status >= 500 or code in _LATER:
        return Retry(reason, seconds_asked(response.headers.get("retry-after"), time.time()))
    if code in _FOR_PEOPLE:
        return Refused(f"{code}: {_FOR_PEOPLE[code]}")
    if code in _PAYLOAD:
        return Refused(f"{code}: refused even as plain text")
    if code.startswith("restricted_action"):
        return Refused(f"{code}: an administrator restricted posting there")
    return Retry(reason)


def _cause(error: Exception) -> str:
    """The class and, for errors of the operating system, its words; never the error's own text, which may quote us."""
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    words = cause.strerror if isinstance(cause, OSError) else None
    return f"{type(cause).__name__} ({words})" if words else type(cause).__name__
