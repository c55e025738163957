"""How the recorder is, from what can be seen without asking it: process, service, status file, day file, disk.

``look`` looks, ``judge`` says what is wrong. A look costs milliseconds whatever is recorded: no scan of a day file.
"""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hk_tick_collector.clickhouse import shipping
from hk_tick_collector.core.complaint import Code, Complaint, Level
from hk_tick_collector.core.errors import RecorderError, StoreError
from hk_tick_collector.core.text import counted
from hk_tick_collector.health.statusfile import (
    STATUS_INTERVAL_SEC,
    STOPPED,
    STOPPING,
    RecorderStatus,
    process_space,
    read_status,
)
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.market import Market
from hk_tick_collector.records.kind import TICK
from hk_tick_collector.records.snapshot import SNAPSHOT
from hk_tick_collector.store import judging, layout, reader
from hk_tick_collector.store.judging import DayState
from hk_tick_collector.store.side_file import NothingYet
from hk_tick_collector.store.snapshot_reader import freshness
from hk_tick_collector.store.verdict import MISSING
from hk_tick_collector.watch import recorder as system
from hk_tick_collector.watch.access import CLOSED_ADVICE, closed_to_us

STALE_SEC = 5 * STATUS_INTERVAL_SEC  # without a new status for so long, a recorder hangs
START_SEC = 180.0  # before the first status a large spill may have to be read (TimeoutStartSec of the unit)
FEW_DAYS_LEFT = 10.0
FEW_FILES = 3
ALERT_RECENT_SEC = 24 * 3600.0
_SAYS = {Level.NOTE: "notes", Level.WARN: "warns", Level.ALERT: "raises an alert"}  # as complaints.js has it

FINE, PROBLEM, NO_DATA = "fine", "problem", "no_data"


@dataclass(frozen=True, slots=True)
class RecordedDay:
    """The newest file of a day."""

    trading_day: str
    is_today: bool
    rows: int
    newest_ts_ms: int | None
    state: DayState
    error: str | None = None  # why it could not be read
    noun: str = TICK  # what one of its rows is called
    series: int = 0  # of snapshots: how many are told; of ticks each symbol is one


@dataclass(frozen=True)
class Condition:
    """One look. Times are UTC epoch milliseconds."""

    at_ms: int
    data_root: Path
    market: Market
    service: system.Service | None  # None: not under systemd
    process: system.Process | None  # who holds the lock
    status: RecorderStatus | None  # what the recorder wrote last
    is_running: bool
    phase: str
    disk: system.Disk | None
    day: RecordedDay | None  # the newest that is not to come; None: nothing is recorded
    spill_bytes: int
    days_to_come: list[str] = field(default_factory=list)  # that have a file all the same
    complaints: list[Complaint] = field(default_factory=list)
    ship: shipping.ShipStatus | None = None  # what hk-tick-ship said last

    @property
    def problems(self) -> list[str]:
        """What has to be done something about, in words."""
        return [complaint.sentence for complaint in self.complaints if complaint.level is Level.ALERT]

    @property
    def notes(self) -> list[str]:
        """What somebody may want to know, in words."""
        return [complaint.sentence for complaint in self.complaints if complaint.level is not Level.ALERT]

    def complain(self, code: Code, level: Level, sentence: str, since_ms: int | None = None) -> None:
        """One more complaint."""
        self.complaints.append(Complaint(code, level, sentence, since_ms))

    @property
    def status_age_sec(self) -> float | None:
        """How old the status is; None without one."""
        return None if self.status is None else (self.at_ms - self.status.written_at_ms) / 1000

    @property
    def noun(self) -> str:
        """What one of the recorded rows is called: ``tick``, ``snapshot``."""
        if self.status is not None:
            return self.status.noun
        return TICK if self.day is None else self.day.noun

    @property
    def is_fresh(self) -> bool:
        """Does the status tell how it is now? Also after a step of the clock the next one comes in seconds."""
        age_sec = self.status_age_sec
        if not self.is_running or age_sec is None or (self.process is not None and self.process.is_stopped):
            return False
        return abs(age_sec) <= STALE_SEC

    @property
    def verdict(self) -> str:
        """``fine``, ``problem``, or ``no_data``: nothing is recorded, nothing runs and nothing failed."""
        if self.problems:
            return PROBLEM
        return FINE if self.is_running or self.day is not None else NO_DATA

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "verdict": self.verdict,
            "problems": self.problems,
            "notes": self.notes,
            "complaints": [asdict(complaint) for complaint in self.complaints],
            "at_ms": self.at_ms,
            "data_root": str(self.data_root),
            "running": self.is_running,
            "phase": self.phase,
            "noun": self.noun,
            "status_age_sec": self.status_age_sec,
            "service": None if self.service is None else asdict(self.service),
            "process": None if self.process is None else asdict(self.process),
            "recorder": None if self.status is None else asdict(self.status),
            "day": None if self.day is None else asdict(self.day),
            "days_to_come": self.days_to_come,
            "spill_bytes": self.spill_bytes,
            "ship": None if self.ship is None else asdict(self.ship),
            "disk": None if self.disk is None else {**asdict(self.disk), "days_left": self.disk.days_left},
        }


def look(
    data_root: Path,
    calendar: TradingCalendar,
    now_ms: int,
    service: system.Service | None = None,
    ship_dir: Path | None = None,
) -> Condition:
    """Look once, and judge.

    ``calendar``: of the data root's market. ``now_ms``: the wall clock, UTC epoch milliseconds. ``service``: what
    ``recorder.service`` found, None when no service manager matters. ``ship_dir``: where hk-tick-ship keeps its
    state, if it brings copies of this data root anywhere. RecorderError when this user may not look.
    """
    market = calendar.market
    process = system.lock_holder(data_root)
    status = _read_status(layout.status_file(data_root))
    today = market.trading_day(now_ms)
    is_running = process is not None or _runs_elsewhere(status, now_ms)
    fresh = is_running and status is not None and abs(now_ms - status.written_at_ms) <= STALE_SEC * 1000
    condition = Condition(
        at_ms=now_ms,
        data_root=data_root,
        market=market,
        service=service,
        process=process,
        status=status,
        is_running=is_running,
        phase=status.phase if fresh and status is not None else str(calendar.phase(now_ms)),
        disk=_disk(data_root, today),
        day=_newest_day(data_root, today, now_ms),
        spill_bytes=_spill_bytes(data_root),
        days_to_come=_days_to_come(data_root, today),
        ship=None if ship_dir is None else _shipper(ship_dir, data_root),
    )
    judge(condition)
    return condition


def _read_status(path: Path) -> RecorderStatus | None:
    try:
        return read_status(path)
    except OSError as exc:
        raise RecorderError(f"{path} cannot be read ({exc.strerror}): {CLOSED_ADVICE}") from exc


def _runs_elsewhere(status: RecorderStatus | None, now_ms: int) -> bool:
    """Does a process write it that does not show here (another container, or this one may see none)? Then only the file
    tells that it lives."""
    if status is None or status.status == STOPPED:
        return False
    if status.process_space == process_space() and system.sees_processes():
        return False
    return abs(now_ms - status.written_at_ms) <= STALE_SEC * 1000


def _shipper(ship_dir: Path, data_root: Path) -> shipping.ShipStatus | None:
    shipper = shipping.read_status(ship_dir)
    return shipper if shipper is not None and Path(shipper.data_root) == data_root else None


def _disk(data_root: Path, today: str) -> system.Disk | None:
    try:
        return system.disk(data_root, today)
    except OSError:
        return None


def _newest_day(data_root: Path, today: str, now_ms: int) -> RecordedDay | None:
    files = layout.recorded_files(data_root, 1, today)
    if not files:
        return None
    day = files[0].name.partition(".")[0]
    is_today = day == today
    if layout.parse_day(files[0]) is None:
        return _newest_snapshots(files[0], day, is_today=is_today)
    try:
        fresh, state = reader.freshness(files[0], now_ms), judging.day_state(files[0])
    except StoreError as exc:
        return RecordedDay(day, is_today, 0, None, DayState(), closed_to_us(exc) or str(exc))
    return RecordedDay(day, is_today, fresh.rows, fresh.max_ts_ms, state)


def _newest_snapshots(path: Path, day: str, *, is_today: bool) -> RecordedDay | None:
    try:
        recorded = freshness(path)
    except NothingYet:
        return None
    except StoreError as exc:
        return RecordedDay(day, is_today, 0, None, DayState(), closed_to_us(exc) or str(exc), SNAPSHOT)
    return RecordedDay(day, is_today, recorded.rows, recorded.newest_ts_ms, DayState(), None, SNAPSHOT, recorded.series)


def _days_to_come(data_root: Path, today: str) -> list[str]:
    """Days after today with a file, latest first."""
    days = (path.name.partition(".")[0] for path in layout.recorded_files(data_root, sys.maxsize))
    return [day for day in days if day > today]


def _spill_bytes(data_root: Path) -> int:
    try:
        return sum(path.stat().st_size for path in layout.spill_dir(data_root).rglob("*.spill"))
    except OSError:
        return 0


def judge(condition: Condition) -> None:
    """Fill ``complaints``: an alert is something that has to be done, the others somebody may want to know."""
    if condition.is_running:
        _judge_running(condition)
    else:
        _judge_absent(condition)
    _judge_service(condition)
    _judge_days(condition)
    _judge_disk(condition)
    if condition.ship is not None:
        condition.complaints.extend(shipping.complaints(condition.ship, condition.at_ms))


def _judge_running(condition: Condition) -> None:
    status, process = condition.status, condition.process
    if condition.is_fresh:
        assert status is not None
        _judge_fresh(condition, status)
        return
    assert process is not None
    if process.is_stopped:
        condition.complain(
            Code.RECORDER_SUSPENDED,
            Level.ALERT,
            f"the recorder (pid {process.pid}) was stopped by a signal and does nothing: kill -CONT {process.pid}",
        )
    elif status is None or process.locked_at_ms > status.written_at_ms:
        starting_sec = (condition.at_ms - process.locked_at_ms) / 1000
        condition.complain(
            Code.RECORDER_STARTING,
            Level.ALERT if starting_sec > START_SEC else Level.NOTE,
            f"the recorder (pid {process.pid}) has been starting for {starting_sec:.0f} s",
            process.locked_at_ms,
        )
    else:
        condition.complain(
            Code.RECORDER_SILENT,
            Level.ALERT,
            f"the recorder (pid {process.pid}) lives but has not said anything for {condition.status_age_sec:.0f} s: "
            f"it hangs, or {layout.STATUS_FILE} cannot be written; its stacks: kill -USR1 {process.pid}, then the log",
            status.written_at_ms,
        )


def _judge_fresh(condition: Condition, status: RecorderStatus) -> None:
    """What the recorder says of itself."""
    for complaint in status.complaints or _without_codes(status):
        sentence = f"the recorder {_SAYS[complaint.level]}: {complaint.sentence}"
        condition.complaints.append(replace(complaint, sentence=sentence))
    if status.status == STOPPING:
        condition.complain(Code.RECORDER_STOPPING, Level.NOTE, f"the recorder says {STOPPING}: {status.reason}")
    if status.refused_rows:
        condition.complain(
            Code.TICKS_REFUSED,
            Level.NOTE,
            f"{counted(status.refused_rows, status.noun)} refused since the start: neither queue nor spill took them",
        )


def _without_codes(status: RecorderStatus) -> tuple[Complaint, ...]:
    """Of a recorder of a version that tells only its gravest complaint, in words."""
    if status.status not in (Level.ALERT, Level.WARN):
        return ()
    return (Complaint(Code.RECORDER_COMPLAINS, Level(status.status), str(status.reason)),)


def _judge_absent(condition: Condition) -> None:
    status, service = condition.status, condition.service
    start = f"sudo systemctl start {service.unit}" if service is not None and service.installed else "hk-tick-collector"
    if _is_misconfigured(service):
        condition.complain(
            Code.CONFIGURATION_WRONG,
            Level.ALERT,
            "the configuration is wrong, so the recorder does not start (exit code 78): hk-tickctl config says what, "
            f"correct it, then: {start}",
        )
    elif status is None:
        if condition.day is not None or (service is not None and service.active_state == "failed"):
            condition.complain(
                Code.RECORDER_DOWN, Level.ALERT, f"no recorder runs on this data root; start it: {start}"
            )
    elif status.status == STOPPED:
        if condition.day is not None or status.reason != "asked to stop":
            condition.complain(
                Code.RECORDER_STOPPED,
                Level.ALERT,
                f"the recorder was stopped ({status.reason}); start it: {start}",
                status.written_at_ms,
            )
    else:
        condition.complain(
            Code.RECORDER_DIED,
            Level.ALERT,
            f"the recorder (pid {status.pid}) ended without an ordered stop, {condition.status_age_sec:.0f} s ago or "
            f"later; see why: hk-tickctl logs; start it: {start}",
            status.written_at_ms,
        )


def _is_misconfigured(service: system.Service | None) -> bool:
    return service is not None and service.active_state == "failed" and service.exit_code == system.EXIT_CONFIG


def _judge_service(condition: Condition) -> None:
    service = condition.service
    if service is None or not service.installed:
        return
    if service.active_state == "failed":
        if condition.is_running or not _is_misconfigured(service):  # else it was said
            advice = " (the configuration is wrong, see hk-tickctl config)" if _is_misconfigured(service) else ""
            condition.complain(
                Code.SERVICE_FAILED,
                Level.ALERT,
                f"the service {service.unit} has failed: {service.ending}{advice}",
            )
    elif service.sub_state == "auto-restart":
        condition.complain(
            Code.RECORDER_RESTARTING,
            Level.ALERT,
            f"the service {service.unit} keeps failing ({service.restarts} restarts): hk-tickctl logs",
        )
    elif service.active_state == "active" and condition.process is None and not condition.is_running:
        condition.complain(
            Code.SERVICE_OTHER_ROOT,
            Level.ALERT,
            f"the service {service.unit} runs, but on another data root: name it with --data-root",
        )
    if service.enabled == "disabled":
        condition.complain(
            Code.SERVICE_NOT_ENABLED,
            Level.NOTE,
            f"the service does not start at boot: sudo systemctl enable {service.unit}",
        )


def _judge_days(condition: Condition) -> None:
    day = condition.day
    if day is not None and day.error is not None:
        condition.complain(Code.DAY_FILE_UNREADABLE, Level.ALERT, f"the newest day file cannot be read: {day.error}")
    if day is not None and day.state.symbols[MISSING]:
        known = counted(day.state.missing_ticks, "tick") if day.state.missing_ticks else "ticks"
        missing_symbols = day.state.symbols[MISSING]
        subject = "1 symbol misses" if missing_symbols == 1 else f"{missing_symbols:,} symbols miss"
        condition.complain(
            Code.TICKS_MISSING,
            Level.WARN,
            f"{day.trading_day}: {subject} {known}: hk-tickctl gaps",
        )
    if day is not None and day.state.unseen_symbols:
        symbols, most = counted(day.state.unseen_symbols, "symbol"), counted(day.state.unseen_ticks, TICK)
        # The recorder may speak of another day besides; when it says the same, it is said once.
        condition.complaints[:] = [
            told
            for told in condition.complaints
            if told.code != Code.BEGINNING_UNSEEN or f"up to {most} may" not in told.sentence
        ]
        condition.complain(
            Code.BEGINNING_UNSEEN,
            Level.NOTE,
            f"{day.trading_day}: the beginning of {symbols} was not shown, up to {most} may have come before the first "
            "ones seen: hk-tickctl gaps",
        )
    if condition.days_to_come:
        ending = "db" if condition.noun == TICK else f"{condition.noun}.db"
        shown = ", ".join(f"{day}.{ending}" for day in condition.days_to_come[:FEW_FILES])
        if len(condition.days_to_come) > FEW_FILES:
            shown += f" and {len(condition.days_to_come) - FEW_FILES} more"
        cure = "scripts/repair_future_ts_ms.py shows them, and with --apply puts them aside"
        if condition.noun != TICK:
            cure = "move these files away"
        condition.complain(
            Code.DAYS_TO_COME,
            Level.ALERT,
            f"there are files of days to come ({shown}): their {condition.noun}s carry a wrong date, or this machine's "
            f"clock is wrong; if the clock is right: {cure}",
        )
    if condition.spill_bytes and not condition.is_running:
        condition.complain(
            Code.SPILL_WAITING,
            Level.NOTE,
            f"{condition.spill_bytes:,} bytes wait in the spill; the recorder stores them when it starts",
        )


def _judge_disk(condition: Condition) -> None:
    disk = condition.disk
    if disk is None:
        condition.complain(Code.DISK_SILENT, Level.ALERT, f"the disk of {condition.data_root} does not answer")
    elif disk.free_bytes == 0 or (disk.days_left is not None and disk.days_left < 1):
        condition.complain(
            Code.DISK_FULL,
            Level.ALERT,
            f"the disk has no room for another day: {disk.free_bytes} bytes are free",
        )
    elif disk.days_left is not None and disk.days_left < FEW_DAYS_LEFT:
        condition.complain(
            Code.DISK_FILLS_UP,
            Level.WARN,
            f"the disk is full in {disk.days_left:.1f} recorded days: hk-tickctl archive, hk-tickctl retain",
        )
