"""GitLab's trigger of pipelines."""

from __future__ import annotations

import ssl
from typing import Any

from monitor.demo.standins import Answer, Received, StandIn
from tests.standins import Case, problem


class GitLabStandIn(StandIn):
    """One project. pipelines: the variables of every pipeline that was started, in order."""

    def __init__(self, token: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.pipelines: list[dict[str, str]] = []
        self._token = token

    def _apply(self, request: Received) -> Answer:
        if request.path != "/api/v4/projects/ml%2Fmodels/trigger/pipeline":
            return problem(404, "404 Project Not Found")
        form = request.form
        if form.get("token") != self._token:
            return problem(404, "404 Not Found")
        if not form.get("ref"):
            return Answer(400, {"error": "ref is missing"})
        variables = {key[10:-1]: value for key, value in form.items() if key.startswith("variables[")}
        if len(variables) + 2 != len(form):
            return Answer(400, {"error": "unknown parameters"})
        if any(len(value) > 10_000 for value in variables.values()):
            return Answer(400, {"message": {"variables.value": ["is too long (maximum is 10000 characters)"]}})
        self.pipelines.append(variables)
        number = 700 + len(self.pipelines)
        page = f"https://gitlab.example/ml/models/-/pipelines/{number}"
        return Answer(201, {"id": number, "ref": form["ref"], "status": "created", "web_url": page})


class GitLabCase(Case):
    kind = "gitlab"
    secrets = {"token": "glptt-canary0123456789"}
    is_idempotent = False
    reads_answers = False

    def receiver(self, tls: ssl.SSLContext | None) -> GitLabStandIn:
        return GitLabStandIn(self.secrets["token"], tls)

    def options(self, url: str) -> dict[str, Any]:
        return {"project": "ml/models", "token_file": "t", "url": url}

    def done(self) -> list[str]:
        return [variables["TRIGGER_ID"] for variables in self.standin.pipelines]
