"""The desk: looks at the recorder every two seconds, and puts what has to be told into the outbox.

It never sends: that is ``post.py``'s, in a thread for each target, so that one that hangs holds up nobody. All times of
events run on a clock that cannot jump; what is looked at is judged by the wall clock, as the recorder's files are.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from hk_tick_collector.alert.events import Kind, Ledger, Telling
from hk_tick_collector.alert.outbox import Failure, Outbox
from hk_tick_collector.alert.outside import Outside
from hk_tick_collector.alert.rules import RULES, Finding, Rule, Seer, failed_unit
from hk_tick_collector.alert.signals import SignalDesk
from hk_tick_collector.alert.targets import RuleSettings, TargetSettings, TargetsFile
from hk_tick_collector.alert.words import digest_lines, line_of, week_line
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.complaint import Level
from hk_tick_collector.core.errors import RecorderError, StoreError
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.core.text import printable
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.quality.certificate import make_certificate
from hk_tick_collector.quality.model import Certificate
from hk_tick_collector.watch import recorder as system
from hk_tick_collector.watch.condition import Condition, look

LOOK_SEC = 2.0
SERVICE_EVERY_LOOKS = 5  # asking systemd starts a process
TIDY_EVERY_LOOKS = 1800
DIGEST_AFTER_MS = 5 * 60_000  # after the last tick of a day can come
DIGEST_ARCHIVED_MS = 25 * 60_000  # where days are archived it waits so long for this one: the job runs after 15 minutes
DIGEST_LATE_MS = 12 * 3_600_000  # a digest that nobody asked for by then is not made up for
GOOD_GRADES = ("A", "B")
FAILURES = "failures"  # the outbox's mark: how far they were read

_log = logging.getLogger(__name__)


def rule_of(changes: dict[str, RuleSettings]) -> Callable[[str], Rule | None]:
    """The rules with the file's changes."""
    rules = dict(RULES)
    for code, change in changes.items():
        rule = rules.pop(code)
        if not change.is_off:
            for_sec = rule.for_sec if change.for_sec is None else change.for_sec
            rules[code] = replace(rule, for_sec=for_sec)
    return rules.get


class Desk:
    """One data root. ``step`` is called every LOOK_SEC by the program's main thread."""

    def __init__(
        self,
        data_root: Path,
        archive_root: Path,
        file: TargetsFile,
        outbox: Outbox,
        clock: Clock,
        direct: Callable[[str, Level, list[str]], None] = lambda *_: None,
        hooks_dir: Path | None = None,
        ship_dir: Path | None = None,
    ) -> None:
        """``direct(target, level, lines)`` sends past the outbox, when that cannot be written."""
        self._catalog = Catalog(data_root, archive_root)
        self._calendar = TradingCalendar(self._catalog.market)
        self._targets, self._outbox, self._clock = file.targets, outbox, clock
        self._ledger = Ledger(rule_of(file.rules))
        self._seer = Seer()
        silent_sec = {name: hook.silent_sec for name, hook in file.hooks.items()}
        self._outside = Outside(self._catalog, self._calendar, silent_sec, hooks_dir)
        self._service: system.Service | None = None
        self._faults = RateLimitedLog(_log)
        self._looks = 0
        self._began_ms, self._began_sec = clock.now_ms(), clock.monotonic()
        self._direct, self._ship_dir = direct, ship_dir
        self._signals = None
        if hooks_dir is not None and any(target.signals for target in file.targets):
            self._signals = SignalDesk(hooks_dir, file.targets, outbox, self._catalog.market)
        self._ledger.load(outbox.events(), self._began_ms)
        outbox.begin(self._began_ms)
        self.condition: Condition | None = None  # of the last look

    @property
    def market(self) -> str:
        """The code of the market whose days these are."""
        return self._catalog.market.code

    @property
    def steady_ms(self) -> int:
        """The time, on a clock that does not jump."""
        return self._began_ms + int((self._clock.monotonic() - self._began_sec) * 1000)

    @property
    def is_well(self) -> bool:
        """Did the last look find nothing that needs somebody at once?"""
        firing = self._ledger.firing()
        return self.condition is not None and not any(problem.level is Level.ALERT for problem in firing)

    def step(self) -> None:
        """One look, and what comes of it. A look that fails is logged; the next one may not."""
        if self._looks % SERVICE_EVERY_LOOKS == 0:
            service = system.service()
            self._service = service if service is not None and service.installed else None
        if self._looks % TIDY_EVERY_LOOKS == 0:
            with contextlib.suppress(StoreError):  # the next telling meets it, and says it
                self._outbox.tidy(self.steady_ms)
        self._looks += 1
        self._route_signals()
        try:
            root, now_ms = self._catalog.data_root, self._clock.now_ms()
            self.condition = look(root, self._calendar, now_ms, self._service, self._ship_dir)
        except RecorderError as exc:
            self.condition = None
            self._faults.log(logging.ERROR, "alert_look_failed", reason=exc, action="looking again")
            return
        tellings: list[Telling] = []
        try:
            failures = self._failures()
            findings = [
                *self._seer.findings(self.condition),
                *(failed_unit(failure.unit, failure.reason) for failure in failures),
            ]
            findings += self._seen_outside()
            tellings = self._ledger.observe(findings, self.steady_ms)
            self._store(tellings, failures[-1].number if failures else None)
            tellings = []
            self._end_of_day(self.condition)
        except StoreError as exc:
            self._faults.log(logging.ERROR, "alert_outbox_failed", reason=exc, action="sending past it")
            for telling in tellings:
                for target in self._targets:
                    if target.takes(telling.event.level, self.steady_ms):
                        self._direct(target.name, telling.event.level, [self._line(telling)])

    def _route_signals(self) -> None:
        if self._signals is None:
            return
        try:
            self._signals.step(self.steady_ms)
        except StoreError as exc:
            self._faults.log(logging.ERROR, "alert_signals_wait", reason=exc, action="looking again")

    def _seen_outside(self) -> list[Finding]:
        """What cannot be read must not hide the rest."""
        try:
            return self._outside.findings(self._clock.now_ms())
        except (RecorderError, OSError) as exc:
            self._faults.log(logging.ERROR, "alert_look_failed", reason=exc, action="looking again")
            return []

    def _failures(self) -> list[Failure]:
        """Units that failed since the last look; none when the outbox cannot be read, which must not hide the rest."""
        try:
            return self._outbox.failures(self._outbox.mark(FAILURES) or 0)
        except StoreError:
            return []

    def _store(self, tellings: list[Telling], failures_read: int | None) -> None:
        if not tellings and failures_read is None:
            return
        with self._outbox.transaction():
            for telling in tellings:
                self._tell(telling)
            self._outbox.keep_events(self._ledger.events.values())
            if failures_read is not None:
                self._outbox.set_mark(FAILURES, failures_read)

    def _line(self, telling: Telling) -> str:
        return line_of(telling, self._catalog.market, self.steady_ms)

    def _tell(self, telling: Telling) -> None:
        now_ms, alert = self.steady_ms, telling.event
        line = self._line(telling)
        rule = RULES.get(alert.code)
        if telling.kind is Kind.RESOLVED and rule is not None and not rule.tells_end:
            return
        if alert.code in self._outbox.mutes(now_ms):
            return
        _log.warning(event("alert_told", kind=telling.kind, code=alert.code, subject=alert.subject))
        for target in self._targets:
            self._tell_target(target, telling, line, now_ms)

    def _tell_target(self, target: TargetSettings, telling: Telling, line: str, now_ms: int) -> None:
        """A message that is changed rings nobody: an alert is told anew as well, a warning by the change alone."""
        alert = telling.event
        goes_on = telling.kind in (Kind.STILL, Kind.RESOLVED)
        rings = alert.level is Level.ALERT and target.takes(alert.level, now_ms)
        may_change = goes_on and target.is_editable
        changed = may_change and self._outbox.change(target.name, alert.key, line, now_ms, alone=not rings)
        if changed and not rings:
            return
        if target.takes(alert.level, now_ms):
            key = None if goes_on else alert.key
            self._outbox.add(target.name, alert.level, [line], now_ms, room_chars=target.room_chars, key=key)
        elif target.digest and telling.kind is not Kind.STILL:
            self._outbox.hold(target.name, line)

    # The end of a day

    def _end_of_day(self, condition: Condition) -> None:
        day = condition.day
        if day is None or not self._calendar.is_trading_day(day.trading_day):
            return
        over_ms = condition.at_ms - self._calendar.no_more_ticks_ms(day.trading_day)
        if not DIGEST_AFTER_MS <= over_ms < DIGEST_LATE_MS:
            return
        letter_name = f"digest {self._catalog.market.code} {day.trading_day}"
        if self._outbox.is_done(letter_name):
            return
        if over_ms < DIGEST_ARCHIVED_MS and self._outside.awaits_archive(day.trading_day, condition.at_ms):
            return
        try:
            lines, grade = self._digest(day.trading_day, condition)
        except RecorderError as exc:
            lines, grade = [f"{day.trading_day}: nothing can be said of the day: {printable(str(exc))}"], "?"
        level = Level.NOTE if grade in GOOD_GRADES else Level.WARN
        with self._outbox.transaction():
            self._outbox.note_done(letter_name, self.steady_ms)
            for target in self._targets:
                held = self._outbox.take_held(target.name)
                if target.digest:
                    self._outbox.add(target.name, level, [*lines, *held], self.steady_ms, kind="digest")
        _log.info(event("alert_digest", day=day.trading_day, grade=grade))

    def _digest(self, day: str, condition: Condition) -> tuple[list[str], str]:
        market, now_ms = self._catalog.market, self.steady_ms
        certificate = self._certificate(day, condition.at_ms)
        is_archived = day in self._catalog.archived_days()
        mutes = self._outbox.mutes(now_ms)
        lines = digest_lines(certificate, condition.disk, self._ledger.firing(), mutes, market, is_archived)
        if self._ends_the_week(day):
            week = _week_of(day)
            days = [other for other in self._catalog.days() if other <= day and _week_of(other) == week]
            lines.append(
                week_line({day_of_week: self._certificate(day_of_week, condition.at_ms).grade for day_of_week in days})
            )
        return lines, certificate.grade

    def _certificate(self, day: str, now_ms: int) -> Certificate:
        return make_certificate(self._catalog.day(day), self._calendar, now_ms, read=False)

    def _ends_the_week(self, day: str) -> bool:
        """Is it the week's last trading day? A Friday, or the day before holidays."""
        date = datetime.strptime(day, "%Y%m%d")  # noqa: DTZ007 - a date
        later = (date + timedelta(days=ahead) for ahead in range(1, 7 - date.weekday()))
        return not any(self._calendar.is_trading_day(f"{date_later:%Y%m%d}") for date_later in later)


def _week_of(day: str) -> tuple[int, int]:
    return datetime.strptime(day, "%Y%m%d").isocalendar()[:2]  # noqa: DTZ007 - a date
