"""Apache Airflow, 2 and 3: a run of a DAG whose id is the trigger's, so that no repeat starts a second one.

Airflow 3 wants a token, which it gives for a user and a password; Airflow 2 takes these as they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import ClassVar, Final, Literal
from urllib.parse import quote

import msgspec
from pydantic import BaseModel, Field, model_validator

from monitor.channels import TOOLS, Outcome, Refused, Retry, Secret, Sent, Tools, exactly_one, own, password_of, word
from monitor.channels.evidence import fitted
from monitor.channels.http import Answer, HttpOptions, Request, basic, failed
from monitor.channels.job import JobChannel
from monitor.message import Notice, RetrainBody

N_BYTES: Final = 60_000


class AirflowOptions(HttpOptions):
    """Keys of a `[[channel]]` of kind airflow."""

    url: str = Field(description="Where Airflow is, without /api.")
    dag: str = Field(min_length=1, max_length=250, description="The DAG to run.")
    version: Literal[2, 3] = Field(default=3, description="Airflow's major version.")
    user: str | None = Field(default=None, min_length=1, pattern=r"^[^:]+$", description="The user to log in as.")
    password_file: str | None = Field(default=None, description="File with the user's password.")
    password_env: str | None = Field(default=None, description="Environment variable with the user's password.")
    token_file: str | None = Field(
        default=None, description="File with a bearer token, instead of a user and a password."
    )
    token_env: str | None = Field(default=None, description="Environment variable with the bearer token.")

    @model_validator(mode="after")
    def _check(self) -> AirflowOptions:
        self.checked(url=self.url)
        password_of(self.user, self.password_file, self.password_env)
        if self.user is None:
            exactly_one("token", self.token_file, self.token_env)
        elif self.token_file is not None or self.token_env is not None:
            raise ValueError("set a user with its password, or a token; both are set")
        return self


class AirflowChannel(JobChannel):
    """Sent with the run's id on 200, and on 409, which says that the run was started before."""

    kind: ClassVar[str] = "airflow"
    Options: ClassVar[type[BaseModel]] = AirflowOptions

    def __init__(self, name: str, options: BaseModel, secrets: Mapping[str, str], tools: Tools = TOOLS) -> None:
        super().__init__(name, options, secrets, tools)
        self._options = own(options, AirflowOptions)
        self._base = self._options.url.rstrip("/")
        self._password = Secret(secrets.get("password", ""))
        self._token = word(secrets, "token") if self._options.user is None else Secret()

    def call(self, body: RetrainBody) -> Request:
        document: dict[str, object] = {
            "dag_run_id": run_id(body.trigger),
            "conf": msgspec.to_builtins(fitted(body, N_BYTES)),
            "note": f"driftd: {body.reason}"[:1000],
        }
        # Airflow 3 wants the key, Airflow 2 takes no null in it.
        document |= {"logical_date": None} if self._options.version == 3 else {}
        api = "api/v2" if self._options.version == 3 else "api/v1"
        url = f"{self._base}/{api}/dags/{quote(self._options.dag, safe='')}/dagRuns"
        headers = {"content-type": "application/json", "authorization": self._authorization()}
        return Request(url, msgspec.json.encode(document), headers)

    def outcome(self, answer: Answer) -> Outcome:
        if answer.status == 409:
            return Sent()
        if answer.status == 404:
            return Refused(f"HTTP 404: Airflow has no DAG {self._options.dag}")
        fault = failed(answer, self._clock())
        if fault is not None:
            return fault
        if not answer.text("dag_run_id"):
            return Refused(f"HTTP {answer.status} without a run: this is not Airflow's API")
        return Sent()

    def _deliver(self, notice: Notice) -> Outcome:
        asks_for_token = self._options.user is not None and self._options.version == 3
        fault = self._log_in() if asks_for_token and not self._token else None
        outcome = fault or super()._deliver(notice)
        if asks_for_token and fault is None and isinstance(outcome, Refused) and "401" in outcome.reason:
            # The token has run out since it was given.
            outcome = self._log_in() or super()._deliver(notice)
        if isinstance(outcome, Sent) and isinstance(notice.body, RetrainBody):
            return Sent(run_id(notice.body.trigger))
        return outcome

    def _log_in(self) -> Retry | Refused | None:
        """Get a token of Airflow 3; what went wrong, if anything."""
        login = {"username": self._options.user, "password": str(self._password)}
        body, headers = msgspec.json.encode(login), {"content-type": "application/json"}
        answer = self._http.ask(Request(f"{self._base}/auth/token", body, headers))
        if not isinstance(answer, Answer):
            # Nothing was started, whatever became of the token.
            return answer if isinstance(answer, Refused) else Retry(f"at the login: {answer.reason}")
        fault = failed(answer, self._clock())
        if fault is not None:
            reason = f"at the login: {fault.reason}"
            return Refused(reason) if isinstance(fault, Refused) else Retry(reason, fault.after_seconds)
        document = answer.json()
        token = document.get("access_token") if isinstance(document, dict) else None
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            return Refused("at the login: the answer has no access_token")
        self._token = Secret(token)
        return None

    def _authorization(self) -> str:
        if self._options.user is not None and self._options.version == 2:
            return basic(self._options.user, self._password)
        return f"Bearer {self._token}"


def run_id(trigger: str) -> str:
    """A trigger's id as the id of a run: of the letters that Airflow allows, and different for different triggers.

    >>> run_id("credit-7-retrain"), run_id("a/b")[:4], run_id("a/b") == run_id("a_b")
    ('credit-7-retrain', 'a_b-', False)
    """
    plain = re.sub(r"[^A-Za-z0-9_.~:+-]", "_", trigger)[:200]
    return plain if plain == trigger else f"{plain}-{hashlib.sha256(trigger.encode()).hexdigest()[:8]}"
