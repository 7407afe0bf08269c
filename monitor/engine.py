"""The pure middle as one machine: records in, commits out.

`step` takes records; `tick` closes what is complete and gives a Commit: everything that has to be remembered together,
or not at all. Nothing in here opens a socket, a file or a thread, and the clock is an argument; so the daemon, the
replay of files and the tests run the same code, and a crash between two commits costs nothing but work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from monitor.batch import Moment, Partition, Records
from monitor.board import Board, BoardState, digest
from monitor.line import Line, ModelCommit
from monitor.message import Notice
from monitor.order import Answer, Order, about


@dataclass(frozen=True, slots=True, eq=False)
class Commit:
    """Everything that is to be remembered together; models for which nothing changed are not in it.

    board: None when it did not change. digests: notices about many models. orders: what was done, and by whom.
    """

    now_ms: int
    models: tuple[ModelCommit, ...] = ()
    board: BoardState | None = None
    digests: tuple[Notice, ...] = ()
    orders: tuple[Order, ...] = ()


class Engine:
    """All models' lines. A record goes to every model that reads its topic."""

    def __init__(self, lines: Sequence[Line], board: Board | None = None) -> None:
        self.lines = tuple(lines)
        self._board = board or Board(burst=20)
        self._board_before = self._board.state
        self._orders: list[Order] = []
        self._digests: list[Notice] = []
        self._by_topic: dict[str, list[Line]] = {}
        for line in lines:
            for topic in line.topics:
                self._by_topic.setdefault(topic, []).append(line)

    @property
    def topics(self) -> frozenset[str]:
        return frozenset(self._by_topic)

    @property
    def label_topics(self) -> frozenset[str]:
        """Those that bring labels for predictions, and nothing else."""
        return frozenset(self._by_topic) - {topic for line in self.lines for topic in line.own_topics}

    def positions(self) -> Mapping[Partition, int]:
        """Where to read on: of every partition that all its topic's models have read, the earliest of their offsets.

        Models that are ahead pass over what they have seen. A partition that some model never read is not in here, so
        that it is read from its beginning.
        """
        positions: dict[Partition, int] = {}
        for at in {at for line in self.lines for at in line.offsets}:
            readers = self._by_topic.get(at.topic, [])
            if readers and all(at in line.offsets for line in readers):
                positions[at] = min(line.offsets[at] for line in readers)
        return positions

    def step(self, records: Records, now_ms: int) -> None:
        """Take records of one partition, in their order."""
        for line in self._by_topic.get(records.partition.topic, ()):
            line.step(records, now_ms)

    def ahead(self) -> frozenset[Partition]:
        """See `Windows.ahead`: of any model."""
        return frozenset().union(*(line.ahead() for line in self.lines))

    def jump(self, at: Partition, offset: int) -> None:
        """See `Line.jump`."""
        for line in self._by_topic.get(at.topic, ()):
            line.jump(at, offset)

    def recognise(self, logs: Mapping[str, str]) -> Sequence[str]:
        """See `Line.recognise`: by topic, the id of its log. The topics that were made anew."""
        anew = []
        for topic, log in logs.items():
            changed = [line.recognise(topic, log) for line in self._by_topic.get(topic, ())]
            anew += [topic] if any(changed) else []
        return anew

    def ready(self, moment: Moment) -> bool:
        """Whether a tick would close a window."""
        return any(line.ready(_of(line, moment)) for line in self.lines)

    def act(self, order: Order, now_ms: int) -> Answer:
        """Do what was ordered; the next tick's commit remembers it."""
        acts = [self._board.act, *(line.act for line in self.lines)]
        for act in acts:
            if (answer := act(order, now_ms)) is not None:
                self._orders += [order] if answer.done else []
                return answer
        return Answer(False, f"there is no {about(order)}, or it is over")

    def call_ended(self, trigger: str, given_up: str, now_ms: int) -> None:
        """See `Desk.call_ended`."""
        for line in self.lines:
            line.call_ended(trigger, given_up, now_ms)

    def digest(self, channels: Sequence[str], now_ms: int) -> None:
        """Queue the daily summary: every incident that is not over, one line each."""
        lines = [line_ for model in self.lines if (line_ := model.summary()) is not None]
        title = f"{len(lines)} incidents" if len(lines) != 1 else "1 incident"
        for channel in channels:
            self._digests.append(digest(channel, f"Today: {title}" if lines else "Today: no incident", lines, now_ms))

    def tick(self, moment: Moment) -> Commit | None:
        """Close what is complete, and see what time has brought; None when nothing changed since the last tick."""
        ticked = [line.tick(_of(line, moment)) for line in self.lines]
        digests, self._digests = (*self._digests, *self._board.digests(moment.now_ms)), []
        board = self._board.state if self._board.state is not self._board_before else None
        models = tuple(commit for commit in ticked if commit is not None)
        orders, self._orders, self._board_before = tuple(self._orders), [], self._board.state
        if not (models or digests or orders or board):
            return None
        return Commit(moment.now_ms, models, board, digests, orders)


def _of(line: Line, moment: Moment) -> Moment:
    """The moment as far as it concerns one model."""
    mine = frozenset(at for at in moment.assigned if at.topic in line.topics)
    return replace(moment, assigned=mine, idle=moment.idle & mine)
