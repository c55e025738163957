"""What is worth a call, and how long it must last before somebody is called.

A rule has the code of the complaint it is about (``core/complaint.py``), and the duration of the shipped Prometheus
rule of the same code: a test holds both lists against each other. Most of it is what ``watch`` says of a look; the rest
(``Seer``) needs more than one look, because it is about something that grows, moves or happened a moment ago.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hk_tick_collector.core.complaint import EXPLANATIONS, Code, Level
from hk_tick_collector.health.statusfile import RecorderStatus
from hk_tick_collector.watch.condition import Condition

RECENT_SEC = 15 * 60.0  # something that happened once counts for so long
COMMITS_SLOW_MS = 2000.0
FUTURE_SEC = 60.0
END_OF_DAY_UNIT = "hk-tick-eod"
RESTARTS, RESTARTS_SEC = 2, 30 * 60.0
# The recorder does not record, for whatever reason: one event whose sentence changes.
ABSENCE = frozenset(
    {
        Code.RECORDER_DOWN, Code.RECORDER_STOPPED, Code.RECORDER_DIED, Code.RECORDER_SUSPENDED, Code.RECORDER_SILENT,
        Code.RECORDER_STARTING, Code.RECORDER_RESTARTING, Code.CONFIGURATION_WRONG, Code.SERVICE_FAILED,
        Code.SERVICE_OTHER_ROOT,
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """When somebody is called about a code."""

    code: str
    level: Level
    for_sec: float = 0.0  # it must last so long
    keep_sec: float = 0.0  # and is over only when it has been gone so long
    tells_end: bool = True  # False: it happened, and nobody knows when it is mended


RULES = {
    rule.code: rule
    for rule in (
        Rule(Code.RECORDER_DOWN, Level.ALERT, 120),
        Rule(Code.NO_TICKS, Level.ALERT, 120),
        Rule(Code.SOURCE_DISCONNECTED, Level.ALERT, 120),
        Rule(Code.SOURCE_MUTE, Level.ALERT, 120),
        Rule(Code.TICKS_REFUSED, Level.ALERT, 0, RECENT_SEC),
        Rule(Code.TICKS_MISSING, Level.WARN, 60),
        Rule(Code.HOLES_OPEN, Level.WARN, 300),
        Rule(Code.NOT_STORING, Level.ALERT, 120),
        Rule(Code.WORKER_DEAD, Level.ALERT, 60),
        Rule(Code.SPILL_GROWING, Level.ALERT, 120),
        Rule(Code.SPILL_WAITING, Level.WARN, 900),
        Rule(Code.WRITER_REPLACED, Level.WARN, 0, RECENT_SEC),
        Rule(Code.COMMITS_SLOW, Level.WARN, 600),
        Rule(Code.TICKS_QUARANTINED, Level.WARN, 0, RECENT_SEC),
        Rule(Code.DISK_FULL, Level.ALERT, 60),
        Rule(Code.DISK_SILENT, Level.ALERT, 60),
        Rule(Code.DISK_FILLS_UP, Level.WARN, 1800),
        Rule(Code.SYMBOLS_REFUSED, Level.WARN, 600),
        Rule(Code.BOOKS_REFUSED, Level.WARN, 600),
        Rule(Code.BOOKS_NOT_STORING, Level.WARN, 120),
        Rule(Code.LOGIN_ENDS, Level.WARN, 60),
        Rule(Code.TICKS_LATE, Level.WARN, 600),
        Rule(Code.TICKS_FROM_FUTURE, Level.WARN, 60),
        Rule(Code.RECORDER_RESTARTING, Level.WARN),
        Rule(Code.DAY_FILE_UNREADABLE, Level.ALERT, 60),
        Rule(Code.DAYS_TO_COME, Level.ALERT, 60),
        Rule(Code.RECORDER_COMPLAINS, Level.ALERT, 120),
        Rule(Code.MARKET_CLOSED_BY_SOURCE, Level.WARN, 600),
        Rule(Code.UNIT_FAILED, Level.ALERT, tells_end=False),
        Rule(Code.HOOK_SILENT, Level.WARN),
        Rule(Code.DAY_NOT_ARCHIVED, Level.WARN),
        Rule(Code.COPY_BEHIND, Level.WARN, 300),
        Rule(Code.COPY_UNEQUAL, Level.WARN),
    )
}

RECORDER_AWAY = Code.RECORDER_DOWN
# What is said by the recorder alone, so that nothing is known of it while the recorder is away.
ONLY_THE_RECORDER_TELLS = frozenset(RULES) - {
    Code.RECORDER_DOWN, Code.RECORDER_RESTARTING, Code.DISK_FULL, Code.DISK_FILLS_UP, Code.DISK_SILENT,
    Code.TICKS_MISSING, Code.DAY_FILE_UNREADABLE, Code.DAYS_TO_COME, Code.UNIT_FAILED,
    Code.HOOK_SILENT, Code.DAY_NOT_ARCHIVED, Code.COPY_BEHIND, Code.COPY_UNEQUAL,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a rule is about holds now. ``subject``: what it is about (the market, a day)."""

    code: str
    level: Level
    subject: str
    sentence: str

    @property
    def key(self) -> str:
        """What makes it one event."""
        return f"{self.code} {self.subject}"


def no_such_rule(code: str) -> str:
    """What is said of a code that no rule has: the rule that was likely meant, else all of them."""
    import difflib  # noqa: PLC0415 - only for who mistyped

    meant = difflib.get_close_matches(code, RULES, 1)
    return (
        f"there is no such rule: did you mean {meant[0]}?"
        if meant
        else (f"there is no such rule; one of: {', '.join(sorted(RULES))}")
    )


def failed_unit(unit: str, reason: str) -> Finding:
    """A unit that systemd gave up. The end-of-day job fails when a day misses ticks, too."""
    level = Level.WARN if unit.startswith(END_OF_DAY_UNIT) else Level.ALERT
    return Finding(Code.UNIT_FAILED, level, unit, f"the unit failed ({reason})")


class Seer:
    """What needs more than one look at a recorder, and all findings of a look. One for each data root."""

    def __init__(self) -> None:
        self._before: RecorderStatus | None = None
        self._starts_ms: list[int] = []
        self._spill_rows: int | None = None

    def findings(self, condition: Condition) -> list[Finding]:
        """Of one look, one for each code.

        A recorder that is away hides all that only it could tell; warnings give way to an alert of the same code.
        """
        market = condition.market.code
        by_code: dict[str, Finding] = {}
        for code, level, sentence in (*self._told(condition), *self._seen(condition)):
            rule = RULES.get(code)
            if rule is None or level is Level.NOTE:
                continue
            known = by_code.get(code)
            if known is None or (known.level is Level.WARN and level is Level.ALERT):
                by_code[code] = Finding(code, level, market, sentence)
        return list(by_code.values())

    def _told(self, condition: Condition) -> Iterator[tuple[str, Level, str]]:
        for complaint in condition.complaints:
            if complaint.level is Level.ALERT and complaint.code in ABSENCE:
                if not condition.is_fresh:  # else it records, and the unit that failed is another data root's
                    yield Code.RECORDER_DOWN, Level.ALERT, complaint.sentence
            else:
                yield complaint.code, complaint.level, complaint.sentence

    def _seen(self, condition: Condition) -> Iterator[tuple[str, Level, str]]:
        status, before = condition.status, self._before
        if status is None:
            return
        yield from self._starts(status, condition.at_ms)
        if condition.is_fresh:
            same_run = before is not None and before.started_at_ms == status.started_at_ms
            yield from self._now(status, condition)
            yield from self._since(status, before if same_run and before is not None else replace(status))
        self._before = status
        self._spill_rows = status.spill_rows

    def _starts(self, status: RecorderStatus, now_ms: int) -> Iterator[tuple[str, Level, str]]:
        if not self._starts_ms or status.started_at_ms != self._starts_ms[-1]:
            self._starts_ms.append(status.started_at_ms)
        self._starts_ms = [
            ms for ms in self._starts_ms if now_ms - ms <= RESTARTS_SEC * 1000 or ms == status.started_at_ms
        ]
        recent = [ms for ms in self._starts_ms if now_ms - ms <= RESTARTS_SEC * 1000]
        if len(recent) > RESTARTS:
            yield Code.RECORDER_RESTARTING, Level.WARN, f"the recorder started {len(recent)} times in half an hour"

    def _now(self, status: RecorderStatus, condition: Condition) -> Iterator[tuple[str, Level, str]]:
        if status.open_holes:
            yield Code.HOLES_OPEN, Level.WARN, f"{status.open_holes} holes are open: ticks were jumped over"
        if status.spill_rows:
            yield Code.SPILL_WAITING, Level.WARN, f"{status.spill_rows} rows wait in the spill"
            if self._spill_rows is not None and status.spill_rows > self._spill_rows:
                yield Code.SPILL_GROWING, Level.ALERT, f"the spill grows: {status.spill_rows} rows"
        if (status.commit_latency_p99_ms or 0) > COMMITS_SLOW_MS:
            yield (
                Code.COMMITS_SLOW,
                Level.WARN,
                f"storing a {status.noun} takes {status.commit_latency_p99_ms:.0f} ms (p99)",
            )
        ahead_sec = ((status.newest_ts_ms or 0) - condition.at_ms) / 1000
        if ahead_sec > FUTURE_SEC:
            yield Code.TICKS_FROM_FUTURE, Level.WARN, f"the newest {status.noun} lies {ahead_sec:.0f} s in the future"

    def _since(self, status: RecorderStatus, before: RecorderStatus) -> Iterator[tuple[str, Level, str]]:
        lost = status.refused_rows - before.refused_rows
        if lost > 0:
            yield Code.TICKS_REFUSED, Level.ALERT, f"{lost} {status.noun}s were lost: neither queue nor spill took them"
        aside = status.quarantined_rows - before.quarantined_rows
        if aside > 0:
            yield Code.TICKS_QUARANTINED, Level.WARN, f"{aside} {status.noun}s went into the quarantine"
        replaced = status.writer_recoveries - before.writer_recoveries
        if replaced > 0:
            yield Code.WRITER_REPLACED, Level.WARN, "the watchdog replaced the writer"


def advice(code: str) -> str | None:
    """What to do about a code, in a sentence."""
    explanation = EXPLANATIONS.get(code)  # type: ignore[call-overload]
    return None if explanation is None else explanation.action.replace("`", "")
