"""Brokers that the whole run shares."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "broker"))

with warnings.catch_warnings():
    # kafka-python loads its schemas with a function that Python 3.11 and 3.12 deprecate (3.13 took that back).
    warnings.filterwarnings("ignore", "(read|open)_text is deprecated", DeprecationWarning)
    import kafka  # noqa: F401

from realbroker import RealBroker, available

from monitor.sources.embedded import EmbeddedBroker


@pytest.fixture(scope="session")
def real_broker() -> Iterator[RealBroker]:
    """A real Apache Kafka. Skips, saying why, where it cannot be had; with DRIFTD_REQUIRE_KAFKA=1 that is a failure."""
    reason = available()
    if reason is not None:
        text = f"no real Kafka here: {reason}"
        if os.environ.get("DRIFTD_REQUIRE_KAFKA") == "1":
            pytest.fail(text)
        pytest.skip(text)
    with RealBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[EmbeddedBroker]:
    """librdkafka's mock cluster; topics live as long as the run."""
    with EmbeddedBroker() as broker:
        yield broker
