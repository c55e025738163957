"""kill -9 again and again while rows are spilled and stored. KILLS=200 makes a long night of it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import sys
import time
from pathlib import Path

from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.records.tick import seq_counter
from tests.harness import Process, clean_env, wait_until
from tests.nights import every_test
from tests.ticks import DAY

KILLS = int(os.environ.get("KILLS", "8" if every_test() else "3"))
SEED = int(os.environ.get("KILLS_SEED", "11"))
ROOT = Path(__file__).resolve().parents[2]
WRITER = Path(__file__).with_name("spilling_writer.py")


def test_no_kill_loses_a_row_that_was_on_disk(tmp_path: Path) -> None:
    """Every row whose append returned is in the day file or still in the spill, whenever the process died."""
    rng = random.Random(SEED)
    data_root, first = tmp_path / "data", 1
    for kill in range(KILLS):
        writer = Process([sys.executable, WRITER, data_root, first], clean_env(tmp_path / "home", PYTHONPATH=ROOT))
        try:
            wait_until(lambda: len(writer.lines) > 5, f"rows are spilled\n{writer.output}")  # noqa: B023
            time.sleep(rng.uniform(0, 0.3))
            writer.signal(signal.SIGKILL)
            assert writer.wait() == -signal.SIGKILL, writer.output
        finally:
            writer.end()
        safe = max(int(line) for line in writer.lines if line.isdigit())
        missing = set(range(1, safe + 1)) - on_disk(data_root)
        assert not missing, f"kill {kill} with seed {SEED}: {sorted(missing)[:20]}"
        first = safe + 1


def on_disk(data_root: Path) -> set[int]:
    """Counters that a next start would find, in the day file and in the spill."""
    counters: set[int] = set()
    with (
        contextlib.closing(sqlite3.connect(data_root / f"{DAY}.db")) as conn,
        contextlib.suppress(sqlite3.OperationalError),  # killed before its first commit
    ):
        counters.update(seq_counter(seq) for (seq,) in conn.execute("SELECT seq FROM ticks"))
    spill = SpillQueue(data_root)
    spill.open()
    for path in list(spill._segments):
        counters.update(seq_counter(tick.seq or 0) for tick in spill._read(path, 1 << 30)[0])
    return counters
