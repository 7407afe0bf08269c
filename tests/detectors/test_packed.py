"""Integers in few bytes come back as they were, one run after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detectors.packed import dense, sparse

MOST = 2**63 - 1
integers = arrays(np.int64, st.integers(0, 70), elements=st.sampled_from([0, 0, 0, 1, -1, 127, -128, 128, MOST, -MOST]))


@given(st.lists(integers, max_size=4))
def test_what_was_written_is_read(several: list[np.ndarray]):
    data, at = b"".join(map(sparse, several)), 0
    for numbers in several:
        found, at = dense(data, at)
        assert found.dtype == np.int64
        assert found.tolist() == numbers.tolist()
    assert at == len(data)


def test_zeros_cost_a_bit_and_small_numbers_a_byte():
    numbers = np.zeros(8_000, np.int32)
    numbers[:100] = 100
    assert len(sparse(numbers)) == 5 + 1_000 + 100


def test_what_ends_too_early_is_refused():
    data = sparse(np.arange(100))
    with pytest.raises(ValueError, match="buffer"):
        dense(data[:-1])
