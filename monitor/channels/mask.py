"""What people may see: answers in one readable line, and requests without their secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, quote_plus


def readable(value: object) -> str:
    """Text of an answer as it may stand in a receipt or a reason: short, printable, one line."""
    return printable(str(value))[:300]


def printable(text: str) -> str:
    """The text with a blank in place of everything that cannot be printed."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def masked(text: str, secrets: Mapping[str, str]) -> str:
    """The text with every secret, in whichever way it may be written there, replaced by its name."""
    # Basic logins hold the secret in base64.
    text = re.sub(r"(?im)^(authorization: *(?:Bearer|Basic)?) *\S+$", r"\1 <secret>", text)
    for name, secret in sorted(secrets.items(), key=lambda item: -len(item[1])):
        for form in forms(secret):
            text = text.replace(form, f"<{name}>")
    return text


def forms(secret: str) -> Sequence[str]:
    """All ways in which a secret may be written in a request, the longest first."""
    words = [secret, *secret.split()]
    written = [
        form for word in words for form in (word, quote(word, safe=""), quote_plus(word), json.dumps(word)[1:-1])
    ]
    return sorted({form for form in written if form}, key=len, reverse=True)
