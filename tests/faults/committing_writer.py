"""Commits ticks until it is killed; run by test_follow.py only.

python committing_writer.py DATA_ROOT FIRST_COUNTER

The highest counter whose commit has returned is printed, one a line.
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from hk_tick_collector.store.writer import DayFileWriter
from tests.ticks import make_ticks

ROWS = 40

if __name__ == "__main__":
    first = int(sys.argv[2])
    with closing(DayFileWriter(Path(sys.argv[1]))) as writer:
        while True:
            writer.write(make_ticks(first, first + ROWS - 1))
            first += ROWS
            print(first - 1, flush=True)
