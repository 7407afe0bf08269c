"""Whatever fails, every window, verdict, incident and message comes out as the ledger says.

A quick half of the catalogue runs with every test run, each fault with one seed. `make faults` runs all of it over
several seeds and writes the table in docs/faults.md; what it has done already it does not do again, so it may be
stopped and started as one likes.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from broker.realbroker import RealBroker

from faults import labels
from faults.fault import Fault, catalogue
from faults.judge import Ruling
from faults.ledger import reference as unlabelled
from faults.proxy import Proxy
from faults.results import read
from faults.scene import Scene
from monitor.reference import kinds_of, seal

SEEDS = range(int(os.environ.get("DRIFTD_FAULT_SEEDS", "0")))
"""Empty: only the quick faults, each with one seed."""
RESULTS = os.environ.get("DRIFTD_FAULT_RESULTS", "")
DONE = {(row["fault"], row["seed"]) for row in read(Path(RESULTS)) if not row["wrong"]} if RESULTS else set()
CODE = subprocess.check_output(["git", "describe", "--always", "--dirty"], text=True).strip() if RESULTS else ""
CASES = [
    pytest.param(fault, seed, id=f"{fault.name.replace(' ', '_')}-{seed}")
    for seed in (SEEDS or range(1))
    for fault in catalogue().values()
    if (fault.quick or SEEDS) and (fault.name, seed) not in DONE
]


@pytest.fixture(scope="session")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """The sealed reference, and another one for models whose labels come later."""
    folder = tmp_path_factory.mktemp("faults")
    found = {False: folder / "reference", True: folder / "labelled"}
    for labelled, frame in ((False, unlabelled()), (True, labels.reference())):
        seal(frame, kinds_of(frame, {}), found[labelled], error_of="x" if labelled else "")
    return found


@pytest.fixture(scope="session")
def proxy(real_broker: RealBroker) -> Iterator[Proxy]:
    with Proxy(real_broker.front, real_broker.behind) as between:
        yield between


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("fault", "seed"), CASES)
def test_nothing_is_lost_invented_or_told_twice(
    fault: Fault, seed: int, real_broker: RealBroker, proxy: Proxy, sealed: dict[bool, Path], tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    if reason := fault.needs():
        pytest.skip(f"{fault.name}: {reason}")
    topic = f"faults-{'-'.join(fault.name.split())}-{seed}-{os.getpid()}"
    settings: dict[str, Any] = dict(fault.settings)
    made = settings.pop("topic", {})
    reference = sealed[settings.get("labelled", False)]
    scene = Scene(real_broker, proxy, reference, tmp_path, topic, seed, **settings)
    proxy.heal()
    for name in scene.topics:
        real_broker.create_topic(name, scene.n_partitions, **made)
    n_hits, ruling = 0, Ruling(wrong=["it did not come to its end"])
    try:
        with scene.slack, scene.job:
            scene.configure()
            n_hits = fault.run(scene)
            ruling = scene.ruling()
    finally:
        if RESULTS:
            row = {"fault": fault.name, "seed": seed, "code": CODE, "hits": n_hits, **asdict(ruling)}
            with Path(RESULTS).open("a") as out:
                out.write(json.dumps(row) + "\n")
    assert n_hits >= 1, "the fault never hit"
    assert ruling.n_records >= 1_000
    assert ruling.n_windows >= 30
    assert ruling.n_notices >= 2
    assert ruling.wrong == []
    assert (ruling.lost, ruling.invented, ruling.duplicated) == (0, 0, 0)
    assert fault.may_repeat or ruling.repeated == 0
