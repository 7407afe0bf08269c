"""What channels that start retraining jobs share: one request per trigger, and its evidence in words that a job reads.

The trigger's id is the same in every attempt and stands where the target looks for repeats, or, where it looks nowhere,
among the parameters, so that the job itself can tell.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Final

from pydantic import BaseModel

from monitor.channels import TOOLS, Attempt, Channel, Outcome, Refused, Sent, Tools, own
from monitor.channels.evidence import fitted
from monitor.channels.http import Answer, Http, HttpOptions, Request, failed, shown
from monitor.channels.mask import readable
from monitor.message import Notice, Purpose, RetrainBody, encode

PARAMETERS: Final = (
    "trigger_id", "model", "version", "incident", "reason", "reference", "config", "since", "window_start",
    "window_end", "evidence",
)  # fmt: skip
"""What `parameters` gives a job. evidence is the whole call as JSON."""


class JobChannel(Channel):
    """A channel for which every call to a job is one request; it takes nothing but such calls."""

    purposes: ClassVar[frozenset[Purpose]] = frozenset({Purpose.RETRAIN})

    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        self._http = Http(own(options, HttpOptions), secrets, tools)
        self._clock = tools.clock

    @abstractmethod
    def request(self, body: RetrainBody) -> Request:
        """The request that starts the job."""

    def outcome(self, answer: Answer) -> Outcome:
        """What the answer means; Sent with what the target calls the run, "" where it does not say."""
        return failed(answer, self._clock()) or Sent()

    def send(self, notice: Notice, attempt: Attempt) -> Outcome:
        if not isinstance(notice.body, RetrainBody):
            return Refused(f"a {self.kind} channel starts retraining jobs and takes no {notice.purpose} notices")
        return self._start(notice.body)

    def _start(self, body: RetrainBody) -> Outcome:
        answer = self._http.ask(self.request(body))
        return self.outcome(answer) if isinstance(answer, Answer) else answer

    def show(self, notice: Notice) -> str:
        if not isinstance(notice.body, RetrainBody):
            return f"nothing: a {self.kind} channel starts retraining jobs alone"
        return shown(self.request(notice.body))


def parameters(body: RetrainBody, n_bytes: int) -> dict[str, str]:
    """The call as words for a job, `evidence` in at most so many bytes of JSON."""
    return {
        "trigger_id": body.trigger,
        "model": body.model,
        "version": body.version or "",
        "incident": body.incident,
        "reason": readable(body.reason),
        "reference": body.reference,
        "config": body.config,
        "since": body.since or "",
        "window_start": body.window.start or "",
        "window_end": body.window.end or "",
        "evidence": encode(fitted(body, n_bytes)).decode(),
    }
