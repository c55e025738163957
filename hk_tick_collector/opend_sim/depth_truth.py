"""The truth file of order books: every state that was made, and whether it was sent, so that a recorder can be checked.

Format: UTF-8 text. The first line names format and columns, every further line is a state, comma-separated:
``symbol,number,bid_ts_ms,ask_ts_ms,fate,damage,bids,asks``. ``number`` counts a symbol's states since somebody
subscribed its book; fate is ``sent`` (to somebody), ``merged`` (a newer one was sent instead), ``lost`` (by a fault)
or ``unwanted`` (nobody wants pushes). ``damage`` names the faults that changed it, and the line has what was sent. A
side is ``price:volume:orders`` with a space between levels, best price first. The cached book of a first push is not in
it.

Promise: as for the truth file of ticks, what was written has been handed to the operating system.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.opend_sim.depth import Depth, Level
from hk_tick_collector.opend_sim.depth_feed import DepthState
from hk_tick_collector.opend_sim.truth import TruthError

HEADER = "#hk-opend-sim-book-truth-1 symbol,number,bid_ts_ms,ask_ts_ms,fate,damage,bids,asks"
_FIELDS = 8

SENT, MERGED, LOST, UNWANTED = "sent", "merged", "lost", "unwanted"
# Of the broker queue of a state, on a line of its own. Cached: the first push of a subscription, to whoever subscribed.
# No times tell it from another one, and where a subscription is made anew it comes amid others.
QUEUE_SENT, QUEUE_LOST, QUEUE_CACHED = "queue-sent", "queue-lost", "queue-cached"


class Fated(NamedTuple):
    """A state and what became of it."""

    state: DepthState
    fate: str
    damage: str = ""


class DepthTruthWriter:
    """Replaces the file. OSError as the disk says."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._file = self.path.open("w", encoding="utf-8", newline="\n", buffering=1 << 20)
        self._file.write(HEADER + "\n")
        self._file.flush()

    def write(self, states: Iterable[Fated]) -> None:
        """Add states in the order they were made."""
        lines = [
            f"{s.symbol},{s.number},{s.bid_ts_ms},{s.ask_ts_ms},{fate},{damage},"
            f"{_side(s.depth.bids)},{_side(s.depth.asks)}\n"
            for s, fate, damage in states
        ]
        if lines:
            self._file.write("".join(lines))
            self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_depth_truth(path: Path | str) -> Iterator[Fated]:
    """The states in the order they were written; an unfinished last line is passed over. TruthError names a damaged
    one, OSError the file."""
    with Path(path).open(encoding="utf-8", newline="\n", buffering=1 << 20) as file:
        if file.readline().rstrip("\n") != HEADER:
            raise TruthError(f"{path} is not a truth file of books: its first line should be {HEADER}")
        for number, line in enumerate(file, start=2):
            if not line.endswith("\n"):
                return
            try:
                yield _parse(line)
            except ValueError as error:
                raise TruthError(f"{path} line {number} is damaged: {error}") from None


def _side(levels: tuple[Level, ...]) -> str:
    return " ".join(map(_text, levels))


@lru_cache(maxsize=65_536)
def _text(level: Level) -> str:
    price, volume, orders = level
    return f"{price!r}:{volume}:{orders}"


def _parse(line: str) -> Fated:
    fields = line.rstrip("\n").split(",")
    if len(fields) != _FIELDS:
        raise ValueError(f"{len(fields)} columns instead of {_FIELDS}")
    symbol, number, bid_ts_ms, ask_ts_ms, fate, damage, bids, asks = fields
    depth = Depth(_levels(bids), _levels(asks))
    return Fated(DepthState(symbol, int(number), depth, int(bid_ts_ms), int(ask_ts_ms)), fate, damage)


def _levels(text: str) -> tuple[Level, ...]:
    levels = (word.split(":") for word in text.split())
    return tuple(Level(float(price), int(volume), int(orders)) for price, volume, orders in levels)
