"""Azure DevOps: a run of a YAML pipeline; the evidence stands in its template parameters.

Azure knows no repeats: let the pipeline look for another run with the same trigger_id. It can rehearse a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final
from urllib.parse import quote

import msgspec
from pydantic import BaseModel, Field, model_validator

from monitor.channels import TOOLS, Outcome, Refused, Sent, Tools, exactly_one, own, word
from monitor.channels.http import Answer, HttpOptions, Request, basic, failed
from monitor.channels.job import PARAMETERS, JobChannel, Parameters, parameters
from monitor.message import Notice, RetrainBody

N_BYTES: Final = 30_000
"""Agents hand parameters on as variables of the environment; Windows takes 32,767 characters."""


class AzureDevOpsOptions(HttpOptions):
    """Keys of a `[[channel]]` of kind azure_devops."""

    organization: str = Field(min_length=1, description="The organization.")
    project: str = Field(min_length=1, description="The project.")
    pipeline: int = Field(gt=0, description="The pipeline's id, as its address shows it.")
    branch: str = Field(default="main", min_length=1, description="Branch on which the pipeline runs.")
    parameters: Parameters = Field(
        default=("trigger_id", "model", "evidence"),
        description=f"The template parameters that the pipeline declares, out of: {', '.join(PARAMETERS)}.",
    )
    token_file: str | None = Field(
        default=None, description="File with a personal access token that may read and execute builds."
    )
    token_env: str | None = Field(default=None, description="Environment variable with that token.")
    url: str = Field(default="https://dev.azure.com", description="Where Azure DevOps is.")

    @model_validator(mode="after")
    def _check(self) -> AzureDevOpsOptions:
        exactly_one("token", self.token_file, self.token_env)
        self.checked(url=self.url)
        return self


class AzureDevOpsChannel(JobChannel):
    """Sent with the run's address on 200."""

    kind: ClassVar[str] = "azure_devops"
    Options: ClassVar[type[BaseModel]] = AzureDevOpsOptions

    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        super().__init__(name, options, secrets, tools)
        self._options = own(options, AzureDevOpsOptions)
        self._token = word(secrets, "token")

    def call(self, body: RetrainBody) -> Request:
        options = self._options
        given = parameters(body, N_BYTES)
        document = {
            "resources": {"repositories": {"self": {"refName": f"refs/heads/{options.branch}"}}},
            "templateParameters": {name: given[name] for name in options.parameters},
        }
        place = f"{quote(options.organization, safe='')}/{quote(options.project, safe='')}"
        url = f"{options.url.rstrip('/')}/{place}/_apis/pipelines/{options.pipeline}/runs?api-version=7.1"
        headers = {"content-type": "application/json", "authorization": basic("", self._token)}
        return Request(url, msgspec.json.encode(document), headers)

    def outcome(self, answer: Answer) -> Outcome:
        # To whom it does not know, Azure shows a page to sign in.
        if answer.status in {203, 302}:
            return Refused(f"HTTP {answer.status}: the credentials are not accepted")
        fault = failed(answer, self._clock())
        if fault is not None:
            return fault
        if not answer.text("id"):
            return Refused(f"HTTP {answer.status} without a run: this is not Azure's API")
        return Sent(_page(answer.json()) or answer.text("url") or answer.text("id"))

    def rehearse(self, notice: Notice) -> Outcome | None:
        """Azure reads the pipeline and its parameters, and starts nothing."""
        request = self.request(notice)
        document = msgspec.json.decode(request.body) | {"previewRun": True}
        answer = self._http.ask(replace(request, body=msgspec.json.encode(document)))
        if not isinstance(answer, Answer):
            return answer
        if answer.status == 200 and answer.text("finalYaml"):
            return Sent()
        words = answer.text("message")
        return Refused(f"HTTP {answer.status}: {words}") if words else self.outcome(answer)


def _page(run: Mapping[str, Any]) -> str:
    links = run.get("_links")
    web = links.get("web") if isinstance(links, dict) else None
    href = web.get("href") if isinstance(web, dict) else None
    return href if isinstance(href, str) and href.isprintable() and len(href) <= 300 else ""
