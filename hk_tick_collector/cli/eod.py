"""``hk-tick-eod``: report every trading day that is over and not yet reported. Made for a timer; run it at any time."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from hk_tick_collector import __version__
from hk_tick_collector.app.config import load_settings
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.quality import end_of_day

EXIT_FINE, EXIT_PROBLEM, EXIT_USAGE, EXIT_NO_DATA, EXIT_CONFIG = 0, 1, 2, 3, 78


def main(argv: Sequence[str] | None = None) -> int:
    """Exit codes: 0 fine (also when nothing was due), 1 a day misses ticks or something failed, 2 usage, 3 no day
    files at all, 78 configuration."""
    args = _parser().parse_args(argv)
    try:
        data_root = args.data_root or load_settings(args.env_file, os.environ).data_root
    except ConfigError as exc:
        print(f"hk-tick-eod: the configuration is wrong\n{exc}", file=sys.stderr)
        return EXIT_CONFIG
    if not any(data_root.glob("????????.db")):
        print(f"hk-tick-eod: no day files in {data_root}; is DATA_ROOT right?", file=sys.stderr)
        return EXIT_NO_DATA
    try:
        with end_of_day.only_one(data_root):
            return _report_due_days(data_root)
    except (end_of_day.AlreadyRunning, OSError) as exc:
        print(f"hk-tick-eod: {exc}", file=sys.stderr)
        return EXIT_PROBLEM


def _report_due_days(data_root: Path) -> int:
    now_ms = SystemClock().now_ms()
    calendar = TradingCalendar()
    days = end_of_day.due_days(data_root, calendar, now_ms)
    if not days:
        print("nothing is due: every day that is over has its report")
    fine = True
    for day in days:
        report = end_of_day.make_report(data_root, day, calendar.day_kind(day), now_ms)
        path = end_of_day.write_report(data_root, report)
        print(f"{report.sentence()} -> {path}")
        fine = fine and report.fine
    return EXIT_FINE if fine else EXIT_PROBLEM


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hk-tick-eod",
        description="Report the completeness of every trading day that is over and not yet reported.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--env-file", type=Path, help="settings file (default: .env in the working directory)")
    where.add_argument("--data-root", type=Path, help="directory of the day files, instead of the setting DATA_ROOT")
    parser.add_argument("--version", action="version", version=f"hk-tick-eod {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
