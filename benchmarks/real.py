"""Real data through `driftd replay`, one default for all: alarms where nothing changed, and how soon a change is told.

    python -m benchmarks.real [--data ../shared/data] [--size 1000] [--set car_loan] [--permuted] [--whole-rows]

Every set is cut into windows of 200, 500, 1,000 and 5,000 rows. A column alarms when its verdict becomes "drift"; it is
found when it does so at or after the row at which it changed, and the delay is counted in windows. --permuted watches
rows of three sets in random order, where every alarm is false. --whole-rows watches whole rows by a classifier too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from monitor.cli import read_config
from monitor.reference import kinds_of, seal, slicing
from monitor.replay import Log, replay

DATA = Path(__file__).parents[2] / "shared" / "data"
SIZES = (200, 500, 1000, 5000)
CONFIG = """\
[[model]]
name = "real"
reference = "reference"
window = "{size} rows"
multivariate = {multivariate}
[model.fields]
features = {features}
"""
WITHIN, WITHIN_UNSEEN = 3, 5


@dataclass(frozen=True, slots=True)
class Case:
    """One set. truth: the row of `current` at which each column changed; quiet: rows of it before which nothing does.

    open_ended: more than `truth` may have changed after them. slow: columns that may take five windows. counts: whether
    its quiet rows are in the total. multivariate: what is watched beside columns and pairs.
    """

    name: str
    reference: pd.DataFrame
    current: pd.DataFrame
    quiet: int
    truth: Mapping[str, int] = field(default_factory=dict)
    slow: frozenset[str] = frozenset()
    open_ended: bool = False
    counts: bool = True
    multivariate: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """What a replay said. alarms: (row, column) of every run of drift; drifting: windows in which each column does;
    pages: rows at which people were told."""

    alarms: tuple[tuple[int, str], ...]
    drifting: Mapping[str, tuple[int, ...]]
    pages: tuple[int, ...]
    size: int
    n_windows: int


def told(case: Case, size: int) -> Told:
    """One replay, as the command makes it."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        config = home / "driftd.toml"
        features, more = json.dumps(list(case.current.columns)), json.dumps(case.multivariate)
        config.write_text(CONFIG.format(size=size, features=features, multivariate=more))
        checked = read_config(config)
        (model,) = checked.model
        frame = case.reference[list(case.current.columns)]
        reference = seal(
            frame, kinds_of(frame, {}), home / "reference", slicing(frame, model, checked.state.sample_rows)
        )
        case.current.to_parquet(home / "log.parquet", index=False)
        replay(checked, model, reference, Log([home / "log.parquet"]), home / "out")
        firing: set[str] = set()
        alarms, n_windows = [], 0
        drifting: dict[str, list[int]] = {}
        for text in (home / "out" / "verdicts.jsonl").open():
            row = json.loads(text)
            n_windows = max(n_windows, row["window"] + 1)
            if row["verdict"] == "drift":
                drifting.setdefault(row["column"], []).append(row["window"])
            if row["verdict"] == "drift" and row["column"] not in firing:
                alarms.append((row["window"] * size, row["column"]))
                firing.add(row["column"])
            elif row["verdict"] != "drift":
                firing.discard(row["column"])
        changes = map(json.loads, (home / "out" / "incidents.jsonl").open())
        pages = tuple(c["window"] * size for c in changes if c["state"] == "firing")
        return Told(tuple(alarms), {c: tuple(w) for c, w in drifting.items()}, pages, size, n_windows)


def delays(case: Case, found: Told) -> dict[str, int | None]:
    """Windows until each true column is called drifting, the first being 1; None if it never is."""
    answer: dict[str, int | None] = {}
    for column, row in case.truth.items():
        first = row // found.size
        after = [window for window in found.drifting.get(column, ()) if window >= first]
        answer[column] = after[0] - first + 1 if after else None
    return answer


def report(case: Case, sizes: tuple[int, ...]) -> tuple[int, int]:
    """A line for each size; returns alarms and windows of the quiet part."""
    total = windows = 0
    for size in sizes:
        found = told(case, size)
        n_quiet = case.quiet // size
        false = [
            (at // size, name) for at, name in found.alarms if at // size < n_quiet and name not in _from_start(case)
        ]
        late = delays(case, found)
        wrong = (
            []
            if case.open_ended
            else sorted({name for at, name in found.alarms if at // size >= n_quiet and name not in case.truth})
        )
        pages = sum(at // size < n_quiet for at in found.pages)
        good = all(d is not None and d <= (WITHIN_UNSEEN if n in case.slow else WITHIN) for n, d in late.items())
        total += len(false) if case.counts else 0
        windows += n_quiet if case.counts else 0
        words = ", ".join(f"{name} {'never' if d is None else d}" for name, d in late.items())
        print(
            f"{case.name:26} {size:5} {len(false):4}/{n_quiet:<5} {pages:3}  "
            f"{'' if not late else 'ok    ' if good else 'MISSED'} {words}"
            f"{'  false: ' + ', '.join(f'{n}@{w}' for w, n in false[:8]) if false else ''}"
            f"{'  wrong: ' + ', '.join(wrong) if wrong else ''}",
            flush=True,
        )
    return total, windows


def _from_start(case: Case) -> set[str]:
    return {name for name, row in case.truth.items() if row == 0}


def shuffled(frame: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True)


def cases(data: Path) -> list[Callable[[], list[Case]]]:  # noqa: C901  # a list of small functions
    """The sets, each read when it is its turn."""

    def table(name: str, *drop: str) -> pd.DataFrame:
        return pd.read_parquet(data / name).drop(columns=list(drop))

    def car_loan() -> list[Case]:
        drop = ("id", "timestamp")
        five = ("car_value", "loan_length", "salary_range", "repaid_loan_on_prev_car", "y_pred_proba")
        reference = table("nannyml_car_loan/reference.parquet", *drop, "repaid")
        current = table("nannyml_car_loan/analysis.parquet", *drop)
        one = Case("car_loan", reference, current, 25_000, dict.fromkeys(five, 25_000))
        return _both(one)

    def car_loan_dq() -> list[Case]:
        drop = ("id", "timestamp")
        moved = ("car_value", "loan_length", "salary_range", "repaid_loan_on_prev_car", "y_pred_proba", "driver_tenure")
        truth = {**dict.fromkeys(moved, 25_000), "size_of_downpayment": 0}
        reference = table("nannyml_car_loan_dq/reference.parquet", *drop, "repaid")
        current = table("nannyml_car_loan_dq/analysis.parquet", *drop)
        return _both(Case("car_loan_dq", reference, current, 25_000, truth, frozenset(["size_of_downpayment"])))

    def employment() -> list[Case]:
        reference = table("nannyml_employment_ma/reference.parquet", "id", "employed", "year")
        current = table("nannyml_employment_ma/analysis.parquet", "id", "year")
        truth = dict.fromkeys(("RELP", "MIG", "MAR", "AGEP"), 133_600)
        one = Case("employment", reference, current, 62_600, truth, open_ended=True)
        by_age = replace(one, name="employment by age", reference=reference.sort_values("AGEP", ignore_index=True))
        return [*_both(one), by_age]

    def sea() -> list[Case]:
        frame = table("sea_concepts_50k/sea.parquet", "label")
        return _both(Case("sea", frame[:12_500], frame[12_500:], 37_500))

    def rbf() -> list[Case]:
        frame = table("interchanging_rbf/rbf.parquet", "label")
        return _both(Case("rbf", frame[:30_000], frame[30_000:], 170_000))

    def insects() -> list[Case]:
        frame = table("wbf_insects/wbf.parquet", "context")
        truth = dict.fromkeys(("wbf", "temperature", "species"), 25_350)
        return _both(Case("wbf_insects", frame[:25_350], frame[25_350:], 25_350, truth))

    def lobo() -> list[Case]:
        stagger, sine, mixed = (
            table(f"lobo_synthetic/{name}.parquet", "class")
            for name in ("stagger_0120_abrupto", "sine_0123_abrupto", "mixed_0101_gradual")
        )
        found = [
            Case("lobo stagger", stagger[:5_000], stagger[5_000:], 5_000, {"X1": 5_000, "X2": 5_000}, open_ended=True),
            Case("lobo sine", sine[:10_000], sine[10_000:], 10_000, open_ended=True),
            Case("lobo mixed", mixed[:10_000], mixed[10_000:], 31_000),
        ]
        return [each for one in found for each in _both(one)]

    def adult() -> list[Case]:
        frame = table("adult/adult.parquet")
        part = ~frame["education"].isin(["Some-college", "HS-grad", "Bachelors"])
        mixed, high = shuffled(frame), shuffled(frame[part])
        truth = {"education": 0, "education-num": 0}
        by = Case("adult by education", frame[part], frame[~part], 0, truth, open_ended=True)
        return [
            Case("adult, halves", mixed[: len(mixed) // 2], mixed[len(mixed) // 2 :], len(mixed) // 2),
            Case("adult, halves of a part", high[: len(high) // 2], high[len(high) // 2 :], len(high) // 2),
            *_both(by),
            replace(by, name="adult, by age", reference=frame[part].sort_values("age", ignore_index=True)),
        ]

    def elec2() -> list[Case]:
        frame = table("elec2/elec2.parquet", "class")
        truth = dict.fromkeys(("vicprice", "vicdemand", "transfer"), 17_424 - 9_000)
        return _both(Case("elec2", frame[:9_000], frame[9_000:], 8_400, truth, open_ended=True, counts=False))

    def noaa() -> list[Case]:
        frame = table("noaa_rainfall/rainfall.parquet", "rain")
        return _both(Case("noaa_rainfall", frame[:6_000], frame[6_000:], 6_000, open_ended=True, counts=False))

    return [car_loan, car_loan_dq, employment, sea, rbf, insects, lobo, adult, elec2, noaa]


def _both(case: Case) -> list[Case]:
    """The case, and the same with its reference in random order."""
    return [case, replace(case, name=f"{case.name}, shuffled", reference=shuffled(case.reference), counts=False)]


def permuted(data: Path, sizes: tuple[int, ...], repeats: int, multivariate: tuple[str, ...]) -> None:
    """Rows of real tables in random order: every alarm is false."""
    sets = {
        "adult": pd.read_parquet(data / "adult/adult.parquet"),
        "employment": pd.read_parquet(data / "nannyml_employment_ma/reference.parquet").drop(columns=["id", "year"]),
        "car_loan": pd.read_parquet(data / "nannyml_car_loan/reference.parquet").drop(columns=["id", "timestamp"]),
    }
    total = windows = 0
    for name, frame in sets.items():
        for m in (1_000, 5_000, 20_000):
            for seed in range(repeats):
                rows = shuffled(frame, seed)
                case = Case(f"{name}, {m:,} rows", rows[:m], rows[m:], len(rows) - m, multivariate=multivariate)
                for size in sizes:
                    found = told(case, size)
                    total, windows = total + len(found.alarms), windows + found.n_windows
                    print(
                        f"{case.name:26} {size:5} {len(found.alarms):4}/{found.n_windows:<5} {found.alarms[:5]}",
                        flush=True,
                    )
    print(f"permuted rows: {total} alarms in {windows:,} windows (goal: 0 in 9,600)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--size", type=int, action="append")
    parser.add_argument("--set", action="append", help="only cases whose name begins so")
    parser.add_argument("--permuted", action="store_true")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--whole-rows", action="store_true")
    options: Any = parser.parse_args()
    if not options.data.is_dir():
        print(f"{options.data}: no such folder; the real data sets are not part of this repository")
        sys.exit(0)
    sizes, multivariate = tuple(options.size or SIZES), ("classifier",) * options.whole_rows
    if options.permuted:
        permuted(options.data, tuple(size for size in sizes if size in (200, 1000)), options.repeats, multivariate)
        return
    print(f"{'set':26} {'rows':>5} {'alarms in quiet windows':>10}  pages there; windows to find")
    alarms = windows = 0
    for read in cases(options.data):
        if options.set and not any(name.replace("-", "_").startswith(read.__name__) for name in options.set):
            continue
        for case in read():
            found = report(replace(case, multivariate=multivariate), sizes)
            alarms, windows = alarms + found[0], windows + found[1]
    print(f"all quiet parts: {alarms} alarms in {windows:,} windows (goal: at most 3 in 3,856)")


if __name__ == "__main__":
    main()
