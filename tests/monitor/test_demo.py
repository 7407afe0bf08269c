"""What the demo says can be used as it stands."""

from __future__ import annotations

import io

from rich.console import Console

from monitor.demo.screen import Screen


def test_a_token_is_in_one_line_however_narrow_the_terminal() -> None:
    file = io.StringIO()
    words = f"its page: http://127.0.0.1:8787/  (to change things, log in with {'k' * 43})"
    Screen(Console(file=file, width=80)).say(words)
    assert file.getvalue() == f"{words}\n"
