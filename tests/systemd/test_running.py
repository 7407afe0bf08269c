"""What a real systemd makes of the unit, and the unit of driftd."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from systemd.box import Box
from systemd.conftest import CREDENTIAL, TOKEN, World
from systemd.unit import Pipe, Unit, until


def started(unit: Unit) -> str:
    """Its process, once it is ready."""
    unit.systemctl("start")
    assert unit.is_active()
    return unit.pid


@contextmanager
def hanging(unit: Unit) -> Iterator[None]:
    """Its only loop reads a configuration that does not come; whoever opens it after the block finds the good one."""
    with Pipe(unit.box.path(unit.config)):
        unit.systemctl("kill", "--kill-whom=main", "--signal=HUP")
        until(lambda: unit.show("ActiveState") == "reloading", "the reload begins")
        time.sleep(0.3)
        yield


def probed(unit: Unit, *orders: str) -> dict[str, Any]:
    """What a probe found that ran in the service's place."""
    command = " ".join(["/opt/driftd/bin/python", "/opt/tests/probe.py", *orders])
    alone = {"Type": "oneshot", "WatchdogSec": "0", "Restart": "no", "TimeoutStartSec": "infinity"}
    unit.drop_in(ExecStart=f"\n{command}", LoadCredential=CREDENTIAL, **alone)
    unit.systemctl("stop")
    unit.box.run("systemctl", "start", unit.name, seconds=250)
    return json.loads(unit.box.path(f"{unit.state}/probe.json").read_text())


def events(unit: Unit, pid: str) -> list[str]:
    return [line["event"] for line in unit.said(pid)]


# Starting


def test_started_means_that_references_are_open_however_long_that_takes(unit: Unit):
    unit.drop_in(LoadCredential=CREDENTIAL, TimeoutStartSec="10")
    began = time.monotonic()
    with Pipe(unit.box.path("/etc/driftd/reference/reference.json")) as pipe:
        unit.systemctl("start", "--no-block")
        until(lambda: unit.show("StatusText") == "opening the references", "it asks for the reference")
        time.sleep(max(0.0, began + 10.5 - time.monotonic()))
        assert unit.show("SubState") == "start", "neither ready nor out of time: it asked for more"
        pipe.feed()
    until(unit.is_active, "it starts")
    assert unit.show("NRestarts") == "0"


def test_started_means_that_the_state_is_ours(unit: Unit):
    unit.drop_in(LoadCredential=CREDENTIAL, RestartSec="100ms", StartLimitBurst="100")
    unit.box.run("install", "--directory", "--mode=700", "/var/lib/private", unit.state)
    with unit.box.path(f"{unit.state}/driftd.lock").open("w") as lock:
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
    unit.drop_in(LoadCredential=CREDENTIAL, RestartSec="100ms")
    unit.box.write(unit.config, "[[modell]]\n")
    assert unit.systemctl("start", check=False) != 0
    time.sleep(0.5)
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
    unit.drop_in(LoadCredential=CREDENTIAL, WatchdogSec="4", RestartSec="100ms")
    pid = started(unit)
    with hanging(unit):
        pass
    until(lambda: unit.show("NRestarts") == "1" and unit.is_active(), "it is restarted")
    assert unit.pid != pid
    stack = [entry["MESSAGE"] for entry in unit.entries(_PID=pid)]
    assert any("Fatal Python error: Aborted" in line for line in stack)
    assert any("configfile.py" in line and "load" in line for line in stack), "the journal says where it hung"


def test_sigkill_loses_nothing(unit: Unit, world: World):
    unit.drop_in(LoadCredential=CREDENTIAL, RestartSec="100ms")
    pid = started(unit)
    world.order(produce=[1_000, 2_000])
    until(lambda: unit.n_read() >= 1_000, "it reads")
    unit.systemctl("kill", "--kill-whom=main", "--signal=KILL")
    sent = world.order(produce=[2_000, 3_000])["sent"]
    until(lambda: unit.pid not in ("0", pid) and unit.is_active(), "it is restarted")
    until(lambda: unit.n_read() == sent, "it reads on")
    assert unit.status()["models"][0]["counts"]["rows"] == sent, "every record is counted, and once"
    assert unit.show("NRestarts") == "1"


# Stopping


def test_a_stop_writes_down_what_was_read(unit: Unit, world: World):
    unit.box.write(unit.config, world.config().replace("200ms", "1h").replace('"10d"', '"3650d"'))
    pid = started(unit)
    until(lambda: "kafka.partitions" in events(unit, pid), "it reads")
    time.sleep(0.5)  # the first time round, progress is written at once
    sent = world.order(produce=[0, 500])["sent"]
    until(lambda: f" {sent:,} records" in unit.show("StatusText"), "all is read")
    assert unit.n_read() < sent, "and nothing of it is on the disk yet"
    unit.systemctl("stop")
    assert (unit.show("Result"), unit.show("ExecMainStatus")) == ("success", "0")
    assert unit.n_read() == sent
    assert events(unit, pid)[-1] == "service.stopped"


def test_a_stop_that_takes_too_long_is_made_short(unit: Unit):
    unit.drop_in(LoadCredential=CREDENTIAL, TimeoutStopSec="2", WatchdogSec="60")
    started(unit)
    with hanging(unit):
        began = time.monotonic()
        unit.systemctl("stop")
    assert time.monotonic() - began >= 2
    assert unit.show("Result") == "timeout"
    assert unit.systemctl("start") == 0, "and it starts again"


# What the service may do


def test_a_credential_is_readable_by_the_service_alone(unit: Unit, world: World):
    before = world.order()["tests"]
    pid = started(unit)
    sent = unit.box.run("/opt/driftd/bin/driftd", "test-alert", "--config", unit.config, "alerts", check=False)
    assert sent.returncode == 78, "root outside the service has no such file beside the configuration"
    file = f"/run/credentials/{unit.name}.service/slack_token"
    uid = unit.box.run("stat", "--format=%u %a", file).stdout.split()
    assert uid == [unit.box.run("stat", "--format=%u", f"/proc/{pid}").stdout.strip(), "400"]
    for reader in ("65534", "12345"):
        denied = unit.box.run("setpriv", "--clear-groups", f"--reuid={reader}", "cat", file, check=False)
        assert denied.returncode != 0
        assert TOKEN not in denied.stdout
    inside = ["nsenter", f"--target={pid}", "--mount", "--setuid", uid[0], "--setgid", uid[0]]
    assert unit.box.run(*inside, "cat", file).stdout == TOKEN
    assert unit.box.run(*inside, "cat", "/etc/driftd/secrets/slack_token", check=False).returncode != 0
    # The token works: what is sent with it arrives.
    send = [
        "env",
        f"CREDENTIALS_DIRECTORY=/run/credentials/{unit.name}.service",
        "/opt/driftd/bin/driftd",
        "test-alert",
    ]
    unit.box.run(*inside, *send, "--config", unit.config, "alerts")
    assert world.order()["tests"] == before + 1
    everything = (
        unit.box.run("journalctl", "--output=json").stdout + unit.box.run("systemctl", "show", unit.name).stdout
    )
    everything += unit.box.run("cat", f"/proc/{pid}/environ", f"/proc/{pid}/cmdline").stdout
    assert "service.running" in everything
    assert TOKEN not in everything


def test_the_service_writes_where_its_state_is_and_nowhere_else(unit: Unit):
    own = ["/var/lib/driftd", "/var/cache/driftd", "/run/driftd", "/tmp", "/dev/shm"]
    others = ["/", "/etc", "/etc/driftd", "/opt/driftd", "/var/lib", "/usr/bin", "/run", "/var/log", "/var/tmp/.."]
    hidden = ["/root", "/home", "/var/lib/private"]
    found = probed(unit, "written:" + ",".join(own + others + hidden))["written"]
    assert {place: found[place] for place in own} == dict.fromkeys(own, "done")
    refused = {place: found[place] for place in others + hidden}
    assert {place: came for place, came in refused.items() if came not in ("EROFS", "EACCES", "ENOENT")} == {}
    for place in ("/tmp", "/dev/shm"):
        assert not unit.box.path(f"{place}/probe").exists(), "its own, not the machine's"


def test_what_a_burglar_would_want_is_refused_and_what_driftd_needs_works(unit: Unit):
    found = probed(unit, "refused", "works")
    assert set(found["refused"].values()) <= {"EPERM", "EAFNOSUPPORT", "EACCES"}, found["refused"]
    assert "pandas" in found["works"]


def test_pictures_and_reports_are_made_under_the_unit(unit: Unit, world: World):
    """By processes of their own, whose libraries must get along with all that the unit forbids."""
    before = world.order()["pictures"]
    pid = started(unit)
    world.order(produce=[0, 100_000])
    until(lambda: world.order()["pictures"] > before, f"a picture is in Slack; {events(unit, pid)[-5:]}", seconds=180)
    assert not {"picture.not_made", "slack.no_picture"} & set(events(unit, pid))
    assert probed(unit, "reported")["reported"] > 100_000


def test_an_address_filter_lets_through_only_what_it_names(unit: Unit):
    unit.box.run("ip", "address", "replace", "10.9.9.1/32", "dev", "lo")
    addresses = "connected:127.0.0.1,10.9.9.1"
    assert probed(unit, addresses)["connected"] == dict.fromkeys(["127.0.0.1", "10.9.9.1"], "ECONNREFUSED")
    unit.box.run("cp", "/opt/units/drop-ins/network.conf", f"/etc/systemd/system/{unit.name}.service.d/")
    found = probed(unit, addresses)["connected"]
    assert found["127.0.0.1"] == "ECONNREFUSED"
    assert found["10.9.9.1"] in ("TimeoutError", "EPERM", "ETIMEDOUT")


# Instances


@pytest.fixture
def instances(box: Box, world: World) -> Iterator[list[Unit]]:
    made = [Unit(box, "driftd@north"), Unit(box, "driftd@south")]
    for port, one in enumerate(made, 9465):
        one.clean(LoadCredential=CREDENTIAL)
        one.box.write(one.config, world.config(state=one.state.replace("/private", ""), port=port))
    yield made
    for one in made:
        one.clean()
        one.box.path(one.config).unlink()


def test_instances_have_a_configuration_a_state_and_a_user_each(instances: list[Unit], unit: Unit, world: World):
    sent = world.order(produce=[0, 100])["sent"]
    pids = [started(one) for one in (unit, *instances)]
    for one in instances:
        until(lambda one=one: one.n_read() == sent, "each reads for itself")
    owners = {unit.box.run("stat", "--format=%u", f"/proc/{pid}").stdout for pid in pids}
    assert len(owners) == 3
    north, south = instances
    found = probed(north, f"listed:{south.state},/var/lib/driftd-south,/var/lib/driftd", f"signalled:{pids[2]}")
    assert set(found["listed"].values()) <= {"ENOENT", "EACCES"}
    assert set(found["signalled"].values()) <= {"EPERM", "ESRCH"}
    assert found["state"] == "/var/lib/driftd-north"
    south.systemctl("stop")
    assert unit.is_active()


def test_an_instance_without_a_state_of_its_own_is_told_what_to_write(instances: list[Unit], world: World):
    north, _ = instances
    north.box.write(north.config, world.config())
    assert north.systemctl("start", check=False) != 0
    assert (north.show("ExecMainStatus"), north.show("NRestarts")) == ("78", "0")
    (line,) = north.said(north.show("ExecMainPID"))
    assert 'directory = "/var/lib/driftd-north"' in line["message"]


# Newer systemds


def test_with_notify_reload_a_reload_ends_when_the_new_configuration_is_in_force(unit: Unit, world: World):
    version = int(unit.box.run("systemctl", "--version").stdout.split()[1])
    if version < 253:
        pytest.skip(f"systemd {version} does not know Type=notify-reload, which came with 253")
    unit.box.run("cp", "/opt/units/drop-ins/notify-reload.conf", f"/etc/systemd/system/{unit.name}.service.d/")
    unit.box.run("systemctl", "daemon-reload")
    pid = started(unit)
    second = world.config().split("[[model]]")[1].split("[[channel]]")[0].replace('"loan"', '"other"')
    unit.box.write(unit.config, f"{world.config()}\n[[model]]{second}")
    unit.systemctl("reload")
    assert unit.show("StatusText").startswith("2 models")
    assert unit.pid == pid
