"""Files of rows: what is in them is what is read, and what cannot be read is said with its file and place."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detectors import Kind, Profile
from detectors.cells import INVALID
from monitor.config import Fields
from monitor.decode import layout
from monitor.errors import SourceError
from monitor.reference import build, kinds_of
from monitor.sources import files
from monitor.sources.tables import read


def write(directory: Path, name: str, text: str | bytes) -> Path:
    file = directory / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


@pytest.fixture
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"x": rng.normal(size=500), "wörter": rng.choice(["a", "b, c", '"'], 500), "n": range(500)})


def test_all_formats_hold_the_same_rows(frame: pd.DataFrame, tmp_path: Path):
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_csv(tmp_path / "a.CSV", index=False)
    for name in ("a.jsonl", "a.ndjson"):
        frame.to_json(tmp_path / name, orient="records", lines=True, double_precision=15)
    for name in ("a.parquet", "a.CSV", "a.jsonl", "a.ndjson"):
        pd.testing.assert_frame_equal(read([tmp_path / name]), frame, check_exact=name in ("a.parquet", "a.CSV"))


def test_several_files_are_one_table_even_if_some_are_empty(frame: pd.DataFrame, tmp_path: Path):
    frame[:200].to_parquet(tmp_path / "a.parquet")
    frame[200:].to_csv(tmp_path / "b.csv", index=False)
    files = [tmp_path / "a.parquet", write(tmp_path, "none.csv", "x,wörter,n\n"), tmp_path / "b.csv"]
    pd.testing.assert_frame_equal(read(files), frame)
    assert read([files[1], files[1]]).shape == (0, 3)
    assert read([write(tmp_path, "none.jsonl", "")]).shape == (0, 0)


def test_types_of_parquet_are_kept_and_days_are_points_in_time(tmp_path: Path):
    day = datetime.date(2024, 2, 29)
    frame = pd.DataFrame(
        {"day": [day, None], "money": [Decimal("1.10"), None], "n": pd.array([1, None], dtype="Int64")}
    )
    frame.to_parquet(tmp_path / "a.parquet")
    found = read([tmp_path / "a.parquet"])
    assert found["day"].tolist()[0] == pd.Timestamp(day)
    assert found["money"].tolist()[0] == Decimal("1.10")
    assert found["n"].dtype == "Int64"


def test_csv_columns_that_nearly_all_spell_numbers_are_of_numbers(tmp_path: Path):
    lines = "size,code,pure\n" + "12.5,A1,1\n" * 95 + "12 oz,7,2\n" * 5
    found = read([write(tmp_path, "a.csv", "\ufeff" + lines)])
    assert list(found) == ["size", "code", "pure"]
    assert found["size"].tolist() == [12.5] * 95 + ["12 oz"] * 5
    assert found["code"].tolist() == ["A1"] * 95 + ["7"] * 5
    assert found["pure"].dtype == np.int64


def write_csv(frame: pd.DataFrame, file: Path) -> None:
    frame.to_csv(file, index=False)


DAYS = [datetime.date(1901, 2, 3), datetime.date(2024, 2, 29), None] * 100
SPELLED = [("x" if i in (7, 150) else str(i % 9)) for i in range(300)]


@pytest.mark.parametrize(
    ("columns", "save"),
    [
        ({"day": DAYS}, pd.DataFrame.to_parquet),
        ({"nights": pd.Series(DAYS).astype("datetime64[s]")}, pd.DataFrame.to_parquet),
        ({7: range(300), 8: ["a", "b", None] * 100}, pd.DataFrame.to_parquet),
        ({"indexed": range(1, 600, 2), "x": range(300)}, lambda f, to: f.set_index("indexed").to_parquet(to)),
        ({"size": SPELLED, "code": ["A1", "7"] * 150}, write_csv),
        ({"": range(300), "on": [True, False, None] * 100}, write_csv),
    ],
)
def test_a_replay_counts_rows_as_the_reference_does(columns, save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "ROWS", 97)
    file = tmp_path / ("rows.csv" if save is write_csv else "rows.parquet")
    save(pd.DataFrame(columns), file)
    rows = read([file])
    bins, profile = build(rows, kinds_of(rows, {"day": "numeric"}))
    assert set(bins.names) == set(map(str, columns)) - {""} | ({"Unnamed: 0"} if "" in columns else set())
    batches = list(files.read(file, layout(Fields(), bins)))
    assert len(batches) > 2
    assert sum((Profile.of(bins, each.numbers, each.cells) for each in batches), Profile.empty(bins)) == profile
    assert not any(batch.unknown for batch in batches)


def test_a_numeric_column_of_a_csv_has_its_numbers_however_few_they_are(tmp_path: Path):
    bins, _ = build(pd.DataFrame({"size": np.arange(90.0)}), {"size": Kind.NUMERIC})
    file = write(tmp_path, "a.csv", "size\n" + "5\nn/k\nn/k\n" * 30)
    (batch,) = files.read(file, layout(Fields(), bins))
    assert np.nansum(batch.numbers) == 150
    assert (batch.cells == INVALID).sum() == 60


@pytest.mark.parametrize(("name", "text"), [("a.csv", "a,b,a\n1,2,3\n"), ("b.csv", "a,b\n1,2,3\n")])
def test_a_replay_refuses_a_csv_whose_columns_are_not_clear(name: str, text: str, tmp_path: Path):
    bins, _ = build(pd.DataFrame({"a": np.arange(90.0)}), {"a": Kind.NUMERIC})
    with pytest.raises(SourceError, match=r"wanted every name once|more values than the header"):
        list(files.read(write(tmp_path, name, text), layout(Fields(), bins)))


def test_json_lines_hold_what_python_writes_for_no_number(tmp_path: Path):
    found = read([write(tmp_path, "a.jsonl", '{"x": NaN}\n{"x": -Infinity}\n{"x": 1e999}\n{"x": 2}\n')])
    assert found["x"].tolist()[1:] == [-np.inf, np.inf, 2]
    assert np.isnan(found["x"][0])


def test_json_lines_are_taken_as_they_are(tmp_path: Path):
    lines = '{"date": "2024-01-01", "id": "007", "b": true}\n\n{"id": 7, "b": null, "new": [1]}\r\n'
    found = read([write(tmp_path, "a.jsonl", lines)])
    assert found["date"].tolist() == ["2024-01-01", None]
    assert found["id"].tolist() == ["007", 7]
    assert found["b"].tolist() == [True, None]
    assert found["new"].tolist() == [None, [1]]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", "found .txt ending, wanted one of .parquet, .csv, .jsonl"),
        ("a", b"", "found no ending"),
        ("a.parquet", b"PAR1 no PAR1", "cannot be read"),
        ("a.csv", b"", "No columns"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "line 3"),
        ("a.csv", b"a,b\n1,2,3\n", "more values than the header's 2 names"),
        ("a.csv", b"a,b,a\n1,2,3\n", "2 columns named 'a'"),
        ("a.csv", "a\n1\nß\n".encode("latin-1"), "utf-8"),
        ("a.jsonl", b'{"a": 1}\n\n{"a": \n{"a": 2}\n[3]\n', "2 lines are not a JSON object; line 3:"),
        ("a.jsonl", b'{"a": Nan}', "1 line is not a JSON object; line 1:"),
        ("a.jsonl", b'{"a": "\xff"}', "line 1:"),
    ],
)
def test_what_cannot_be_read_is_said_with_the_file(tmp_path: Path, name: str, content: bytes, words: str):
    file = write(tmp_path, name, content)
    with pytest.raises(SourceError) as error:
        read([file])
    assert str(file) in str(error.value)
    assert words in str(error.value)


def test_a_file_that_is_not_there_and_columns_of_one_name_are_said(tmp_path: Path):
    with pytest.raises(SourceError, match="No such file"):
        read([tmp_path / "none.parquet"])
    pq.write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="2 columns named 'a'"):
        read([tmp_path / "a.parquet"])
