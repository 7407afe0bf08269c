"""Seconds from SIGTERM to the end of the process, for a daemon that idles and for one that waits for Kafka."""

from __future__ import annotations

import json
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from monitor.demo.world import CONFIG, ID, TIME, TOPIC, table
from monitor.reference import kinds_of, seal
from monitor.sources.embedded import EmbeddedBroker

STOPS = 20
GOAL_SECONDS = 1.0
SECRETS = {
    "DRIFTD_DEMO_SLACK_TOKEN": "xoxb-1", "DRIFTD_DEMO_WEBHOOK_SECRET": "secret-1",
    "DRIFTD_DEMO_HTTP_TOKEN": "benchmark-of-stops",
}  # fmt: skip


def seconds_to_stop(config: Path, after: float) -> float:
    """Of one daemon, that was ready for so long."""
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = f"\0driftd-bench-{time.monotonic_ns()}"
    manager.bind(address)
    manager.settimeout(120)
    environment = {"NOTIFY_SOCKET": address.replace("\0", "@"), "PATH": "/usr/bin:/bin", **SECRETS}
    command = [sys.executable, "-m", "monitor", "run", "--config", str(config)]
    with manager, subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment, cwd=Path.cwd()) as child:
        while b"READY=1" not in manager.recv(4096):
            pass
        manager.setblocking(False)
        time.sleep(after)
        began = time.monotonic()
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
        return time.monotonic() - began


def main() -> None:
    with TemporaryDirectory() as folder, EmbeddedBroker() as broker:
        broker.create_topic(TOPIC)
        home = Path(folder)
        frame = table("reference").drop(columns=[ID, TIME])
        seal(frame, kinds_of(frame, {}), home / "reference")
        print(f"{'seconds from SIGTERM to exit, ' + str(STOPS) + ' stops':46} {'p50':>6} {'p99':>6} {'goal':>6}")
        for name, servers in (("idle", broker.bootstrap_servers), ("Kafka away", ["localhost:1"])):
            config = home / "driftd.toml"
            local = "http://localhost:1"
            text = CONFIG.format(servers=json.dumps(servers), model="m", topic=TOPIC, slack=local, ci=local, port=0)
            config.write_text(text)
            # Ready for another while each time, so that every moment of the loop is met.
            taken = [seconds_to_stop(config, 1.0 + i * 0.137) for i in range(STOPS)]
            p99 = statistics.quantiles(taken, n=100, method="inclusive")[98]
            met = "met" if p99 < GOAL_SECONDS else "MISSED"
            print(f"{name:46} {statistics.median(taken):6.2f} {p99:6.2f} {GOAL_SECONDS:6.2f}  {met}", flush=True)


if __name__ == "__main__":
    main()
