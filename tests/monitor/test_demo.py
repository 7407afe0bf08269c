"""What the demo says can be used as it stands."""

from __future__ import annotations

import io

from rich.console import Console

from monitor.demo.screen import BOX_WIDTH, Screen


def test_a_token_is_in_one_line_however_narrow_the_terminal() -> None:
    file = io.StringIO()
    words = f"its page: http://127.0.0.1:8787/  (to change things, log in with {'k' * 43})"
    Screen(Console(file=file, width=80)).say(words)
    assert file.getvalue() == f"{words}\n"


def test_a_box_is_no_wider_than_a_page_where_lines_may_be_long() -> None:
    body = {
        "model": "m", "version": None, "reason": "words " * 60, "since": 0,
        "rows": [{"first_offset": 0, "last_offset": 9}],
    }  # fmt: skip
    for width, wanted in ((1_000, BOX_WIDTH), (60, 60)):
        file = io.StringIO()
        Screen(Console(file=file, width=width)).messages([], {"t": body})
        assert max(map(len, file.getvalue().splitlines())) == wanted
