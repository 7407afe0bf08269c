"""Shared by all tests."""

from __future__ import annotations

import numpy as np
import pytest

import detectors.cells


@pytest.fixture(autouse=True)
def names_for_examples(doctest_namespace: dict[str, object]) -> None:
    """Examples in docstrings may use NumPy and the cells' names without importing them."""
    doctest_namespace["np"] = np
    doctest_namespace.update({k: getattr(detectors.cells, k) for k in ("FIRST", "UNSEEN", "MISSING")})
