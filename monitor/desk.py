"""One model's incident and retraining: what changes them, who is told, and what people order.

The decisions are pure functions elsewhere (`alert`, `notify`, `retrain`); the desk keeps what they go on from, asks
them in order, and collects what comes of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from monitor import alert, notify, retrain
from monitor.alert import Change, Episode, Policy, State, Told
from monitor.batch import Severity
from monitor.board import Board, Line
from monitor.check import Judged
from monitor.config import Config, Model, Retrain
from monitor.decision import MIN_ROWS, Outcome
from monitor.loss import Loss, Toll
from monitor.message import Body, Notice, Purpose, Subject, alert_body, notice, retrain_body
from monitor.order import Acknowledge, Answer, Approve, CallBack, Order, Refuse, Resolve, Snooze
from monitor.retrain import Evidence, Retraining, Step, Trigger
from monitor.route import recipients
from monitor.window import Window


class DeskState(msgspec.Struct, frozen=True):
    """What is remembered of a model's incident and retraining.

    n_rows: rows of closed windows. dismissed: segment, column and incident of what is not told of until it was calm.
    loss: by the labels of the latest window, or of all since a new reference took over and is not yet checked.
    toll: what a risen loss has cost since the reference is in force.
    reference: the sealed one that took the configured one's place (`replaced`), and the model version it came with.
    """

    episode: Episode | None = None
    n_rows: int = 0
    dismissed: tuple[tuple[str, str, str], ...] = ()
    retraining: Retraining = Retraining()
    reference: str | None = None
    replaced: str | None = None
    version: str | None = None
    loss: Loss | None = None
    toll: Toll = Toll()


@dataclass(slots=True)
class Outcomes:
    """What came of it, in order."""

    changes: list[Change] = field(default_factory=list)
    triggers: list[Trigger] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)


class Desk:
    """One model's incident and retraining. state: what it goes on from; out: what came of it since last taken."""

    def __init__(
        self, config: Config, model: Model, subject: Subject, board: Board, importance: Mapping[str, float]
    ) -> None:
        """importance: of columns, 1 where there is none."""
        self._config = config
        self._model = model
        self._subject = subject
        self._board = board
        times = (config.alert.for_windows, config.alert.clear_windows, config.alert.keep_firing_for)
        self._policy = Policy(*times, importance)
        self._manners = notify.Manners(config.alert.repeat)
        self._retrains = [table for table in config.retrain if table.model == model.name]
        self.state = DeskState()
        self.out = Outcomes()

    def close(self, closed: Sequence[Judged], now_ms: int) -> None:
        """Windows of one span were judged, the whole first."""
        dismissed = {(segment, column): incident for segment, column, incident in self.state.dismissed}
        dismissed = alert.still_dismissed(dismissed, closed)
        episode, change = alert.advance(self._model.name, self.state.episode, closed, self._policy, dismissed)
        kept = tuple((*key, incident) for key, incident in sorted(dismissed.items()))
        self._set(
            episode=episode, dismissed=kept, n_rows=self.state.n_rows + self._subject.scaled(closed[0].window.n_rows)
        )
        self._lose(closed[0])
        self._grow_old(closed[0].window)
        self._settle(change or self._renewed(episode) or self._come_together(episode, closed), now_ms)

    def _come_together(self, episode: Episode | None, closed: Sequence[Judged]) -> Change | None:
        """That a retraining is due by now, where only time, rows or labels were wanting; None elsewhere."""
        for options in self._retrains:
            change = self._aged(closed, options) if episode is None else self._went_on(episode)
            if change is None:
                continue
            if retrain.consider(change, self._evidence(change.episode), options, self.state.retraining) is None:
                return change
        return None

    def _went_on(self, episode: Episode) -> Change | None:
        if episode.state is not State.FIRING or episode.n_calm:
            return None
        return alert.changed(episode, "retraining", "what was wanted for a retraining has come together")[1]

    def _aged(self, closed: Sequence[Judged], options: Retrain) -> Change | None:
        """An incident for a model that has become too old, if its data can be seen and are sound."""
        whole, verdicts = closed[0].window, [verdict for judged in closed for verdict in judged.verdicts]
        words = retrain.overdue(self.state.retraining.learnt.age_ms(whole.end_ms), options)
        faulty = any(verdict.faulty and verdict.outcome is Outcome.DRIFT for verdict in verdicts)
        if not words or faulty or not any(verdict.outcome is Outcome.OK for verdict in verdicts):
            return None
        return alert.age(self._model.name, whole, words)[1]

    def _renewed(self, episode: Episode | None) -> Change | None:
        """That the retraining has ended that the model's age asked for; None elsewhere."""
        latest = self.state.retraining.latest
        if episode is None or not episode.aged or latest is None or latest.under_way:
            return None
        return alert.renewed(episode, retrain.said(latest))[1]

    def _grow_old(self, whole: Window) -> None:
        """Note up to when a model whose reference is new can have learnt."""
        before, subject = self.state.retraining, self._subject
        learnt = before.learnt.under(subject.reference, subject.until_ms, whole.start_ms)
        self._set(retraining=msgspec.structs.replace(before, learnt=learnt))

    def hear(self, silent_since_ms: int, broken: str, now_ms: int) -> None:
        """Whether records come (0: they do), and whether they can be read ("": they can)."""
        model = self._model.name
        episode, change = alert.silence(model, self.state.episode, silent_since_ms, now_ms)
        self._set(episode=episode)
        self._settle(change, now_ms)
        episode, change = alert.breakage(model, self.state.episode, broken, now_ms)
        self._set(episode=episode)
        self._settle(change, now_ms)

    def review(self, now_ms: int) -> None:
        """Time went by: repeat what goes on, tell what was held back, end what waited too long."""
        episode = self.state.episode
        if episode is not None:
            decision = notify.review(
                self._model.name, episode, self._board.silences, self._manners, now_ms, replaced=self._replaced
            )
            if decision is not None:
                change = "opened" if episode.told is None else "repeated"
                self._settle(alert.changed(episode, change, decision.reason)[1], now_ms)
        latest = self.state.retraining.latest
        options = None if latest is None else self._options(latest.channel)
        if latest is not None and options is not None:
            lag_ms = self._model.labels.lag if self._model.labels else 0
            self._step(retrain.passed(latest, options, self._drifts(), now_ms, self._loss(), lag_ms), now_ms)

    def act(self, order: Order, now_ms: int) -> Answer | None:
        """Do what was ordered; None when it is about something else."""
        if isinstance(order, Acknowledge | Snooze | Resolve):
            return self._on_incident(order, now_ms)
        latest = self.state.retraining.latest
        if not isinstance(order, Approve | Refuse | CallBack) or latest is None or latest.id != order.trigger:
            return None
        if isinstance(order, Approve):
            trigger, words = retrain.approved(latest, order.by, now_ms)
        elif isinstance(order, Refuse):
            trigger, words = retrain.refused(latest, order.by, now_ms)
        else:
            options = self._options(latest.channel)
            if options is None:
                return Answer(False, f"no [[retrain]] of {self._model.name} has the channel {latest.channel} any more")
            trigger, words = retrain.called_back(latest, order, options, now_ms)
        if trigger is not None:
            self._call(trigger)
        self._step(trigger, now_ms)
        return Answer(trigger is not None, words)

    def call_ended(self, trigger: str, given_up: str, now_ms: int) -> None:
        """See `retrain.call_ended`: of the call to a retraining job, by its trigger's id."""
        latest = self.state.retraining.latest
        if latest is not None and latest.id == trigger:
            self._step(retrain.call_ended(latest, given_up, now_ms), now_ms)

    def summary(self) -> Line | None:
        """The incident at hand in a few words; None when there is none, or it is pending."""
        episode = self.state.episode
        if episode is None or episode.state is State.PENDING:
            return None
        return Line(episode.id, episode.severity, f"{episode.state}, {alert.named(episode.columns) or 'no column'}")

    def _on_incident(self, order: Acknowledge | Snooze | Resolve, now_ms: int) -> Answer | None:
        episode = self.state.episode
        if episode is None or episode.id != order.incident:
            return None
        if isinstance(order, Acknowledge):
            after, change = alert.acknowledge(episode, order.by, now_ms)
        elif isinstance(order, Snooze):
            after, change = alert.snooze(episode, order.by, order.until_ms)
        else:
            after, change = alert.resolve(episode, order.by, order.note)
            self._set(dismissed=tuple((*column.key, episode.id) for column in episode.columns))
        self._set(episode=after)
        self._settle(change, now_ms)
        return Answer(True, f"{episode.id}: {change.change if change else 'noted'}")

    def _settle(self, change: Change | None, now_ms: int) -> None:
        """Consider retraining, decide whether to tell, and remember both."""
        if change is None:
            return
        words = self._retrain(change, now_ms)
        decision = notify.decide(self._model.name, change, self._board.silences, now_ms, replaced=self._replaced)
        channels = self._channels(change, now_ms) if decision.told else ()
        if decision.told:
            columns = tuple(column.key for column in change.episode.columns)
            told = Told(now_ms, change.episode.severity, columns, channels)
            change = msgspec.structs.replace(change, episode=msgspec.structs.replace(change.episode, told=told))
        change = msgspec.structs.replace(change, told=decision.told, notice=decision.reason)
        self.out.changes.append(change)
        self._set(episode=None if change.episode.state is State.RESOLVED else change.episode)
        body = alert_body(self._named(), change, words, self._approvable(change.episode))
        for channel in channels:
            self._queue(f"{change.episode.id}/{change.episode.n_changes}/{channel}", channel, Purpose.ALERT, body)

    @property
    def _replaced(self) -> bool:
        """Whether a new model is ready, and waits for a person to let its reference take over."""
        latest = self.state.retraining.latest
        return latest is not None and latest.step is Step.SUCCEEDED and latest.under_way

    def _approvable(self, episode: Episode) -> str | None:
        """The incident's trigger, where it waits for a person's word."""
        latest = self.state.retraining.latest
        waits = latest is not None and latest.approvable and latest.incident == episode.id
        return latest.id if latest is not None and waits else None

    def _channels(self, change: Change, now_ms: int) -> tuple[str, ...]:
        """Where this is told: where the incident has a message, and where one is due and there is room for it."""
        episode = change.episode
        known = episode.told.channels if episode.told else ()
        rises = episode.told is not None and episode.severity.rank > episode.told.severity.rank
        if episode.told is not None and not rises:
            return known
        wanted = recipients(self._config, self._model.name, change, now_ms)
        line = Line(episode.id, episode.severity, change.reason)
        fresh = (channel for channel in wanted if channel not in known)
        return (*known, *(channel for channel in fresh if self._board.admits(channel, line, now_ms)))

    def _retrain(self, change: Change, now_ms: int) -> str | None:
        """Make a trigger if there is to be one; what the alert says of it."""
        said = []
        for options in self._retrains:
            before, evidence = self.state.retraining, self._evidence(change.episode)
            held = retrain.consider(change, evidence, options, before)
            if held is not None:
                said += [held] if held else []
                continue
            reason = retrain.because(change, evidence, options)
            body = retrain_body(self._named(), change, f"{change.episode.id}-retrain", reason)
            trigger = retrain.made(change, body, evidence, options, now_ms)
            self._set(retraining=retrain.remembered(before, trigger, self.state.n_rows, self.state.toll.n_labels))
            self.out.triggers.append(trigger)
            self._call(trigger)
            said.append(retrain.said(trigger))
        return "; ".join(said) or None

    def _evidence(self, episode: Episode) -> Evidence:
        importance = self._policy.importance
        drifting = [c.verdict for c in episode.columns if not c.verdict.faulty]
        effect = sum(importance.get(v.column, 1.0) * abs(v.effect or 0.0) for v in drifting)
        outputs = {name for name in (self._model.fields.prediction, self._model.fields.score) if name}
        predicts = any(verdict.column in outputs for verdict in drifting) if outputs else None
        age_ms = self.state.retraining.learnt.age_ms(episode.window.end_ms)
        return Evidence(self.state.n_rows, effect, predicts, self._loss(), self.state.toll, age_ms)

    def _lose(self, whole: Judged) -> None:
        """Note what the labels of a window say, and how the new model does until it is checked."""
        window, before = whole.window, self.state.loss
        found = Loss.of(window.tally.profile)
        if found is not None:
            n_rows = max(self._subject.scaled(window.n_rows), found.n)  # labels may come while no predictions do
            self._set(toll=self.state.toll.after(found, n_rows, window.end_ms - window.start_ms))
        latest = self.state.retraining.latest
        if before is not None and latest is not None and latest.step is Step.ROTATED:
            if found is None:
                found = before
            elif found.usual == before.usual:  # else it is the first by the new reference
                found = before + found
        self._set(loss=found)

    def _loss(self) -> Loss | None:
        """The loss at hand; None where there are too few labels to say anything."""
        loss = self.state.loss
        return loss if loss is not None and loss.n >= MIN_ROWS else None

    def _step(self, trigger: Trigger | None, now_ms: int) -> None:
        """A trigger went on: remember it, tell, and go over to its reference."""
        if trigger is None:
            return
        self._set(retraining=self.state.retraining.stepped(trigger))
        self.out.triggers.append(trigger)
        episode = self.state.episode
        if trigger.step is Step.INEFFECTIVE and episode is not None:
            episode = msgspec.structs.replace(episode, severity=Severity.CRITICAL)
        if episode is not None:
            self._settle(alert.changed(episode, "retraining", retrain.said(trigger))[1], now_ms)
        if trigger.step is Step.ROTATED:
            self._rotate(trigger, now_ms)

    def _rotate(self, trigger: Trigger, now_ms: int) -> None:
        """Go over to the new reference: what the old one called drift is over."""
        episode = self.state.episode
        self._set(reference=trigger.reference, replaced=str(self._model.reference), version=trigger.version, loss=None)
        self._set(toll=Toll(n_labels=self.state.toll.n_labels))
        if episode is not None:
            self._settle(alert.resolve(episode, "driftd", "the new model's reference is in force")[1], now_ms)
        self._set(episode=None, dismissed=())

    def _call(self, trigger: Trigger) -> None:
        if trigger.step is Step.CALLED:
            self._queue(trigger.id, trigger.channel, Purpose.RETRAIN, trigger.body)

    def _drifts(self) -> bool:
        episode = self.state.episode
        return episode is not None and any(not column.verdict.faulty for column in episode.columns)

    def _options(self, channel: str) -> Retrain | None:
        return next((table for table in self._retrains if table.channel == channel), None)

    def _named(self) -> Subject:
        """The subject, with the version of the model whose reference is in force."""
        version = self.state.version or self._subject.version
        return msgspec.structs.replace(self._subject, version=version)

    def _set(self, **changes: object) -> None:
        self.state = msgspec.structs.replace(self.state, **changes)

    def _queue(self, identity: str, channel: str, purpose: Purpose, body: Body) -> None:
        self.out.notices.append(notice(identity, channel, purpose, body))
