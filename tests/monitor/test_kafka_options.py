"""Who may read, and what KafkaSource can be told: logins, TLS, rights, options, and its words about them."""

from __future__ import annotations

import logging
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from broker.realbroker import PASSWORD, USER, RealBroker
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from monitor.errors import SourceError
from monitor.sources.embedded import EmbeddedBroker
from monitor.sources.kafka import KafkaSource, Pace
from monitor.sources.kafkaclient import QUIETED
from tests.monitor.reading import at_least, connect, count, leaves_sockets, lets_sockets_go, numbered, source, until

pytestmark = lets_sockets_go

LOGIN = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_plain_username": USER}
MECHANISMS = ("PLAIN", "SCRAM-SHA-512")


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_the_right_password(
    mechanism: str, real_broker: RealBroker, topic: str, produce: Any, caplog: pytest.LogCaptureFixture
) -> None:
    real_broker.create_topic(topic, 1)
    produce(real_broker, topic, {0: numbered(0, 0, 3)})
    login = {**LOGIN, "sasl_mechanism": mechanism, "sasl_plain_password": PASSWORD}
    with source(real_broker, topic, bootstrap_servers=real_broker.sasl_servers, **login) as one:
        assert count(until(one, at_least(3))) == 3
    clear = [r.message for r in caplog.records if r.levelno >= logging.WARNING]
    assert len(clear) == (mechanism == "PLAIN")
    assert all("in the clear" in text for text in clear)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_wrong_password_is_an_error_that_says_so(
    mechanism: str, real_broker: RealBroker, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    login = {**LOGIN, "sasl_mechanism": mechanism, "sasl_plain_password": "not-this-one"}
    with source(real_broker, topic, bootstrap_servers=real_broker.sasl_servers, **login) as one:
        for _ in range(2):
            with pytest.raises(SourceError, match=r"refuses the login: .*Authentication failed") as told:
                connect(one)
            assert "not-this-one" not in str(told.value)
        assert not one.connected
    assert "not-this-one" not in caplog.text


def test_a_login_that_is_refused_at_a_reconnect(real_broker: RealBroker, topic: str, produce: Any) -> None:
    real_broker.create_topic(topic, 1)
    produce(real_broker, topic, {0: numbered(0, 0, 3)})
    login = {**LOGIN, "bootstrap_servers": real_broker.sasl_servers, "sasl_plain_password": PASSWORD}
    with source(real_broker, topic, **login) as one:
        until(one, count)
        manager = one._client._manager
        manager.config["sasl_plain_password"] = "not-this-one"  # as if it had been changed at the broker
        manager.call_soon(lambda: [connection.close() for connection in list(manager._conns.values())])
        with pytest.raises(SourceError, match="refuses the login"):
            until(one, lambda _: False)


def test_an_unknown_mechanism_is_an_error_that_says_so(real_broker: RealBroker, topic: str) -> None:
    login = {**LOGIN, "sasl_mechanism": "SCRAM-SHA-256", "sasl_plain_password": PASSWORD}
    with (
        source(real_broker, topic, bootstrap_servers=real_broker.sasl_servers, **login) as one,
        pytest.raises(SourceError, match="refuses the login"),
    ):
        connect(one)


@leaves_sockets
def test_tls(real_broker: RealBroker, topic: str, produce: Any, tmp_path: Path) -> None:
    real_broker.create_topic(topic, 1)
    produce(real_broker, topic, {0: numbered(0, 0, 3)})
    login = {**LOGIN, "security_protocol": "SASL_SSL", "sasl_plain_password": PASSWORD}
    login["bootstrap_servers"] = real_broker.tls_servers
    with source(real_broker, topic, ssl_cafile=str(real_broker.certificate()), **login) as one:
        assert count(until(one, at_least(3))) == 3
    with (
        source(
            real_broker, topic, ssl_cafile=str(real_broker.certificate()), **{**login, "sasl_plain_password": "no"}
        ) as one,
        pytest.raises(SourceError, match="refuses the login"),
    ):
        connect(one)
    with source(real_broker, topic, **login) as one, pytest.raises(SourceError, match=r"not trusted .*ssl_cafile"):
        connect(one)
    empty = tmp_path / "empty.pem"
    empty.write_text("")
    with (
        source(real_broker, topic, ssl_cafile=str(empty), **login) as one,
        pytest.raises(SourceError, match="TLS files cannot be used"),
    ):
        connect(one)


@pytest.mark.parametrize("operation", [AclOperation.READ, AclOperation.DESCRIBE])
def test_a_topic_that_may_not_be_read_is_an_error_that_says_so(
    operation: AclOperation, real_broker: RealBroker, topic: str, produce: Any
) -> None:
    real_broker.create_topic(topic, 1)
    produce(real_broker, topic, {0: numbered(0, 0, 3)})
    pattern = (ResourceType.TOPIC, topic, ResourcePatternType.LITERAL)
    deny = AclBinding(*pattern, f"User:{USER}", "*", operation, AclPermissionType.DENY)
    admin = real_broker.admin()
    admin.create_acls([deny])[deny].result(30)
    login = {**LOGIN, "bootstrap_servers": real_broker.sasl_servers, "sasl_plain_password": PASSWORD}
    with (
        source(real_broker, topic, **login) as one,
        pytest.raises(SourceError, match=f"denies access to .*{topic}.* READ and DESCRIBE"),
    ):
        until(one, lambda _: False)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"group_id": "g"}, "driftd's own"),
        ({"allow_auto_create_topics": True}, "driftd's own"),
        ({"bootstrap_server": "x"}, "has no option bootstrap_server"),
        ({"ssl_cafile": "/nowhere/ca.pem"}, "no such file"),
        ({"isolation_level": "serializable"}, "read_uncommitted or read_committed"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], text: str) -> None:
    with pytest.raises(SourceError, match=text):
        KafkaSource(["t"], options)


@pytest.mark.parametrize("options", [{"fetch_max_wait_ms": 60_000}, {"bootstrap_servers": ["a:b:c"]}])
def test_options_that_the_library_refuses(options: dict[str, Any]) -> None:
    with (
        closing(KafkaSource(["t"], {"bootstrap_servers": ["127.0.0.1:1"], **options})) as one,
        pytest.raises(SourceError, match="cannot be read: KafkaConfigurationError"),
    ):
        connect(one)


def test_lists_from_a_configuration_file_become_what_the_library_wants(
    embedded_broker: EmbeddedBroker, topic: str, produce: Any
) -> None:
    produce(embedded_broker, topic, {0: [b"a"]})
    options = {"bootstrap_servers": tuple(embedded_broker.bootstrap_servers), "api_version": [2, 0]}
    with closing(KafkaSource([topic], options)) as one:
        assert count(until(one, at_least(1))) == 1


def test_the_library_is_heard_only_by_who_asks_for_its_debug_lines(
    topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    levels = {name: logging.getLogger(name).level for name in QUIETED}

    def heard() -> set[str]:
        caplog.clear()
        with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never says a word
            servers = f"127.0.0.1:{silent.getsockname()[1]}"
            with closing(KafkaSource([topic], {"bootstrap_servers": servers}, pace=Pace(connect_seconds=0.2))) as one:
                connect(one)
        return {record.name for record in caplog.records if record.levelno >= logging.WARNING}

    try:
        assert heard() == {"driftd.source"}
        for name in QUIETED:
            logging.getLogger(name).setLevel(logging.NOTSET)
        with caplog.at_level(logging.DEBUG, "kafka"):
            assert heard() > {"driftd.source"}
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def test_the_embedded_broker_says_what_it_cannot_do(embedded_broker: EmbeddedBroker, topic: str) -> None:
    with pytest.raises(ValueError, match="4 partitions"):
        embedded_broker.create_topic(topic, 3)
    producer = embedded_broker.producer(linger_ms=1)
    producer.produce(topic, b"x")
    assert producer.flush(10) == 0


def test_a_closed_embedded_broker_says_so() -> None:
    with EmbeddedBroker() as broker:
        assert len(broker.bootstrap_servers) == 1
    with pytest.raises(SourceError, match="closed"):
        broker.create_topic("t")


def test_warnings_are_errors_here_so_clients_must_be_let_go(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), EmbeddedBroker() as broker, source(broker, "t") as one:
        broker.create_topic("t")
        one.poll(0.1)
        one.close()
        one.close()
