"""The example in the docstring is a source: through the real queue, spill, worker and writer into a day file."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.core.errors import FeedLost
from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.core.facts import DayFact, Fact
from hk_tick_collector.records.tick import RejectedTick, Tick
from hk_tick_collector.records.views import number_equal_ticks
from hk_tick_collector.sources import registry, source
from hk_tick_collector.sources.completeness import completeness_of
from hk_tick_collector.sources.details import noted
from hk_tick_collector.sources.futu.markets import MARKETS
from hk_tick_collector.sources.pulled import Answer
from hk_tick_collector.sources.source import Identity, Link, PullLimits, Sink, Source, SourceSpec, choose
from hk_tick_collector.store import reader
from hk_tick_collector.store.writer import DayFileWriter
from tests.ticks import DAY, make_ticks
from tests.unit.test_worker import Bench


def example() -> type[Any]:
    """``Tape`` as the docstring has it."""
    text = (source.__doc__ or "").partition("store::\n\n")[2]
    names = {**vars(source), "asyncio": asyncio, "FeedLost": FeedLost}
    exec(textwrap.dedent(text), names)
    return names["Tape"]


class QueueSink:
    """What a recorder gives a source to hand to."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def push(self, messages: Sequence[Sequence[Tick]]) -> None:
        for ticks in messages:
            self._bench.queue.put_patiently(ticks)

    def reject(self, rejected: Sequence[RejectedTick]) -> None:
        self._bench.quarantine.add(rejected)

    def learn(self, facts: Sequence[Fact | DayFact]) -> None:
        self._bench.queue.put_facts(facts)

    def changed(self, interrupted: bool = False) -> None:
        raise AssertionError("a tape says nothing of itself")


def test_the_example_is_recorded(tmp_path: Path) -> None:
    ticks = [*make_ticks(1, 300), *make_ticks(1, 20, "HK.00005"), *make_ticks(1, 7, "HK.09999")]

    async def go() -> None:
        bench = Bench(tmp_path / "data")
        sink: Sink = QueueSink(bench)
        tape: Source = example()(ticks)
        link: Link = tape.open(sink)
        await link.open(1)
        assert (await link.ready(1)).serving
        await link.subscribe(["HK.00700", "HK.00005"], 1)
        assert (await link.subscribed(1)).symbols == {"HK.00700", "HK.00005"}
        pulled = await link.pull("HK.00700", 100, "poll", 1)
        assert [tick.seq for tick in pulled.ticks] == [tick.seq for tick in ticks[200:300]]
        bench.queue.put(pulled.ticks)
        sink.learn([noted(info, DAY, 1) for info in await link.describe(["HK.00700"])])
        link.close()
        link.close()
        assert await link.lost == "closed"
        await bench.finish()
        assert bench.progress.ignored_rows == 100

    asyncio.run(go())
    stored = {row.symbol: row.stored_ticks for row in reader.coverage(tmp_path / "data" / f"{DAY}.db")}
    assert stored == {"HK.00700": 300, "HK.00005": 20}
    assert [(row.symbol, row.unit) for row in reader.symbol_rows(tmp_path / "data" / f"{DAY}.db")] == [
        ("HK.00700", "shares")
    ]


def test_the_example_says_when_it_cannot_be_opened() -> None:
    async def go() -> None:
        with pytest.raises(FeedLost, match="empty"):
            await example()([]).open(None).open(1)

    asyncio.run(go())


def spec(provider: str, market: str) -> SourceSpec:
    return SourceSpec(provider, market, Identity.SEQUENCE, EvidenceLevel.ID, PullLimits(0))


@pytest.mark.parametrize(
    ("provider", "market", "problem"),
    [
        ("tape", "HK", "SOURCE=tape is unknown: there is futu or sierra"),
        ("futu", "CME", "SOURCE=futu does not offer MARKET=CME: it offers HK or US"),
        ("sierra", "HK", "SOURCE=sierra does not offer MARKET=HK: it offers CME"),
        ("futu", "MOON", "MARKET=MOON is unknown: SOURCE=futu offers HK or US"),
        ("futu", "US", ""),
    ],
)
def test_what_is_not_offered_is_said_with_the_choices(provider: str, market: str, problem: str) -> None:
    offered = [spec("futu", "HK"), spec("futu", "US"), spec("sierra", "CME")]
    choice = choose(provider, market, offered)
    assert choice.problem == problem
    assert (choice.spec is None) is bool(problem)


def test_every_source_is_offered_once_and_says_what_it_can_prove() -> None:
    names = [spec.name for spec in registry.OFFERED]
    assert len(set(names)) == len(names)
    assert {spec.name: spec.evidence for spec in registry.OFFERED}["futu HK"] is EvidenceLevel.COUNTER
    for offered in registry.OFFERED:
        if offered.pull.surely_all_rows:
            assert offered.pull.surely_all_rows <= offered.pull.newest_rows


@pytest.mark.parametrize("level", list(EvidenceLevel))
def test_every_level_has_a_strategy(tmp_path: Path, level: EvidenceLevel) -> None:
    """Twice shown, each tick is stored once; only what counts can have a gap, and nothing is proven by a name."""
    spec = SourceSpec("tape", "HK", Identity.SEQUENCE, level, PullLimits(newest_rows=1000, surely_all_rows=950))
    told = make_ticks(1, 40)
    if level is EvidenceLevel.NONE:
        told = number_equal_ticks(tick._replace(seq=None) for tick in told)
    facts: list[Fact] = []
    completeness = completeness_of(spec, facts.extend)
    completeness.connected()
    writer = DayFileWriter(tmp_path, evidence=level)
    for ticks in (told, told[10:]):
        question = completeness.ask("HK.00700", 1000, told[-1].recv_ts_ms)
        taken = completeness.take(Answer(question, ticks, (), told[-1].recv_ts_ms))
        writer.write(taken.ticks, facts)
    writer.close()
    (row,) = reader.coverage(tmp_path / f"{DAY}.db")
    assert row.stored_ticks == 40
    assert row.state == "unproven"
    assert completeness.holes() == []


def test_the_recorder_opens_what_it_offers() -> None:
    """A market of OpenD that the registry offers has its words in ``sources.futu.markets``."""
    assert {spec.name for spec in registry.OFFERED if spec.provider == "futu"} == {f"futu {code}" for code in MARKETS}
