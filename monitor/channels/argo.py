"""Argo Events: the call as JSON to a webhook event source; a sensor starts the workflow.

Let the sensor filter on `body.trigger`, or the workflow take its name from it, so that a repeat starts no second one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from pydantic import BaseModel, Field, model_validator

from monitor.channels import TOOLS, Tools, exactly_one, own, word
from monitor.channels.evidence import fitted
from monitor.channels.http import HttpOptions, Request
from monitor.channels.job import JobChannel
from monitor.message import RetrainBody, encode

N_BYTES: Final = 60_000


class ArgoOptions(HttpOptions):
    """Keys of a `[[channel]]` of kind argo."""

    url: str = Field(description="The event source's endpoint, such as https://events.example.com/retrain.")
    token_file: str | None = Field(default=None, description="File with the token of the event source's authSecret.")
    token_env: str | None = Field(default=None, description="Environment variable with that token.")

    @model_validator(mode="after")
    def _check(self) -> ArgoOptions:
        exactly_one("token", self.token_file, self.token_env)
        self.checked(url=self.url)
        return self


class ArgoChannel(JobChannel):
    """Sent on 2xx; Argo names no run."""

    kind: ClassVar[str] = "argo"
    Options: ClassVar[type[BaseModel]] = ArgoOptions

    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        super().__init__(name, options, secrets, tools)
        self._url = own(options, ArgoOptions).url
        self._token = word(secrets, "token")

    def call(self, body: RetrainBody) -> Request:
        headers = {"content-type": "application/json", "authorization": f"Bearer {self._token}"}
        return Request(self._url, encode(fitted(body, N_BYTES)), headers)
