"""GitHub Actions: a workflow, or a repository_dispatch event, starts the retraining.

GitHub knows no repeats: give the workflow a `concurrency` group with the trigger's id in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final
from urllib.parse import quote

import msgspec
from pydantic import BaseModel, Field, model_validator

from monitor.channels import TOOLS, Outcome, Retry, Sent, Tools, exactly_one, own, word
from monitor.channels.evidence import fitted
from monitor.channels.http import Answer, HttpOptions, Request, failed, seconds_asked
from monitor.channels.job import PARAMETERS, JobChannel, Parameters, parameters
from monitor.message import RetrainBody

N_INPUT_BYTES: Final = 30_000
N_PAYLOAD_BYTES: Final = 60_000
"""GitHub takes 65,535 characters of inputs, in which quotes count twice, and 64 KB of client_payload."""


class GitHubOptions(HttpOptions):
    """Keys of a `[[channel]]` of kind github."""

    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description='The repository: "owner/name".')
    workflow: str | None = Field(
        default=None,
        min_length=1,
        description='The workflow to dispatch, by file name ("retrain.yml") or id. Without one a repository_dispatch '
        "event is sent, whose workflow stands on the default branch.",
    )
    ref: str = Field(default="main", min_length=1, description="Branch or tag on which the workflow runs.")
    inputs: Parameters = Field(
        default=("trigger_id", "model", "evidence"),
        max_length=10,
        description=f"The inputs that the workflow declares, out of: {', '.join(PARAMETERS)}.",
    )
    event_type: str = Field(
        default="driftd-retrain", min_length=1, max_length=100, description="Type of the repository_dispatch event."
    )
    run_details: bool = Field(
        default=True, description="Ask for the id of the run; false for servers that do not know that yet."
    )
    token_file: str | None = Field(
        default=None,
        description="File with a token that may write actions (workflow) or contents (repository_dispatch).",
    )
    token_env: str | None = Field(default=None, description="Environment variable with the token.")
    api_url: str = Field(
        default="https://api.github.com", description="The API; https://HOST/api/v3 for GitHub Enterprise Server."
    )
    api_version: str = Field(
        default="2026-03-10", pattern=r"^\d{4}-\d\d-\d\d$", description="Version of the API to ask for."
    )

    @model_validator(mode="after")
    def _check(self) -> GitHubOptions:
        exactly_one("token", self.token_file, self.token_env)
        self.checked(api_url=self.api_url)
        return self


class GitHubChannel(JobChannel):
    """Sent with the run's address where GitHub names it (200), else without (204)."""

    kind: ClassVar[str] = "github"
    Options: ClassVar[type[BaseModel]] = GitHubOptions

    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        super().__init__(name, options, secrets, tools)
        self._options = own(options, GitHubOptions)
        self._token = word(secrets, "token")

    def call(self, body: RetrainBody) -> Request:
        options = self._options
        base = f"{options.api_url.rstrip('/')}/repos/{options.repository}"
        if options.workflow is None:
            url, document = f"{base}/dispatches", self._event(body)
        else:
            given = parameters(body, N_INPUT_BYTES)
            inputs = {name: given[name] for name in options.inputs}
            url = f"{base}/actions/workflows/{quote(options.workflow, safe='')}/dispatches"
            document = {"ref": options.ref, "inputs": inputs}
            document |= {"return_run_details": True} if options.run_details else {}
        headers = {
            "accept": "application/vnd.github+json",
            "content-type": "application/json",
            "x-github-api-version": options.api_version,
            "authorization": f"Bearer {self._token}",
        }
        return Request(url, msgspec.json.encode(document), headers)

    def _event(self, body: RetrainBody) -> dict[str, object]:
        """A repository_dispatch; its payload has few keys, as GitHub allows ten."""
        return {
            "event_type": self._options.event_type,
            "client_payload": {
                "trigger_id": body.trigger,
                "model": body.model,
                "version": body.version,
                "evidence": msgspec.to_builtins(fitted(body, N_PAYLOAD_BYTES)),
            },
        }

    def outcome(self, answer: Answer) -> Outcome:
        # Too many requests come as 403, too.
        asked = seconds_asked(answer.headers.get("retry-after"), self._clock())
        if answer.status == 403 and (asked is not None or answer.headers.get("x-ratelimit-remaining") == "0"):
            return Retry("HTTP 403: GitHub's rate limit", asked)
        run = answer.text("html_url") or answer.text("workflow_run_id")
        return failed(answer, self._clock()) or Sent(run)
