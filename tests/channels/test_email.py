"""A mail carries its picture where that is drawn in good time, and no alert waits for long because it is not."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path

import pytest

from monitor import picture as drawing
from monitor.channels import Attempt, Channel, Sent, Tools
from monitor.channels.email import FRESH_SECONDS
from monitor.errors import ChildFault
from monitor.message import Body, Notice
from monitor.picture import LIMITS, TURN_SECONDS, picture
from tests.bodies import make_alert, make_notice, make_retrain
from tests.standins.email import EmailCase

MADE = 1_772_323_200.0
PNG = b"\x89PNG of "
LONGEST = TURN_SECONDS + 2 * LIMITS.seconds
"""Seconds that one picture can hold up its mail."""


@dataclass
class Painter:
    """Draws, or does not, in so many seconds of a clock of its own. drawn: the notices whose picture was asked for."""

    seconds: float = 2.0
    fault: Exception | None = None
    gives: bool = True
    now: float = MADE
    drawn: list[str] = field(default_factory=list)

    def picture(self, notice: Notice) -> bytes | None:
        self.drawn.append(notice.id)
        self.now += self.seconds
        if self.fault:
            raise self.fault
        return PNG + notice.id.encode() if self.gives else None

    def channel(self, case: EmailCase) -> Channel:
        return case.open(Tools(picture=self.picture, clock=lambda: self.now))


def images(mail: EmailMessage) -> list[bytes]:
    return [part.get_content() for part in mail.walk() if part.get_content_type() == "image/png"]


def page(mail: EmailMessage) -> str:
    return mail.get_body(("html",)).get_content()


def test_a_fresh_alert_carries_its_picture_and_shows_it() -> None:
    with EmailCase() as case:
        assert isinstance(Painter().channel(case).send(make_notice(), Attempt(queued_at=MADE)), Sent)
        (mail,) = case.standin.mails
        assert images(mail) == [PNG + make_notice().id.encode()]
        assert 'src="cid:picture"' in page(mail)


@pytest.mark.parametrize("painter", [Painter(gives=False), Painter(fault=RuntimeError("no thread"))])
def test_an_alert_without_a_picture_goes_at_once_and_shows_none(
    painter: Painter, caplog: pytest.LogCaptureFixture
) -> None:
    with EmailCase() as case:
        assert isinstance(painter.channel(case).send(make_notice(), Attempt(queued_at=MADE)), Sent)
        (mail,) = case.standin.mails
        assert images(mail) == []
        assert "<img" not in page(mail)
    told = [record.event for record in caplog.records if record.levelno == logging.ERROR]
    assert told == (["email.no_picture"] if painter.fault else [])


@pytest.mark.parametrize("body", [make_alert(columns=()), make_retrain()], ids=["alert", "retrain"])
def test_what_is_no_alert_of_columns_has_no_picture(body: Body) -> None:
    painter = Painter()
    with EmailCase() as case:
        assert isinstance(painter.channel(case).send(make_notice(body), Attempt(queued_at=MADE)), Sent)
    assert painter.drawn == []


@pytest.mark.parametrize("seconds", [3.0, LONGEST])
def test_however_many_alerts_come_and_however_long_drawing_takes_all_are_gone_within_a_minute(seconds: float) -> None:
    painter = Painter(seconds, gives=seconds < LONGEST)
    notices = [make_notice(id=f"storm/{n}") for n in range(12)]
    with EmailCase() as case:
        channel = painter.channel(case)
        assert all(isinstance(channel.send(notice, Attempt(queued_at=MADE)), Sent) for notice in notices)
        assert len(case.standin.mails) == len(notices)
        n_pictured = sum(len(images(mail)) for mail in case.standin.mails)
    assert painter.now - MADE <= FRESH_SECONDS + LONGEST <= 60
    assert n_pictured == (len(painter.drawn) if painter.gives else 0)
    assert painter.drawn == [notice.id for notice in notices[: len(painter.drawn)]]


def test_a_picture_whose_turn_does_not_come_is_not_drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(drawing, "TURN_SECONDS", 0.05)
    taken, free = threading.Event(), threading.Event()

    def slow(*_: object) -> bytes:
        taken.set()
        assert free.wait(60)
        return PNG

    monkeypatch.setattr(drawing.child, "run", slow)
    other = threading.Thread(target=picture, args=(tmp_path, make_notice()))
    other.start()
    assert taken.wait(60)
    with pytest.raises(ChildFault, match="others were being drawn"):
        picture(tmp_path, make_notice())
    free.set()
    other.join()
    assert picture(tmp_path, make_notice()) == PNG, "the next one has its turn"
