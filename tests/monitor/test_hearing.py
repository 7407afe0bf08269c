"""Whether anything comes and can be read: silence is judged by the gaps that the log has had."""

from __future__ import annotations

import numpy as np

from monitor.batch import NO_TIME, Partition, Records, Reject
from monitor.hearing import BLOCK, MIN_SILENCE_MS, Hearing

AT = Partition("t", 0)
HOUR = 3_600_000


def records(*times_ms: int) -> Records:
    n = len(times_ms)
    return Records(AT, np.arange(n), np.array(times_ms, np.int64), [b"{}"] * n, n)


def reject(kind: str = "not_json") -> Reject:
    return Reject(AT, 0, kind, "not JSON", b"")


def test_nothing_was_heard_before_the_first_record_so_nothing_is_silent():
    assert Hearing().silent_since(10**15, None, HOUR) == 0


def test_silence_is_longer_than_the_gaps_there_were():
    heard = Hearing().after(records(0, 1, 9 * HOUR, 10 * HOUR), (), 0)
    assert heard.gap_ms == 9 * HOUR - 1
    assert heard.silent_since(27 * HOUR, None, HOUR) == 0
    assert heard.silent_since(28 * HOUR + 1, None, HOUR) == 10 * HOUR
    assert heard.silent_since(12 * HOUR, HOUR, HOUR) == 10 * HOUR


def test_records_in_disorder_and_without_a_time_are_heard_too():
    heard = Hearing().after(records(5 * HOUR, 4 * HOUR), (), 0).after(records(NO_TIME, 3 * HOUR), (), 6 * HOUR)
    assert (heard.heard_ms, heard.gap_ms) == (6 * HOUR, HOUR)
    assert heard.silent_since(6 * HOUR + MIN_SILENCE_MS, None, 1) == 0
    assert Hearing().after(records(), (), 5) == Hearing()


def test_most_of_a_block_must_be_readable():
    half = BLOCK // 2
    heard = Hearing().after(records(*range(1, half + 1)), [reject()] * half, 0)
    assert heard.broken == ""
    broken = heard.after(records(*range(1, half + 1)), [reject(), reject("future")], 0)
    assert broken.broken == f"{half + 2} of {BLOCK} records cannot be read: {half + 1} not_json, 1 future"
    fine = broken.after(records(*range(1, BLOCK + 1)), [reject()] * half, 0)
    assert fine.broken == ""
    assert (fine.n_all, fine.n_bad) == (0, 0)
