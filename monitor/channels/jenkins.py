"""Jenkins: a parameterised build. Jenkins itself folds equal builds that wait in its queue into one.

The job declares the parameters that it wants to see; Jenkins drops the others. With an API token no crumb is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final
from urllib.parse import quote, urlencode

from pydantic import BaseModel, Field, model_validator

from monitor.channels import TOOLS, Outcome, Refused, Sent, Tools, exactly_one, own, word
from monitor.channels.http import Answer, HttpOptions, Request, basic, failed
from monitor.channels.job import JobChannel, parameters
from monitor.channels.mask import readable
from monitor.message import RetrainBody

N_BYTES: Final = 60_000
"""Jenkins takes forms of 200,000 bytes, in which a character may need three."""


class JenkinsOptions(HttpOptions):
    """Keys of a `[[channel]]` of kind jenkins."""

    url: str = Field(description="Where Jenkins is.")
    job: str = Field(min_length=1, description='The job, with its folders: "ml/retrain".')
    user: str = Field(min_length=1, pattern=r"^[^:\s]+$", description="The user to whom the API token belongs.")
    token_file: str | None = Field(default=None, description="File with the user's API token.")
    token_env: str | None = Field(default=None, description="Environment variable with that token.")

    @model_validator(mode="after")
    def _check(self) -> JenkinsOptions:
        exactly_one("token", self.token_file, self.token_env)
        self.checked(url=self.url)
        return self


class JenkinsChannel(JobChannel):
    """The parameters are DRIFTD_ with their names: DRIFTD_TRIGGER_ID, DRIFTD_EVIDENCE … Sent with the address of the
    place in the queue on 201."""

    kind: ClassVar[str] = "jenkins"
    Options: ClassVar[type[BaseModel]] = JenkinsOptions

    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        super().__init__(name, options, secrets, tools)
        self._options = own(options, JenkinsOptions)
        self._token = word(secrets, "token")

    def call(self, body: RetrainBody) -> Request:
        options = self._options
        path = "".join(f"/job/{quote(part, safe='')}" for part in options.job.strip("/").split("/"))
        form = {f"DRIFTD_{name.upper()}": value for name, value in parameters(body, N_BYTES).items()}
        login = basic(options.user, self._token)
        headers = {"content-type": "application/x-www-form-urlencoded", "authorization": login}
        return Request(f"{options.url.rstrip('/')}{path}/buildWithParameters", urlencode(form).encode(), headers)

    def outcome(self, answer: Answer) -> Outcome:
        if answer.status == 403:
            return Refused("HTTP 403: the user may not build this job, or the token is none and a crumb is wanted")
        fault = failed(answer, self._clock())
        if fault is not None:
            return fault
        if answer.status != 201:
            return Refused(f"HTTP {answer.status} where 201 was wanted: this is not Jenkins, or the job takes none")
        return Sent(readable(answer.headers.get("location", "")))
