"""Buttons in Slack: clicks arrive over Socket Mode, an outgoing connection, and become orders to the service.

Only users on the list may click. A click is acknowledged to Slack at once, which must happen within three seconds; what
came of the order follows as a message that only the one who clicked sees.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any, Final
from urllib.parse import urlsplit

from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.socket_mode.builtin import SocketModeClient
from slack_sdk.socket_mode.client import BaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse

from monitor.channels import Ask, Secret
from monitor.channels.slack_client import QUIET, Client, UnansweredError, code
from monitor.channels.slack_layout import ACKNOWLEDGE, APPROVE, RESOLVE, SNOOZE, SNOOZES, escape
from monitor.order import Acknowledge, Answer, Approve, Order, Resolve, Snooze

_LOGGER: Final = logging.getLogger("driftd.channel")
_PAUSES: Final = (1.0, 5.0, 30.0, 120.0)
_ANSWER_SECONDS: Final = 20.0


class Listener:
    """Hears clicks from `start` until `close`, over any number of lost connections."""

    def __init__(self, app_token: Secret, client: Client, users: tuple[str, ...]) -> None:
        self._app_token = app_token
        self._client = client
        self._users = frozenset(users)
        self._closing = threading.Event()
        self._socket: _Socket | None = None
        self._thread: threading.Thread | None = None

    def start(self, ask: Ask) -> None:
        """Connect in the background; orders go to `ask`."""

        def hear(socket: BaseSocketModeClient, request: SocketModeRequest) -> None:
            socket.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))
            if request.type == "interactive":
                self._clicked(request.payload, ask)

        self._socket = _Socket(self._app_token, self._client)
        self._socket.socket_mode_request_listeners.append(hear)
        self._thread = threading.Thread(target=self._connect, args=(self._socket,), name="slack-socket", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop hearing."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        if self._socket is not None:
            self._socket.close()

    def _connect(self, socket: _Socket) -> None:
        """Connect for the first time; from then on the socket keeps itself connected."""
        for n in range(1_000_000):
            try:
                socket.connect()
                return
            except Exception as error:  # noqa: BLE001  # whatever it is, the daemon lives on without buttons
                pause = _PAUSES[min(n, len(_PAUSES) - 1)]
                missed = {"event": "slack.no_connection"}
                _LOGGER.warning("no buttons in Slack: %s; again in %.0f s", _words(error), pause, extra=missed)
                if self._closing.wait(pause):
                    return

    def _clicked(self, payload: Mapping[str, Any], ask: Ask) -> None:
        try:
            user, place = payload["user"]["id"], payload["channel"]["id"]
            name = str(payload["user"].get("username") or user)
            found = list(orders(payload.get("actions") or [], name, int(time.time() * 1000)))
        except (KeyError, TypeError, AttributeError) as error:
            unread = {"event": "slack.click_unread"}
            _LOGGER.warning("a click in Slack could not be read: %s", type(error).__name__, extra=unread)
            return
        if user not in self._users:
            stranger = escape(str(user))[:50]
            told = {"event": "slack.click_refused", "key": stranger, "user": stranger}
            _LOGGER.warning("%s, who is not on the list, clicked in Slack", stranger, extra=told)
            self._tell(place, user, "You are not on the list of those who may do this.")
            return
        for order in found:
            self._tell(place, user, _came_of(ask(order)))

    def _tell(self, place: str, user: str, words: str) -> None:
        try:
            self._client.chat_postEphemeral(channel=place, user=user, text=escape(words))
        except (UnansweredError, SlackClientError) as error:
            _LOGGER.warning(
                "no answer to a click in Slack: %s", _words(error), extra={"event": "slack.click_unanswered"}
            )


def orders(actions: list[Mapping[str, Any]], by: str, now_ms: int) -> Iterator[Order]:
    """The orders that these clicked buttons stand for; unknown buttons stand for none.

    >>> list(orders([{"action_id": "snooze:4 h", "value": "credit-7"}], "ada", 0))
    [Snooze(incident='credit-7', by='ada', until_ms=14400000)]
    """
    for action in actions:
        verb, _, detail = str(action.get("action_id", "")).partition(":")
        subject = str(action.get("value", ""))
        if not subject:
            continue
        if verb == ACKNOWLEDGE:
            yield Acknowledge(incident=subject, by=by)
        elif verb == SNOOZE and detail in SNOOZES:
            yield Snooze(incident=subject, by=by, until_ms=now_ms + SNOOZES[detail])
        elif verb == RESOLVE:
            yield Resolve(incident=subject, by=by, note="by a button in Slack")
        elif verb == APPROVE:
            yield Approve(trigger=subject, by=by)


def _came_of(answer: Future[Answer]) -> str:
    try:
        return answer.result(_ANSWER_SECONDS).words
    except TimeoutError:
        return "Noted; it takes effect as soon as the service comes round."


def _words(error: Exception) -> str:
    if isinstance(error, UnansweredError):
        return error.outcome.reason
    return (code(error) if isinstance(error, SlackApiError) else "") or type(error).__name__


class _Socket(SocketModeClient):
    """The SDK's connection, straight to Slack: no proxy of the environment, and to no host that is not Slack's."""

    def __init__(self, app_token: Secret, client: Client) -> None:
        client.ssl = client.http.tls
        super().__init__(app_token, logger=QUIET, web_client=client, concurrency=2)
        self.proxy = None

    def issue_new_wss_url(self) -> str:
        url = str(self.web_client.apps_connections_open(app_token=self.app_token)["url"])
        host, api = urlsplit(url).hostname or "", urlsplit(self.web_client.base_url).hostname or ""
        if host != api and not (host.endswith(".slack.com") and url.startswith("wss:")):
            raise ValueError("Slack named an address that is not its own")
        return url

    def connect_to_new_endpoint(self, force: bool = False) -> None:
        # Raised here, an error would end the SDK's thread for good; left alone, its monitor tries again.
        try:
            super().connect_to_new_endpoint(force)
        except Exception as error:  # noqa: BLE001  # whatever it is, the SDK's monitor tries again
            lost = {"event": "slack.connection_lost"}
            _LOGGER.warning("the connection to Slack for buttons is lost: %s", _words(error), extra=lost)
