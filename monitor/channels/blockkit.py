"""What Slack takes in one message, documented or found out, and how to make any message fit.

Lengths are counted in UTF-16 units, the stricter of the two ways in which Slack may count. A layout here holds the
blocks that driftd uses: header, section, context, actions with buttons, image and divider.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

Block = dict[str, Any]

TEXT: Final = 40_000
BLOCKS: Final = 50
SUM: Final = 13_100
"""Of all texts in all blocks. Not documented: 13,172 were taken and 13,297 refused."""
_LONGEST: Final = {
    "header": 150, "section": 3000, "field": 2000, "context": 2000, "button": 75, "value": 2000, "url": 3000,
    "id": 255, "alt_text": 2000, "image_url": 3000,
}  # fmt: skip
_MOST: Final = {"fields": 10, "elements": 10}
_MOST_ACTIONS: Final = 25
_TYPES: Final = frozenset({"header", "section", "context", "actions", "image", "divider"})


def fault(text: object, blocks: object) -> str:
    """Slack's error code for a message that it would not take, or ""."""
    if not isinstance(text, str) or not text.strip():
        return "no_text"
    if units(text) > TEXT:
        return "msg_too_long"
    if not isinstance(blocks, list) or len(blocks) > BLOCKS or not all(map(_is_sound, blocks)):
        return "invalid_blocks"
    return "msg_blocks_too_long" if _sum(blocks) > SUM else ""


def fitted(blocks: Sequence[Block]) -> list[Block]:
    """The blocks, shortened where they are too long for Slack: it takes the result whatever was given.

    Sections give way first, the last ones before the first; a line says how many are missing.
    """
    kept = [block for block in map(_cut_block, blocks) if _is_sound(block)]
    n_missing, at = 0, len(kept)
    while kept and (len(kept) + (n_missing > 0) > BLOCKS or _sum(kept) + 30 * (n_missing > 0) > SUM):
        at = max((i for i, block in enumerate(kept) if i and block["type"] == "section"), default=len(kept) - 1)
        del kept[at]
        n_missing += 1
    note = {"type": "context", "elements": [{"type": "mrkdwn", "text": f"+{n_missing} more", "verbatim": True}]}
    return [*kept[:at], note, *kept[at:]] if n_missing else kept


def units(words: str) -> int:
    """Length in UTF-16 units."""
    return len(words.encode("utf-16-le", "replace")) // 2


def cut(words: str, limit: int) -> str:
    """At most `limit` units, marked where something is missing; never half an entity, never empty."""
    encoded = words.encode("utf-16-le", "replace")
    if len(encoded) <= 2 * limit:
        return words if words.strip() else "–"
    kept = encoded[: 2 * (limit - 1)].decode("utf-16-le", "ignore")
    return re.sub(r"&[a-z]*$", "", kept) + "…"


def texts(block: Mapping[str, Any]) -> Iterator[tuple[str, Block]]:
    """The text objects of a block, each with the place whose limit it has."""
    if "text" in block:
        yield block["type"], block["text"]
    for part in block.get("fields", ()):
        yield "field", part
    for part in block.get("elements", ()):
        yield ("button", part.get("text")) if block["type"] == "actions" else ("context", part)


def _sum(blocks: Sequence[Block]) -> int:
    return sum(units(part["text"]) for block in blocks for _, part in texts(block))


def _is_sound(block: Any) -> bool:
    if not isinstance(block, dict) or block.get("type") not in _TYPES or not _fits(block, "block_id", "id"):
        return False
    kind = block["type"]
    if kind in {"divider", "image"}:
        return kind == "divider" or all(block.get(key) and _fits(block, key, key) for key in ("image_url", "alt_text"))
    for key, usual in _MOST.items():
        items, most = block.get(key, []), _MOST_ACTIONS if kind == "actions" else usual
        if not isinstance(items, list) or len(items) > most or not all(isinstance(item, dict) for item in items):
            return False
    found = list(texts(block))
    if kind == "actions" and not all(map(_is_button, block.get("elements", []))):
        return False
    return bool(found) and all(_is_text(part, place) for place, part in found)


def _is_button(element: Block) -> bool:
    places = (("action_id", "id"), ("value", "value"), ("url", "url"))
    return element.get("type") == "button" and all(_fits(element, key, place) for key, place in places)


def _fits(item: Block, key: str, place: str) -> bool:
    value = item.get(key, "")
    return isinstance(value, str) and units(value) <= _LONGEST[place]


def _is_text(part: Any, place: str) -> bool:
    plain_only = place in {"header", "button"}
    if not isinstance(part, dict) or part.get("type") not in (
        {"plain_text"} if plain_only else {"plain_text", "mrkdwn"}
    ):
        return False
    words = part.get("text")
    return isinstance(words, str) and words.strip() != "" and units(words) <= _LONGEST[place]


def _cut_block(block: Block) -> Block:
    """The block with its texts cut and what is too many left out."""
    cut_block = dict(block)
    kind = block.get("type", "")
    if "text" in block and kind in _LONGEST:
        cut_block["text"] = _cut_text(block["text"], kind)
    if "fields" in block:
        cut_block["fields"] = [_cut_text(part, "field") for part in block["fields"][: _MOST["fields"]]]
    if kind == "context":
        cut_block["elements"] = [_cut_text(part, "context") for part in block.get("elements", [])[: _MOST["elements"]]]
    if kind == "actions":
        cut_block["elements"] = [
            {**button, "text": _cut_text(button.get("text"), "button")}
            for button in block.get("elements", [])[:_MOST_ACTIONS]
        ]
    return cut_block


def _cut_text(part: Any, place: str) -> Any:
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        return part
    return {**part, "text": cut(part["text"], _LONGEST[place])}
