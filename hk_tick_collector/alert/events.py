"""From findings to what is told: each event once, while it lasts now and then, and once when it is over.

Pure: findings and the time come in, tellings go out. An event is one code about one subject:

    pending -> firing -> resolved          pending is dropped when it is gone before its rule's time

While it fires it is told again after 10 and 30 minutes, then every hour. One that changes four times in half an hour
flaps: that is told once, and then nothing until it has been calm for ten minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from hk_tick_collector.alert.rules import ONLY_THE_RECORDER_TELLS, RECORDER_AWAY, RULES, Finding, Rule
from hk_tick_collector.core.complaint import Level

REPEATS_SEC = (600, 1800)
REPEAT_SEC = 3600
FLAPS, FLAPS_SEC, CALM_SEC = 4, 1800, 600


class Kind(StrEnum):
    """Why something is told."""

    FIRED = "fired"
    STILL = "still"
    RESOLVED = "resolved"
    FLAPS = "flaps"


@dataclass(frozen=True, slots=True)
class Event:
    """One code about one subject, from its first sign to its end. Times are UTC epoch milliseconds."""

    key: str
    code: str
    subject: str
    level: Level
    sentence: str
    began_ms: int
    seen_ms: int  # last
    fired_ms: int | None = None  # None: pending
    repeats: int = 0
    told_ms: int = 0  # last
    changes_ms: tuple[int, ...] = ()  # of firing and resolved, the newest
    is_over: bool = False  # resolved, and kept for its flapping
    is_flapping: bool = False


@dataclass(frozen=True, slots=True)
class Telling:
    """Something that goes to people."""

    kind: Kind
    event: Event


@dataclass
class Ledger:
    """All events. ``observe`` is called with every look, at least every few seconds."""

    rule_of: Callable[[str], Rule | None] = RULES.get
    events: dict[str, Event] = field(default_factory=dict)

    def observe(self, findings: Iterable[Finding], now_ms: int) -> list[Telling]:
        """What this look changes."""
        there = {finding.key: finding for finding in findings if self.rule_of(finding.code) is not None}
        told = [telling for finding in there.values() for telling in self._present(finding, now_ms)]
        away = {finding.subject for finding in there.values() if finding.code == RECORDER_AWAY}
        for event in [event for key, event in self.events.items() if key not in there]:
            if event.subject in away and event.code in ONLY_THE_RECORDER_TELLS:
                continue  # nobody knows: it is neither told again nor called over
            told += self._absent(event, now_ms)
        return told

    def load(self, events: Sequence[Event], now_ms: int) -> None:
        """Go on from what was kept. A time to come is of a clock that was set back since."""
        for event in events:
            fired_ms = None if event.fired_ms is None else min(event.fired_ms, now_ms)
            self.events[event.key] = replace(
                event, began_ms=min(event.began_ms, now_ms), seen_ms=min(event.seen_ms, now_ms), fired_ms=fired_ms,
                told_ms=min(event.told_ms, now_ms), changes_ms=tuple(min(ms, now_ms) for ms in event.changes_ms),
            )  # fmt: skip

    def firing(self) -> list[Event]:
        """What is wrong now, gravest and oldest first."""
        firing = [event for event in self.events.values() if event.fired_ms is not None and not event.is_over]
        return sorted(firing, key=lambda event: (event.level is not Level.ALERT, event.fired_ms))

    def _present(self, finding: Finding, now_ms: int) -> list[Telling]:
        rule = self.rule_of(finding.code)
        assert rule is not None
        event = self.events.get(finding.key)
        if event is None or (event.is_over and not event.is_flapping):
            changes = () if event is None else event.changes_ms
            event = Event(finding.key, finding.code, finding.subject, finding.level, finding.sentence, now_ms, now_ms,
                          changes_ms=changes)  # fmt: skip
        elif event.is_over:
            event = replace(event, is_over=False, began_ms=now_ms, fired_ms=None)
        graver = event.level is Level.WARN and finding.level is Level.ALERT
        # Who was told of an alert is told how it goes on and ends, though it may be a warning by then.
        stays = event.fired_ms is not None and event.level is Level.ALERT
        event = replace(event, seen_ms=now_ms, sentence=finding.sentence, level=Level.ALERT if stays else finding.level)
        if event.fired_ms is None:
            if now_ms - event.began_ms < rule.for_sec * 1000:
                return self._kept(event)
            return self._changed(replace(event, fired_ms=now_ms, repeats=0), Kind.FIRED, now_ms)
        if graver and not event.is_flapping:
            return self._tell(replace(event, repeats=0), Kind.FIRED, now_ms)
        return self._again(event, now_ms)

    def _again(self, event: Event, now_ms: int) -> list[Telling]:
        if event.is_flapping:
            if now_ms - event.changes_ms[-1] < CALM_SEC * 1000:
                return self._kept(event)
            return self._tell(replace(event, is_flapping=False, changes_ms=(), repeats=1), Kind.STILL, now_ms)
        wait_sec = REPEATS_SEC[event.repeats] if event.repeats < len(REPEATS_SEC) else REPEAT_SEC
        since_ms = event.fired_ms if event.repeats < len(REPEATS_SEC) else event.told_ms
        assert since_ms is not None
        if now_ms - since_ms < wait_sec * 1000:
            return self._kept(event)
        return self._tell(replace(event, repeats=event.repeats + 1), Kind.STILL, now_ms)

    def _absent(self, event: Event, now_ms: int) -> list[Telling]:
        rule = self.rule_of(event.code) or Rule(event.code, event.level)
        if event.is_over:
            return self._calm(event, now_ms)
        if event.fired_ms is None:
            if event.changes_ms:
                return self._kept(replace(event, is_over=True))
            del self.events[event.key]
            return []
        if now_ms - event.seen_ms < rule.keep_sec * 1000:
            return self._again(event, now_ms)
        return self._changed(replace(event, is_over=True), Kind.RESOLVED, now_ms)

    def _calm(self, event: Event, now_ms: int) -> list[Telling]:
        """One that is over: forgotten when it cannot flap any more; one that flapped is said to have ended."""
        quiet_ms = now_ms - event.changes_ms[-1]
        if event.is_flapping and quiet_ms >= CALM_SEC * 1000:
            del self.events[event.key]
            return [Telling(Kind.RESOLVED, replace(event, is_flapping=False))]
        if not event.is_flapping and quiet_ms >= FLAPS_SEC * 1000:
            del self.events[event.key]
        return []

    def _changed(self, event: Event, kind: Kind, now_ms: int) -> list[Telling]:
        """A change of firing or over, which may be one too many."""
        changes = tuple(ms for ms in (*event.changes_ms, now_ms) if now_ms - ms <= FLAPS_SEC * 1000)
        event = replace(event, changes_ms=changes)
        if event.is_flapping:
            return self._kept(event)
        if len(changes) >= FLAPS:
            return self._tell(replace(event, is_flapping=True), Kind.FLAPS, now_ms)
        return self._tell(event, kind, now_ms)

    def _tell(self, event: Event, kind: Kind, now_ms: int) -> list[Telling]:
        event = replace(event, told_ms=now_ms)
        self.events[event.key] = event
        return [Telling(kind, event)]

    def _kept(self, event: Event) -> list[Telling]:
        self.events[event.key] = event
        return []
