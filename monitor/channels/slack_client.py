"""Slack's Web API through driftd's own HTTP: the SDK builds the requests, `http` sends them, once each.

Slack answers in error codes; the tables below say which of them a person has to mend, and which leave it open whether
the message was posted.
"""

from __future__ import annotations

import logging
import re
from typing import Any, Final
from urllib.request import Request as UrllibRequest

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.web import SlackResponse
from slack_sdk.web.file_upload_v2_result import FileUploadV2Result

from monitor.channels import Outcome, Refused, Retry
from monitor.channels.http import Answer, Http, Request, seconds_asked

# What goes wrong is in the outcome; the SDK's own lines would repeat it, at DEBUG with whole messages.
QUIET: Final = logging.getLogger("driftd.channel.slack_sdk")
QUIET.setLevel(logging.CRITICAL)

_LATER: Final = frozenset(
    {
        "ratelimited",
        "rate_limited",
        "service_unavailable",
        "request_timeout",
        "team_added_to_org",
        "org_login_required",
    }
)
_PERHAPS_DONE: Final = frozenset({"internal_error", "fatal_error"})
PAYLOAD: Final = frozenset(
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
GONE: Final = frozenset({"message_not_found", "cant_update_message", "edit_window_closed", "thread_not_found"})
FOR_PEOPLE: Final = {
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


class UnansweredError(Exception):
    """Slack gave no answer; `outcome` says why."""

    def __init__(self, outcome: Retry | Refused) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Client(WebClient):
    """The SDK's client: no retries of its own, no redirects, no proxies of the environment. UnansweredError when there
    is no answer, SlackApiError when the answer is no."""

    def __init__(self, token: str, base_url: str, http: Http) -> None:
        super().__init__(token, base_url, retry_handlers=[], logger=QUIET)
        self.http = http

    def _perform_urllib_http_request_internal(self, url: str, req: UrllibRequest) -> dict[str, Any]:
        body = req.data if isinstance(req.data, bytes) else b""
        answer = self._ask(Request(url, body, dict(req.header_items()), req.get_method()))
        words = answer.body.decode("utf-8", "replace").strip()
        # The SDK chokes on answers that are JSON but no object; what is not Slack's is an answer without a code.
        return {
            "status": answer.status,
            "headers": answer.headers,
            "body": words if isinstance(answer.json(), dict) else "{}",
        }

    def _upload_file(self, *, url: str, data: bytes, **_: Any) -> FileUploadV2Result:
        answer = self._ask(Request(url, data, {"content-type": "application/octet-stream"}))
        return FileUploadV2Result(status=answer.status, body=answer.body.decode("utf-8", "replace"))

    def _ask(self, request: Request) -> Answer:
        answer = self.http.ask(request)
        if not isinstance(answer, Answer):
            raise UnansweredError(answer)
        return answer


def code(error: SlackApiError) -> str:
    """Slack's error code, or "" for anything that is not one: an answer may come from elsewhere and hold anything."""
    data = error.response.data if isinstance(error.response, SlackResponse) else None
    found = data.get("error") if isinstance(data, dict) else None
    return found if isinstance(found, str) and re.fullmatch(r"[a-z0-9_]{1,60}", found) else ""


def outcome(error: SlackApiError, now: float) -> Outcome:
    """What an answer that is no means for the message."""
    found, status = code(error), error.response.status_code
    if status == 429 or status >= 500 or found in _LATER:
        asked = seconds_asked(error.response.headers.get("retry-after"), now)
        unsure = found in _PERHAPS_DONE or (found not in _LATER and status != 429)
        return Retry(found or _unknown(status), asked, unsure)
    if found in FOR_PEOPLE:
        return Refused(f"{found}: {FOR_PEOPLE[found]}")
    if found in PAYLOAD:
        return Refused(f"{found}: refused even as plain text")
    if found.startswith("restricted_action"):
        return Refused(f"{found}: an administrator restricted posting there")
    return Retry(found or _unknown(status), ambiguous=found in _PERHAPS_DONE or (not found and status < 300))


def _unknown(status: int) -> str:
    return f"HTTP {status} without an error code of Slack"
