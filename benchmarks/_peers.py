"""Other packages at their own defaults, each in an environment of its own, on rows drawn from a stream's counts.

This file runs twice: imported by `benchmarks.null`, and as a program under the interpreter that has the package, where
nothing of driftd can be imported. Packages are installed into FOLDER/NAME on first use; Evidently is here already.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = {
    "evidently": "",
    "nannyml": "nannyml statsmodels",
    "alibi-detect": "alibi-detect",
    "whylogs": "whylogs[viz] pandas numpy<2",
}
"""What pip is asked for; "" for what this interpreter has. NannyML and whylogs do not name all that they use, or newer
than they can use."""


MOST_REFERENCE_ROWS = 20_000
"""Of a longer reference so many rows are taken at random: some packages need hours for more."""
PATIENCE_SECONDS = 1_200


def flags(name: str, folder: Path, rows: dict[str, np.ndarray]) -> np.ndarray | str:
    """What the package flags in each window, shape (windows, columns); or why it could not be asked.

    rows: as `rows_of` made them: reference_numbers (numeric columns, rows), reference_words (word columns, rows),
    numbers and words of all windows one after the other, sizes of the windows.
    """
    try:
        python = interpreter(name, folder)
    except subprocess.CalledProcessError as fault:
        return f"does not install: {_last(fault.stderr)}"
    with tempfile.TemporaryDirectory() as home:
        given, found = Path(home) / "rows.npz", Path(home) / "flags.npy"
        np.savez(given, allow_pickle=False, **rows)
        order = [python, __file__, name, str(given), str(found)]
        try:
            done = subprocess.run(
                order, check=False, capture_output=True, text=True, cwd=home, timeout=PATIENCE_SECONDS
            )
        except subprocess.TimeoutExpired:
            return f"did not end within {PATIENCE_SECONDS // 60} minutes"
        if done.returncode:
            return f"fails: {_last(done.stderr)}"
        return np.load(found)


def _last(text: str) -> str:
    return next(reversed(text.strip().splitlines()), "it said nothing")


def interpreter(name: str, folder: Path) -> str:
    """The interpreter that has the package; made if there is none."""
    if not PACKAGES[name]:
        return sys.executable
    home = folder / name
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True)
        order = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES[name].split()]
        subprocess.run(order, check=True, capture_output=True, text=True)
        (home / "ready").touch()
    return str(python)


def rows_of(reference: np.ndarray, live: np.ndarray, n_numbers: int, seed: int) -> dict[str, np.ndarray]:
    """Rows with these counts, of shape (windows, columns, cells); numbers lie within their cells as a normal law's do.

    The columns of a window have as many rows as the one that has the fewest.
    """
    rng = np.random.default_rng(seed)
    (before, words_before, _), (after, words, sizes) = (_rows(side, n_numbers, rng) for side in (reference, live))
    n_kept = min(before.shape[1], MOST_REFERENCE_ROWS)
    kept = np.sort(rng.choice(before.shape[1], n_kept, replace=False))
    return {
        "reference_numbers": before[:, kept], "reference_words": words_before[:, kept],
        "numbers": after, "words": words, "sizes": sizes,
    }  # fmt: skip


def _rows(counts: np.ndarray, n_numbers: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from scipy.special import ndtri

    n_cells = counts.shape[-1]
    sizes = counts.sum(axis=-1).min(axis=-1)
    windows = [
        np.stack([rng.permutation(np.repeat(np.arange(n_cells), column))[:size] for column in window])
        for window, size in zip(counts, sizes, strict=True)
    ]
    cells = np.concatenate(windows, axis=1)
    numbers = cells[:n_numbers]
    values = ndtri((numbers - 1 + rng.random(numbers.shape)) / (n_cells - 2))
    return values.astype(np.float32), cells[n_numbers:].astype(np.int8), sizes


Asked = Callable[[Any, list[Any], list[str], list[str]], np.ndarray]


def evidently(reference: Any, windows: list[Any], numbers: list[str], words: list[str]) -> np.ndarray:
    """DataDriftPreset of each window."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    definition = DataDefinition(numerical_columns=numbers, categorical_columns=words)
    before = Dataset.from_pandas(reference, data_definition=definition)
    found = []
    for window in windows:
        after = Dataset.from_pandas(window, data_definition=definition)
        told = Report([DataDriftPreset()]).run(after, before).dict()["metrics"]
        drifted = {}
        for metric in told:
            config = metric.get("config", {})
            if "column" in config and "threshold" in config:
                value, limit = float(metric["value"]), float(config["threshold"])
                drifted[config["column"]] = value < limit if "p_value" in metric["metric_name"] else value >= limit
        found.append([drifted[name] for name in (*numbers, *words)])
    return np.array(found)


def nannyml(reference: Any, windows: list[Any], numbers: list[str], words: list[str]) -> np.ndarray:
    """UnivariateDriftCalculator, a chunk for each window."""
    import pandas as pd
    from nannyml import UnivariateDriftCalculator
    from nannyml.chunk import SizeBasedChunker

    size = min(len(window) for window in windows)
    names = [*numbers, *words]
    calculator = UnivariateDriftCalculator(
        column_names=names, treat_as_categorical=words, chunker=SizeBasedChunker(size, incomplete="drop")
    )
    calculator.fit(reference)
    live = pd.concat([window[:size] for window in windows], ignore_index=True)
    told = calculator.calculate(live).filter(period="analysis").to_df(multilevel=True)
    return np.stack([told[name].filter(like="alert", axis=1).to_numpy(bool).any(axis=1) for name in names], axis=1)


def alibi_detect(reference: Any, windows: list[Any], numbers: list[str], words: list[str]) -> np.ndarray:
    """TabularDrift: its rule is Bonferroni's over the columns, whose p-values it gives."""
    from alibi_detect.cd import TabularDrift

    names = [*numbers, *words]
    categories = {len(numbers) + i: None for i in range(len(words))}
    detector = TabularDrift(reference[names].to_numpy("f4"), categories_per_feature=categories)
    found = []
    for window in windows:
        told = detector.predict(window[names].to_numpy("f4"))["data"]
        found.append(np.asarray(told["p_val"]) < told["threshold"])
    return np.array(found)


def whylogs(reference: Any, windows: list[Any], numbers: list[str], words: list[str]) -> np.ndarray:
    """calculate_drift_scores of profiles: what it calls DRIFT."""
    import whylogs as why
    from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

    def profile(rows: Any) -> Any:
        return why.log(rows.astype(dict.fromkeys(words, str))).view()

    before = profile(reference)
    found = []
    for window in windows:
        told = calculate_drift_scores(profile(window), before, with_thresholds=True)
        found.append([(told[name] or {}).get("drift_category") == "DRIFT" for name in (*numbers, *words)])
    return np.array(found)


def main() -> None:
    import warnings

    import pandas as pd

    warnings.simplefilter("ignore")
    name, given, to = sys.argv[1:]
    rows = np.load(given)
    numbers = [f"x{i}" for i in range(len(rows["numbers"]))]
    words = [f"w{i}" for i in range(len(rows["words"]))]

    def frame(prefix: str, part: slice) -> Any:
        own = dict(zip(numbers, rows[f"{prefix}numbers"][:, part], strict=True))
        return pd.DataFrame({**own, **dict(zip(words, rows[f"{prefix}words"][:, part], strict=True))})

    ends = rows["sizes"].cumsum()
    windows = [frame("", slice(end - size, end)) for end, size in zip(ends, rows["sizes"], strict=True)]
    asked: dict[str, Asked] = {
        "evidently": evidently, "nannyml": nannyml, "alibi-detect": alibi_detect, "whylogs": whylogs,
    }  # fmt: skip
    np.save(to, asked[name](frame("reference_", slice(None)), windows, numbers, words))


if __name__ == "__main__":
    main()
