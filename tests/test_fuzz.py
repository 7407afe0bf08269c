"""A hundred thousand mutated inputs at every door; `make fuzz` tries a million."""

from __future__ import annotations

from tests.fuzz import fuzz


def test_no_bytes_from_outside_raise_what_is_not_promised():
    entered = fuzz(100_000)
    assert sum(entered.values()) == 100_000
    assert min(entered.values()) >= 400
