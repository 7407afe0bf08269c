"""Jenkins' builds with parameters: undeclared ones are dropped, equal builds that wait become one."""

from __future__ import annotations

import ssl
from base64 import b64encode
from typing import Any

from monitor.demo.standins import Answer, Received, StandIn
from tests.standins import Case

DECLARED = {"DRIFTD_TRIGGER_ID", "DRIFTD_MODEL", "DRIFTD_EVIDENCE"}


class JenkinsStandIn(StandIn):
    """One job in a folder. queue: the parameters of every build that waits, in order."""

    def __init__(self, user: str, token: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.queue: list[dict[str, str]] = []
        self._login = "Basic " + b64encode(f"{user}:{token}".encode()).decode()

    def _apply(self, request: Received) -> Answer:
        if request.headers.get("authorization") != self._login:
            return Answer(401, "<html>Invalid password/token for user</html>")
        if request.path != "/job/ml/job/retrain/buildWithParameters":
            return Answer(404, "<html>Not Found</html>")
        if request.headers.get("content-type") != "application/x-www-form-urlencoded":
            return Answer(400, "<html>Nothing is submitted</html>")
        if len(request.body) > 200_000:
            return Answer(400, "<html>Form is larger than max length 200000</html>")
        build = {name: value for name, value in request.form.items() if name in DECLARED}
        if build not in self.queue:
            self.queue.append(build)
        place = f"{self.url}/queue/item/{self.queue.index(build) + 1}/"
        return Answer(201, "", {"Location": place})


class JenkinsCase(Case):
    kind = "jenkins"
    secrets = {"token": "11canary0123456789"}

    def receiver(self, tls: ssl.SSLContext | None) -> JenkinsStandIn:
        return JenkinsStandIn("driftd", self.secrets["token"], tls)

    def options(self, url: str) -> dict[str, Any]:
        return {"url": url, "job": "ml/retrain", "user": "driftd", "token_file": "t"}

    def done(self) -> list[str]:
        return [build["DRIFTD_TRIGGER_ID"] for build in self.standin.queue]
