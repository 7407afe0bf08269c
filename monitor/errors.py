"""What can go wrong, as one tree.

DriftdError
├── ConfigError       the configuration; carries every problem found, not only the first
├── ReferenceFault    a sealed reference that is absent, damaged or does not fit
├── ChannelFault      a message that a person asked for was not delivered
├── ReportFault       a report that cannot be made
├── ChildFault        work in a process of its own that came to nothing
├── HeartbeatFault    a sign of life that was not taken
├── SourceError       records cannot be read (Kafka away, file unreadable)
└── StoreError        the state cannot be read or written
    ├── StoreLocked   another daemon works on the same state
    ├── StoreFenced   another member of the group has taken over; nothing was written
    ├── StoreNewer    a later driftd wrote it
    ├── StoreDamaged  what is in the file is not what was written
    └── StoreFull     the disk takes nothing; nothing was written, trying again later is right

Faults in data are not here: they are facts that get counted, never exceptions. What a channel answers is a value too
(`monitor.channels.Sent`, `Retry`, `Refused`). Every message says what was found, what was wanted, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class DriftdError(Exception):
    """The root of driftd's own errors."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a configuration: where, what was found, what was wanted."""

    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"


class ConfigError(DriftdError):
    """The configuration cannot be used. `problems` names every mistake in it."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        super().__init__(f"{file}: {count}; nothing was started\n{lines}")


class ReferenceFault(DriftdError):
    """A sealed reference cannot be used."""


class ChannelFault(DriftdError):
    """A message that a person asked for was not delivered."""


class ReportFault(DriftdError):
    """An incident's report cannot be made."""


class ChildFault(DriftdError):
    """Work in a process of its own came to nothing."""


class HeartbeatFault(DriftdError):
    """A sign of life was not taken."""


class SourceError(DriftdError):
    """Records cannot be read."""


class StoreError(DriftdError):
    """The state cannot be read or written."""


class StoreLocked(StoreError):
    """Another daemon works on the same state directory."""


class StoreFenced(StoreError):
    """Another member of the group works on the state by now; what this one did since is given up."""


class StoreNewer(StoreError):
    """A later driftd wrote the state."""


class StoreDamaged(StoreError):
    """What is in the file is not what was written."""


class StoreFull(StoreError):
    """The disk is full, fails, or is read-only; the transaction left no trace and may be tried again."""
