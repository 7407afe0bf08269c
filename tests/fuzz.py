"""Mutated bytes at every door that takes bytes from outside: no door may raise what it does not promise, or take long.

By hand: `python -m tests.fuzz --runs 1000000`. Seeds are sound inputs; each run cuts, repeats, flips and splices them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import struct
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from detectors import Bins, Profile
from monitor.batch import NO_TIME, Partition, Records
from monitor.cli import read_config
from monitor.config import Fields
from monitor.decode import REGISTRY, layout
from monitor.errors import ConfigError
from monitor.frozen import freeze, thaw
from monitor.tally import Tally
from monitor.window import Window

SECONDS = 2.0
"""No single input may take longer."""
BINS = Bins.of(
    {"age": np.arange(90.0), "score": np.linspace(0, 1, 50)}, {"plan": {"free": 9, "paid": 5}, "on": {"true": 3}}
)
AVRO = json.dumps(
    {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "score", "type": "double"},
            {"name": "plan", "type": ["null", "string"]},
            {
                "name": "tags",
                "type": {"type": "array", "items": {"type": "map", "values": ["null", "string", "bytes"]}},
            },
        ],
    }
)
EXAMPLE = Path(__file__).parents[1] / "config.example.toml"


@dataclass(frozen=True)
class Door:
    """One way in. enter: takes bytes, and raises nothing but what it promises."""

    name: str
    seeds: tuple[bytes, ...]
    enter: Callable[[bytes], None]


def decoder(name: str) -> Callable[[bytes], None]:
    fields = Fields(timestamp="ts", score="score", features="features")
    made = REGISTRY[name](layout(fields, BINS))
    made.look_up(lambda _: AVRO)

    def enter(value: bytes) -> None:
        batch = made.decode(Records(Partition("t", 0), np.array([64]), np.array([NO_TIME]), [memoryview(value)], 65))
        assert batch.numbers.shape == (BINS.n_numeric, batch.n_rows)
        assert batch.cells.shape == (BINS.n_columns, batch.n_rows)
        assert batch.next_offset == 65
        assert all(len(reject.head) <= 200 for reject in batch.rejects)

    return enter


def profile(value: bytes) -> None:
    try:
        Profile.from_bytes(BINS, value)
    except ValueError:
        return


def window(value: bytes) -> None:
    try:
        thaw(value, BINS)
    except ValueError:
        return


def config(file: Path) -> Callable[[bytes], None]:
    def enter(value: bytes) -> None:
        file.write_bytes(value)
        with contextlib.suppress(ConfigError):
            read_config(file)

    return enter


def doors(folder: Path) -> list[Door]:
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(2, 50))
    cells = BINS.cells(numbers, np.full((2, 50), 3, np.uint8))
    counted = Profile.of(BINS, numbers, cells)
    frozen = freeze(Window.fresh(BINS, "all", 0, 100).with_rows(Tally(counted)).closed(1))
    record = {"ts": 1_700_000_000_000, "score": 0.5, "features": {"age": 33, "plan": "free", "on": True, "x": [1]}}
    odd = '{"ts": "2026-01-01T00:00:00Z", "score": null, "features": {"age": 1e400, "plan": "\\ud800", "on": ""}}'
    json_seeds = (json.dumps(record).encode(), odd.encode(), b"[" * 2_000, b'{"a":' * 500, b"\xff\xfe{}")
    columns = {"ts": [1, 2], "score": [0.5, None], "features": {"age": [33, "x"], "plan": ["free", 1]}}
    table = pa.table({"ts": [1, 2], "score": [0.5, None], "features": pa.array([record["features"], None])})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    seeds = {
        "columns": (json.dumps(columns).encode(),),
        "arrow": (sink.getvalue(),),
        "avro": (b"\0\0\0\0\1" + struct.pack("<qd", 3, 0.5) + b"\x08free\x02\x04ab\0",),
    }
    return [
        *(Door(f"decode {name}", (*json_seeds, *seeds.get(name, ())), decoder(name)) for name in REGISTRY),
        Door("profile", (counted.to_bytes(),), profile),
        Door("window", (frozen,), window),
        Door("configuration", (EXAMPLE.read_bytes(),), config(folder / "fuzz.toml")),
    ]


def mutated(seed: bytes, rng: random.Random) -> bytes:
    data = bytearray(seed)
    for _ in range(rng.randrange(1, 6)):
        if not data:
            return bytes(rng.randbytes(rng.randrange(40)))
        at = rng.randrange(len(data))
        match rng.randrange(6):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                del data[at : at + rng.randrange(1, 20)]
            case 2:
                data[at:at] = data[at : at + rng.randrange(1, 30)]
            case 3:
                data[at:at] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                data[at : at + 1] = rng.choice(
                    (b"\0", b'"', b"{", b"[", b"-", b"9" * 40, b"1e999", b"\\u0000", b"null")
                )
            case _:
                del data[at:]
    return bytes(data)


def fuzz(runs: int, seed: int = 0) -> dict[str, int]:
    """So many inputs over all doors together; how many each got. AssertionError names the input that got through."""
    rng, entered = random.Random(seed), {}
    with tempfile.TemporaryDirectory() as folder:
        there = doors(Path(folder))
        cheap = [door for door in there if door.name != "configuration"]
        for i in range(runs):
            # Reading a configuration takes a thousand times as long as decoding a record.
            door = there[-1] if i % 200 == 0 else cheap[i % len(cheap)]
            data = mutated(rng.choice(door.seeds), rng)
            began = time.process_time()
            try:
                door.enter(data)
            except Exception as error:
                raise AssertionError(f"{door.name} raised {type(error).__name__} ({error}) on {data!r}") from error
            assert time.process_time() - began < SECONDS, f"{door.name} took too long on {data[:200]!r}"
            entered[door.name] = entered.get(door.name, 0) + 1
    return entered


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, n in fuzz(options.runs, options.seed).items():
        print(f"{n:10,d}  {name}")
