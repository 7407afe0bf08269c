"""What a Slack channel already holds: whether an attempt whose answer was lost has posted its message after all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from slack_sdk.errors import SlackApiError

from monitor.channels import Attempt
from monitor.channels.slack_client import FOR_PEOPLE, Client, code

_N_PAGES: Final = 5
_SKEW_SECONDS: Final = 300.0


class History:
    """One channel, by its name or its id. place: its id, once that is known."""

    def __init__(self, client: Client, channel: str) -> None:
        self._client = client
        self._channel = channel
        self.place = channel if re.fullmatch(r"[CGD][A-Z0-9]{6,}", channel) else ""

    def earlier(self, notice: str, attempt: Attempt, thread: tuple[str, str] | None = None) -> str | None:
        """The ts of what an earlier attempt posted, "" when none did, None when nobody can tell.

        thread: the channel's id and the ts of the message under which it would be.
        """
        if not attempt.ambiguous:
            return ""
        asked: dict[str, Any] = {"oldest": str(max(0.0, attempt.queued_at - _SKEW_SECONDS)), "limit": 50}
        try:
            if thread is None:
                asked["channel"] = self._place()
            else:
                asked["channel"], asked["ts"] = thread
            for messages in self._pages(asked, "conversations.history" if thread is None else "conversations.replies"):
                if messages is None:
                    return None
                for message in messages:
                    # A thread begins with its parent, which says by whom it was edited last.
                    if _notice(message) == notice and (thread is None or message["ts"] != thread[1]):
                        return str(message["ts"])
        except SlackApiError as error:
            if code(error) not in FOR_PEOPLE:
                raise
            return None
        return ""

    def _place(self) -> str:
        """The channel's id, which alone its history can be asked by."""
        if not self.place:
            name = self._channel.lstrip("#")
            asked = {"limit": 1000, "exclude_archived": "true", "types": "public_channel,private_channel"}
            for channels in self._pages(asked, "conversations.list", "channels"):
                for channel in channels or []:
                    if isinstance(channel, dict) and channel.get("name") == name:
                        self.place = str(channel.get("id", ""))
        return self.place or self._channel

    def _pages(self, asked: dict[str, Any], method: str, key: str = "messages") -> Iterator[list[Any] | None]:
        """Page after page; None at the end where there would be more than one cares to read."""
        for _ in range(_N_PAGES):
            page = self._client.api_call(method, http_verb="GET", params={**asked, "include_all_metadata": "true"})
            found, more = page.get(key), page.get("response_metadata")
            yield found if isinstance(found, list) else []
            asked["cursor"] = more.get("next_cursor") if isinstance(more, dict) else None
            if not asked["cursor"]:
                return
        yield None


def _notice(message: Any) -> str:
    """The id of the notice that a message carries, or ""."""
    metadata = message.get("metadata") if isinstance(message, dict) and "ts" in message else None
    payload = metadata.get("event_payload") if isinstance(metadata, dict) else None
    return str(payload.get("notice", "")) if isinstance(payload, dict) else ""
