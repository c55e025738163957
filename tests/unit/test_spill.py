"""The spill on disk: exact values, all or nothing, order, and recovery from every kind of damage."""

from __future__ import annotations

import errno
import json
import os
import resource
import stat
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.errors import RowRefused, StoreUnavailable
from hk_tick_collector.ingest import frames, spill
from hk_tick_collector.ingest.frames import HEADER_BYTES, MAGIC, frame_at, walk
from hk_tick_collector.ingest.spill import FRAME_ROWS, SpillQueue
from hk_tick_collector.records.tick import Tick
from tests.clock import ManualClock
from tests.unit.store_ticks import OPEN_MS, tick, ticks


def queue(root: Path, **options) -> SpillQueue:
    made = SpillQueue(root, clock=ManualClock(OPEN_MS), **options)
    made.open()
    return made


def drain(spilled: SpillQueue, max_rows: int = 500) -> list[Tick]:
    rows: list[Tick] = []
    while batch := spilled.peek(max_rows):
        assert len(batch) <= max_rows
        rows += batch
        assert spilled.ack() == len(batch)
    return rows


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "_spill").iterdir())


def only_segment(root: Path) -> Path:
    (path,) = (root / "_spill").glob("*.spill")
    return path


def written(root: Path, *batches: list[Tick]) -> Path:
    """One segment with one frame a batch, closed."""
    spilled = queue(root)
    for batch in batches:
        spilled.append(batch)
    spilled.close()
    return only_segment(root)


def test_in_and_out_in_order(tmp_path):
    spilled = queue(tmp_path)
    spilled.append(ticks(700))
    spilled.append(ticks(3, first=701))
    assert spilled.rows == 703
    assert spilled.bytes == only_segment(tmp_path).stat().st_size
    assert drain(spilled, 100) == ticks(703)
    assert (spilled.rows, spilled.bytes) == (0, 0)
    assert names(tmp_path) == []


def test_new_rows_while_draining_come_last(tmp_path):
    spilled = queue(tmp_path)
    spilled.append(ticks(10))
    first = spilled.peek(4)
    spilled.append(ticks(5, first=11))
    assert spilled.ack() == 4
    assert first + drain(spilled) == ticks(15)
    spilled.append(ticks(2))
    assert drain(spilled) == ticks(2)


def test_peek_repeats_until_ack_and_ack_counts_once(tmp_path):
    spilled = queue(tmp_path)
    assert spilled.peek(5) == []
    assert spilled.ack() == 0
    spilled.append(ticks(10))
    assert spilled.peek(3) == spilled.peek(3) == ticks(3)
    assert spilled.ack() == 3
    assert spilled.ack() == 0
    assert spilled.peek(100) == ticks(7, first=4)
    assert spilled.rows == 7


def test_empty_append_writes_nothing(tmp_path):
    spilled = queue(tmp_path)
    spilled.append([])
    assert spilled.rows == 0
    assert not (tmp_path / "_spill").exists()


int64 = st.integers(-(1 << 63), (1 << 63) - 1)
any_text = st.none() | st.text(max_size=5)
any_ticks = st.builds(
    Tick,
    symbol=st.text(max_size=9), ts_ms=int64, price=st.none() | st.floats(allow_nan=False), volume=st.none() | int64,
    turnover=st.none() | st.floats(allow_nan=False), direction=any_text, seq=st.none() | int64, tick_type=any_text,
    push_type=st.text(max_size=3), trading_day=st.text(max_size=8), recv_ts_ms=int64, push_data_type=any_text,
    opend_recv_ts_ms=st.none() | int64, type_sign=any_text,
)  # fmt: skip


@given(rows=st.lists(any_ticks, min_size=1, max_size=4))
def test_every_value_comes_back_exactly(tmp_path_factory, rows):
    spilled = queue(tmp_path_factory.mktemp("spill"))
    spilled.append(rows)
    drained = drain(spilled)
    assert drained == rows
    assert [[type(value) for value in row] for row in drained] == [[type(value) for value in row] for row in rows]


def test_numbers_that_a_float_would_change(tmp_path):
    row = tick(1, seq=(1 << 63) - 1, volume=(1 << 53) + 1, price=0.1 + 0.2, turnover=float("inf"), type_sign="\ud800")
    spilled = queue(tmp_path)
    spilled.append([row, tick(2, price=float("nan"), turnover=-0.0)])
    first, second = drain(spilled)
    assert first == row
    assert second.price != second.price
    assert str(second.turnover) == "-0.0"


def test_after_a_restart_all_rows_are_there_in_order(tmp_path):
    first = queue(tmp_path, segment_bytes=2000)
    for n in range(1, 100, 10):
        first.append(ticks(10, first=n))
    del first  # neither closed nor synced: what a killed process leaves
    again = queue(tmp_path, segment_bytes=2000)
    assert again.rows == 100
    assert len(names(tmp_path)) > 3
    again.append(ticks(5, first=101))
    assert drain(again) == ticks(105)
    assert names(tmp_path) == []


def test_half_drained_segment_comes_again_from_its_start(tmp_path):
    first = queue(tmp_path, segment_bytes=1000)
    for n in range(1, 100, 10):
        first.append(ticks(10, first=n))
    taken = first.peek(10)
    first.ack()
    taken += first.peek(5)
    first.ack()
    rows = drain(queue(tmp_path))
    assert rows == ticks(100)[-len(rows) :]
    assert len(rows) >= 100 - len(taken)


def test_drained_segments_are_removed_one_by_one(tmp_path):
    spilled = queue(tmp_path, segment_bytes=1)
    for n in range(1, 6):
        spilled.append([tick(n)])
    for left in range(4, -1, -1):
        spilled.peek(500)
        spilled.ack()
        assert (len(names(tmp_path)), spilled.rows) == (left, left)


def test_segments_stay_near_their_size(tmp_path):
    spilled = queue(tmp_path, segment_bytes=100_000)
    for n in range(1, 5000, 100):
        spilled.append(ticks(100, first=n))
    sizes = [path.stat().st_size for path in (tmp_path / "_spill").iterdir()]
    assert max(sizes) < 100_000 + 100 * 400
    assert sum(sizes) == spilled.bytes
    assert all(size >= 100_000 for size in sorted(sizes)[1:])


def test_large_appends_are_cut_into_frames(tmp_path):
    data = written(tmp_path, ticks(FRAME_ROWS * 2 + 1)).read_bytes()
    assert [frame.rows for frame in walk(data)] == [FRAME_ROWS, FRAME_ROWS, 1]


def test_limit_refuses_whole_appends(tmp_path):
    spilled = queue(tmp_path, limit_bytes=5000)
    spilled.append(ticks(10))
    with pytest.raises(StoreUnavailable, match="limit of 5000 bytes"):
        spilled.append(ticks(50, first=11))
    spilled.append(ticks(2, first=11))
    assert drain(spilled) == ticks(12)


def test_files_are_closed_to_others(tmp_path):
    path = written(tmp_path, ticks(1))
    assert stat.S_IMODE(path.stat().st_mode) & 0o137 == 0
    assert stat.S_IMODE(path.parent.stat().st_mode) & 0o027 == 0


def test_row_that_cannot_be_written_refuses_the_append_and_leaves_nothing(tmp_path):
    spilled = queue(tmp_path)
    for bad in (tick(2, price=object()), tick(2, symbol="x" * (frames.MAX_PAYLOAD_BYTES + 1))):
        with pytest.raises(RowRefused, match="cannot be spilled"):
            spilled.append([tick(1), bad])
    assert spilled.rows == 0
    spilled.append([tick(1)])
    assert drain(spilled) == [tick(1)]


def test_rows_too_large_for_one_frame_get_several(tmp_path):
    large = [tick(n, tick_type="x" * 3_000_000) for n in range(1, 6)]
    spilled = queue(tmp_path)
    spilled.append(large)
    assert drain(spilled) == large


class FileSizeLimit:
    """The system refuses to make any file larger than ``size`` bytes: a full disk with a partial write before it."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __enter__(self) -> None:
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


def test_refused_append_leaves_no_part_of_itself(tmp_path):
    spilled = queue(tmp_path)
    spilled.append(ticks(10))
    size = spilled.bytes
    with FileSizeLimit(size + 1000):
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match=r"\.spill: File too large"):
                spilled.append(ticks(500, first=11))
            assert only_segment(tmp_path).stat().st_size == size
            assert spilled.rows == 10
        spilled.append(ticks(2, first=11))  # what fits goes in
    spilled.append(ticks(500, first=13))
    assert drain(spilled) == ticks(512)


def test_full_file_system_and_freed(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", mount], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("mounting a small tmpfs is not allowed here")
    try:
        ballast = mount / "ballast"
        ballast.write_bytes(b"x" * 200_000)
        spilled = queue(mount, segment_bytes=10_000)
        accepted: list[Tick] = []
        refusal = ""
        while not refusal:
            rows = ticks(50, first=len(accepted) + 1)
            try:
                spilled.append(rows)
                accepted += rows
            except StoreUnavailable as exc:
                refusal = str(exc)
        assert "free disk space" in refusal
        assert accepted
        assert spilled.rows == len(accepted)
        ballast.unlink()
        spilled.append(ticks(50, first=len(accepted) + 1))
        spilled.close()
        assert drain(queue(mount)) == ticks(len(accepted) + 50)
    finally:
        subprocess.run(["umount", mount], check=True)


def test_cut_that_fails_closes_the_segment_at_its_good_length(tmp_path, monkeypatch):
    spilled = queue(tmp_path)
    spilled.append(ticks(10))

    def refused(*_):
        raise OSError(5, "Input/output error")

    with FileSizeLimit(spilled.bytes + 1000), monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", refused)
        with pytest.raises(StoreUnavailable):
            spilled.append(ticks(500, first=11))
    spilled.append(ticks(5, first=11))
    assert len(names(tmp_path)) == 2
    assert spilled.rows == 15
    again = queue(tmp_path)
    assert (again.rows, again.torn_tails, again.damaged_bytes) == (15, 1, 0)
    assert drain(spilled) == ticks(15)


def test_directory_that_cannot_be_made(tmp_path):
    spilled = queue(tmp_path)
    (tmp_path / "_spill").write_text("a file")
    with pytest.raises(StoreUnavailable, match="_spill"):
        spilled.append(ticks(1))
    (tmp_path / "_spill").unlink()
    spilled.append(ticks(1))
    assert spilled.rows == 1


@pytest.mark.parametrize("keep", [1, 3, 4, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1, -1])
def test_torn_tail_is_passed_over_and_counted(tmp_path, caplog, keep):
    path = written(tmp_path, ticks(10), ticks(10, first=11))
    data = path.read_bytes()
    first = frame_at(data, 0)
    path.write_bytes(data[: first.end] + data[first.end :][:keep])
    spilled = queue(tmp_path)
    assert (spilled.rows, spilled.torn_tails, spilled.damaged_bytes) == (10, 1, 0)
    assert "spill_torn_tail" in caplog.text
    spilled.append(ticks(3, first=11))
    assert drain(spilled) == ticks(13)
    assert names(tmp_path) == []


def damage_magic(data: bytearray, frame: spill.Frame) -> None:
    data[frame.start] ^= 0xFF


def damage_version(data: bytearray, frame: spill.Frame) -> None:
    data[frame.start + 4] = 9


def damage_rows(data: bytearray, frame: spill.Frame) -> None:
    data[frame.start + 11] ^= 0x01


def damage_length_up(data: bytearray, frame: spill.Frame) -> None:
    data[frame.start + 13] ^= 0x7F


def damage_length_down(data: bytearray, frame: spill.Frame) -> None:
    data[frame.start + 14] = 0


def damage_crc(data: bytearray, frame: spill.Frame) -> None:
    data[frame.start + 16] ^= 0x10


def damage_payload(data: bytearray, frame: spill.Frame) -> None:
    data[frame.end - 3] ^= 0x04


def damage_all_zero(data: bytearray, frame: spill.Frame) -> None:
    data[frame.start : frame.end] = bytes(frame.end - frame.start)


def damage_missing_bytes(data: bytearray, frame: spill.Frame) -> None:
    del data[frame.start + 100 : frame.start + 150]


def damage_inserted_bytes(data: bytearray, frame: spill.Frame) -> None:
    data[frame.start : frame.start] = MAGIC * 7


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("when", ["before open", "after open"])
def test_damaged_frame_costs_only_itself(tmp_path, caplog, damage, when):
    path = written(tmp_path, *[ticks(10, first=n) for n in (1, 11, 21, 31)])
    if when == "after open":
        spilled = queue(tmp_path)
        assert spilled.rows == 40
    data = bytearray(path.read_bytes())
    damage(data, list(walk(bytes(data)))[1])
    path.write_bytes(data)
    if when == "before open":
        spilled = queue(tmp_path)
    kept = ticks(40) if damage is damage_inserted_bytes else [*ticks(10), *ticks(20, first=21)]
    if when == "before open":
        assert spilled.rows == len(kept)
        assert drain(spilled, 7) == kept
    else:  # a file that grew under us is read only as far as we wrote it
        assert set(drain(spilled, 7)) >= set(kept[:30])
    assert spilled.damaged_segments == 1
    assert spilled.damaged_bytes > 0
    assert spilled.rows == 0
    assert names(tmp_path) == [f"{path.name}.bad-20261120T013000.000Z"]
    assert (tmp_path / "_spill" / names(tmp_path)[0]).read_bytes() == data
    assert caplog.text.count("spill_damaged") >= 1
    assert queue(tmp_path).rows == 0


def test_last_frame_damaged_but_whole_is_damage_not_a_torn_tail(tmp_path):
    path = written(tmp_path, ticks(10), ticks(10, first=11))
    data = bytearray(path.read_bytes())
    damage_payload(data, list(walk(bytes(data)))[1])
    path.write_bytes(data)
    spilled = queue(tmp_path)
    assert (spilled.rows, spilled.torn_tails, spilled.damaged_segments) == (10, 0, 1)
    assert drain(spilled) == ticks(10)
    assert len(names(tmp_path)) == 1


def test_damage_behind_a_half_acknowledged_frame_keeps_the_count_right(tmp_path):
    path = written(tmp_path, ticks(10), ticks(10, first=11), ticks(10, first=21))
    spilled = queue(tmp_path)
    spilled.peek(4)
    spilled.ack()
    data = bytearray(path.read_bytes())
    damage_payload(data, list(walk(bytes(data)))[1])
    path.write_bytes(data)
    assert spilled.peek(100) == [*ticks(6, first=5), *ticks(10, first=21)]
    assert spilled.rows == 16
    spilled.ack()
    assert spilled.rows == 0


def test_damage_in_a_half_acknowledged_frame_does_not_eat_the_next(tmp_path):
    path = written(tmp_path, ticks(10), ticks(10, first=11))
    spilled = queue(tmp_path)
    spilled.peek(4)
    spilled.ack()
    data = bytearray(path.read_bytes())
    damage_payload(data, next(walk(bytes(data))))
    path.write_bytes(data)
    assert spilled.peek(100) == ticks(10, first=11)
    assert spilled.rows == 10


def test_a_segment_of_which_nothing_can_be_read_any_more_is_counted_no_longer(tmp_path):
    """Else the recorder would look for its rows for ever."""
    path = written(tmp_path, ticks(10))
    spilled = queue(tmp_path)
    assert (spilled.rows, spilled.due) == (10, True)
    data = bytearray(path.read_bytes())
    damage_payload(data, next(walk(bytes(data))))
    path.write_bytes(data)
    assert spilled.peek(100) == []
    assert (spilled.rows, spilled.bytes, spilled.due) == (0, 0, False)


def test_segment_goes_with_its_last_row_also_when_its_tail_is_torn(tmp_path):
    path = written(tmp_path, ticks(10))
    path.write_bytes(path.read_bytes() + MAGIC)
    spilled = queue(tmp_path)
    assert len(spilled.peek(10)) == spilled.ack() == 10
    assert names(tmp_path) == []


def test_garbage_only(tmp_path):
    (tmp_path / "_spill").mkdir()
    (tmp_path / "_spill" / f"{7:016d}.spill").write_bytes(os.urandom(100_000))
    spilled = queue(tmp_path)
    assert spilled.rows == 0
    assert names(tmp_path) == [f"{7:016d}.spill.bad-20261120T013000.000Z"]
    spilled.append(ticks(1))
    assert f"{8:016d}.spill" in names(tmp_path)


def test_segment_that_is_a_directory_is_set_aside(tmp_path, caplog):
    path = written(tmp_path, ticks(5))
    path.rename(path.with_name(f"{2:016d}.spill"))
    path.mkdir()
    spilled = queue(tmp_path)
    assert "spill_segment_set_aside" in caplog.text
    assert drain(spilled) == ticks(5)
    assert names(tmp_path) == [f"{path.name}.unreadable-20261120T013000.000Z"]


def test_other_files_in_the_directory_are_left_alone(tmp_path):
    (tmp_path / "_spill").mkdir()
    for name in ("notes.txt", "1.spill", f"{1:016d}.spill.bad-x"):
        (tmp_path / "_spill" / name).write_bytes(b"mine")
    spilled = queue(tmp_path)
    spilled.append(ticks(3))
    assert drain(spilled) == ticks(3)
    assert len(names(tmp_path)) == 3


def pass_time(monkeypatch, sec):
    later_sec = time.monotonic() + sec
    monkeypatch.setattr(spill.time, "monotonic", lambda: later_sec)


def test_segment_that_was_removed_under_us_does_not_stop_the_rest(tmp_path, caplog, monkeypatch):
    spilled = queue(tmp_path, segment_bytes=1)
    for n in (1, 2, 3):
        spilled.append([tick(n)])
    (tmp_path / "_spill" / names(tmp_path)[0]).unlink()
    assert drain(spilled) == ticks(2, first=2)
    assert "spill_segment_unreadable" in caplog.text
    assert (spilled.rows, spilled.due) == (1, False), "its file system may come back"
    monkeypatch.setattr(spill, "GONE_PATIENCE_SEC", 0)
    pass_time(monkeypatch, 100)
    assert (spilled.due, drain(spilled), spilled.rows) == (True, [], 0)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.EMFILE])
def test_segment_that_cannot_be_read_is_tried_again_while_those_behind_it_go_on(tmp_path, monkeypatch, caplog, number):
    spilled = queue(tmp_path, segment_bytes=1)
    for n in (1, 2):
        spilled.append([tick(n)])
    real = SpillQueue._read
    reads = 0

    def broken_disk(self, segment, max_rows):
        nonlocal reads
        if segment.path.name.startswith(f"{1:016d}"):
            reads += 1
            raise OSError(number, os.strerror(number))
        return real(self, segment, max_rows)

    with monkeypatch.context() as patch:
        patch.setattr(SpillQueue, "_read", broken_disk)
        assert drain(spilled) == [tick(2)]
        assert (spilled.rows, spilled.due, reads) == (1, False, 1), "not read again and again"
        pass_time(patch, spill.READ_RETRY_MIN_SEC * 1.2)
        assert spilled.due
        assert (spilled.peek(10), reads, spilled.due) == ([], 2, False)
    assert names(tmp_path) == [f"{1:016d}.spill"], "it keeps its name: a new start reads it, too"
    assert caplog.text.count("spill_segment_unreadable") == 1
    pass_time(monkeypatch, 1000)
    assert drain(spilled) == [tick(1)]
    assert names(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_segments_found_at_the_start_on_a_disk_that_stumbles_are_counted_later(tmp_path, monkeypatch, number):
    written(tmp_path, ticks(5))
    real = Path.open
    spilled = SpillQueue(tmp_path)

    def refuses(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", refuses)
        with pytest.raises(StoreUnavailable, match=os.strerror(number)):
            spilled.open()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuses)
        assert spilled.open() == 0
        assert not spilled.due
    assert Path.open is real
    pass_time(monkeypatch, 2)
    assert spilled.due
    assert drain(spilled) == ticks(5)
    assert (spilled.rows, spilled.due, names(tmp_path)) == (0, False, [])


def test_last_resort_needs_no_lock(tmp_path):
    """Another thread hangs in the disk and holds the lock: a process that ends still saves its rows."""
    spilled = queue(tmp_path)
    spilled.append(ticks(3))
    with spilled._lock:
        spilled.append_apart(ticks(600, first=4))
    spilled.append(ticks(1, first=604))
    again = queue(tmp_path)
    assert again.rows == 604
    assert sorted(drain(again), key=lambda row: row.seq) == ticks(604)


def test_a_full_segment_the_last_one_and_one_apart_are_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(
        spill.os, "fsync", lambda number: synced.append(str(Path(f"/proc/self/fd/{number}").readlink()))
    )
    spilled = queue(tmp_path, segment_bytes=1)
    spilled.append(ticks(1))
    spilled.append(ticks(1, first=2))
    segments = [str(tmp_path / "_spill" / name) for name in names(tmp_path)]
    assert [path for path in synced if path.endswith(".spill")] == segments[:1]
    spilled.close()
    assert [path for path in synced if path.endswith(".spill")] == segments
    spilled.append_apart(ticks(1, first=3))
    assert [path for path in synced if path.endswith(".spill")] == [
        str(tmp_path / "_spill" / name) for name in names(tmp_path)
    ]


def test_segment_that_cannot_be_removed_is_removed_later(tmp_path, monkeypatch):
    spilled = queue(tmp_path, segment_bytes=1)
    spilled.append([tick(1)])
    spilled.append([tick(2)])

    def refused(*_, **__):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        assert spilled.peek(1) == [tick(1)]
        spilled.ack()
        assert spilled.rows == 1
        assert len(names(tmp_path)) == 2
    assert drain(spilled) == [tick(2)]
    assert names(tmp_path) == []


def frame_of(content: object, rows: int = 1, version: int = 1) -> bytes:
    """A frame as another version of the program may write it."""
    payload = json.dumps(content).encode()
    prefix = MAGIC + bytes([version, 0, 0, 0]) + rows.to_bytes(4, "big") + len(payload).to_bytes(4, "big")
    return prefix + zlib.crc32(prefix + payload).to_bytes(4, "big") + payload


def test_frame_of_another_version_is_read_by_its_field_names(tmp_path):
    fields = [*reversed(Tick._fields), "added_later"]
    row = [*reversed(tick(1)), "x"]
    less = [name for name in Tick._fields if name != "type_sign"]
    short_row = [getattr(tick(2), name) for name in less]
    (tmp_path / "_spill").mkdir()
    (tmp_path / "_spill" / f"{1:016d}.spill").write_bytes(
        frame_of({"fields": fields, "rows": [row]}) + frame_of({"fields": less, "rows": [short_row]})
    )
    assert drain(queue(tmp_path)) == [tick(1), tick(2, type_sign=None)]


@pytest.mark.parametrize(
    "content", [[], {"rows": []}, {"fields": ["symbol"], "rows": [[1, 2]]}, {"fields": 1, "rows": 2}]
)
def test_valid_frame_with_a_payload_that_is_not_ours_is_damage(tmp_path, content):
    path = written(tmp_path, ticks(3))
    path.write_bytes(frame_of(content) + path.read_bytes())
    spilled = queue(tmp_path)
    assert drain(spilled) == ticks(3)
    assert spilled.damaged_segments == 1
    assert spilled.rows == 0
    assert len(names(tmp_path)) == 1


def test_killed_process_loses_nothing_that_append_returned_for(tmp_path):
    """A process is killed while it appends without pause; it prints how far it got."""
    code = (
        "from pathlib import Path; from hk_tick_collector.ingest.spill import SpillQueue\n"
        "from tests.unit.store_ticks import ticks\n"
        f"q = SpillQueue(Path({str(tmp_path)!r}), segment_bytes=50_000); q.open()\n"
        "for n in range(1, 10**9, 20):\n    q.append(ticks(20, first=n)); print(n + 19, flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        for _ in range(60):
            last = process.stdout.readline()
        process.kill()
        last = (process.stdout.read().splitlines() or [last])[-1]
    spilled = queue(tmp_path)
    rows = drain(spilled)
    assert spilled.damaged_bytes == 0
    assert rows == ticks(len(rows))
    assert len(rows) >= int(last)


def test_threads_may_append_and_drain_at_once(tmp_path):
    spilled = queue(tmp_path, segment_bytes=3000)
    symbols = ["HK.00001", "HK.00002", "HK.00003"]

    def fill(symbol):
        for n in range(1, 200, 4):
            spilled.append(ticks(4, first=n, symbol=symbol))

    threads = [threading.Thread(target=fill, args=(symbol,)) for symbol in symbols]
    for thread in threads:
        thread.start()
    rows: list[Tick] = []
    while any(thread.is_alive() for thread in threads) or spilled.rows:
        rows += spilled.peek(9)
        spilled.ack()
    for symbol in symbols:
        assert [row for row in rows if row.symbol == symbol] == ticks(200, symbol=symbol)
    assert len(rows) == 600


def test_only_what_was_stored_is_forgotten(tmp_path):
    """A thread that was given up comes back and looks again, after more rows came."""
    spilled = queue(tmp_path)
    spilled.append(ticks(3))
    stored = spilled.peek(100)
    spilled.append(ticks(4, first=4))
    spilled.peek(100)
    assert (spilled.ack(len(stored)), spilled.rows) == (0, 7)
    assert len(spilled.peek(100)) == spilled.ack(7) == 7
