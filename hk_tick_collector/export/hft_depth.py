"""Recorded books of one symbol as HftBacktest's depth events; ``hft_events`` has what an event is.

``by_symbol`` takes what a chunk of a file led to and gives each symbol's ``Changes``; of all of a symbol's
``depth_rows`` makes events. A file has a full state every so often where the book is known already: it becomes the
changes that it brings, since a CLEAR in the middle would move every order in the backtester's queues.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hk_tick_collector.days.book_rows import FULL
from hk_tick_collector.days.book_walk import STEP_ACTIONS, stable_order
from hk_tick_collector.days.books import WalkedRows
from hk_tick_collector.export.hft_events import (
    BUY,
    CLEAR,
    DEPTH,
    EARLY_MS,
    FOR_EVER,
    NS_PER_MS,
    SELL,
    SNAPSHOT,
    Bools,
    Floats,
    Ints,
    Latency,
    LatencyMode,
    Rows,
    Told,
    beyond_limit,
)
from hk_tick_collector.records.book_codec import Action

Codes = npt.NDArray[np.int8]
_Kind = TypeVar("_Kind", bound=np.generic)
_THERE, _GONE, _OUT, _NO_LEVEL = range(4)
_BID, _ASK = range(2)


class Changes(NamedTuple):
    """A symbol's changed levels by column, in their order. A full state or a break without any level has one row of
    no level; pushes that change nothing have none."""

    recv_us: Ints
    begins: Bools  # the first row of its push
    is_full: Bools
    is_break: Bools
    fate: Codes  # the level is there, is gone, left the shown window; or there is no level
    side: Codes  # 0 bid, 1 ask
    side_ms: Ints  # -1: the source does not say
    price: Floats
    volume: Ints

    def take(self, rows: Ints | slice) -> Changes:
        """Some of them, in that order."""
        return Changes._make([column[rows] for column in self])


def by_symbol(rows: WalkedRows) -> Iterator[tuple[str, Changes]]:
    """Each symbol of a chunk that was walked with changes, and what became of its book."""
    names, chunk, walked = rows
    levels = np.where(walked.known_rows, np.diff(walked.steps.first), 0)  # of an unknown book a step says nothing
    is_full, is_break = chunk.kinds == FULL, ~walked.known_rows
    told = np.flatnonzero((levels > 0) | is_full | is_break)
    ids = chunk.symbol_ids[told]
    if not len(told):
        return
    order = stable_order(ids)
    told, ids = told[order], ids[order]
    sizes = np.maximum(levels[told], 1)
    ends = np.cumsum(sizes)
    starts = ends - sizes
    changes = _changes(rows, np.repeat(told, sizes), np.arange(sizes.sum()) - np.repeat(starts, sizes), levels, is_full)
    changes.begins[starts] = True
    firsts = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1) != 0)
    for first, last in zip(firsts.tolist(), [*(firsts[1:] - 1).tolist(), len(ids) - 1], strict=True):
        yield names[int(ids[first])], changes.take(slice(int(starts[first]), int(ends[last])))


def _changes(rows: WalkedRows, push: Ints, number: Ints, levels: Ints, is_full: Bools) -> Changes:
    """``push``: of each row; ``number``: its step's in the push."""
    _, chunk, walked = rows
    steps = walked.steps
    if len(steps.rows):
        step = np.minimum(steps.first[push] + number, len(steps.rows) - 1)
        fate_of_step = _FATE[steps.actions]
        fate_of_step[walked.was_out] = _OUT
        fate, side = fate_of_step[step], steps.sides[step].astype(np.int8)
        price, volume = walked.step_prices[step], steps.levels.volume[step]
    else:
        fate, side = np.zeros((2, len(push)), np.int8)
        price, volume = np.zeros(len(push)), np.zeros(len(push), np.int64)
    fate[levels[push] == 0] = _NO_LEVEL
    bid_ms, ask_ms = (np.where(absent, -1, times) for times, absent in (chunk.bid_ts_ms, chunk.ask_ts_ms))
    side_ms = np.where(side == _BID, bid_ms[push], ask_ms[push])
    is_break = ~walked.known_rows[push]
    begins = np.zeros(len(push), np.bool_)
    return Changes(chunk.recv_ts_us[push], begins, is_full[push], is_break, fate, side, side_ms, price, volume)


_FATE = np.full(STEP_ACTIONS, _THERE, np.int8)
_FATE[int(Action.REMOVE)] = _GONE


class _Stepped(NamedTuple):
    """Changes without what routine full states repeat, and with what they lack. By level; a row that is inserted says
    of which push it is by ``push_row``."""

    push_row: Ints
    level_row: Ints
    fate: Codes
    is_clear: Bools
    is_snapshot: Bools
    side_ms: Ints


def depth_rows(parts: Sequence[Changes], latency: Latency, symbol: str, told: Told) -> tuple[Rows, Ints]:
    """A symbol's book as events, and when it was not known: pairs of UTC epoch ms; the first begins with 0, and an end
    is FOR_EVER where it stayed unknown.

    A full state where the book was not known before is a CLEAR and SNAPSHOT rows, a level that left the shown window is
    taken out (the model has no "unknown"), a break is a CLEAR."""
    if not parts:
        return Rows.none(), np.array([[0, FOR_EVER]], np.int64)
    rows = parts[0] if len(parts) == 1 else Changes(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    is_level = rows.fate != _NO_LEVEL
    is_beyond = beyond_limit(np.where(is_level, rows.price, 0.0), np.where(is_level, rows.volume, 0), told)
    stepped = _stepped(rows._replace(fate=np.where(is_beyond, _NO_LEVEL, rows.fate).astype(np.int8)))
    is_clear, side = stepped.is_clear, rows.side[stepped.level_row]
    kind = np.where(is_clear, CLEAR, np.where(stepped.is_snapshot, SNAPSHOT, DEPTH)).astype(np.uint64)
    ev = kind | np.where(is_clear, 0, np.where(side == _BID, BUY, SELL)).astype(np.uint64)
    recv_ns = rows.recv_us[stepped.push_row] * 1000
    exch_ns = _changed_ns(stepped.side_ms, recv_ns, is_clear, told)
    _clear_with_its_rows(exch_ns, is_clear, rows.is_full[stepped.push_row])
    clears, snapshots = int(np.count_nonzero(is_clear)), int(np.count_nonzero(stepped.is_snapshot))
    told.add("depth", len(ev) - clears - snapshots)
    told.add("snapshot_levels", snapshots)
    told.add("clears", clears)
    told.add("levels_out_of_window", int(np.count_nonzero(stepped.fate == _OUT)))
    exch_ns = _risen(exch_ns, is_clear, side)
    if latency.mode is LatencyMode.MEASURED:
        told.add("depth_latency_negative", int(np.count_nonzero(recv_ns < exch_ns)))
        local_ns = np.maximum(recv_ns, exch_ns)
    else:
        local_ns = exch_ns + latency.draw_ns(len(exch_ns), f"{symbol} depth", 0.0)
    local_ns = np.maximum.accumulate(local_ns) if len(local_ns) else local_ns
    price = np.where(is_clear, 0.0, rows.price[stepped.level_row])
    quantity = np.where(stepped.fate == _THERE, np.maximum(rows.volume[stepped.level_row], 0), 0.0)
    return Rows(ev, exch_ns, local_ns, price, quantity), _blind(rows)


def _changed_ns(side_ms: Ints, recv_ns: Ints, is_clear: Bools, told: Told) -> Ints:
    """When each side changed, as the source says, else when we read it. Times never fall (``_risen``), so a single one
    that is far ahead would move all that follow: it gets what lies between the two clocks as a rule."""
    has_time = ~is_clear & (side_ms >= 0)
    ahead_ns = side_ms * NS_PER_MS - recv_ns
    usual_ns = int(np.median(ahead_ns[has_time])) if has_time.any() else 0
    is_wrong = has_time & (ahead_ns > usual_ns + EARLY_MS * NS_PER_MS)
    told.add("depth_without_time", int(np.count_nonzero(~is_clear & ~has_time)))
    told.add("depth_time_outliers", int(np.count_nonzero(is_wrong)))
    return recv_ns + np.where(is_wrong, usual_ns, np.where(has_time, ahead_ns, 0))


def _stepped(rows: Changes) -> _Stepped:
    firsts = np.flatnonzero(rows.begins)
    push = np.cumsum(rows.begins, dtype=np.int32) - 1  # of each row
    full, broken = rows.is_full[firsts], rows.is_break[firsts]
    numbers = np.arange(len(firsts))
    last_full = np.maximum.accumulate(np.where(full, numbers, -1))
    last_break = np.maximum.accumulate(np.where(broken, numbers, -1))
    known = np.concatenate(([False], (last_full > last_break)[:-1]))
    routine = full & known
    begins_anew = (full & ~known) | broken
    keep = rows.fate != _NO_LEVEL
    gone, at = np.zeros((2, 0), np.int64)
    if routine.any():
        repeated, gone, at = _routine(rows, push, routine, np.cumsum(begins_anew))
        keep[repeated] = False
    kept = np.flatnonzero(keep)
    clears = firsts[begins_anew]
    # What a full state lacks goes at the end of its push, a clear stands before it.
    places = np.concatenate((np.searchsorted(push[kept], at, side="right"), np.searchsorted(kept, clears)))
    side_ms = _side_times(rows, push, len(firsts))[rows.side[gone], at]

    def with_more(of_kept: npt.NDArray[_Kind], of_gone: Any, of_clears: Any) -> npt.NDArray[_Kind]:
        more = np.concatenate((np.broadcast_to(of_gone, gone.shape), np.broadcast_to(of_clears, clears.shape)))
        return np.insert(of_kept, places, more.astype(of_kept.dtype)) if len(more) else of_kept

    return _Stepped(
        with_more(kept, firsts[at], clears),
        with_more(kept, gone, clears),
        with_more(rows.fate[kept], _GONE, _NO_LEVEL),
        with_more(np.zeros(len(kept), np.bool_), False, True),
        with_more(begins_anew[push[kept]], False, False),
        with_more(rows.side_ms[kept], side_ms, -1),
    )


def _side_times(rows: Changes, push: npt.NDArray[np.int32], pushes: int) -> Ints:
    """Of each side and push; -1 where no level tells."""
    side_ms = np.full((2, pushes), -1, np.int64)
    is_level = rows.fate != _NO_LEVEL
    side_ms[rows.side[is_level], push[is_level]] = rows.side_ms[is_level]
    return side_ms


def _routine(rows: Changes, push: npt.NDArray[np.int32], routine: Bools, epoch: Ints) -> tuple[Ints, Ints, Ints]:
    """The rows in which full states say what is known already; and rows whose level such a state lacks, with the number
    of its push. A level that one of them lacked comes anew, also with the same volume."""
    levels = np.flatnonzero(rows.fate != _NO_LEVEL)
    keys = _keys(epoch[push[levels]], rows.side[levels], rows.price[levels])
    order = np.argsort(keys, kind="stable")
    same_level = keys[order[1:]] == keys[order[:-1]]
    order = levels[order]
    of_push, is_there = push[order], rows.fate[order] == _THERE
    pushes = len(epoch)
    # the routine push after each push, in the same epoch; beyond all of them where there is none
    full = np.flatnonzero(routine)
    following = np.append(full, pushes)[np.searchsorted(full, np.arange(pushes), side="right")]
    following[np.append(epoch, -1)[following] != epoch] = pushes
    next_push = np.append(np.where(same_level, of_push[1:], pushes), pushes)[: len(order)]
    following = following[of_push]
    gone = np.flatnonzero(is_there & (following < next_push))
    volume = rows.volume[order]
    repeats = same_level & is_there[:-1] & routine[of_push[1:]] & (volume[1:] == volume[:-1])
    repeats[gone[gone < len(repeats)]] = False
    gone = gone[np.argsort(following[gone], kind="stable")]
    return order[1:][repeats], order[gone], following[gone]


def _keys(epoch: Ints, side: Codes, price: Floats) -> npt.NDArray[Any]:
    """Numbers that are alike for one level of one epoch, and rise with epoch, side and price; small where it can be,
    since those are sorted by their digits, which is many times faster. A book has few prices: they are counted through
    instead of compared."""
    coded = pa.array(price).dictionary_encode()
    prices = np.asarray(coded.dictionary)
    rank = np.argsort(np.argsort(prices))[np.asarray(coded.indices)]
    keys: npt.NDArray[Any] = (epoch * 2 + side) * len(prices) + rank
    return keys.astype(np.uint16) if not len(keys) or keys.max() < 1 << 16 else keys


def _clear_with_its_rows(exch_ns: Ints, is_clear: Bools, is_full: Bools) -> None:
    """The clear of a full state happens with the earliest of the rows that follow it."""
    starts = np.flatnonzero(is_clear)
    if not len(starts):
        return
    earliest = np.minimum.reduceat(exch_ns, starts)
    ends = np.append(starts[1:], len(exch_ns))
    has_rows = is_full[starts] & (ends - starts > 1)
    first = np.minimum(starts + 1, len(exch_ns) - 1)
    exch_ns[starts] = np.where(has_rows, np.minimum(earliest, exch_ns[first]), exch_ns[starts])


def _risen(exch_ns: Ints, is_clear: Bools, side: Codes) -> Ints:
    """Times that never fall within a side of the book; a clear is of both."""
    risen = exch_ns.copy()
    if not len(risen):
        return risen
    risen[is_clear] = np.maximum.accumulate(exch_ns)[is_clear]
    for book_side in (_BID, _ASK):
        of_side = is_clear | (side == book_side)
        risen[of_side] = np.maximum.accumulate(risen[of_side])
    return risen


def _blind(rows: Changes) -> Ints:
    """Up to the first full state, and from each break to the next one."""
    firsts = np.flatnonzero(rows.begins)
    full, broken = rows.is_full[firsts], rows.is_break[firsts]
    recv_ms = rows.recv_us[firsts] // 1000
    full_ms = np.append(recv_ms[full], FOR_EVER)
    begins = np.append(0, recv_ms[broken])
    next_full = np.searchsorted(np.flatnonzero(full), np.append(0, np.flatnonzero(broken)))
    return np.stack((begins, full_ms[next_full]), axis=1)
