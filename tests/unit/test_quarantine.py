"""The quarantine keeps every tick it is given or counts it, whatever the tick holds and whatever the disk does."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from hk_tick_collector.core.errors import RejectCode
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.ingest import quarantine as module
from hk_tick_collector.ingest.quarantine import Quarantine
from hk_tick_collector.market.hk.sessions import hk_date
from hk_tick_collector.records.tick import RejectedTick
from tests.ticks import make_tick

RECV_MS = 1_795_138_200_500  # 2026-11-20


class Bench:
    def __init__(self, root: Path, **options: int) -> None:
        self.progress = IngestProgress()
        self.quarantine = Quarantine(root, self.progress, hk_date, **options)
        self.quarantine.remember()
        self.path = root / "_quarantine" / "20261120.jsonl"

    def kept(self) -> list[dict[str, object]]:
        lines = self.path.read_bytes().decode("ascii").splitlines() if self.path.exists() else []
        return [entry for entry in map(json.loads, lines) if entry["code"] != "limit_reached"]

    def add(self, rows: int, **fields: object) -> None:
        self.quarantine.add([rejected(number=number, **fields) for number in range(rows)])


def rejected(
    code: RejectCode = RejectCode.TIME, reason: str = "time '??' is in no known form", **raw: object
) -> RejectedTick:
    return RejectedTick("HK.00700", reason, raw, RECV_MS, code)


def test_what_no_encoding_can_write_is_kept_as_ascii(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.add(1, time="\ud800 \x1b[2J 騰訊", odd=object(), much=float("inf"))
    bench.quarantine.add_refused([(make_tick(1, type_sign="\udfff", symbol="\ud800"), "refused")], RECV_MS)
    bench.quarantine.flush()
    first, second = bench.kept()
    assert first["raw"]["time"] == "\ud800 \x1b[2J 騰訊"  # type: ignore[index]
    assert (second["code"], second["symbol"]) == ("refused_by_sqlite", "\ud800")


def test_a_file_never_grows_beyond_its_bytes_and_every_tick_is_kept_or_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path, day_bytes=2_000)
    for again in range(50):
        bench.add(10, again=again)
        bench.quarantine.flush()
    assert 0 < len(bench.kept()) < 30
    assert len(bench.kept()) + bench.progress.quarantine_dropped_rows == 500
    assert bench.path.stat().st_size < 2_200
    assert bench.path.read_text().count("limit_reached") == 1
    assert sum("quarantine_full" in line for line in caplog.messages) == 1
    after_a_restart = Bench(tmp_path, day_bytes=2_000)
    after_a_restart.add(10, again=50)
    after_a_restart.quarantine.flush()
    assert after_a_restart.progress.quarantine_dropped_rows == 10
    assert bench.path.stat().st_size < 2_400


def test_what_an_answer_shows_again_each_time_is_kept_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path)
    for again in range(3):
        bench.quarantine.add([rejected(number=number)._replace(recv_ts_ms=RECV_MS + again) for number in range(5)])
        bench.quarantine.flush()
    bench.add(6)
    bench.quarantine.flush()
    assert [entry["raw"]["number"] for entry in bench.kept()] == [0, 1, 2, 3, 4, 5]  # type: ignore[index]
    assert (bench.progress.quarantined_rows, bench.progress.quarantine_known_rows) == (6, 15)
    caplog.clear()
    after_a_restart = Bench(tmp_path)
    after_a_restart.add(6)
    after_a_restart.quarantine.flush()
    assert len(bench.kept()) == 6
    assert after_a_restart.progress.quarantined_rows == 0
    assert not caplog.messages


def test_equal_ticks_of_one_answer_are_as_many(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for rows in (2, 3, 2):
        bench.quarantine.add([rejected()] * rows)
    bench.quarantine.flush()
    assert len(bench.kept()) == 3


@pytest.mark.parametrize("sequence", [7710057764856270497, 0])
def test_a_tick_with_a_sequence_is_one_on_whichever_way_it_is_told(tmp_path: Path, sequence: int) -> None:
    """A recorder may be stopped after the push, and be shown the tick by an answer after the restart."""
    way = '"recvTime": 1.5, "pushDataType": 9, '
    pushed = rejected(price="nan", sequence=sequence, time=way, recvTime=1795137712.181, pushDataType=1, hpVolume=1.0)
    shown = pushed._replace(raw={**pushed.raw, "recvTime": 0.0, "pushDataType": 3})
    other = shown._replace(raw={**shown.raw, "time": "another"})
    first = Bench(tmp_path)
    first.quarantine.add([pushed])
    first.quarantine.flush()
    after_a_restart = Bench(tmp_path)
    for tick in (shown, pushed, other):
        after_a_restart.quarantine.add([tick])
    after_a_restart.quarantine.flush()
    times = [(entry["raw"]["time"], entry["raw"]["pushDataType"]) for entry in first.kept()]  # type: ignore[index]
    without = [] if sequence else [(way, 3)]  # nothing tells that the two are one
    assert times == [(way, 1), *without, ("another", 3)]


def test_what_is_known_again_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_TICKS", 10)
    bench = Bench(tmp_path)
    for number in range(100):
        bench.add(1, again=number)
    assert len(bench.quarantine._told._young) + len(bench.quarantine._told._old) <= 20
    bench.add(1, again=95)
    assert bench.quarantine.waiting_rows == 100
    bench.quarantine.flush()
    monkeypatch.setattr(module, "REMEMBERED_BYTES", 1_000)
    after_a_restart = Bench(tmp_path)
    after_a_restart.add(1, again=99)
    after_a_restart.add(1, again=5)
    assert after_a_restart.quarantine.waiting_rows == 1, "the newest lines are known, the old ones beyond the limit not"


@pytest.mark.parametrize("obstacle", ["directory", "link", "fifo", "noise"])
def test_whatever_lies_where_a_quarantine_file_should_be_costs_no_start(tmp_path: Path, obstacle: str) -> None:
    path = tmp_path / "_quarantine" / "20261119.jsonl"
    path.parent.mkdir()
    if obstacle == "directory":
        path.mkdir()
    elif obstacle == "link":
        path.symlink_to("/dev/zero")
    elif obstacle == "fifo":
        os.mkfifo(path)
    else:
        path.write_bytes(bytes(range(256)) * 100)
    bench = Bench(tmp_path)
    bench.add(2)
    bench.quarantine.flush()
    assert len(bench.kept()) == 2


def test_a_day_at_its_limit_leaves_room_for_the_next_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path, day_bytes=300)
    bench.add(10)
    bench.quarantine.flush()
    bench.quarantine.add([rejected()._replace(recv_ts_ms=RECV_MS + 86_400_000)])
    bench.quarantine.flush()
    assert (tmp_path / "_quarantine" / "20261121.jsonl").exists()


def test_memory_is_bounded_in_rows_and_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING_ROWS", 100)
    bench = Bench(tmp_path)
    bench.add(150)
    assert (bench.quarantine.waiting_rows, bench.progress.quarantine_dropped_rows) == (100, 50)
    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 10_000)
    bench = Bench(tmp_path)
    bench.add(90, time="x" * 5_000_000)
    waiting = bench.quarantine.waiting_rows
    assert 10 < waiting < 30
    assert bench.progress.quarantine_dropped_rows == 90 - waiting


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), UnicodeEncodeError("utf-8", "", 0, 1, "odd"), RuntimeError("odd")]
)
def test_no_failure_gets_out_and_what_was_taken_goes_back_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(tmp_path)
    bench.add(5)

    def refuse(*_: object) -> int:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        bench.quarantine.flush()
        bench.quarantine.add([rejected(number=5)])
        assert bench.quarantine.waiting_rows == 6
        assert not bench.quarantine.due, "the disk gets its time"
    bench.quarantine.flush()
    assert [entry["raw"]["number"] for entry in bench.kept()] == [0, 1, 2, 3, 4, 5]  # type: ignore[index]
    assert bench.progress.quarantine_dropped_rows == 0
    assert "quarantine_unwritable" in caplog.text


def test_a_disk_that_takes_half_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(tmp_path)
    pwrite, calls = os.pwrite, 0

    def half_once(descriptor: int, data: bytes, offset: int) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(28, "No space left on device")
        return pwrite(descriptor, data[: len(data) // 2] if calls == 1 else data, offset)

    monkeypatch.setattr(os, "pwrite", half_once)
    bench.add(3)
    bench.quarantine.flush()
    assert bench.path.stat().st_size == 0
    bench.quarantine.flush()
    assert len(bench.kept()) == 3


def test_a_line_torn_by_a_kill_costs_itself_alone(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.path.parent.mkdir(parents=True)
    bench.path.write_text('{"recv_ts_ms": 1, "sym')
    bench.add(2)
    bench.quarantine.flush()
    assert len(bench.path.read_text().splitlines()) == 3
    assert [json.loads(line)["code"] for line in bench.path.read_text().splitlines()[1:]] == ["time", "time"]


def test_a_stop_says_what_is_in_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "_quarantine").write_text("a file in the way")
    bench = Bench(tmp_path)
    bench.add(7)
    bench.quarantine.flush()
    bench.quarantine.close()
    assert bench.progress.quarantine_dropped_rows == 7
    (full_line,) = [line for line in caplog.messages if line.startswith("quarantine_full")]
    assert "before the stop" in full_line
    assert "dropped_rows=7" in full_line


def test_a_flood_is_one_line_for_each_kind_of_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(tmp_path)
    for number in range(5_000):
        code = RejectCode.PRICE if number % 2 else RejectCode.TIME
        bench.quarantine.add([rejected(code, reason=f"price {-number - 0.01} is not a number " + "x" * 100_000)])
    lines = [line for line in caplog.messages if line.startswith("tick_quarantined")]
    assert len(lines) == 2
    assert max(map(len, lines)) < 700
    assert all(record.levelno == logging.WARNING for record in caplog.records if "tick_quarantined" in record.msg)
