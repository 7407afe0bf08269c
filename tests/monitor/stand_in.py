"""A source that brings nothing, to be built upon: tests give it the log that they are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from monitor.batch import Partition, Records


class Silent:
    """Connected, with these partitions, and nothing to read."""

    connected = True

    def __init__(self, *partitions: Partition) -> None:
        self._partitions = frozenset(partitions)

    def poll(self, timeout_seconds: float) -> Sequence[Records]:
        return []

    def seek(self, offsets: Mapping[Partition, int]) -> None:
        return

    def hold(self, partitions: frozenset[Partition]) -> None:
        return

    def log_ids(self) -> Mapping[str, str]:
        return {}

    def assigned(self) -> frozenset[Partition]:
        return self._partitions

    def caught_up(self) -> frozenset[Partition]:
        return frozenset()

    def lag(self) -> Mapping[Partition, int]:
        return {}

    def losses(self) -> Sequence[tuple[Partition, int, int]]:
        return []

    def close(self) -> None:
        return
