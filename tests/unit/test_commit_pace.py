"""How often the persist worker commits: every 10 ms in a lively market, every 30 ms in a quiet one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from hk_tick_collector.core.facts import Fact
from hk_tick_collector.ingest.worker import COMMIT_INTERVAL_SEC, QUIET_COMMIT_INTERVAL_SEC, QUIET_ROWS_PER_SEC
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.write_result import WriteResult
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import DEADLINE_SEC
from tests.ticks import make_ticks
from tests.unit.test_worker import Bench, run

STEP_SEC = 0.005
QUIET_STEPS = 120  # 0.6 s when nothing else runs
FAST_COMMITS = 3
# So many commits in a row take 0.03 s at the lively pace and never less than 0.09 s at the quiet one: a machine that is
# busy for a while makes the test wait for it.
FAST_SEC = 0.08
# The rate is smoothed over the last batches: so many commits may pass until a market is known to be quiet again.
SETTLING_COMMITS = 15


class NotingWriter(DayFileWriter):
    """Notes when each commit began."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.began: list[float] = []

    def write(self, ticks: Sequence[Tick], facts: Sequence[Fact] = ()) -> WriteResult:
        self.began.append(time.monotonic())
        return super().write(ticks, facts)

    def fastest_sec(self) -> float:
        """The shortest time that ``FAST_COMMITS`` commits in a row took."""
        began = self.began[:]
        return min(
            (last - first for first, last in zip(began, began[FAST_COMMITS:], strict=False)), default=float("inf")
        )


class Market:
    """Puts ticks into the worker's queue in steps; on the worker's own loop, so that a stall puts no more of them."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.rows = 0

    async def step(self, rows: int) -> None:
        await asyncio.sleep(STEP_SEC)
        self.bench.queue.put(make_ticks(self.rows + 1, self.rows + rows))
        self.rows += rows

    async def stored(self) -> None:
        await self.bench.until(lambda: self.bench.progress.persisted_rows == self.rows, f"{self.rows} rows")


async def commits_of_a_quiet_market(bench: Bench, market: Market) -> tuple[int, float]:
    """Commits, and the seconds they had."""
    before, began = bench.progress.commits, time.monotonic()
    for _ in range(QUIET_STEPS):
        await market.step(1)
    await market.stored()
    return bench.progress.commits - before, time.monotonic() - began


def test_a_quiet_market_is_committed_every_thirty_milliseconds(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        commits, seconds = await commits_of_a_quiet_market(bench, Market(bench))
        assert 1 < commits <= seconds / QUIET_COMMIT_INTERVAL_SEC + 2, f"{commits} commits in {seconds:.3f} s"
        await bench.finish()
        assert bench.stored() == QUIET_STEPS

    assert 1 / STEP_SEC < QUIET_ROWS_PER_SEC
    run(scenario, tmp_path / "data", batch_rows=500)


def test_a_lively_market_is_committed_every_ten_milliseconds_until_it_is_quiet_again(tmp_path: Path) -> None:
    root = tmp_path / "data"
    writers: list[NotingWriter] = []

    def make_writer() -> DayFileWriter:
        writers.append(NotingWriter(root))
        return writers[-1]

    async def scenario(bench: Bench) -> None:
        market = Market(bench)
        began = time.monotonic()
        while not writers or writers[0].fastest_sec() > FAST_SEC:
            await market.step(10)
            assert time.monotonic() < began + DEADLINE_SEC, (
                f"{FAST_COMMITS} commits took {writers[0].fastest_sec():.3f} s at best"
            )
        await market.stored()
        seconds = time.monotonic() - began
        commits = bench.progress.commits
        assert commits <= seconds / COMMIT_INTERVAL_SEC + 2, f"{commits} commits in {seconds:.3f} s"

        commits, seconds = await commits_of_a_quiet_market(bench, market)
        most = seconds / QUIET_COMMIT_INTERVAL_SEC + SETTLING_COMMITS
        assert commits <= most, f"{commits} commits in {seconds:.3f} s after it became quiet"
        await bench.finish()
        assert bench.stored() == market.rows

    run(scenario, root, make_writer=make_writer, batch_rows=500)
