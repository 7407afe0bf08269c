"""From a configuration to its page: the address that it listens on, the token, and what it may ask of the service.

The page outlives reloads. A new configuration only changes what answers; the socket moves when the address does, and
the old one is let go once the new one is bound.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from monitor.channels.webhook import Keys, WebhookChannel, keys
from monitor.config import Config, address
from monitor.daemon import Outside
from monitor.errors import ConfigError, Problem, ReferenceFault
from monitor.reference import unseal
from monitor.secret import secrets
from monitor.web import application
from monitor.web.gate import MIN_TOKEN, Gate
from monitor.web.server import Server, is_local
from monitor.web.site import JobKeys, Service, Site

log = logging.getLogger(__name__)

_LISTEN: Final = "http.listen"


@dataclass(frozen=True, slots=True)
class Door:
    """What opens the page. job_keys: with which retraining jobs sign their call-backs, by model and channel."""

    token: str | None
    job_keys: JobKeys


def door(config: Config, folder: Path) -> Door:
    """Read the page's secrets. ConfigError when they cannot be read, or are not enough for where it listens."""
    http = config.http
    token = secrets(http.model_dump(), folder, "http").get("token")
    problems = []
    if token is not None and len(token) < MIN_TOKEN:
        problems.append(Problem("http.token_file", f"found {len(token)} characters, wanted {MIN_TOKEN} or more"))
    if http.listen and token is None and not is_local(http.listen):
        told = f"others than this machine reach {http.listen}; set token_file or token_env, or listen on 127.0.0.1"
        problems.append(Problem(_LISTEN, told))
    job_keys = _job_keys(config, folder, problems)
    if problems:
        raise ConfigError(str(folder), problems)
    return Door(token, job_keys)


def _job_keys(config: Config, folder: Path, problems: list[Problem]) -> JobKeys:
    """The `callback_secret` of every [[retrain]]; where there is none, the secret with which a webhook is signed."""
    found: dict[tuple[str, str], Keys] = {}
    channels = {table.name: (f"channel[{i}]", table) for i, table in enumerate(config.channel)}
    for i, retrain in enumerate(config.retrain):
        where, table = channels[retrain.channel]
        own = {"callback_secret_file": retrain.callback_secret_file, "callback_secret_env": retrain.callback_secret_env}
        has_own = any(own.values())
        if not has_own and table.kind != WebhookChannel.kind:
            continue
        where = f"retrain[{i}]" if has_own else where
        try:
            read = secrets(own if has_own else table.model_extra or {}, folder, where)
            found[retrain.model, retrain.channel] = keys(read["callback_secret" if has_own else "secret"])
        except ValueError as error:
            problems.append(Problem(where, str(error)))
        except ConfigError as fault:
            problems += fault.problems
    return found


class Page:
    """The page of the running service."""

    def __init__(self, outside: Outside, reload: Callable[[], None]) -> None:
        """reload: reads the configuration again."""
        health, metrics = outside.health, outside.metrics
        self._service = Service(
            outside.inbox.ask, health.alive, health.ready, metrics.text, health.flow, reload
        )  # fmt: skip
        self._server: Server | None = None

    def listen(self, config: Config) -> None:
        """Listen where the configuration says. ConfigError when the address cannot be had; then nothing changes."""
        before, wanted = self._server, config.http.listen
        if before is not None and before.listen == wanted:
            return
        try:
            self._server = Server(wanted) if wanted else None
        except OSError as error:
            told = (
                f"{wanted} cannot be listened on: {error.strerror or error}; set another address under [http], "
                'or listen = "" for no page'
            )
            raise ConfigError("the configuration", [Problem(_LISTEN, told)]) from error
        if self._server is not None:
            # The old page answers until the new one is shown.
            self._server.application = before.application if before else None
        if before is not None:
            before.stop()

    def show(self, config: Config, folder: Path, directory: Path, door: Door) -> None:
        """Answer by this configuration from now on. directory: of the state."""
        if self._server is None:
            return
        gate = Gate(door.token, local=is_local(self._server.listen))
        site = Site(
            directory=directory, gate=gate, service=self._service, job_keys=door.job_keys,
            unfit=lambda name: unfit((folder, directory), name), public_url=config.http.public_url.rstrip("/"),
        )  # fmt: skip
        self._server.show(application(site))
        if not self._server.is_running:
            self._server.start()
            log.info("the page is at %s/", _url(*self._server.address), extra={"event": "page.running"})

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.stop()
            self._server = None


def unfit(roots: tuple[Path, Path], name: str) -> str:
    """Why a directory that a job names cannot become a reference, or "". roots: the configuration's folder, to which
    it is relative, and the state's; it must lie in one of them."""
    try:
        directory = (roots[0] / name).resolve()
        if not any(directory.is_relative_to(root.resolve()) for root in roots):
            return f"{name} lies neither beside the configuration nor in the state directory"
        unseal(directory)
    except (OSError, ValueError) as error:
        return f"{name} cannot be read: {error}"
    except ReferenceFault as fault:
        return str(fault)
    return ""


def address_to_ask(config: Config) -> str:
    """Where programs on this machine find the page; ValueError when there is none."""
    host, port = address(config.http.listen)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # the address of every interface
    return _url(host, port)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
