"""Runs archive jobs in forked children and kills them: at a chosen step in the file system, or after a random time.

Started as a program by test_archive_kills.py. Each line of its input is a JSON object ``{"job", "data", "archive",
"day", "kinds", "step", "after_sec"}``; the answer is ``{"ended", "steps", "error"}``: the child's exit status (-9 when
it was killed) and how many steps it took. Everything is imported once, so that a hundred kills take seconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from hk_tick_collector.archive import atomic, pack, restore, retain
from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK

NOW_MS = 1_764_579_600_000  # 2025-12-01 17:00 in Hong Kong
STEPS = frozenset({"open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.truncate", "sqlite3.connect"})


class _Steps:
    """Counts what touches the file system; kills at the chosen count."""

    def __init__(self, kill_at: int | None) -> None:
        self.count = 0
        self.kill_at = kill_at
        sys.addaudithook(self.hook)

    def hook(self, name: str, _: Any) -> None:
        if name in STEPS:
            self.count += 1
            if self.count == self.kill_at:
                os.kill(os.getpid(), signal.SIGKILL)


def run(order: dict[str, Any], calendar: TradingCalendar) -> None:
    """One job as the commands do it."""
    data, archive, day = Path(order["data"]), Path(order["archive"]), order["day"]
    with atomic.only_job(archive), atomic.only_job(data, restore.LOCK_FILE):
        pack.tidy(archive)
        restore.tidy(data)
        if order["job"] == "archive":
            pack.archive_day(data, archive, day, order["kinds"], made_at_ms=NOW_MS)
        elif order["job"] == "restore":
            restore.restore_day(archive, day, data, now_ms=NOW_MS)
        else:
            verdict = retain.retain_day(data, archive, day, calendar, NOW_MS)
            if verdict.action != "deleted":
                raise RecorderError(verdict.reason)


def child(order: dict[str, Any], calendar: TradingCalendar, answer: int) -> None:
    """In the forked process."""
    steps = _Steps(order.get("step"))
    error = None
    try:
        run(order, calendar)
    except Exception as exc:
        error = f"{type(exc).__name__}: {exc}"
    os.write(answer, json.dumps({"steps": steps.count, "error": error}).encode())
    os._exit(0 if error is None else 1)


def obey(order: dict[str, Any], calendar: TradingCalendar) -> dict[str, Any]:
    """Fork, wait or kill, and tell what became of it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        child(order, calendar, writing)
    os.close(writing)
    if order.get("after_sec") is not None:
        time.sleep(order["after_sec"])
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with os.fdopen(reading, "rb") as pipe:
        told = pipe.read()
    return {"ended": status, **(json.loads(told) if told else {"steps": None, "error": None})}


def main() -> None:
    calendar = TradingCalendar(HK)
    pa.array([0])  # given its first list, Arrow imports pandas: here, not in each child
    for line in sys.stdin:
        print(json.dumps(obey(json.loads(line), calendar)), flush=True)


if __name__ == "__main__":
    main()
