"""What kafka-python raises that no waiting cures, in words for who has to do something about it."""

from __future__ import annotations

from typing import Final

from kafka.consumer.fetcher import RecordTooLargeError
from kafka.errors import (
    AuthorizationError,
    CorruptRecordError,
    IllegalSaslStateError,
    InvalidTopicError,
    SaslAuthenticationFailedError,
    UnsupportedCodecError,
    UnsupportedSaslMechanismError,
    UnsupportedVersionError,
)

from monitor.sources.kafkaclient import REFUSALS

PERMANENT: Final = (
    *REFUSALS,
    UnsupportedVersionError,
    UnsupportedCodecError,
    CorruptRecordError,
    RecordTooLargeError,
    InvalidTopicError,
)
"""What waiting cannot cure."""


def text_of(fault: BaseException | None) -> str:
    """What the fault says, without the name and number that kafka-python puts before it."""
    return str(fault.args[0]) if fault is not None and fault.args else type(fault).__name__


def advice(fault: BaseException, servers: str) -> str:
    """What happened, and what to do about it."""
    text = text_of(fault)
    if isinstance(fault, SaslAuthenticationFailedError | UnsupportedSaslMechanismError | IllegalSaslStateError):
        return f"Kafka at {servers} refuses the login: {text}; check security_protocol, sasl_mechanism and the password"
    if isinstance(fault, AuthorizationError):
        return f"Kafka at {servers} denies access to {text}; grant this user READ and DESCRIBE on the topic"
    if isinstance(fault, UnsupportedCodecError):
        return f"records are packed with a codec that is not installed: {text}"
    if isinstance(fault, CorruptRecordError):
        return f"{text}; compare with another replica, or seek beyond the damaged batch"
    return f"Kafka at {servers} cannot be read: {type(fault).__name__}: {text}"
