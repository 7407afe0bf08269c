"""What channels that start retraining jobs share: one request per trigger, and its evidence in words that a job reads.

The trigger's id is the same in every attempt and stands where the target looks for repeats, or, where it looks nowhere,
among the parameters, so that the job itself can tell.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator

from monitor.channels.evidence import fitted
from monitor.channels.http import HttpChannel, Request
from monitor.channels.mask import readable
from monitor.message import Notice, Purpose, RetrainBody, encode

_WORDS: Final[Mapping[str, Callable[[RetrainBody], str | None]]] = {
    "trigger_id": lambda body: body.trigger,
    "model": lambda body: body.model,
    "version": lambda body: body.version,
    "incident": lambda body: body.incident,
    "reason": lambda body: readable(body.reason),
    "reference": lambda body: body.reference,
    "config": lambda body: body.config,
    "since": lambda body: body.since,
    "window_start": lambda body: body.window.start,
    "window_end": lambda body: body.window.end,
}
PARAMETERS: Final = (*_WORDS, "evidence")
"""What `parameters` gives a job. evidence is the whole call as JSON."""


def _known(names: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := sorted(set(names) - set(PARAMETERS)):
        raise ValueError(f"no such parameter {unknown[0]!r}; known: {', '.join(PARAMETERS)}")
    return names


Parameters = Annotated[tuple[str, ...], AfterValidator(_known)]
"""Names of parameters that a target declares."""


class JobChannel(HttpChannel):
    """A channel for which every call to a job is one request; it takes nothing but such calls. `outcome` is Sent with
    what the target calls the run, "" where it does not say."""

    purposes: ClassVar[frozenset[Purpose]] = frozenset({Purpose.RETRAIN})

    @abstractmethod
    def call(self, body: RetrainBody) -> Request:
        """The request that starts the job."""

    def request(self, notice: Notice) -> Request:
        if not isinstance(notice.body, RetrainBody):
            raise TypeError(f"a {self.kind} channel starts retraining jobs alone")
        return self.call(notice.body)


def parameters(body: RetrainBody, n_bytes: int) -> dict[str, str]:
    """The call as words for a job, `evidence` in at most so many bytes of JSON."""
    found = {name: word(body) or "" for name, word in _WORDS.items()}
    return {**found, "evidence": encode(fitted(body, n_bytes)).decode()}
