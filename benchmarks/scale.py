"""CPU per row from records to profiles, without Kafka: by number of models and of features, by format and by kernel.

CPU seconds of this process, the least of several runs; what is compared takes turns.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.clock import cpu_seconds, in_turn
from detectors import Bins, Profile
from monitor.batch import Moment, Partition, Records
from monitor.check import Reference
from monitor.cli import read_config
from monitor.config import Config
from monitor.decode import Decoder
from monitor.line import Line, Saved
from monitor.tune import settle

Started = Callable[[], tuple[Line, Decoder]]
WORDS = ["north", "south", "east", "west", "abroad"]
START_MS = 1_700_000_000_000
FETCH = 500
"""Records that one fetch brings of a partition."""
SLICES = 40


def config(format_: str = "json") -> Config:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "driftd.toml"
        file.write_text(
            f'[[model]]\nname = "m"\ntopics = ["t"]\nreference = "r"\nwindow = "1h"\nformat = "{format_}"\n'
            '[model.fields]\nid = "id"\ntimestamp = "ts"\nscore = "score"\nfeatures = "features"\n'
        )
        return read_config(file)


def rows(n: int, n_numeric: int, n_words: int = 0) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(n, n_numeric)).round(3).tolist()
    words = rng.choice(WORDS, size=(n, n_words)).tolist()
    features = [
        {f"n{j}": x for j, x in enumerate(row)} | {f"w{j}": word for j, word in enumerate(some)}
        for row, some in zip(numbers, words, strict=True)
    ]
    return [{"ts": START_MS + i, "score": 0.5, "features": found} for i, found in enumerate(features)]


def reference(n_numeric: int, n_words: int = 0) -> Reference:
    rng = np.random.default_rng(1)
    numbers = {f"n{j}": rng.normal(size=5_000) for j in range(n_numeric)} | {"score": rng.random(5_000)}
    bins = Bins.of(numbers, {f"w{j}": dict.fromkeys(WORDS, 1_000) for j in range(n_words)})
    return Reference("bench", bins, Profile.empty(bins))


def fetches(values: Sequence[bytes], size: int) -> list[Records]:
    found = []
    for first in range(0, len(values), size):
        part = [memoryview(value) for value in values[first : first + size]]
        offsets = np.arange(first, first + len(part), dtype=np.int64)
        found.append(Records(Partition("t", 0), offsets, offsets + START_MS, part, first + len(part)))
    return found


def micros(lines: Sequence[Line], log: Sequence[Records], n_rows: int) -> float:
    """CPU µs per row: each fetch goes to every line in turn, and a checkpoint ends it."""
    began = time.process_time()
    for records in log:
        for line in lines:
            line.step(records)
    for line in lines:
        line.tick(Moment(0, frozenset({Partition("t", 0)})))
    return (time.process_time() - began) / (n_rows * len(lines)) * 1e6


def by_models(counts: Iterable[int]) -> None:
    """The work for many models is cut into slices, and between them the same is done for one."""
    values = [json.dumps(row).encode() for row in rows(20_000, 20, 5)]
    known, settings = reference(20, 5), config()

    def fresh() -> Line:
        return Line(settings, settings.model[0], known, Saved(), lambda *_: None)

    for n_models in counts:
        n_fetches = max(2, 400 // n_models)
        log = fetches(values[: n_fetches * FETCH], FETCH)
        lines = [fresh() for _ in range(n_models)]
        steps: list[Callable[[], object]] = [partial(line.step, records) for records in log for line in lines]
        steps += [partial(line.tick, Moment(0, frozenset({Partition("t", 0)}))) for line in lines]
        many = one = 0.0
        for i in range(SLICES):
            began = time.process_time()
            for step in steps[i * len(steps) // SLICES : (i + 1) * len(steps) // SLICES]:
                step()
            many += time.process_time() - began
            one += micros([fresh()], fetches(values, FETCH), len(values))
        taken = many / (n_models * n_fetches * FETCH) * 1e6
        ratio = taken / (one / SLICES)
        told = f"{ratio:5.2f}x of one  (goal <= 1.3x)  {'met' if ratio <= 1.3 else 'MISSED'}"
        print(f"{n_models:6,d} models interleaved: {taken:6.2f} µs per row   {told}", flush=True)


def by_features(counts: Sequence[int]) -> None:
    settings = config()

    def once(values: Sequence[bytes], known: Reference) -> float:
        line = Line(settings, settings.model[0], known, Saved(), lambda *_: None)
        return micros([line], fetches(values, FETCH), len(values))

    works = {
        n_features: partial(once, [json.dumps(row).encode() for row in rows(5_000, n_features)], reference(n_features))
        for n_features in counts
    }
    taken = in_turn(works)
    slope, start = np.polyfit(counts, list(taken.values()), 1, w=1 / np.array(list(taken.values())))
    for n_features, found in taken.items():
        off = found / (start + slope * n_features) - 1
        told = f"{off:+6.1%} of a straight line  (goal 15 %)  {'met' if abs(off) <= 0.15 else 'MISSED'}"
        print(f"{n_features:6,d} numeric features: {found:6.2f} µs per row   {told}", flush=True)


def by_format() -> None:
    found = rows(20_000, 20, 5)
    known = reference(20, 5)
    names = list(found[0]["features"])

    def columns(part: list[dict[str, Any]]) -> bytes:
        features = {name: [row["features"][name] for row in part] for name in names}
        scores = [row["score"] for row in part]
        return json.dumps({"ts": [row["ts"] for row in part], "score": scores, "features": features}).encode()

    def arrow(part: list[dict[str, Any]]) -> bytes:
        table = pa.Table.from_pylist(part)
        words = [pa.field(name, pa.dictionary(pa.int8(), pa.string())) for name in names[20:]]
        inner = pa.struct([*(pa.field(name, pa.float64()) for name in names[:20]), *words])
        schema = pa.schema([("ts", pa.int64()), ("score", pa.float64()), ("features", inner)])
        features = table.column("features").combine_chunks()
        parts = [
            features.field(i) if i < 20 else features.field(i).dictionary_encode().cast(words[0].type)
            for i in range(len(names))
        ]
        struct = pa.StructArray.from_arrays(parts, fields=list(inner))
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_table(pa.table([table.column("ts"), table.column("score"), struct], schema=schema))
        return sink.getvalue()

    cases: list[tuple[str, str, Callable[[list[dict[str, Any]]], bytes], int]] = [
        ("JSON, one row a record", "json", lambda part: json.dumps(part[0]).encode(), 1),
        ("columnar JSON, 100 rows a record", "columns", columns, 100),
        ("Arrow IPC, 100 rows a record", "arrow", arrow, 100),
        ("Arrow IPC, 1000 rows a record", "arrow", arrow, 1_000),
    ]
    for name, format_, write, size in cases:
        settings = config(format_)
        values = [write(found[first : first + size]) for first in range(0, len(found), size)]
        per_fetch = max(1, (1 << 20) // len(values[0]))
        log = fetches(values, per_fetch)

        def started(log: list[Records] = log, settings: Config = settings) -> tuple[Line, Decoder]:
            """A line that has no rows yet, and has seen what its records look like."""
            line = Line(settings, settings.model[0], known, Saved(), lambda *_: None)
            (decoder,) = line.decoders.values()
            decoder.decode(log[0])
            return line, decoder

        def decode_all(log: list[Records] = log, started: Started = started) -> float:
            _, decoder = started()
            began = time.process_time()
            for records in log:
                decoder.decode(records)
            return (time.process_time() - began) / len(found) * 1e6

        def whole(log: list[Records] = log, started: Started = started) -> float:
            return micros([started()[0]], log, len(found))

        decoding, all_of_it = in_turn({"to cells": decode_all, "to profiles": whole}).values()
        bytes_each = sum(map(len, values)) / len(found)
        goal = ""
        if size == 1_000:
            goal = f"  (goal <= 0.25 µs)  {'met' if all_of_it <= 0.25 else 'MISSED'}"
        told = f"{bytes_each:4.0f} B per row, {decoding:5.2f} µs to cells, {all_of_it:5.2f} µs to profiles{goal}"
        print(f"{name:34} {told}", flush=True)


def kernels() -> None:
    rng = np.random.default_rng(0)
    bins = reference(50).bins
    numbers = rng.normal(size=(bins.n_numeric, 16_384))
    none = np.empty((0, numbers.shape[1]), np.uint8)
    cells = bins.cells(numbers, none)

    def search() -> None:
        for column, values in zip(bins.numeric, numbers, strict=True):
            np.searchsorted(column.edges, values)

    works: dict[str, Callable[[], object]] = {
        "columns to cells": lambda: bins.cells(numbers, none),
        "  by a search per value": search,
        "cells and sums to a profile": lambda: Profile.of(bins, numbers, cells),
    }
    for name, work in works.items():
        taken = cpu_seconds(work, 25) / numbers.size * 1e9
        goal = f"  (goal <= 4 ns)  {'met' if taken <= 4 else 'MISSED'}" if name == "columns to cells" else ""
        print(f"{name:34} {taken:6.2f} ns per value{goal}", flush=True)


def main() -> None:
    settle()
    by_models([10, 100, 1_000])
    by_features([10, 20, 40, 80, 160])
    by_format()
    kernels()


if __name__ == "__main__":
    main()
