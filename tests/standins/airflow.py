"""Airflow's runs of DAGs: version 3 as its strict models have it, version 2 as its OpenAPI description does."""

from __future__ import annotations

import re
import ssl
from base64 import b64encode
from typing import Any

from monitor.demo.standins import Answer, Fault, Json, Received, StandIn, status, well
from tests.standins import Case, bearer

_FIELDS = {"dag_run_id", "data_interval_start", "data_interval_end", "logical_date", "run_after", "conf", "note"}


class AirflowStandIn(StandIn):
    """One DAG. runs: the conf of every run, by its id. expire(): no token given so far is taken any more."""

    def __init__(self, user: str, password: str, version: int = 3, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.runs: dict[str, Json] = {}
        self.tokens: list[str] = []
        self._user, self._password, self._version = user, password, version

    def expire(self) -> None:
        """Take none of the tokens given so far."""
        self.tokens.append("")

    def _apply(self, request: Received) -> Answer:
        if request.path == "/auth/token" and self._version == 3:
            return self._log_in(request.json)
        if not self._is_known(request):
            return Answer(401, {"detail": "Not authenticated"})
        api = "v2" if self._version == 3 else "v1"
        if request.path != f"/api/{api}/dags/retrain/dagRuns":
            return Answer(404, {"detail": "The Dag with ID was not found"})
        document = request.json
        if not isinstance(document, dict):
            return Answer(400, {"detail": "the body is not JSON"})
        return self._run(document)

    def _log_in(self, document: Any) -> Answer:
        if document != {"username": self._user, "password": self._password}:
            return Answer(401, {"detail": "Invalid credentials"})
        self.tokens.append(f"eyJ.canary.{len(self.tokens)}")
        return Answer(201, {"access_token": self.tokens[-1]})

    def _is_known(self, request: Received) -> bool:
        if self._version == 3:
            return bool(self.tokens) and bearer(request) == self.tokens[-1] != ""
        login = b64encode(f"{self._user}:{self._password}".encode()).decode()
        return request.headers.get("authorization") == f"Basic {login}"

    def _run(self, document: Json) -> Answer:
        fields = _FIELDS if self._version == 3 else _FIELDS - {"run_after"}
        unprocessable = 422 if self._version == 3 else 400
        if extra := document.keys() - fields:
            return Answer(unprocessable, {"detail": f"extra inputs are not permitted: {sorted(extra)}"})
        if self._version == 3 and "logical_date" not in document:
            return Answer(422, {"detail": "logical_date: field required"})
        if self._version == 2 and document.get("logical_date", "") is None:
            return Answer(400, {"detail": "None is not of type 'string' - 'logical_date'"})
        run_id, conf = document.get("dag_run_id"), document.get("conf", {})
        if not isinstance(run_id, str) or not re.fullmatch(r"[A-Za-z0-9_.~:+-]{1,250}", run_id):
            return Answer(unprocessable, {"detail": "The run_id does not match the allowed pattern"})
        if not isinstance(conf, dict) or len(str(document.get("note") or "")) > 1000:
            return Answer(unprocessable, {"detail": "conf is no object, or note is too long"})
        if run_id in self.runs:
            return Answer(409, {"detail": {"reason": "Unique constraint violation"}})
        self.runs[run_id] = conf
        return Answer(200, {"dag_run_id": run_id, "state": "queued", "conf": conf})


class AirflowCase(Case):
    kind = "airflow"
    secrets = {"password": "canary-password-01"}
    n_requests = 2

    def receiver(self, tls: ssl.SSLContext | None) -> AirflowStandIn:
        return AirflowStandIn("driftd", self.secrets["password"], tls=tls)

    def options(self, url: str) -> dict[str, Any]:
        return {"url": url, "dag": "retrain", "user": "driftd", "password_file": "p"}

    def done(self) -> list[str]:
        return list(self.standin.runs)

    def order(self, *faults: Fault) -> None:
        # The first delivery of a channel logs in before.
        self.standin.order(*([] if self.standin.tokens else [well()]), *faults)

    def lasting(self) -> Any:
        return status(403), "403"
