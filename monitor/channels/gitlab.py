"""GitLab CI: a trigger token starts a pipeline; the evidence stands in its variables.

GitLab knows no repeats: let the pipeline's first job look for another pipeline with the same TRIGGER_ID.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final
from urllib.parse import quote, urlencode

from pydantic import BaseModel, Field, model_validator

from monitor.channels import TOOLS, Outcome, Refused, Sent, Tools, exactly_one, own, word
from monitor.channels.http import Answer, HttpOptions, Request, failed
from monitor.channels.job import JobChannel, parameters
from monitor.message import RetrainBody

N_BYTES: Final = 10_000
"""GitLab's bound on the value of a variable."""


class GitLabOptions(HttpOptions):
    """Keys of a `[[channel]]` of kind gitlab."""

    project: str = Field(min_length=1, description='The project: its id, or its path "group/name".')
    ref: str = Field(default="main", min_length=1, description="Branch or tag on which the pipeline runs.")
    token_file: str | None = Field(default=None, description="File with a pipeline trigger token.")
    token_env: str | None = Field(default=None, description="Environment variable with that token.")
    url: str = Field(default="https://gitlab.com", description="Where GitLab is.")

    @model_validator(mode="after")
    def _check(self) -> GitLabOptions:
        exactly_one("token", self.token_file, self.token_env)
        self.checked(url=self.url)
        return self


class GitLabChannel(JobChannel):
    """The variables are TRIGGER_ID, and DRIFTD_ with the name of each other parameter. Sent with the pipeline's
    address on 201."""

    kind: ClassVar[str] = "gitlab"
    Options: ClassVar[type[BaseModel]] = GitLabOptions

    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        super().__init__(name, options, secrets, tools)
        self._options = own(options, GitLabOptions)
        self._token = word(secrets, "token")

    def call(self, body: RetrainBody) -> Request:
        options = self._options
        given = parameters(body, N_BYTES)
        variables = {"TRIGGER_ID": given.pop("trigger_id")}
        variables |= {f"DRIFTD_{name.upper()}": value for name, value in given.items()}
        form = {"token": str(self._token), "ref": options.ref}
        form |= {f"variables[{name}]": value for name, value in variables.items()}
        url = f"{options.url.rstrip('/')}/api/v4/projects/{quote(options.project, safe='')}/trigger/pipeline"
        return Request(url, urlencode(form).encode(), {"content-type": "application/x-www-form-urlencoded"})

    def outcome(self, answer: Answer) -> Outcome:
        if answer.status == 404:
            return Refused("HTTP 404: no such project, or the trigger token is not one of its own")
        return failed(answer, self._clock()) or Sent(answer.text("web_url") or answer.text("id"))
