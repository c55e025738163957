"""Ticks in order change a symbol's row of ``coverage`` at its newest end alone, whatever its sequences are.

So the writer neither judges nor writes anew what cannot have changed (a fifth of the cost, at 5,000 ticks a second over
100 symbols). Held against a writer that looks at everything with each batch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.core.facts import (
    DayFact,
    Fact,
    GapFound,
    HeadProven,
    Interrupted,
    NotSubscribed,
    Rejoined,
    Replayed,
    Subscribed,
    Unproven,
    Verified,
)
from hk_tick_collector.records.tick import Origin, Tick
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.symbol_coverage import SymbolCoverage
from hk_tick_collector.store.writer import DayFileWriter
from tests.nights import examples
from tests.unit.store_ticks import DAY, OPEN_MS, query, tick

KINDS = {
    EvidenceLevel.COUNTER: (Origin(), "HK.00700"),
    EvidenceLevel.ID: (Origin("US", "dxlink"), "US.ABC"),
    EvidenceLevel.REPLAY: (Origin("CME", "sierra"), "CME.ESZ26"),
    EvidenceLevel.RUNNING_TOTAL: (Origin("TW", "shioaji"), "TW.2330"),
}
LAST = 40


class SteadyClock:
    """Both writers write at one time."""

    def now_ms(self) -> int:
        return OPEN_MS

    def monotonic(self) -> float:
        return 0.0


def trade(level: EvidenceLevel, number: int, kind: str = "own") -> Tick:
    """The ``number``-th trade of the symbol's day, in the sequences of that kind of source."""
    symbol = KINDS[level][1]
    if level is EvidenceLevel.RUNNING_TOTAL:
        volume = number % 3 + 1
        row = tick(number, symbol, volume=volume, seq=sum(earlier % 3 + 1 for earlier in range(1, number + 1)))
    elif level is EvidenceLevel.COUNTER:
        row = tick(number, symbol)
    else:
        row = tick(number, symbol, seq=(OPEN_MS + number) << 20)
    if kind == "bare":
        return row._replace(seq=None)
    return row._replace(price=1.0) if kind == "other" else row


def facts_of(level: EvidenceLevel, number: int) -> list[Fact | DayFact]:
    """Everything that may be learned of a symbol, about its ``number``-th trade."""
    symbol, seq, at_ms = KINDS[level][1], trade(level, number).seq or 0, OPEN_MS + number
    counter = seq & 0xFFFFFFFF if level is EvidenceLevel.COUNTER else seq
    return [
        HeadProven(symbol, DAY, counter),
        Verified(symbol, DAY, counter, at_ms),
        Unproven(symbol, DAY, f"odd {number % 2}"),
        Interrupted(symbol, DAY, seq),
        Rejoined(symbol, DAY, seq),
        GapFound(symbol, DAY, counter, counter, at_ms, "gone"),
        GapFound(symbol, DAY, None, counter, at_ms, "began late"),
        NotSubscribed(symbol, DAY, at_ms, at_ms + 5, bool(number % 2), "refused"),
        Subscribed(DAY, (symbol,), at_ms + 9),
        Replayed(symbol, DAY, "copy", number, "digest", at_ms),
        Replayed(symbol, DAY, "copy", number, "digest", at_ms + 100),
    ]


numbers = st.integers(1, LAST)
runs = st.builds(lambda first, count: [(number, "own") for number in range(first, first + count)], numbers, numbers)
strays = st.lists(st.tuples(numbers, st.sampled_from(["own", "own", "bare", "other"])), max_size=4)
learned = st.lists(st.tuples(numbers, st.integers(0, len(facts_of(EvidenceLevel.ID, 1)) - 1)), max_size=2)
batches = st.tuples(st.one_of(runs, runs, strays), learned)


def tables(
    level: EvidenceLevel, plan: Sequence[tuple[Sequence[tuple[int, str]], Sequence[tuple[int, int]]]]
) -> list[tuple[object, ...]]:
    """What the file says of the symbol after each batch."""
    told: list[tuple[object, ...]] = []
    with tempfile.TemporaryDirectory() as root:
        writer = DayFileWriter(
            Path(root), SqliteOptions(synchronous="OFF"), SteadyClock(), origin=KINDS[level][0], evidence=level
        )
        for rows, facts in plan:
            learned_facts = [facts_of(level, number)[which] for number, which in facts]
            writer.write([trade(level, number, kind) for number, kind in rows], learned_facts)
            file = Path(root) / f"{DAY}.db"
            if file.exists():
                told.append((*query(file, "SELECT * FROM coverage"), *query(file, "SELECT * FROM gaps"),
                             *query(file, "SELECT * FROM replays")))  # fmt: skip
            told.append((writer.missing_ticks, writer.unseen_ticks))
        writer.close()
    return told


@pytest.mark.parametrize("level", KINDS, ids=lambda level: level.name)
@settings(max_examples=examples(60))
@given(plan=st.lists(batches, min_size=1, max_size=6))
def test_what_is_not_looked_at_has_not_changed(
    level: EvidenceLevel, plan: list[tuple[list[tuple[int, str]], list[tuple[int, int]]]]
) -> None:
    settle = SymbolCoverage.settle

    def settle_nothing(track: SymbolCoverage) -> str | None:
        reason = settle(track)
        track.settled = False
        return reason

    told = tables(level, plan)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SymbolCoverage, "settle", settle_nothing)
        assert tables(level, plan) == told


@pytest.mark.parametrize("level", KINDS, ids=lambda level: level.name)
def test_ticks_in_order_are_not_judged_again(
    level: EvidenceLevel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = DayFileWriter(tmp_path, origin=KINDS[level][0], evidence=level)
    writer.write([trade(level, number) for number in range(1, 5)])
    with monkeypatch.context() as patched:
        patched.setattr(SymbolCoverage, "settle", lambda _: pytest.fail("judged again"))
        for first in (5, 15, 25):
            writer.write([trade(level, number) for number in range(first, first + 10)])
    writer.close()
    file = tmp_path / f"{DAY}.db"
    assert query(file, "SELECT stored_ticks, last_counter, last_ts_ms FROM coverage") == [
        (34, (trade(level, 34).seq or 0) & (0xFFFFFFFF if level is EvidenceLevel.COUNTER else -1), OPEN_MS + 34)
    ]
