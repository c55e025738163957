"""A real writer commits while a follower follows; it is killed and goes on, again and again, and so is the follower.

KILLS=200 makes a long night of it.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from hk_tick_collector.records.tick import seq_counter
from hk_tick_collector.store.follow import Follower
from hk_tick_collector.store.position import ROW, Position
from tests.harness import DEADLINE_SEC, Process, clean_env
from tests.nights import every_test

KILLS = int(os.environ.get("KILLS", "5" if every_test() else "3"))
SEED = int(os.environ.get("KILLS_SEED", "11"))
ROOT = Path(__file__).resolve().parents[2]
WRITER = Path(__file__).with_name("committing_writer.py")
SEQ = ROW.index("seq")


def test_every_row_is_followed_once_over_kills_of_the_writer(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    data_root, seen, position = tmp_path / "data", list[int](), Position()
    for kill in range(KILLS):
        first = len(seen) + 1
        writer = Process([sys.executable, WRITER, data_root, first], clean_env(tmp_path / "home", PYTHONPATH=ROOT))
        try:
            with Follower(data_root, days_look_sec=0) as follower:
                kill_at = first + rng.randrange(40, 4000)
                deadline = time.monotonic() + DEADLINE_SEC
                while len(seen) < kill_at:
                    assert time.monotonic() < deadline, writer.output
                    position = read(follower, position, seen, kill_at)
                writer.signal(signal.SIGKILL)
                assert writer.wait() == -signal.SIGKILL, writer.output
                if rng.random() < 0.5:  # the same follower reads on, or the next one does
                    position = read(follower, position, seen)
        finally:
            writer.end()
        with Follower(data_root, days_look_sec=0) as follower:
            position = read(follower, Position.parse(str(position)), seen)
        committed = max(int(line) for line in writer.lines if line.isdigit())
        assert seen == list(range(1, len(seen) + 1)), f"kill {kill} with seed {SEED}"
        assert len(seen) >= committed, f"kill {kill} with seed {SEED}"


def read(follower: Follower, position: Position, seen: list[int], enough: int | None = None) -> Position:
    """All that is behind the position now; with a writer that is faster, until there are ``enough``."""
    while (enough is None or len(seen) < enough) and (batch := follower.read_behind(position, 100)) is not None:
        seen += [seq_counter(row[SEQ]) for row in batch.rows]
        position = batch.position
    return position
