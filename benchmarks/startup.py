"""From the command to the first row, and what is resident then; with the time that each import takes.

    python -m benchmarks.startup

Seconds are those of this machine's clock from the start of the process: until the recorder says that it has started,
until OpenD has confirmed 900 symbols, and until the first row can be read. The second table is Python's own
``-X importtime`` of what the daemon imports, the dearest packages first.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import median

from benchmarks import rig
from tests.harness import clean_env, ended

PACKAGES_SHOWN = 12


def measure(directory: Path, kind: str) -> list[float]:
    """Seconds until started, subscribed, first row; CPU seconds until subscribed; resident MiB then."""
    with contextlib.ExitStack() as cleanup:
        simulator = rig.simulator(directory / "sim", "--rate", 1000)
        cleanup.enter_context(ended(simulator))
        begun_sec = time.monotonic()
        collector = rig.Collector(kind, directory / "data", simulator.port, BACKFILL_N=0, FUTU_POLL_ENABLED=0)
        cleanup.enter_context(ended(collector))
        reader = cleanup.enter_context(contextlib.closing(rig.RowReader(collector.data_root)))
        seconds = []
        for condition, awaited in (
            (lambda: collector.find("recorder_started|futu_subscribed"), "start"),
            (lambda: collector.find("futu_subscribed"), "subscription"),
        ):
            rig.wait_quickly(condition, awaited, collector)
            seconds.append(time.monotonic() - begun_sec)
        cpu_sec = rig.cpu_sec(collector.proc.pid)
        rig.wait_quickly(reader.rows, "row", collector)
        return [*seconds, time.monotonic() - begun_sec, cpu_sec, rig.memory_mib(collector.proc.pid)[0]]


def import_table(directory: Path) -> str:
    """Milliseconds of the daemon's imports by top-level package, what they import themselves not counted."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import hk_tick_collector.main, hk_tick_collector.app.daemon"],
        env=clean_env(directory / "home"), capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    own_us: Counter[str] = Counter()
    for self_us, name in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", done.stderr):
        own_us[name.partition(".")[0]] += int(self_us)
    total_us = sum(own_us.values())
    rows: list[list[object]] = [
        [name, us / 1000, f"{us / total_us:.0%}"] for name, us in own_us.most_common(PACKAGES_SHOWN)
    ]
    return rig.table(["package", "import ms", "share"], [*rows, ["all", total_us / 1000, "100%"]])


def main(argv: list[str] | None = None) -> int:
    """Exit code 0: measured."""
    args = rig.parser(str(__doc__).splitlines()[0]).parse_args(argv)
    rig.print_machine()
    rows: list[list[object]] = []
    with rig.workspace(args.keep) as directory:
        runs: dict[str, list[list[float]]] = {rig.RECORDER: [], rig.FLOOR: []}
        for number in range(1 if args.short else args.rounds):
            for kind, measured in runs.items():
                measured.append(measure(directory / f"{kind}-{number}", kind))
        for kind, measured in runs.items():
            rows.append([kind, *(median(values) for values in zip(*measured, strict=True))])
        print(rig.table(["program", "started s", "subscribed s", "first row s", "CPU s", "RSS MiB"], rows))
        print()
        print(import_table(directory))
    return 0


if __name__ == "__main__":
    sys.exit(main())
