"""Sealed references: what is sealed is what is opened, equal data seal alike, and damage is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from detectors import REGISTRY, Kind, Profile
from detectors.blocks import Cut
from detectors.cells import FIRST, INVALID, MISSING, UNSEEN
from monitor.batch import NO_TIME
from monitor.errors import ReferenceFault
from monitor.reference import Slicing, build, counted, facts, kinds_of, seal, unseal
from monitor.window import WHOLE

CAR_LOAN = Path(__file__).parents[3] / "shared" / "data" / "nannyml_car_loan"


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(4)
    return pd.DataFrame(
        {
            "age": rng.integers(18, 90, 2_000),
            "debt": np.where(rng.random(2_000) < 0.1, np.nan, rng.normal(size=2_000)),
            "plan": rng.choice(["free", "paid", None], 2_000),
            "member": rng.random(2_000) < 0.5,
            "note": "text",
        }
    )


def test_what_is_sealed_is_what_is_opened(frame: pd.DataFrame, tmp_path: Path):
    sealed = seal(frame, kinds_of(frame, {"note": "ignore"}), tmp_path / "r")
    opened = unseal(tmp_path / "r")
    assert (opened.id, opened.profile, opened.bins.id) == (sealed.id, sealed.profile, sealed.bins.id)
    assert facts(tmp_path / "r").columns == {
        "age": "numeric", "debt": "numeric", "plan": "categorical", "member": "categorical",
    }  # fmt: skip
    assert opened.profile.n_rows == 2_000


def test_a_reference_of_timed_rows_tells_where_they_end(frame: pd.DataFrame, tmp_path: Path):
    kinds, time_ms = kinds_of(frame, {}), 1_700_000_000_000 + 60_000 * np.arange(len(frame))
    for times, cut, until in (
        (time_ms, Cut(3_600_000, 0), (int(time_ms[-1]) // 3_600_000 + 1) * 3_600_000),
        (np.full(len(frame), NO_TIME), Cut(3_600_000, 0), NO_TIME),
        (time_ms, Cut(0, 500), NO_TIME),
    ):
        sealed = seal(frame, kinds, tmp_path / "r", Slicing(cut, times))
        assert sealed.until_ms == unseal(tmp_path / "r").until_ms == until
    assert seal(frame, kinds, tmp_path / "r").until_ms == NO_TIME


def test_rows_are_kept_as_windows_keep_theirs(frame: pd.DataFrame, tmp_path: Path):
    kinds = kinds_of(frame, {"note": "ignore"})
    rows = seal(frame, kinds, tmp_path).rows
    opened = unseal(tmp_path).rows
    assert rows is not None
    assert opened is not None
    assert opened.to_bytes() == rows.to_bytes()
    assert rows.n_rows == 1_000
    numbers, cells = counted(frame.iloc[rows.offsets], rows.bins)
    assert np.array_equal(rows.numbers, numbers, equal_nan=True)
    assert np.array_equal(rows.cells, cells)


def test_a_reference_that_was_sealed_without_rows_is_opened(frame: pd.DataFrame, tmp_path: Path):
    seal(frame, kinds_of(frame, {}), tmp_path)
    (tmp_path / "rows.bin").unlink()
    told = json.loads((tmp_path / "reference.json").read_text())
    digests = [
        hashlib.sha256((tmp_path / part).read_bytes()).digest()
        for part in ("bins.json", "profile.bin", "sample.parquet")
    ]
    told["id"] = hashlib.sha256(b"".join(digests)).hexdigest()
    (tmp_path / "reference.json").write_text(json.dumps(told))
    assert unseal(tmp_path).rows is None


def test_equal_rows_seal_to_equal_ids_and_other_rows_do_not(frame: pd.DataFrame, tmp_path: Path):
    kinds = kinds_of(frame, {})
    ids = [seal(rows, kinds, tmp_path / name).id for name, rows in (("a", frame), ("b", frame), ("c", frame[1:]))]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize("part", ["bins.json", "profile.bin", "rows.bin", "sample.parquet", "reference.json"])
@pytest.mark.parametrize("harm", ["cut", "gone", "changed"])
def test_damage_is_refused_with_the_place(frame: pd.DataFrame, tmp_path: Path, part: str, harm: str):
    seal(frame, kinds_of(frame, {}), tmp_path)
    file, data = tmp_path / part, (tmp_path / part).read_bytes()
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(data[:-9] if harm == "cut" else data[:20] + bytes([data[20] ^ 1]) + data[21:])
    with pytest.raises(ReferenceFault, match=str(tmp_path)):
        unseal(tmp_path)


def test_drawn_laws_are_kept_with_it_and_can_be_lost_but_not_damaged(frame: pd.DataFrame, tmp_path: Path):
    sealed = seal(frame, kinds_of(frame, {}), tmp_path)
    file = tmp_path / "laws.bin"
    data = file.read_bytes()
    for opened in (sealed, unseal(tmp_path)):
        pair = opened.beside(opened.profile, WHOLE)
        assert REGISTRY["wasserstein"].score(pair).p_value[0] == 1
    file.write_bytes(data[:-9])
    with pytest.raises(ReferenceFault, match=r"laws\.bin.*build the reference anew"):
        unseal(tmp_path)
    file.unlink()
    opened = unseal(tmp_path)
    assert opened.id == sealed.id
    assert np.isnan(REGISTRY["wasserstein"].score(opened.beside(opened.profile, WHOLE)).p_value[0])
    file.write_bytes(data)
    seal(frame[1:], kinds_of(frame, {}), tmp_path)
    assert file.read_bytes() != data


def test_tables_count_like_the_reference_and_faults_have_their_cells(frame: pd.DataFrame):
    bins, profile = build(frame, kinds_of(frame, {"note": "ignore"}))
    assert Profile.of(bins, *counted(frame, bins)) == profile
    assert profile.counts[1, MISSING] == frame["debt"].isna().sum()
    odd = pd.DataFrame({"age": ["old", 30, None], "plan": ["free", "gold", np.nan], "member": [True, False, True]})
    cells = counted(odd, bins)[1]
    assert cells[0, [0, 2]].tolist() == [INVALID, MISSING]
    assert cells[1].tolist() == [MISSING] * 3
    assert cells[2, 1:].tolist() == [UNSEEN, MISSING]
    assert (cells[3] >= FIRST).all()


def test_values_that_no_file_of_columns_holds_together_are_sealed(tmp_path: Path):
    odd = ["a", 1, True, [1], {"b": 2}, 10**30, 0.5, None, [("k", 1)], b"\xff"]
    frame = pd.DataFrame({"odd": odd * 20, "x": np.arange(200.0)})
    sealed = seal(frame, kinds_of(frame, {}), tmp_path / "r")
    assert unseal(tmp_path / "r").profile == sealed.profile
    kept = pd.read_parquet(tmp_path / "r" / "sample.parquet")
    assert set(kept["odd"].dropna()) == {str(value) for value in odd if value is not None}


def test_nothing_to_learn_from_is_said(tmp_path: Path):
    with pytest.raises(ReferenceFault, match="0 rows"):
        seal(pd.DataFrame({"a": []}), {"a": Kind.NUMERIC}, tmp_path)
    with pytest.raises(ReferenceFault, match="driftd reference build"):
        unseal(tmp_path / "none")


@pytest.mark.skipif(not CAR_LOAN.is_dir(), reason="needs the car-loan data set, which is not part of this repository")
def test_a_real_prediction_log_seals_without_loss(tmp_path: Path):
    frame = pd.read_parquet(CAR_LOAN / "reference.parquet").drop(columns=["id", "timestamp"])
    reference = seal(frame, kinds_of(frame, {}), tmp_path)
    assert reference.profile.n_rows == 50_000
    assert (reference.profile.n_valid == 50_000).all()
