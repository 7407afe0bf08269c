"""What a real systemd makes of the unit, and the unit of driftd."""

from __future__ import annotations

import fcntl
import json
import time

from systemd.conftest import World
from systemd.unit import Pipe, Unit, until

CREDENTIAL = "slack_token:/etc/driftd/secrets/slack_token"


def started(unit: Unit) -> str:
    """Its process, once it is ready."""
    unit.systemctl("start")
    assert unit.is_active()
    return unit.pid


def hung(unit: Unit, seconds: float = 0.5) -> None:
    """Its only loop, while it reads a configuration that does not come; the next start finds the good one."""
    with Pipe(unit.box.path(unit.config)):
        unit.systemctl("kill", "--kill-whom=main", "--signal=HUP")
        until(lambda: unit.show("ActiveState") == "reloading", "the reload begins")
        time.sleep(seconds)


def events(unit: Unit, pid: str) -> list[str]:
    return [line["event"] for line in unit.said(pid)]


# Starting


def test_started_means_that_references_are_open_however_long_that_takes(unit: Unit):
    unit.drop_in(LoadCredential=CREDENTIAL, TimeoutStartSec="2")
    with Pipe(unit.box.path("/etc/driftd/reference/reference.json")) as pipe:
        unit.systemctl("start", "--no-block")
        until(lambda: unit.show("StatusText") == "opening the references", "it asks for the reference")
        time.sleep(2.5)
        assert unit.show("SubState") == "start", "neither ready nor out of time: it asked for more"
        pipe.feed()
    until(unit.is_active, "it starts")
    assert unit.show("NRestarts") == "0"


def test_started_means_that_the_state_is_ours(unit: Unit):
    unit.drop_in(LoadCredential=CREDENTIAL, RestartSec="100ms", StartLimitBurst="100")
    started(unit)
    unit.systemctl("stop")
    with unit.box.path(f"{unit.state}/driftd.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert unit.systemctl("start", check=False) != 0
        assert not unit.is_active()
    until(unit.is_active, "it starts once the lock is free")


def test_kafka_away_is_no_reason_not_to_start(unit: Unit, world: World):
    unit.box.write(unit.config, world.config().replace(json.dumps(world.addresses["servers"]), '["localhost:1"]'))
    pid = started(unit)
    until(lambda: "kafka.away" in events(unit, pid), "it says so")
    assert unit.is_active()


def test_a_wrong_configuration_fails_at_once_with_78_and_is_not_tried_again(unit: Unit):
    unit.box.write(unit.config, "[[modell]]\n")
    assert unit.systemctl("start", check=False) != 0
    time.sleep(1.5)
    assert (unit.show("ActiveState"), unit.show("NRestarts")) == ("failed", "0")
    assert unit.show("ExecMainStatus") == "78"
    (line,) = unit.said(unit.show("ExecMainPID"))
    assert (line["event"], line["PRIORITY"]) == ("service.failed", 2)
    assert "did you mean 'model'?" in line["problems"][-1]


# Running


def test_status_and_journal_tell_how_it_goes(unit: Unit, world: World):
    pid = started(unit)
    assert unit.show("StatusText") == "1 models, 0 records since the start"
    world.order(produce=[0, 1_000])
    until(lambda: unit.show("StatusText") == "1 models, 1,000 records since the start", "the status counts")
    running = next(line for line in unit.said(pid) if line["event"] == "service.running")
    assert (running["PRIORITY"], running["level"], running["logger"]) == (6, "info", "monitor.service")
    assert all(line["time"].endswith("Z") and line["message"] for line in unit.said(pid))


def test_a_reload_keeps_the_process_and_changes_the_configuration(unit: Unit, world: World):
    pid = started(unit)
    second = world.config().split("[[model]]")[1].split("[[channel]]")[0].replace('"loan"', '"other"')
    unit.box.write(unit.config, f"{world.config()}\n[[model]]{second}")
    unit.systemctl("reload")
    until(lambda: unit.show("StatusText").startswith("2 models"), "the new configuration is in force")
    until(unit.is_active, "the reload ends")
    assert (unit.pid, unit.show("NRestarts")) == (pid, "0")


def test_a_wrong_configuration_is_told_and_changes_nothing(unit: Unit, world: World):
    pid = started(unit)
    unit.box.write(unit.config, world.config().replace("[[model]]", "[[modell]]"))
    assert unit.systemctl("reload", check=False) != 0, "the check before the signal fails"
    assert (unit.pid, unit.is_active()) == (pid, True)
    unit.systemctl("kill", "--kill-whom=main", "--signal=HUP")
    until(lambda: "reload.failed" in events(unit, pid), "it is told in the journal")
    until(lambda: "the last reload failed" in unit.show("StatusText"), "and in the status")
    assert (unit.pid, unit.is_active()) == (pid, True)
    (line,) = [line for line in unit.said(pid) if line["event"] == "reload.failed"]
    assert line["PRIORITY"] == 3
    world.order(produce=[0, 10])
    until(lambda: unit.n_read() > 0, "it works on")


# Dying


def test_a_loop_that_hangs_is_ended_by_the_watchdog_and_begins_anew(unit: Unit):
    unit.drop_in(LoadCredential=CREDENTIAL, WatchdogSec="2", RestartSec="100ms")
    pid = started(unit)
    hung(unit)
    until(lambda: unit.show("NRestarts") == "1" and unit.is_active(), "it is restarted")
    assert unit.pid != pid
    stack = [entry["MESSAGE"] for entry in unit.entries(_PID=pid)]
    assert any("Fatal Python error: Aborted" in line for line in stack)
    assert any("config.py" in line and "load" in line for line in stack), "the journal says where it hung"


def test_sigkill_loses_nothing(unit: Unit, world: World):
    unit.drop_in(LoadCredential=CREDENTIAL, RestartSec="100ms")
    pid = started(unit)
    first = unit.n_read()
    world.order(produce=[1_000, 2_000])
    until(lambda: unit.n_read() > first, "it reads")
    unit.systemctl("kill", "--kill-whom=main", "--signal=KILL")
    world.order(produce=[2_000, 3_000])
    until(lambda: unit.pid not in ("0", pid) and unit.is_active(), "it is restarted")
    until(lambda: n_rows(unit) == unit.n_read(), "every record is counted once")
    assert unit.box.run("/opt/driftd/bin/driftd", "status", "--config", unit.config).stdout.startswith(
        "driftd is running"
    )


def n_rows(unit: Unit) -> int:
    ((state,),) = unit.rows("SELECT CAST(substr(state, 1, length(state)) AS TEXT) FROM lines")
    return int(json.loads(state[state.index("{") : state.rindex("}") + 1])["counts"]["rows"])
