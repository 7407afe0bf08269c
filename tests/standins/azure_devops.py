"""Azure DevOps' runs of pipelines; whom it does not know, it shows a page to sign in, with 203."""

from __future__ import annotations

import ssl
from base64 import b64encode
from typing import Any
from urllib.parse import urlsplit

from monitor.demo.standins import Answer, Json, Received, StandIn
from tests.standins import Case, problem

DECLARED = {"trigger_id", "model", "evidence"}


class AzureDevOpsStandIn(StandIn):
    """One pipeline. runs: the parameters of every run, in order; rehearsals: those of runs that were only previewed."""

    def __init__(self, token: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.runs: list[Json] = []
        self.rehearsals: list[Json] = []
        self._login = "Basic " + b64encode(f":{token}".encode()).decode()

    def _apply(self, request: Received) -> Answer:
        if request.headers.get("authorization") != self._login:
            return Answer(203, "<html>Azure DevOps Services | Sign In</html>")
        if urlsplit(request.path).path != "/acme/Machine%20Learning/_apis/pipelines/7/runs":
            return problem(404, "The pipeline with ID 7 does not exist.")
        if not request.query.get("api-version", "").startswith(("7.", "6.")):
            return problem(400, "No api-version was supplied for the request.")
        document = request.json
        if not isinstance(document, dict):
            return problem(400, "TF400898: the body is not JSON")
        if document.keys() - {"resources", "templateParameters", "variables", "stagesToSkip", "previewRun"}:
            return problem(400, "the body has unknown members")
        branch = document.get("resources", {}).get("repositories", {}).get("self", {}).get("refName", "")
        if not branch.startswith("refs/"):
            return problem(400, "refName wants refs/heads/…")
        given = document.get("templateParameters", {})
        if unexpected := sorted(given.keys() - DECLARED):
            return problem(400, f"Unexpected parameter '{unexpected[0]}'")
        if any(not isinstance(value, str) or len(value) > 32_766 for value in given.values()):
            return problem(400, "a parameter is no text, or too long for the environment of an agent")
        if document.get("previewRun"):
            self.rehearsals.append(given)
            return Answer(200, {"finalYaml": "steps: []", "id": -1, "state": "unknown"})
        self.runs.append(given)
        number = 300 + len(self.runs)
        page = f"https://dev.azure.com/acme/_build/results?buildId={number}"
        links = {"web": {"href": page}, "self": {"href": self.url}}
        return Answer(200, {"id": number, "state": "inProgress", "url": self.url, "_links": links})


class AzureDevOpsCase(Case):
    kind = "azure_devops"
    secrets = {"token": "azcanary0123456789"}
    is_idempotent = False

    def receiver(self, tls: ssl.SSLContext | None) -> AzureDevOpsStandIn:
        return AzureDevOpsStandIn(self.secrets["token"], tls)

    def options(self, url: str) -> dict[str, Any]:
        return {
            "organization": "acme", "project": "Machine Learning", "pipeline": 7, "token_file": "t", "url": url,
        }  # fmt: skip

    def done(self) -> list[str]:
        return [run["trigger_id"] for run in self.standin.runs]
