"""What can be wrong with a recorder, each thing under a code that does not change.

A complaint is a code, a level and a sentence. The sentence is for people and has numbers in it; whoever keys on
something (an alert, a filter, a mute) keys on the code. Health line, status file, ``hk-tickctl status``, metrics, the
watchdog's lines and the shipped alert rules speak these codes and no others. ``TABLE`` is all of them;
docs/monitoring.md shows it, and a test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Level(StrEnum):
    """How much it matters."""

    NOTE = "note"  # somebody may want to know
    WARN = "warn"  # look at it today
    ALERT = "alert"  # something has to be done: ticks are being lost, or will be soon


class Teller(StrEnum):
    """Who finds out."""

    RECORDER = "recorder"  # of itself: health line, status file, metrics
    WATCHDOG = "watchdog"  # inside the recorder, when it acts: the WATCHDOG lines of the log
    STATUS = "status"  # hk-tickctl status, from outside
    RULES = "rules"  # the shipped alert rules
    MANAGER = "service manager"  # of a unit that failed, to hk-tick-alert
    ALERT = "hk-tick-alert"  # of hooks and archives, which no recorder knows
    SHIPPER = "hk-tick-ship"  # of copies in ClickHouse; hk-tickctl status and hk-tick-alert pass it on


class Code(StrEnum):
    """The codes. One that was ever shipped keeps its meaning for ever."""

    WORKER_DEAD = "worker_dead"
    LOOP_STUCK = "loop_stuck"
    TICKS_REFUSED = "ticks_refused"
    NOT_STORING = "not_storing"
    SOURCE_DISCONNECTED = "source_disconnected"
    SOURCE_MUTE = "source_mute"
    NO_TICKS = "no_ticks"
    PUSH_SILENT = "push_silent"
    NETWORK_THREAD_DEAD = "network_thread_dead"
    MARKET_CLOSED_BY_SOURCE = "market_closed_by_source"
    TICKS_LATE = "ticks_late"
    TICKS_FROM_FUTURE = "ticks_from_future"
    SYMBOLS_REFUSED = "symbols_refused"
    BOOKS_REFUSED = "books_refused"
    BOOKS_NOT_STORING = "books_not_storing"
    LOGIN_ENDS = "login_ends"
    TICKS_MISSING = "ticks_missing"
    BEGINNING_UNSEEN = "beginning_unseen"
    HOLES_OPEN = "holes_open"
    SPILL_WAITING = "spill_waiting"
    SPILL_GROWING = "spill_growing"
    WRITER_REPLACED = "writer_replaced"
    COMMITS_SLOW = "commits_slow"
    TICKS_QUARANTINED = "ticks_quarantined"
    RECORDER_DOWN = "recorder_down"
    RECORDER_STOPPED = "recorder_stopped"
    RECORDER_STOPPING = "recorder_stopping"
    RECORDER_DIED = "recorder_died"
    RECORDER_SUSPENDED = "recorder_suspended"
    RECORDER_STARTING = "recorder_starting"
    RECORDER_SILENT = "recorder_silent"
    RECORDER_RESTARTING = "recorder_restarting"
    RECORDER_COMPLAINS = "recorder_complains"
    CONFIGURATION_WRONG = "configuration_wrong"
    SERVICE_FAILED = "service_failed"
    SERVICE_OTHER_ROOT = "service_other_root"
    SERVICE_NOT_ENABLED = "service_not_enabled"
    DAY_FILE_UNREADABLE = "day_file_unreadable"
    DAYS_TO_COME = "days_to_come"
    DISK_SILENT = "disk_silent"
    DISK_FULL = "disk_full"
    DISK_FILLS_UP = "disk_fills_up"
    UNIT_FAILED = "unit_failed"
    HOOK_SILENT = "hook_silent"
    DAY_NOT_ARCHIVED = "day_not_archived"
    COPY_BEHIND = "copy_behind"
    COPY_UNEQUAL = "copy_unequal"


@dataclass(frozen=True, slots=True)
class Complaint:
    """One thing that is wrong now. ``code`` is one of ``Code``, or another version's."""

    code: str
    level: Level
    sentence: str  # for people; no program reads it
    since_ms: int | None = None  # since when it has been so, UTC epoch milliseconds; None: nobody counted


class Explanation(NamedTuple):
    """What a code means. ``levels``: those that it may come with, gravest first."""

    code: Code
    levels: tuple[Level, ...]
    tellers: tuple[Teller, ...]
    meaning: str
    action: str


_NOTE, _WARN, _ALERT = (Level.NOTE,), (Level.WARN,), (Level.ALERT,)
_RECORDER, _WATCHDOG, _STATUS, _RULES = Teller.RECORDER, Teller.WATCHDOG, Teller.STATUS, Teller.RULES

TABLE = (
    Explanation(
        Code.WORKER_DEAD, _ALERT, (_RECORDER, _WATCHDOG, _RULES),
        "The part of the recorder that stores ticks has ended unexpectedly.",
        "The watchdog ends the recorder and the service manager starts it. If that does not help, restart it and keep "
        "the log (`task_failed`).",
    ),
    Explanation(
        Code.LOOP_STUCK, _ALERT, (_WATCHDOG,),
        "The event loop is stuck while ticks arrive or wait.",
        "The watchdog acts. Keep the log: the stacks of all threads are in it.",
    ),
    Explanation(
        Code.TICKS_REFUSED, (Level.ALERT, Level.NOTE), (_RECORDER, _STATUS, _RULES),
        "Neither the queue nor the spill could take ticks: they are lost unless the source still has them.",
        "Free space on the disk of `DATA_ROOT`, or mount it writable. As a note: it happened at some time since the "
        "start.",
    ),
    Explanation(
        Code.NOT_STORING, _ALERT, (_RECORDER, _WATCHDOG, _RULES),
        "Rows are waiting and none has been committed for `WATCHDOG_STALL_SEC`.",
        "Look for `sqlite_busy_backoff` (another program holds the day file) and `persist_error` (disk) in the log.",
    ),
    Explanation(
        Code.SOURCE_DISCONNECTED, (Level.ALERT, Level.WARN), (_RECORDER, _RULES),
        "There is no working connection to the source. Outside recording hours this is a warning.",
        "Check that OpenD is running and logged in, and that `FUTU_HOST` and `FUTU_PORT` point to it.",
    ),
    Explanation(
        Code.SOURCE_MUTE, _ALERT, (_RECORDER,),
        "The source is connected but has sent no tick in an open market and has answered nothing for "
        "`WATCHDOG_STALL_SEC`.",
        "The service manager restarts the recorder. If it happens again, restart OpenD.",
    ),
    Explanation(
        Code.NO_TICKS, _ALERT, (_RECORDER, _WATCHDOG, _RULES),
        "The market is open but no ticks arrive.",
        "Check the source: quote right, quota, another terminal that is logged in. The watchdog reconnects.",
    ),
    Explanation(
        Code.PUSH_SILENT, _WARN, (_WATCHDOG,),
        "Polling brings ticks that were not pushed.",
        "Nothing: the recorder reconnects. If it happens often, restart OpenD.",
    ),
    Explanation(
        Code.NETWORK_THREAD_DEAD, _ALERT, (_WATCHDOG,),
        "The thread that reads from the source has ended.",
        "Nothing: the recorder reconnects. Keep the log.",
    ),
    Explanation(
        Code.MARKET_CLOSED_BY_SOURCE, _WARN, (_RECORDER,),
        "The source says that the market is closed, the recorder's calendar that it is open.",
        "Nothing during a typhoon. Otherwise check the exchange's notices.",
    ),
    Explanation(
        Code.TICKS_LATE, _WARN, (_RECORDER, _RULES),
        "The newest tick, or the typical one, is old when it is stored.",
        "Look for the delay before ticks reach the recorder: source, network, this machine's clock.",
    ),
    Explanation(
        Code.TICKS_FROM_FUTURE, _WARN, (_RULES,),
        "The newest tick is ahead of this machine's clock.",
        "Set the clock.",
    ),
    Explanation(
        Code.SYMBOLS_REFUSED, _WARN, (_RECORDER, _RULES),
        "The source refuses to subscribe some symbols; all others are recorded.",
        "`futu_symbol_refused` in the log has the reason: an unknown code, or quota.",
    ),
    Explanation(
        Code.BOOKS_REFUSED, _WARN, (_RECORDER,),
        "Order books or broker queues are not subscribed, and blind in the day's certificate. Ticks are not affected.",
        "The sentence has the reason. No right: get Level 2 quotes, or close the other terminal that took them. Quota: "
        "shorten `BOOK_SYMBOLS`. It is tried again by itself.",
    ),
    Explanation(
        Code.BOOKS_NOT_STORING, _WARN, (_RECORDER,),
        "Order books are waiting and none has been stored for `WATCHDOG_STALL_SEC`. Ticks are not affected; of the "
        "waiting books, the newest of each symbol is kept.",
        "Look at the disk, and for `book_persist_error` and `books_ended` in the log. The hanging thread is replaced "
        "(`books_recovery`), and books go on by themselves once the disk answers. Restart the recorder after the close "
        "only if they do not: after `WATCHDOG_RECOVERY_MAX_FAILURES` failed replacements no other is tried.",
    ),
    Explanation(
        Code.LOGIN_ENDS, (Level.ALERT, Level.WARN), (_RECORDER,),
        "The login at the source expires within two days and cannot be extended; within 12 hours this is an alert.",
        "Log in again: the sentence says how. The present connection continues, but the next one would be refused.",
    ),
    Explanation(
        Code.TICKS_MISSING, _WARN, (_RECORDER, _STATUS, _RULES),
        "Ticks are missing that the source no longer has.",
        "`hk-tickctl gaps` lists them; look in the log for the cause, just before each of them.",
    ),
    Explanation(
        Code.BEGINNING_UNSEEN, _NOTE, (_RECORDER, _STATUS),
        "Recording began in mid-session, and the source no longer shows how the day began: so many ticks at most may "
        "have come before the first one seen.",
        "Nothing, if you know that it was started late; else look in the log for why. `hk-tickctl gaps` says how many "
        "of which symbol. It ends with the trading day.",
    ),
    Explanation(
        Code.HOLES_OPEN, _WARN, (_RULES,),
        "Ticks were skipped, and fetching them has failed so far.",
        "Look for requests that fail (`repair_failed`).",
    ),
    Explanation(
        Code.SPILL_WAITING, (Level.WARN, Level.NOTE), (_RECORDER, _STATUS, _RULES),
        "Ticks are safe on disk, but not yet in their day files. This is a note while no recorder is running.",
        "Wait a few minutes; then look for `sqlite_busy_backoff` and `persist_error`. Do not delete `_spill`.",
    ),
    Explanation(
        Code.SPILL_GROWING, _ALERT, (_RULES,),
        "Ticks arrive faster than they can be stored.",
        "Check the load on the disk, and look for `sqlite_busy_backoff` in the log.",
    ),
    Explanation(
        Code.WRITER_REPLACED, _WARN, (_RULES,),
        "The watchdog replaced the writer.",
        "Look in the log for what blocked it: a hanging disk, a lock.",
    ),
    Explanation(
        Code.COMMITS_SLOW, _WARN, (_RULES,),
        "Storing a tick takes too long.",
        "Compare the duration of commits (disk) with the number of waiting rows (CPU).",
    ),
    Explanation(
        Code.TICKS_QUARANTINED, _WARN, (_RULES,),
        "Ticks could not be read or stored; they are kept whole.",
        "Look into `DATA_ROOT/_quarantine`.",
    ),
    Explanation(
        Code.RECORDER_DOWN, _ALERT, (_STATUS, _RULES),
        "No recorder is running, or it does not answer.",
        "Start it; exit code 78 means that the configuration is wrong.",
    ),
    Explanation(
        Code.RECORDER_STOPPED, _ALERT, (_STATUS,),
        "The recorder was stopped, or it gave up and stopped cleanly.",
        "Start it.",
    ),
    Explanation(
        Code.RECORDER_STOPPING, _NOTE, (_STATUS,),
        "It is storing the waiting rows and will then exit.",
        "Wait.",
    ),
    Explanation(
        Code.RECORDER_DIED, _ALERT, (_STATUS,),
        "It ended without a clean stop.",
        "`hk-tickctl logs` shows why; start it.",
    ),
    Explanation(
        Code.RECORDER_SUSPENDED, _ALERT, (_STATUS,),
        "A signal suspended the process; it exists but does nothing.",
        "`kill -CONT` it.",
    ),
    Explanation(
        Code.RECORDER_STARTING, (Level.ALERT, Level.NOTE), (_STATUS,),
        "It holds the data root but has not reported yet. After three minutes this is an alert.",
        "Look at the log: storing a large spill takes time, or a disk hangs.",
    ),
    Explanation(
        Code.RECORDER_SILENT, _ALERT, (_STATUS,),
        "The process exists but no longer updates its status.",
        "`kill -USR1` writes its stacks into the log.",
    ),
    Explanation(
        Code.RECORDER_RESTARTING, (Level.ALERT, Level.WARN), (_STATUS, _RULES),
        "It is restarted again and again.",
        "The line `fatal` or `recorder_stopped` before each start has the reason.",
    ),
    Explanation(
        Code.RECORDER_COMPLAINS, (Level.ALERT, Level.WARN), (_STATUS,),
        "A recorder of an older version, without codes, reports a problem.",
        "Its sentence says which; install this version and restart it.",
    ),
    Explanation(
        Code.CONFIGURATION_WRONG, _ALERT, (_STATUS,),
        "It does not start because its settings are wrong.",
        "`hk-tickctl config` says what is wrong.",
    ),
    Explanation(
        Code.SERVICE_FAILED, _ALERT, (_STATUS,),
        "The service manager gave up on the unit.",
        "`hk-tickctl logs`, then start it.",
    ),
    Explanation(
        Code.SERVICE_OTHER_ROOT, _ALERT, (_STATUS,),
        "The service uses a data root other than the one that was examined.",
        "Name it with `--data-root`.",
    ),
    Explanation(
        Code.SERVICE_NOT_ENABLED, _NOTE, (_STATUS,),
        "The service does not start at boot.",
        "`systemctl enable` it.",
    ),
    Explanation(
        Code.DAY_FILE_UNREADABLE, _ALERT, (_STATUS,),
        "The newest day file cannot be read.",
        "The sentence says why: permissions, or damage (`hk-tickctl salvage`).",
    ),
    Explanation(
        Code.DAYS_TO_COME, _ALERT, (_STATUS,),
        "There are files for days in the future.",
        "Set the clock; if it is right, `scripts/repair_future_ts_ms.py` shows the ticks.",
    ),
    Explanation(
        Code.DISK_SILENT, _ALERT, (_STATUS,),
        "The file system of the data root does not answer.",
        "Look at `dmesg` and the mount.",
    ),
    Explanation(
        Code.DISK_FULL, _ALERT, (_STATUS, _RULES),
        "There is no room for another day.",
        "Archive days and let `hk-tickctl retain` delete them, or give it a larger disk.",
    ),
    Explanation(
        Code.DISK_FILLS_UP, _WARN, (_STATUS, _RULES),
        "The disk will be full in a few days.",
        "`hk-tickctl archive`, `hk-tickctl retain`.",
    ),
    Explanation(
        Code.UNIT_FAILED, (Level.ALERT, Level.WARN), (Teller.MANAGER,),
        "systemd gave up on a unit. For the end-of-day job this is a warning: a day has missing ticks, or was not "
        "archived.",
        "`journalctl -u UNIT` has the reason; for the end-of-day job, run `hk-tickctl day DAY`.",
    ),
    Explanation(
        Code.HOOK_SILENT, _WARN, (Teller.ALERT,),
        "A hook has received no signal for longer than the file of targets allows, in continuous trading.",
        "Look at the program that sends them, and for refusals in the API's log.",
    ),
    Explanation(
        Code.DAY_NOT_ARCHIVED, _WARN, (Teller.ALERT,),
        "A day ended six hours ago and is not archived, although earlier days are.",
        "`hk-tickctl eod` archives it or says why not; check that its timer is enabled.",
    ),
    Explanation(
        Code.COPY_BEHIND, _WARN, (Teller.SHIPPER,),
        "Stored ticks have not reached ClickHouse for five minutes, ClickHouse refuses them or the proof of a day, or "
        "hk-tick-ship is silent. Nothing is lost.",
        "What the sentence says; `journalctl -u hk-tick-ship` has more. Copying resumes by itself.",
    ),
    Explanation(
        Code.COPY_UNEQUAL, _WARN, (Teller.SHIPPER,),
        "A day cannot be read, or its copy in ClickHouse cannot be made equal to it.",
        "What the sentence says; then `hk-tickctl ship verify DAY` with hk-tick-ship stopped.",
    ),
)  # fmt: skip

EXPLANATIONS = {explanation.code: explanation for explanation in TABLE}


def told_by(teller: Teller) -> tuple[Code, ...]:
    """The codes that ``teller`` may speak, in the table's order."""
    return tuple(explanation.code for explanation in TABLE if teller in explanation.tellers)


def status_word(complaints: Sequence[Complaint]) -> tuple[str, str | None]:
    """``ok``, ``warn`` or ``alert``, and the sentence of the gravest (of equals the first). Notes change nothing."""
    for level in (Level.ALERT, Level.WARN):
        for complaint in complaints:
            if complaint.level is level:
                return level.value, complaint.sentence
    return "ok", None
