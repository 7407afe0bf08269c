"""Daemons that take turns: the group says whose turn it is, and the store lets nobody else write."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from broker.realbroker import RealBroker
from hypothesis import given
from hypothesis import strategies as st
from kafka.protocol.consumer.metadata import ConsumerProtocolAssignment

from monitor.database import Turn, identity, is_locked
from monitor.engine import Commit
from monitor.errors import StoreFenced, StoreLocked
from monitor.sources.group import Member, OneForAll
from monitor.store import Store
from tests.waiting import until

NOTHING = Commit(0)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


# ---- the fence


def test_whoever_was_overtaken_can_neither_write_nor_send(directory: Path):
    first = Store(directory, Turn(1, "first"))
    first.apply(NOTHING)
    second = Store(directory, Turn(2, "second"))
    for deed in (
        lambda: first.apply(NOTHING),
        lambda: first.due(0),
        lambda: first.settle([], 0),
        lambda: first.prune(0),
    ):
        with pytest.raises(StoreFenced):
            deed()
    second.apply(NOTHING)
    first.close()
    second.close()


def test_a_turn_that_is_over_is_not_begun(directory: Path):
    later = Store(directory, Turn(7, "later"))
    with pytest.raises(StoreLocked):
        Store(directory, Turn(6, "earlier"))
    later.apply(NOTHING)
    later.close()


def test_where_nobody_else_has_the_state_open_generations_may_begin_anew(directory: Path):
    Store(directory, Turn(7, "later")).close()
    anew = Store(directory, Turn(1, "anew"))
    anew.apply(NOTHING)
    anew.close()


def test_a_daemon_that_shares_nothing_and_one_that_takes_turns_shut_each_other_out(directory: Path):
    alone = Store(directory)
    with pytest.raises(StoreLocked):
        Store(directory, Turn(1, "member"))
    alone.close()
    assert not is_locked(directory)
    member = Store(directory, Turn(1, "member"))
    assert is_locked(directory)
    with pytest.raises(StoreLocked):
        Store(directory)
    member.close()
    assert not is_locked(directory)


def test_a_state_keeps_its_name_and_no_two_have_the_same(tmp_path: Path):
    assert identity(tmp_path / "a") == identity(tmp_path / "a") != identity(tmp_path / "b")


# ---- who is chosen


@given(held=st.lists(st.integers(0, 5), min_size=1, max_size=6), numbers=st.sets(st.integers(0, 9)))
def test_one_member_gets_everything_and_it_is_the_one_that_had_it_last(held: list[int], numbers: set[int]):
    members = [
        SimpleNamespace(
            member_id=f"m{i}",
            group_instance_id=None,
            metadata=SimpleNamespace(topics=["t", "absent"], user_data=str(generation).encode()),
        )
        for i, generation in enumerate(held)
    ]
    cluster = SimpleNamespace(partitions_for_topic=lambda topic: numbers if topic == "t" else None)
    assigned = OneForAll("s").assign(cluster, members)
    assert assigned.keys() == {member.member_id for member in members}
    chosen = members[held.index(max(held))].member_id
    for member, assignment in assigned.items():
        assert [at.partition for at in assignment.partitions()] == (sorted(numbers) if member == chosen else [])


def test_every_decision_of_the_group_is_told():
    told: list[int] = []
    member = OneForAll("s", lambda: told.append(1))
    everything = ConsumerProtocolAssignment(0, [("t", [0])], b"")
    for generation, assignment in enumerate([everything, ConsumerProtocolAssignment(0, [], b""), everything], start=1):
        member.on_assignment(assignment, generation)
    assert (len(told), member.turn) == (3, 3)
    member.lose()
    assert len(told) == 3


def test_on_a_real_broker_the_turn_passes_on_and_is_never_had_twice(
    real_broker: RealBroker, caplog: pytest.LogCaptureFixture
):
    topic = f"turns-{time.monotonic_ns()}"
    real_broker.create_topic(topic, 3)
    options = real_broker.consumer_options | {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 200}
    first = Member([topic], options, topic, "state")
    until(lambda: first.turn() is not None)
    second, third = Member([topic], options, topic, "state"), Member([topic], options, topic, "state")
    with caplog.at_level(logging.ERROR, "driftd.source"):
        stranger = Member([topic], options, topic, "another")
        until(lambda: "members with another state" in caplog.text)
    stranger.close()
    # Two more have joined, each of which made a generation; the turn has stayed where it was.
    until(lambda: (first.turn() or 0) >= 2)
    assert (second.turn(), third.turn()) == (None, None)
    before = first.turn()
    first.close()
    until(lambda: (second.turn() is None) != (third.turn() is None))
    after = second.turn() or third.turn()
    assert before is not None
    assert after is not None
    assert after > before
    second.close()
    third.close()
