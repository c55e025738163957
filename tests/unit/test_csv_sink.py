"""The worked example of "Adding a sink" in CONTRIBUTING.md: killed and started again, its file has every tick once."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import wait_until
from tests.ticks import DAY, make_ticks

ROOT = Path(__file__).resolve().parents[2]
SINK = ROOT / "docs" / "examples" / "csv_sink.py"


def start(data_root: Path, target: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, SINK, data_root, target], stderr=subprocess.PIPE, text=True)


def kill(sink: subprocess.Popen[str]) -> str:
    sink.send_signal(signal.SIGKILL)
    return sink.communicate()[1]


def rows(target: Path) -> list[dict[str, str]]:
    if not target.exists():
        return []
    with target.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_sink_that_is_killed_has_every_tick_once(tmp_path: Path) -> None:
    data_root, target = tmp_path / "data", tmp_path / "ticks.csv"
    with closing(DayFileWriter(data_root)) as writer:
        last = 0
        for _ in range(3):
            sink = start(data_root, target)
            try:
                first, last = last + 1, last + 200
                writer.write(make_ticks(first, last))
                wait_until(lambda: len(rows(target)) >= last, f"{last} rows in the CSV file")  # noqa: B023
            finally:
                stderr = kill(sink)
            assert stderr == ""
            with target.open("a") as file:
                file.write("torn,row")  # as by a kill in the middle of a write
        sink = start(data_root, target)
        try:
            writer.write(make_ticks(last + 1, last + 1))
            wait_until(lambda: "torn" not in target.read_text() and len(rows(target)) > last, "the last row")
        finally:
            kill(sink)
    assert [row["seq"] for row in rows(target)] == [str(tick.seq) for tick in make_ticks(1, last + 1)]


def test_a_position_that_fits_no_more_ends_the_sink_with_a_sentence(tmp_path: Path) -> None:
    data_root, target = tmp_path / "data", tmp_path / "ticks.csv"
    with closing(DayFileWriter(data_root)) as writer:
        writer.write(make_ticks(1, 5))
        sink = start(data_root, target)
        try:
            wait_until((tmp_path / "ticks.position").exists, "a position")
        finally:
            kill(sink)
        writer.set_aside(DAY, "a test")
        writer.write(make_ticks(6, 20))
    sink = start(data_root, target)
    assert f"the day file of {DAY} was exchanged" in sink.communicate(timeout=30)[1]
    assert sink.returncode == 1
