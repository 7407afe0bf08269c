"""A message drawn as a page: what it says, and that nothing in the data becomes markup."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from monitor.message import encode
from monitor.preview import Unreadable, page, read
from tests.bodies import make_alert, make_column, make_retrain
from tests.monitor.command import driftd

EVIL = "<script>alert(1)</script> \" ' & `x` <https://evil.example|here>"


def test_the_page_says_what_the_message_says() -> None:
    drawn = page(make_alert(approvable="trg-1", retraining="waits for approval"))
    for words in ("fraud v3 · warning · firing", "<b>2 of 30 columns drifted</b>", "<code>amount</code>"):
        assert words in drawn
    assert re.findall(r'class="button[^>]*>([^<]*)<', drawn) == [
        "Acknowledge", "Snooze 4 h", "Snooze 24 h", "Resolve", "Approve retraining",
    ]  # fmt: skip
    assert "src=" not in drawn
    assert "Trigger <code>trg-19</code>" in page(make_retrain())


@pytest.mark.parametrize("make", [make_alert, make_retrain])
def test_nothing_in_the_data_becomes_markup(make: Any) -> None:
    changes = {"title": EVIL, "summary": EVIL, "retraining": EVIL} if make is make_alert else {"reason": EVIL}
    column = make_column(EVIL, what=EVIL, measure=EVIL, segment=EVIL)
    drawn = page(make(model=EVIL, version=EVIL, reference=EVIL, incident=EVIL, columns=(column,), **changes))
    assert "<script" not in drawn
    assert 'href="https://evil' not in drawn
    tags = set(re.findall(r"<(\w+)", drawn.partition("<main>")[2]))
    assert tags <= {"div", "span", "b", "code", "a", "i"}


def test_a_body_a_notice_and_the_notices_of_a_replay_are_read(tmp_path: Path) -> None:
    body, file = encode(make_alert()), tmp_path / "x.json"
    for text in (body, b'{"id": "n", "body": ' + body + b"}", b'{"body": ' + body + b"}\n" * 2 + b"more"):
        file.write_bytes(text)
        assert read(file) == make_alert()
    for text in (b"", b"[]", b"{}", b"\xff", b'{"purpose": "alert"}'):
        file.write_bytes(text)
        with pytest.raises(Unreadable, match="holds no message"):
            read(file)


def test_the_command_draws_and_a_dry_run_calls_nobody(tmp_path: Path) -> None:
    (tmp_path / "incident.json").write_bytes(encode(make_alert()))
    done = driftd("preview", tmp_path / "incident.json", "--out", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    assert "2 of 30 columns drifted" in (tmp_path / "page.html").read_text()
    file = tmp_path / "driftd.toml"
    file.write_text(
        '[[model]]\nname = "credit"\nreference = "r"\n[[channel]]\nname = "lines"\nkind = "log"\n'
        '[[channel]]\nname = "job"\nkind = "jenkins"\nurl = "https://jenkins.example.com"\njob = "ml/retrain"\n'
        'user = "ada"\ntoken_file = "token"\n[[channel]]\nname = "mail"\nkind = "email"\nhost = "h"\n'
        'sender = "a@example.com"\nto = ["b@example.com"]\n'
    )
    (tmp_path / "token").write_text("11canary0123456789")
    shown = driftd("test-trigger", "job", "--config", file, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("POST https://jenkins.example.com/job/ml/job/retrain/buildWithParameters")
    assert "DRIFTD_TRIGGER_ID=test-" in shown.stdout
    assert "canary" not in shown.stdout + shown.stderr
    assert "<secret>" in shown.stdout


def test_a_picture_of_what_is_not_kept_is_none_and_without_a_state_a_fault(tmp_path: Path) -> None:
    """The service's test sees a picture in Slack."""
    from monitor.errors import ChildFault
    from monitor.picture import picture
    from monitor.store import Store
    from tests.bodies import make_notice

    Store(tmp_path / "state").close()
    assert picture(tmp_path / "state", make_notice()) is None
    with pytest.raises(ChildFault, match="could not be made within"):
        picture(tmp_path / "none", make_notice())
