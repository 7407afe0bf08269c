"""Schemas by number: from a file, or from a schema registry that answers as Confluent's does."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from monitor.errors import SourceError

TIMEOUT_SECONDS: Final = 5.0
MAX_BYTES: Final = 4 << 20
ASK_AGAIN_SECONDS: Final = 60.0
"""How long a schema that the registry did not have is not asked for again."""
_NO_SUCH_SCHEMA: Final = (404, 422)


class SchemaFile:
    """One schema for all numbers, read once. OSError when the file cannot be read, ValueError when it is no JSON."""

    def __init__(self, file: Path) -> None:
        self._text = file.read_text(encoding="utf-8")
        json.loads(self._text)

    def __call__(self, number: int) -> str:  # noqa: ARG002  # contract
        return self._text


class Registry:
    """The registry at a URL. Schemas never change under their number, so each is asked for once by who keeps it."""

    def __init__(self, url: str) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"found {url!r}, wanted a URL that begins with http:// or https://")
        self._url = url.rstrip("/")
        self._unknown: dict[int, float] = {}

    def __call__(self, number: int) -> str:
        """See `monitor.decode.Schemas`."""
        if time.monotonic() < self._unknown.get(number, 0.0):
            raise LookupError("the schema registry has none of this number")
        try:
            with urllib.request.urlopen(f"{self._url}/schemas/ids/{number}", timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                body = answer.read(MAX_BYTES + 1)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in _NO_SUCH_SCHEMA:
                self._unknown[number] = time.monotonic() + ASK_AGAIN_SECONDS
                raise LookupError("the schema registry has none of this number") from error
            raise SourceError(f"the schema registry at {self._url} answers {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            raise SourceError(f"the schema registry at {self._url} does not answer: {error}") from error
        return _schema(body)


def _schema(body: bytes) -> str:
    """What is in a registry's answer. LookupError when it is of use to nobody here."""
    try:
        found = json.loads(body[:MAX_BYTES])
        kind, text, references = found.get("schemaType", "AVRO"), found["schema"], found.get("references")
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise LookupError("the schema registry's answer holds no schema") from error
    if kind != "AVRO" or references or not isinstance(text, str):
        raise LookupError(f"found a schema of type {kind}{' with references' if references else ''}, wanted plain AVRO")
    return text
