"""CPU at rest: connected, 900 symbols subscribed, and a market that is closed.

    python -m benchmarks.idle

Polling is off, as it is by default outside market hours, so that the figure is the same at any hour of measurement.
What is left is the SDK's own tick (it wakes ten times a second), keep-alive, the state check every
CHECK_INTERVAL_SEC, and the timers of the loop.
"""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import rig
from tests.harness import Simulator, ended

SUNDAY_NIGHT = "2026-11-22T03:00:00"
WINDOW_SEC = 20.0
SHORT_WINDOW_SEC = 3.0
SETTLE_SEC = 2.0
AIM_PERCENT = 0.5
CLOSED: dict[str, Any] = {"FUTU_POLL_ENABLED": 0}


def measure(directory: Path, kind: str, window_sec: float) -> tuple[float, float, float]:
    """CPU percent of a core, context switches a second, and resident MiB of one program at rest."""
    with contextlib.ExitStack() as cleanup:
        simulator = Simulator(directory / "sim", "--symbols-count", rig.SYMBOLS_COUNT, "--start", SUNDAY_NIGHT)
        cleanup.enter_context(ended(simulator))
        collector = rig.Collector(kind, directory / "data", simulator.port, **CLOSED)
        cleanup.enter_context(ended(collector))
        collector.wait_subscribed()
        if kind == rig.RECORDER:
            collector.wait_for("backfill_done|backfill_skipped", timeout_sec=60)
        time.sleep(SETTLE_SEC)
        pid = collector.proc.pid
        begun_sec, begun_cpu_sec, begun_switches = time.monotonic(), rig.cpu_sec(pid), rig.context_switches(pid)
        time.sleep(window_sec)
        took_sec = time.monotonic() - begun_sec
        cpu_percent = (rig.cpu_sec(pid) - begun_cpu_sec) / took_sec * 100
        return cpu_percent, (rig.context_switches(pid) - begun_switches) / took_sec, rig.memory_mib(pid)[0]


def main(argv: list[str] | None = None) -> int:
    """Exit code 0: measured."""
    parser = rig.parser(str(__doc__).splitlines()[0])
    parser.add_argument("--window", type=float, default=WINDOW_SEC, metavar="SEC", help="how long each is watched")
    args = parser.parse_args(argv)
    rig.print_machine()
    rows: list[list[object]] = []
    with rig.workspace(args.keep) as directory:
        runs: dict[str, list[tuple[float, float, float]]] = {rig.RECORDER: [], rig.FLOOR: []}
        for number in range(1 if args.short else args.rounds):
            for kind, measured in runs.items():
                window_sec = SHORT_WINDOW_SEC if args.short else args.window
                measured.append(measure(directory / f"{kind}-{number}", kind, window_sec))
    rows += [[kind, *(median(values) for values in zip(*measured, strict=True))] for kind, measured in runs.items()]
    rows.append([f"aim: CPU {AIM_PERCENT} %", None, None, None])
    print(rig.table(["program", "CPU %", "switches/s", "RSS MiB"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
