"""Time to answer for every page, where there are 100 models with 100 columns and 30 days of hourly windows.

One model's month goes through the real decision and the real store; the other models' rows are copies of it, written in
the order in which they would have come. Then the real server answers on this machine. CPU seconds of this process, the
client's included; the median of several requests counts, the first one is shown beside it.
"""

from __future__ import annotations

import statistics
import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import msgspec
import numpy as np

from detectors import Bins, Profile
from monitor.batch import Partition
from monitor.board import Board
from monitor.check import Judge, Reference
from monitor.config import Config
from monitor.decision import Outcome
from monitor.desk import Desk
from monitor.engine import Commit
from monitor.frozen import checked
from monitor.health import Checks, Flow
from monitor.line import Counts, LineState, ModelCommit
from monitor.message import Subject
from monitor.store import Store
from monitor.tally import Extent, Tally
from monitor.watch import WatchState
from monitor.web import application
from monitor.web.gate import Gate
from monitor.web.server import Server
from monitor.web.site import Service, Site
from monitor.window import Window

N_MODELS, N_NUMERIC, N_CATEGORICAL, N_WINDOWS, N_ROWS = 100, 80, 20, 720, 2_000
HOUR_MS = 3_600_000
BEGIN_MS = 1_772_323_200_000
GOAL = 0.2
REQUESTS = 7
WORDS = ["north", "south", "east", "west", "abroad"]


def rows(bins: Bins, rng: np.random.Generator, n_rows: int, shift: float) -> Profile:
    """A window; ten columns are moved."""
    numbers = rng.normal(size=(N_NUMERIC, n_rows))
    numbers[:10] += shift
    words = rng.integers(3, 3 + len(WORDS), (N_CATEGORICAL, n_rows)).astype(np.uint8)
    return Profile.of(bins, numbers, bins.cells(numbers, words), n_windows=1)


def reference(rng: np.random.Generator) -> Reference:
    numbers = {f"feature_{i:03d}": rng.normal(size=20_000) for i in range(N_NUMERIC)}
    bins = Bins.of(numbers, {f"category_{i:02d}": dict.fromkeys(WORDS, 4_000) for i in range(N_CATEGORICAL)})
    return Reference("bench", bins, rows(bins, rng, 20_000, 0.0))


def month(store: Store, config: Config, known: Reference) -> None:
    """One model's windows, with drift in the last five days."""
    rng = np.random.default_rng(1)
    model = config.model[0]
    judge, memory = Judge.of(known, config, model), b""
    desk = Desk(config, model, Subject(model.name, "1", known.bins.n_columns, known.id, "bench"), Board(20), {})
    store.keep([known], BEGIN_MS)
    for number in range(N_WINDOWS):
        start_ms = BEGIN_MS + number * HOUR_MS
        tally = Tally(rows(known.bins, rng, N_ROWS, 0.5 if number >= 600 else 0.0), {Partition("t", 0): Extent(0, 9)})
        window = replace(Window.fresh(known.bins, "all", start_ms, start_ms + HOUR_MS), tally=tally, index=number)
        judged, memory = judge.judge(window, memory)
        desk.close([judged], start_ms)
        state = LineState("shape", watch=WatchState({"all": number + 1}, desk.state), counts=Counts(N_ROWS * number))
        out, desk.out = desk.out, type(desk.out)()
        store.apply(Commit(start_ms, (ModelCommit(model.name, state, {}, {}, frozenset(), {}, (judged,), out, ()),)))


def others(store: Store, names: list[str]) -> None:
    """The same month for the other models, in the order of time."""
    with store.database.transaction() as db:
        db.execute("CREATE TEMP TABLE names (name TEXT)")
        db.executemany("INSERT INTO names VALUES (?)", [(name,) for name in names])
        for table, order in (("windows", "number"), ("verdicts", "number"), ("lines", "1")):
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[1] != "model"]
            listed = ", ".join(f"t.{column}" for column in columns)
            db.execute(
                f"INSERT INTO {table} (model, {', '.join(columns)}) SELECT names.name, {listed} FROM {table} AS t, "
                f"names WHERE t.model = 'model-000' ORDER BY {order}, names.name"
            )
    for i, name in enumerate(names):
        state = msgspec.json.decode(store.database.rows("SELECT state FROM lines")[0][0][4:], type=LineState)
        episode = state.watch.desk.episode
        if episode is None or i % 5:
            continue
        own = msgspec.structs.replace(episode, id=f"{name}-incident")
        (body,) = store.database.rows("SELECT body FROM incidents WHERE id = ?", (episode.id,))[0]
        with store.database.transaction() as db:
            watch = msgspec.structs.replace(state.watch, desk=msgspec.structs.replace(state.watch.desk, episode=own))
            told = checked(msgspec.json.encode(msgspec.structs.replace(state, watch=watch)))
            db.execute("UPDATE lines SET state = ? WHERE model = ?", (told, name))
            db.execute(
                "INSERT INTO incidents SELECT ?, ?, segment, state, severity, opened_window, opened_ms, changed_ms, ? "
                "FROM incidents WHERE id = ?",
                (own.id, name, body.replace(episode.id.encode(), own.id.encode()), episode.id),
            )


def site(directory: Path) -> Site:
    well = Checks(True, {})
    service = Service(lambda _: Future(), lambda: well, lambda: well, lambda: b"", lambda: Flow(0, 0.0), lambda: None)
    return Site(directory=directory, gate=Gate(None, local=True), service=service)


def measured(client: httpx.Client, path: str) -> tuple[float, float, int]:
    """Median CPU seconds, those of the first request, and the bytes of the answer."""
    taken = []
    for _ in range(REQUESTS):
        began = time.process_time()
        answer = client.get(path)
        taken.append(time.process_time() - began)
        assert answer.status_code == 200, (path, answer.status_code)
    return statistics.median(taken), taken[0], len(answer.content)


def main() -> None:
    config = Config.model_validate({"model": [{"name": "model-000", "reference": "r", "decision": "family"}]})
    known = reference(np.random.default_rng(0))
    with TemporaryDirectory() as folder:
        store = Store(Path(folder))
        began = time.monotonic()
        month(store, config, known)
        others(store, [f"model-{i:03d}" for i in range(1, N_MODELS)])
        ((n_drift,),) = store.database.rows("SELECT count(*) FROM windows WHERE n_drift > 0")
        ((n_verdicts,),) = store.database.rows("SELECT count(*) FROM verdicts")
        size = store.database.n_bytes / 2**30
        print(f"{N_MODELS} models, {n_verdicts:,} verdicts, {n_drift:,} windows with {Outcome.DRIFT}, {size:.1f} GiB, "
              f"built in {time.monotonic() - began:.0f} s")  # fmt: skip
        server = Server("127.0.0.1:0")
        server.show(application(site(Path(folder))))
        server.start()
        host, port = server.address
        found = httpx.get(f"http://{host}:{port}/api/incidents?model=model-000", trust_env=False).json()
        paths = {
            "overview": "/",
            "incidents": "/incidents",
            "incident, 10 columns": f"/incidents/{found[0]['id']}",
            "model: 100 columns, 720 windows": "/models/model-050",
            "column, numeric": "/models/model-050/column?name=feature_003",
            "column, categorical": "/models/model-050/column?name=category_03",
            "window: 100 verdicts": "/models/model-050/windows/700",
            "API: status": "/api/status",
            "API: one column's history": "/api/models/model-050/history?column=feature_003",
        }
        print(f"{'page':56} {'seconds':>8} {'first':>8} {'KiB':>8} {'goal':>6}")
        met = True
        with httpx.Client(base_url=f"http://{host}:{port}", timeout=60, trust_env=False) as client:
            for name, path in paths.items():
                seconds, first, n_bytes = measured(client, path)
                print(f"{name:56} {seconds:8.4f} {first:8.4f} {n_bytes / 1024:8.0f} {GOAL:5.1f}s  "
                      f"{'met' if seconds <= GOAL else 'MISSED'}", flush=True)  # fmt: skip
                met &= seconds <= GOAL
        server.stop()
        store.close()
    raise SystemExit(not met)


if __name__ == "__main__":
    main()
