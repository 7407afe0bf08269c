"""A desk on a clock of our own, and what it says."""

from __future__ import annotations

import tomllib

import msgspec

from monitor.board import Board
from monitor.config import Config
from monitor.desk import Desk
from monitor.message import AlertBody, Notice, Subject
from monitor.order import Order
from tests.monitor.test_alert import HOUR, judged

CONFIG = """
[[model]]
name = "m"
reference = "r"
window = "1h"
[[channel]]
name = "slack"
kind = "log"
[[channel]]
name = "job"
kind = "log"
[[retrain]]
model = "m"
channel = "job"
mode = "approve"
check_after = "2h"
"""


def configured(text: str = CONFIG) -> Config:
    return Config.model_validate(tomllib.loads(text))


class Story:
    """Windows and orders, hour by hour. said: what each channel got, as (hour, channel, change)."""

    def __init__(self, config: Config | None = None, board: Board | None = None) -> None:
        self.config = config or configured()
        self.board = board or Board(burst=20)
        model = self.config.model[0]
        self.desk = Desk(self.config, model, Subject(model.name, "3", 9, "ref", "cfg"), self.board, {})
        self.said: list[tuple[int, str, str]] = []
        self.why: list[tuple[int, str, str]] = []
        self.notices: list[Notice] = []

    def window(self, hour: int, *drifting: str, **changes: object) -> None:
        self.desk.close([judged(hour, *drifting, **changes)], hour * HOUR)
        self._collect(hour)

    def at(self, hour: int, order: Order | None = None) -> object:
        """Do what is ordered, and let the hour pass."""
        answer = None
        if order is not None:
            answer = self.board.act(order, hour * HOUR) or self.desk.act(order, hour * HOUR)
        self.desk.review(hour * HOUR)
        self._collect(hour)
        return answer

    def hear(self, hour: int, silent_since: int = 0, broken: str = "") -> None:
        self.desk.hear(silent_since * HOUR, broken, hour * HOUR)
        self._collect(hour)

    def restart(self) -> None:
        """A new process goes on from what was remembered."""
        state = msgspec.json.decode(msgspec.json.encode(self.desk.state), type=type(self.desk.state))
        board = Board(20, msgspec.json.decode(msgspec.json.encode(self.board.state), type=type(self.board.state)))
        fresh = type(self)(self.config, board)
        fresh.desk.state = state
        self.desk, self.board = fresh.desk, board

    def _collect(self, hour: int) -> None:
        out = self.desk.out
        self.why += [(hour, change.change, change.notice) for change in out.changes]
        self.notices += out.notices
        for notice in out.notices:
            word = notice.body.change if isinstance(notice.body, AlertBody) else "call"
            self.said.append((hour, notice.channel, word))
        self.desk.out = type(out)()

    @property
    def incident(self) -> str:
        assert self.desk.state.episode is not None
        return self.desk.state.episode.id
