"""Days that are over are held against their files as soon as the files are followed, with a real data root."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.facts import DayFact, Fact, Replayed
from hk_tick_collector.imports.stored import RecordedDays
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.records.tick import RejectedTick, Tick
from hk_tick_collector.sources.sierra import live
from hk_tick_collector.sources.sierra.live import SierraLink, SierraSource
from hk_tick_collector.sources.sierra.spec import CME
from hk_tick_collector.store.writer import DayFileWriter
from tests.scid_files import run_of, write_scid

SYMBOL, DAY = "CME.ESZ26", "20251118"
TIMEOUT_SEC = 20.0


class Stored:
    """A ``Sink`` that has stored what it was given when it returns. ``found``: the first day that equals its file."""

    def __init__(self, root: Path) -> None:
        self._writer = DayFileWriter(root)
        self._loop = asyncio.get_running_loop()
        self.found: asyncio.Future[Replayed] = self._loop.create_future()

    def push(self, messages: Sequence[Sequence[Tick]], *, replayed: bool = False) -> None:
        self._writer.write([tick for message in messages for tick in message], [])

    def reject(self, rejected: Sequence[RejectedTick]) -> None:
        raise AssertionError(rejected)

    def learn(self, facts: Sequence[Fact | DayFact]) -> None:
        (fact,) = facts
        assert isinstance(fact, Replayed)
        self._loop.call_soon_threadsafe(self.found.set_result, fact)

    def waiting_rows(self) -> int:
        return 0

    def changed(self, interrupted: bool = False) -> None:
        raise AssertionError("nothing was interrupted")


def test_the_first_look_is_no_period_after_the_first_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "CHECK_SEC", 3600.0)
    (tmp_path / "sierra").mkdir()
    market = market_of(CME.market)
    source = SierraSource(
        CME, tmp_path / "sierra", ((), ()), market, RecordedDays(tmp_path / "CME", 3), 10_000, SystemClock()
    )

    async def followed() -> Replayed:
        sink = Stored(tmp_path / "CME")
        link = SierraLink(source, sink)
        await link.open(TIMEOUT_SEC)
        try:
            write_scid(tmp_path / "sierra" / "ESZ26_FUT_CME.scid", run_of(market.day_bounds(DAY)[0] * 1000, 30))
            await link.subscribe([SYMBOL], TIMEOUT_SEC)
            return await asyncio.wait_for(sink.found, TIMEOUT_SEC)
        finally:
            link.close()

    found = asyncio.run(followed())
    assert (found.symbol, found.trading_day, found.ticks) == (SYMBOL, DAY, 30)
