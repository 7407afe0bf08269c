"""GitHub's dispatches, with the limits of its OpenAPI description."""

from __future__ import annotations

import re
import ssl
from typing import Any

from monitor.demo.standins import Answer, Json, Received, StandIn, status
from tests.standins import Case, bearer, is_text, problem

INPUTS = ("trigger_id", "model", "evidence")


class GitHubStandIn(StandIn):
    """One repository with one workflow. runs: payload or inputs of every run that was started, in order."""

    def __init__(self, token: str, tls: ssl.SSLContext | None = None, *, knows_details: bool = True) -> None:
        super().__init__(tls)
        self.runs: list[Json] = []
        self._token = token
        self._knows_details = knows_details

    def _apply(self, request: Received) -> Answer:
        if bearer(request) != self._token:
            return problem(401, "Bad credentials")
        if request.headers.get("x-github-api-version") not in {"2022-11-28", "2026-03-10"}:
            return problem(400, "this version of the API is not supported")
        document = request.json
        if not isinstance(document, dict):
            return problem(400, "Problems parsing JSON")
        if request.path == "/repos/acme/models/dispatches":
            return self._event(document)
        if re.fullmatch(r"/repos/acme/models/actions/workflows/(retrain\.yml|42)/dispatches", request.path):
            return self._workflow(document)
        return problem(404, "Not Found")

    def _event(self, document: Json) -> Answer:
        payload = document.get("client_payload", {})
        if document.keys() - {"event_type", "client_payload"} or not is_text(document.get("event_type"), 100):
            return problem(422, "Invalid request")
        if not isinstance(payload, dict) or len(payload) > 10:
            return problem(422, "No more than 10 properties are allowed")
        if len(str(payload)) >= 64 * 1024:
            return problem(422, "client_payload is too large")
        self.runs.append(payload)
        return Answer(204)

    def _workflow(self, document: Json) -> Answer:
        inputs = document.get("inputs", {})
        allowed = {"ref", "inputs"} | ({"return_run_details"} if self._knows_details else set())
        if document.keys() - allowed or not is_text(document.get("ref"), 250):
            return problem(422, "Invalid request")
        if not isinstance(inputs, dict) or len(inputs) > 10:
            return problem(422, "No more than 10 properties are allowed")
        if unexpected := sorted(inputs.keys() - set(INPUTS)):
            return problem(422, f"Unexpected inputs provided: {unexpected}")
        if not all(isinstance(value, str) for value in inputs.values()) or sum(map(len, inputs.values())) > 65_535:
            return problem(422, "inputs are too large")
        self.runs.append(inputs)
        if document.get("return_run_details") is not True:
            return Answer(204)
        number = 1000 + len(self.runs)
        page = f"https://github.com/acme/models/actions/runs/{number}"
        return Answer(200, {"workflow_run_id": number, "run_url": f"{self.url}/runs/{number}", "html_url": page})


class GitHubCase(Case):
    kind = "github"
    secrets = {"token": "ghp_canary0123456789"}
    is_idempotent = False
    reads_answers = False

    def receiver(self, tls: ssl.SSLContext | None) -> GitHubStandIn:
        return GitHubStandIn(self.secrets["token"], tls)

    def options(self, url: str) -> dict[str, Any]:
        return {"repository": "acme/models", "workflow": "retrain.yml", "token_file": "t", "api_url": url}

    def done(self) -> list[str]:
        return [run["trigger_id"] for run in self.standin.runs]

    def lasting(self) -> Any:
        return status(422), "422"
