"""Mutated frames and answers through the recorder's whole way in: cutter, mapper, continuity, queue, worker, files.

Whatever OpenD sends, nothing raises, every tick that could be decoded is in exactly one of day file, quarantine and the
count of what the quarantine's limit dropped, and the log stays small. ``FUZZ_FRAMES`` sets the number of frames
(20,000; nightly a million), ``FUZZ_SEED`` where they begin.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.core.errors import FeedError
from hk_tick_collector.core.progress import FeedProgress, IngestProgress
from hk_tick_collector.ingest.quarantine import Quarantine
from hk_tick_collector.ingest.queue import RecordQueue
from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.ingest.worker import PersistWorker, WorkerOptions
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import hk_date
from hk_tick_collector.sources.continuity import Continuity
from hk_tick_collector.sources.futu import sdk, spec  # noqa: F401 (sdk makes HOME before futu is imported)
from hk_tick_collector.sources.futu.frames_in import HEAD, FrameCutter, WireStats
from hk_tick_collector.sources.futu.link import FutuLink
from hk_tick_collector.sources.futu.mapping import TickMapper
from hk_tick_collector.sources.futu.push import PushHandler
from hk_tick_collector.sources.futu.spec import LIMITS
from hk_tick_collector.sources.intake import Intake
from hk_tick_collector.sources.plausible import PlausibleDays
from hk_tick_collector.sources.pull import TickPuller
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import day_files, prepare_data_root
from hk_tick_collector.store.writer import DayFileWriter
from tests.clock import ManualClock

from futu.common.pb import Qot_GetTicker_pb2, Qot_UpdateTicker_pb2  # isort: skip

FRAMES = int(os.environ.get("FUZZ_FRAMES", "20000"))
SEED = int(os.environ.get("FUZZ_SEED", "11"))
SLICE_FRAMES = 200
UPDATE_TICKER = 3011
OPENING_SEC = 1_795_138_200  # 2026-11-20 09:30:00 in Hong Kong
SYMBOLS = ("00700", "00005", "09988", "03690", "01299")
QUARANTINE_BYTES = 400_000  # so little that the limit is met
LINE_BYTES = 1_000  # on average

ODD_TEXTS = (
    "", "??", "9999-12-31 23:59:59.999", "0001-01-01 00:00:00", "2026-11-19 09:30:00", "2026-11-23 09:30:00.000",
    "2028-01-03 09:30:00", "093000", "09:30:00.250", "20261120093000", "2026-11-20 09:30:00:5", "\x1b[2J", "\0",
    "x" * 5_000, "2026-11-20 24:00:00", "騰訊",
)  # fmt: skip
ODD_FLOATS = (0.0, -1.0, 1e-300, 1e9, 1e15, 1e300, float("inf"), float("-inf"), float("nan"), 0.1, 2.0**63)
ODD_INTS = (0, -1, 1, 2**31 - 1, -(2**31), 2**32, 2**53 + 1, 2**62, 2**63 - 1, -(2**63), OPENING_SEC << 32)
ODD_ENUMS = (0, -1, 1, 6, 99, 2**31 - 1, -(2**31))
ODD_SIGNS = (0, 27, 32, 127, 0xD800, 0xDFFF, 0x10FFFF, 0x110000, -1, 2**31 - 1)
ODD_CODES = ("00001", "../../x", "", "\x1b[2J", "0070", "007000", "\0", "x" * 3_000, "00000")
_ODD: dict[str, tuple[Any, ...]] = {
    "time": ODD_TEXTS, "sequence": ODD_INTS, "dir": ODD_ENUMS, "price": ODD_FLOATS, "volume": ODD_INTS,
    "turnover": ODD_FLOATS, "recvTime": ODD_FLOATS, "type": ODD_ENUMS, "typeSign": ODD_SIGNS,
    "pushDataType": ODD_ENUMS, "timestamp": ODD_FLOATS, "hpVolume": ODD_FLOATS,
}  # fmt: skip


class Fuzzer:
    """Frames of a market, most of them mutated in one way."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self._counters = dict.fromkeys(SYMBOLS, 0)
        self._at_ms = OPENING_SEC * 1000

    def fill(self, body: Any, rows: int) -> None:
        """A security and ticks; some fields odd."""
        draw = self.draw
        code = draw.choice(SYMBOLS)
        odd_market, odd_code = draw.random() < 0.01, draw.random() < 0.02
        body.security.market = draw.choice((2, 11, 0)) if odd_market else 1
        body.security.code = draw.choice(ODD_CODES) if odd_code else code
        for _ in range(rows):
            self._at_ms += draw.randint(0, 40)
            self._counters[code] += 1 if draw.random() < 0.98 else draw.randint(-3, 5)
            self._tick(body.tickerList.add(), max(1, self._counters[code]))

    def _tick(self, message: Any, counter: int) -> None:
        second, ms = divmod(self._at_ms, 1000)
        clock = f"{9 + (second - OPENING_SEC + 1800) // 3600:02d}:{(second // 60 + 30 - OPENING_SEC // 60) % 60:02d}"
        message.time = f"2026-11-20 {clock}:{second % 60:02d}.{ms:03d}"
        message.sequence = second << 32 | counter
        message.dir, message.type, message.typeSign, message.pushDataType = 1, 1, 32, 1
        message.price, message.volume = 382.4, 100
        message.turnover = message.price * message.volume
        message.recvTime = message.timestamp = self._at_ms / 1000
        while self.draw.random() < 0.15:
            name = self.draw.choice(sorted(_ODD))
            value = self.draw.choice(_ODD[name])
            with contextlib.suppress(ValueError, TypeError):  # a number that the field has no room for
                setattr(message, name, value)

    def push(self) -> bytes:
        """A frame, right or not."""
        draw = self.draw
        message = Qot_UpdateTicker_pb2.Response(
            retType=0 if draw.random() < 0.99 else -1, retMsg="\x1b" * draw.choice((0, 9))
        )
        self.fill(message.s2c, draw.randint(1, 4))
        body = self._bitten(message.SerializePartialToString())
        sha1 = hashlib.sha1(body, usedforsecurity=False).digest()
        size, proto, form, magic = len(body), UPDATE_TICKER, 0, b"FT"
        way = draw.random()
        if way < 0.01:
            sha1 = bytes(20)
        elif way < 0.012:
            size = draw.choice((0, 2**31, 2**32 - 1, size + 7))
        elif way < 0.014:
            magic = b"XX"
        elif way < 0.02:
            proto = draw.choice((0, 1003, 3010, 2**32 - 1))
        elif way < 0.022:
            form = 1
        return HEAD.pack(magic, proto, form, 0, draw.randrange(2**32), size, sha1, bytes(8)) + body

    def answer(self, symbol: str) -> Any:
        """What ``get_rt_ticker`` got."""
        answer = Qot_GetTicker_pb2.S2C()
        self.fill(answer, self.draw.choice((0, 1, 5, 40)))
        answer.security.market, answer.security.code = 1, symbol
        with contextlib.suppress(Exception):  # no message any more: then the SDK refuses it
            return Qot_GetTicker_pb2.S2C.FromString(self._bitten(answer.SerializePartialToString()))
        return answer

    def _bitten(self, body: bytes) -> bytes:
        """A few bytes of it changed, removed or doubled, now and then."""
        if self.draw.random() > 0.1 or not body:
            return body
        data = bytearray(body)
        for _ in range(self.draw.randint(1, 4)):
            at = self.draw.randrange(len(data))
            way = self.draw.randrange(3)
            if way == 0:
                data[at] = self.draw.randrange(256)
            elif way == 1 and len(data) > 8:
                del data[at : at + self.draw.randint(1, 4)]
            else:
                data[at:at] = data[at : at + self.draw.randint(1, 8)]
        return bytes(data)


class Recorder:
    """Everything between the socket and the disk, on a real data root."""

    def __init__(self, root: Path) -> None:
        self.root = prepare_data_root(root)
        self.clock = ManualClock(OPENING_SEC * 1000)
        self.feed, self.ingest = FeedProgress(), IngestProgress()
        self.spill = SpillQueue(self.root)
        self.spill.open()
        self.quarantine = Quarantine(self.root, self.ingest, hk_date, day_bytes=QUARANTINE_BYTES)
        self.queue = RecordQueue(20_000, self.spill, self.ingest, self._wake)
        options = WorkerOptions(batch_rows=500, max_wait_sec=0.5, retry_min_sec=0.01, retry_max_sec=0.1)
        self.worker = PersistWorker(
            self.queue, self.spill, self.quarantine, lambda: DayFileWriter(self.root, SqliteOptions(), self.clock),
            options, self.ingest, ManualClock(OPENING_SEC * 1000),
        )  # fmt: skip
        self.continuity = Continuity(self.queue.put_facts, spec.HK)
        days = PlausibleDays(HK)
        intake = Intake(
            self.queue.put, self.quarantine.add, self.queue.put_facts, self.continuity, self.feed, self.clock, days,
            lambda: None, lambda: None,
        )  # fmt: skip
        self.push = PushHandler(intake, TickMapper(days), self.clock)
        self.push.wanted = frozenset(f"HK.{code}" for code in SYMBOLS)
        self.puller = TickPuller(
            self.queue.put, self.quarantine.add, self.continuity, self.feed, self.clock, LIMITS, days
        )
        self.mapper = TickMapper(days)
        self.decoded_ticks = self.not_new_ticks = 0
        self.broken_connections = 0
        self._connect()

    def _wake(self) -> None:
        self.worker.wake()

    def _connect(self) -> None:
        self._cutter = FrameCutter(UPDATE_TICKER, self._decode, lambda _frame: None, WireStats())

    def _decode(self, body: bytes) -> Any:
        return Qot_UpdateTicker_pb2.Response.FromString(body)

    def read(self, data: bytes) -> None:
        """Bytes as they come from the socket; what is no frame costs the connection."""
        pushes: list[Any] = []
        try:
            self._cutter.cut(data, pushes, encrypted=False)
        except FeedError:
            self.broken_connections += 1
            self._connect()
        self.decoded_ticks += sum(len(push.s2c.tickerList) for push in pushes if push.retType == 0)
        if pushes:
            self.push(pushes)

    async def pull(self, code: str, answer: Any) -> None:
        class Connection:
            lost = None

            async def recent_ticks(self, *_: object) -> Any:
                return answer

        connection: Any = Connection()
        rejected_rows = self.ingest.quarantined_rows + self.ingest.quarantine_known_rows
        before = self.ingest.in_rows + rejected_rows, self.feed.duplicate_rows
        await self.puller.pull(FutuLink(connection, self.mapper, self.clock), f"HK.{code}", 1000, "poll")
        new = self.ingest.in_rows + self.ingest.quarantined_rows + self.ingest.quarantine_known_rows - before[0]
        not_new = len(answer.tickerList) - new
        assert 0 <= not_new <= self.feed.duplicate_rows - before[1], "left out, and counted"
        self.decoded_ticks += len(answer.tickerList)
        self.not_new_ticks += not_new


@pytest.mark.timeout(120 + FRAMES // 50)
def test_every_tick_of_mutated_frames_is_stored_kept_or_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    recorder = asyncio.run(record(tmp_path / "data", Fuzzer(SEED)))
    ingest = recorder.ingest
    assert recorder.decoded_ticks > FRAMES
    assert recorder.broken_connections or FRAMES < 2_000

    stored = sum(map(rows_in, day_files(recorder.root)))
    quarantined = lines_in(recorder.root)
    assert stored == ingest.persisted_rows
    assert quarantined == ingest.quarantined_rows - ingest.quarantine_dropped_rows
    known = ingest.ignored_rows + ingest.quarantine_known_rows + recorder.not_new_ticks  # the same tick once more
    assert stored + known + quarantined + ingest.quarantine_dropped_rows == recorder.decoded_ticks
    assert ingest.quarantine_dropped_rows or FRAMES < 20_000
    assert stored > recorder.decoded_ticks / 2, "most of them are whole"
    assert (ingest.write_errors, ingest.refused_rows, recorder.spill.rows) == (0, 0, 0)

    files = list((recorder.root / "_quarantine").iterdir())
    assert sum(path.stat().st_size for path in files) <= QUARANTINE_BYTES + 1_000
    assert len(day_files(recorder.root)) < 40
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} <= {
        recorder.root, recorder.root / "_quarantine", recorder.root / "_spill",
    }  # fmt: skip
    texts = [record.getMessage() for record in caplog.records]
    # A line of each kind every ten seconds, and of each connection; FRAMES / 10,000 is far more than it takes seconds.
    lines_at_most = 300 + FRAMES // 100 + 3 * recorder.broken_connections
    assert len(texts) < lines_at_most, most_common(texts)
    assert sum(map(len, texts)) < lines_at_most * LINE_BYTES, most_common(texts)
    assert all(text.isprintable() for text in texts)


async def record(root: Path, fuzzer: Fuzzer) -> Recorder:
    recorder = Recorder(root)
    task = asyncio.create_task(recorder.worker.run())
    for begin in range(0, FRAMES, SLICE_FRAMES):
        data = b"".join(fuzzer.push() for _ in range(SLICE_FRAMES))
        step = fuzzer.draw.randint(100, 9_000)
        for at in range(0, len(data), step):
            recorder.read(data[at : at + step])
        code = fuzzer.draw.choice(SYMBOLS)
        await recorder.pull(code, fuzzer.answer(code))
        recorder.clock.advance(SLICE_FRAMES * 0.05)
        await drained(recorder, task)
        assert not task.done(), f"the worker ended after {begin} frames: {task.exception()!r}"
    recorder.worker.flush()
    await asyncio.wait_for(task, 60)
    await recorder.worker.close()
    recorder.spill.close()
    return recorder


async def drained(recorder: Recorder, task: asyncio.Task[None]) -> None:
    """Wait until the queue has room again, as the network thread does."""
    while recorder.queue.rows > 5_000 and not task.done():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0)


def rows_in(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as conn:
        assert conn.execute("PRAGMA quick_check").fetchone() == ("ok",)
        symbols = {symbol for (symbol,) in conn.execute("SELECT DISTINCT symbol FROM ticks")}
        assert symbols <= {f"HK.{code}" for code in SYMBOLS}, "of codes that nobody asked for"
        return int(conn.execute("SELECT COUNT(*) FROM ticks").fetchone()[0])


def lines_in(root: Path) -> int:
    lines = [line for path in (root / "_quarantine").iterdir() for line in path.read_bytes().splitlines()]
    return sum(json.loads(line.decode("ascii"))["code"] != "limit_reached" for line in lines)


def most_common(texts: list[str]) -> str:
    words: dict[str, int] = {}
    for text in texts:
        words[text.split()[0]] = words.get(text.split()[0], 0) + 1
    return str(sorted(words.items(), key=lambda entry: -entry[1])[:8])
