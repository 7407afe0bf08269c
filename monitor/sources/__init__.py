"""Where records come from: Kafka, files, and the demo's embedded broker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from monitor.batch import Partition, Records


class Source(Protocol):
    """An ordered log per partition that can be read again from any offset."""

    def poll(self, timeout_seconds: float) -> Sequence[Records]:
        """Records that are there, waiting at most so long for the first. SourceError when it cannot read."""

    def assigned(self) -> frozenset[Partition]:
        """The partitions being read; may grow while running."""

    def caught_up(self) -> frozenset[Partition]:
        """The assigned partitions that were read to their end, as far as the last answer tells."""

    def lag(self) -> Mapping[Partition, int]:
        """Records of each assigned partition that are known to be unread."""

    @property
    def connected(self) -> bool:
        """Whether the log can be read just now."""

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        """Read these partitions from these offsets on; partitions not named keep where they are."""

    def hold(self, partitions: frozenset[Partition]) -> None:
        """Read all but these, until the next call. They stay assigned, and keep where they are."""

    def losses(self) -> Sequence[tuple[Partition, int, int]]:
        """Drains jumps: partition, the offset that could not be read, and the one at which reading went on.

        The second is lower when the log itself was cut.
        """

    def log_ids(self) -> Mapping[str, str]:
        """By topic, the id of the log that its records come from, where that is known.

        A topic that was deleted and made anew has another one. Records that come with a new id may be of either log.
        """

    def close(self) -> None:
        """Let go of connections; never commits anything."""
