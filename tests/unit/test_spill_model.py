"""The spill against a model: any order of append, drain, death, torn tails, damage and a disk that refuses."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.ingest import frames, spill
from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.records.tick import Tick
from tests.nights import examples
from tests.unit.store_ticks import ticks


class SpillMachine(RuleBasedStateMachine):
    """``expected`` are the rows not acknowledged, in order.

    After a death rows of a half-drained segment may come again: then what is found must be ``expected`` with some of
    the rows acknowledged just before it in front.
    """

    def __init__(self) -> None:
        super().__init__()
        logging.getLogger(spill.__name__).setLevel(logging.CRITICAL)  # thousands of lines, all expected
        self.root = Path(tempfile.mkdtemp())
        self.acknowledged: list[Tick] = []
        self.expected: list[Tick] = []
        self.peeked: list[Tick] = []
        self.made_rows = 0
        self.found_at_start: set[Path] = set()

    @initialize(segment_bytes=st.sampled_from([1, 1500, 1 << 20]))
    def start(self, segment_bytes: int) -> None:
        self.segment_bytes = segment_bytes
        self.queue = SpillQueue(self.root, segment_bytes=segment_bytes)
        assert self.queue.open() == 0

    def segments(self) -> list[Path]:
        return sorted((self.root / "_spill").glob("*.spill"))

    def new_rows(self, count: int) -> list[Tick]:
        return ticks(count, first=self.made_rows + 1)

    @rule(count=st.sampled_from([1, 2, 7, 501]))
    def append(self, count: int) -> None:
        rows = self.new_rows(count)
        self.queue.append(rows)
        self.made_rows += count
        self.expected += rows

    @rule(count=st.sampled_from([1, 30]), written_bytes=st.integers(0, 300))
    def append_to_a_disk_that_refuses(self, count: int, written_bytes: int) -> None:
        """The disk takes some bytes and then no more."""

        def full(descriptor: int, data: bytes, offset: int) -> None:
            os.pwrite(descriptor, data[:written_bytes], offset)
            raise OSError(28, "No space left on device")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(spill, "_write_all", full)
            with pytest.raises(StoreUnavailable):
                self.queue.append(self.new_rows(count))

    @rule(max_rows=st.sampled_from([1, 3, 500, 10_000]))
    def peek(self, max_rows: int) -> None:
        self.peeked = self.queue.peek(max_rows)
        assert len(self.peeked) <= max_rows
        assert self.peeked == self.expected[: len(self.peeked)]
        assert bool(self.peeked) == bool(self.expected)

    @rule()
    def ack(self) -> None:
        assert self.queue.ack() == len(self.peeked)
        self.acknowledged += self.peeked
        del self.expected[: len(self.peeked)]
        self.peeked = []

    @rule(torn=st.booleans(), cut=st.integers(1, 400), clean=st.booleans())
    def die_and_start_again(self, torn: bool, cut: int, clean: bool) -> None:
        if clean:
            self.queue.close()
        if torn:  # an append that death cut short; a process appends only to segments of its own
            own = [path for path in self.segments() if path not in self.found_at_start]
            numbers = [int(path.name[:16]) for path in self.segments()]
            path = own[-1] if own else self.root / "_spill" / f"{max(numbers, default=0) + 1:016d}.spill"
            path.parent.mkdir(exist_ok=True)
            with path.open("ab") as file:
                frame = frames.encode(self.new_rows(3))
                file.write(frame[: min(cut, len(frame) - 1)])
        self.found_at_start = set(self.segments())
        self.queue = SpillQueue(self.root, segment_bytes=self.segment_bytes)
        found_rows = self.queue.open()
        again = found_rows - len(self.expected)
        assert again >= 0
        if again:
            assert again <= len(self.acknowledged)
            self.expected = self.acknowledged[-again:] + self.expected
            del self.acknowledged[-again:]
        self.peeked = []
        assert self.queue.damaged_segments == 0

    @precondition(lambda self: self.segments() and self.expected and not self.peeked)
    @rule(which=st.integers(0, 10), where=st.floats(0, 1, exclude_max=True), restart=st.booleans())
    def damage_a_byte(self, which: int, where: float, restart: bool) -> None:
        """At most the rows of one frame are gone; the others stay in order. The rest of the run begins anew."""
        filled = [path for path in self.segments() if path.stat().st_size]
        path = filled[which % len(filled)]
        data = bytearray(path.read_bytes())
        frames = list(spill.walk(bytes(data)))
        hit = int(where * len(data))
        data[hit] ^= 0x55
        path.write_bytes(data)
        lost_rows = next(frame.rows for frame in frames if frame.start <= hit < frame.end)
        if restart:
            self.found_at_start = set(self.segments())
            self.queue = SpillQueue(self.root, segment_bytes=self.segment_bytes)
            self.queue.open()
        rows_read: list[Tick] = []
        while rows := self.queue.peek(100):
            rows_read += rows
            self.queue.ack()
        assert self.queue.rows == 0
        known = self.acknowledged + self.expected
        assert rows_read == sorted(rows_read, key=lambda row: row.ts_ms)
        assert set(rows_read) <= set(known)
        assert len(set(self.expected) - set(rows_read)) <= lost_rows
        self.acknowledged += self.expected
        self.expected = []

    @invariant()
    def counts_are_right(self) -> None:
        if hasattr(self, "queue"):
            assert self.queue.rows == len(self.expected)
            assert (self.queue.bytes > 0) or not self.expected

    def teardown(self) -> None:
        if hasattr(self, "queue"):
            self.queue.close()
        shutil.rmtree(self.root)
        logging.getLogger(spill.__name__).setLevel(logging.NOTSET)


SpillMachine.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=30, derandomize=True)
TestSpillModel = SpillMachine.TestCase
