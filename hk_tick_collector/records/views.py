"""Equal ticks of one view (a push, an answer) are told apart by their number in it, where they have no sequence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence

from hk_tick_collector.records.tick import Tick, seq_epoch_sec

STRAY_SEC = 43_200  # a tick is counted within so much of its time, or its date is not the day's that counted it


def number_equal_ticks(ticks: Iterable[Tick]) -> list[Tick]:
    """One view's ticks; each without a sequence says in ``occurrence`` how many of the view that may be taken for it
    come before it.

    Those are the ticks of equal content, at one moment (``same_moment``). Among them the places are exchanged so that
    one with a sequence comes before one without, and one that tells milliseconds before one that does not: wherever
    the view is cut, the store knows the definite ones first.
    """
    numbered = list(ticks)
    equals: dict[tuple[object, ...], list[int]] = {}
    for place, tick in enumerate(numbered):
        numbers = (tick.price, tick.volume, tick.turnover)
        content = (tick.symbol, tick.trading_day, tick.ts_ms // 1000, numbers, tick.direction, tick.tick_type)
        equals.setdefault(content, []).append(place)
    for places in equals.values():
        if len(places) == 1:
            place = places[0]
            if numbered[place].occurrence:
                numbered[place] = numbered[place]._replace(occurrence=0)
            continue
        for place, tick in zip(places, _numbered([numbered[place] for place in places]), strict=True):
            numbered[place] = tick
    return numbered


def _numbered(equals: list[Tick]) -> Iterator[Tick]:
    """Ticks of equal content and second, the definite ones first, numbered."""
    equals.sort(key=lambda tick: (tick.seq is None, tick.ts_ms % 1000 == 0))
    passed: Counter[int] = Counter()
    for place, tick in enumerate(equals):
        whole_ms = tick.ts_ms - tick.ts_ms % 1000
        before = place if tick.ts_ms == whole_ms else passed[tick.ts_ms] + passed[whole_ms]
        yield tick._replace(occurrence=before if tick.seq is None else 0)
        passed[tick.ts_ms] += 1


def without_sequences(ticks: Iterable[Tick], day: str | None = None) -> list[Tick]:
    """One view's ticks told apart by content alone: for a symbol whose pushes and pulls are numbered differently.

    ``day``: the last day on which they were. What is told of it or of earlier days, and what was counted then and is
    dated later, came on both ways; what comes of a later day keeps its number.
    """
    return number_equal_ticks(tick._replace(seq=None) if _is_counted_by(tick, day) else tick for tick in ticks)


def _is_counted_by(tick: Tick, day: str | None) -> bool:
    if day is None or tick.trading_day <= day:
        return True
    return tick.seq is not None and 0 < seq_epoch_sec(tick.seq) < tick.ts_ms // 1000 - STRAY_SEC


def by_content(ticks: Sequence[Tick], symbols: Container[str]) -> Sequence[Tick]:
    """Several views' ticks, those of ``symbols`` told apart by content alone, behind the others.

    What came the same way in one millisecond is one view; the same tick twice in it is one tick. A view that was cut is
    two.
    """
    others: list[Tick] = []
    views: dict[tuple[str, str, int], dict[Tick, None]] = {}
    for tick in ticks:
        if tick.seq is None or tick.symbol not in symbols:
            others.append(tick)
        else:
            views.setdefault((tick.symbol, tick.push_type, tick.recv_ts_ms), {})[tick] = None
    for view in views.values():
        others += without_sequences(view)
    return others
