"""Brokers, started once for a whole run (with pytest-xdist: once for each worker); no test fails for being slow."""

from __future__ import annotations

import os
from collections.abc import Iterator

import hypothesis
import pytest
from broker.realbroker import RealBroker, available

from monitor.sources.embedded import EmbeddedBroker

hypothesis.settings.register_profile("driftd", deadline=None)
hypothesis.settings.load_profile("driftd")


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
