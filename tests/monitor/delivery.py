"""The daemon's way of emptying its outbox, alone: in this process, or in one that is killed again and again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from monitor.channels import TOOLS, Channel, Tools
from monitor.channels.slack import SlackChannel, SlackOptions
from monitor.outbox import Courier, after
from monitor.store import Due, Store


def deliver(store: Store, channels: Mapping[str, Channel], done: Callable[[], bool]) -> None:
    """Claim, send and settle what is due until `done`."""
    courier, sent = Courier(channels), dict[str, Due]()
    try:
        while not done():
            now_ms = int(time.time() * 1000)
            found = [due for due in store.due(now_ms, 1_000) if due.notice.id not in sent]
            store.claim([due.notice.id for due in found])
            for due in found:
                sent[due.notice.id] = due
                courier.submit(due.notice, due.attempt)
            fates = [
                (identity, after(outcome, sent.pop(identity).attempt, time.time(), random.random() / 100, 2e9 * 2))
                for identity, outcome in courier.results()
            ]
            store.settle(fates, int(time.time() * 1000))
            time.sleep(0.002)
    finally:
        courier.close(10)


def is_empty(store: Store) -> bool:
    """Whether nothing waits."""
    return store.database.rows("SELECT count(*) FROM outbox WHERE state = 'pending'") == [(0,)]


def slack_of(api_url: str, token: str, tools: Tools = TOOLS, **more: object) -> SlackChannel:
    options = {"channel": "#a", "token_file": "t", "base_url": api_url, "allow_private": True, "pace": 0, **more}
    return SlackChannel("ops", SlackOptions.model_validate(options), {"token": token}, tools)


def child(directory: Path, api_url: str, token: str) -> None:
    """A process that empties the outbox in a state directory into Slack."""
    store = Store(directory)
    deliver(store, {"ops": slack_of(api_url, token)}, lambda: is_empty(store))
    store.close()
