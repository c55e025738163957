"""What all exports for backtesters have in common: their options, tick and lot sizes, what is known of a day's
completeness, and the refusal of a day that is not whole."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hk_tick_collector import __version__
from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.days import books
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.groups import in_groups
from hk_tick_collector.days.telling import Telling, telling
from hk_tick_collector.export.hft_events import FOR_EVER, Floats, Ints, Latency, Told
from hk_tick_collector.export.rows import DayPart
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.store.book_reader import sampled_shares
from hk_tick_collector.store.book_reader import symbols as book_symbols

SHOWN = 10
PUSHES_AT_ONCE = 2_000_000  # of books in memory together, unless a symbol has more; a file is read once for so many
PROVEN = "proven"
PARTS_OF_ONE = 1_000_000_000  # a price is a whole number of these; CME's steps have nine decimals

# What a user has to know before a result is believed; in the meta, by its key.
LIMITS = {
    "tick_size": "The step that fits every price of the day; Hong Kong's steps grow with the price, so that one tick "
    "away is not always the market's next price.",
    "night": "Hong Kong's books do not survive the night: days are no chain, each begins with its own snapshot.",
    "prices": "As traded; corporate actions are not in the feed.",
}


class Incomplete(RecorderError):
    """A day that is not known to be whole, where only whole ones are wanted."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of a symbol's day; gaps and blind stretches as they go into the meta."""

    state: str  # proven | missing | unproven
    reason: str | None
    missing_ticks: int
    gaps: tuple[dict[str, Any], ...] = ()


NOTHING_STORED = Proof("unproven", "nothing of its ticks is stored", 0)
Proofs = Mapping[str, Mapping[str, Proof]]  # by day and symbol
Plan = Sequence[tuple[DayPart, Sequence[str]]]  # each day once, with the symbols that are exported of it


@dataclass(frozen=True, slots=True)
class Options:
    """What is exported, and how. Sizes None: as OpenD told, else from the prices and volumes of the day."""

    trades_only: bool = False
    auctions: bool = False
    tick_rule: bool = False
    strict: bool = False
    latency: Latency = field(default_factory=Latency)
    tick_size: float | None = None
    lot_size: float | None = None


@dataclass(frozen=True, slots=True)
class Sizes:
    """The instrument's steps, and whose word they are."""

    tick: float
    lot: float
    tick_from: str
    lot_from: str


def wanted_types(day: Day, options: Options) -> frozenset[str]:
    """Trades of the order book: others would fill orders that never could be."""
    types = day.market.trade_types.price_making
    return types if options.auctions else types - day.market.trade_types.auction


def book_files(day: Day, symbols: Sequence[str]) -> Iterator[tuple[Path | None, list[str]]]:
    """The day's book files, each open while its turn lasts, with those of the symbols whose books it tells; what is
    archived is unpacked, so go over them once a day. Last, with None, the symbols of which no books were recorded."""
    left = dict.fromkeys(symbols)
    for root in telling(_parts(day)):
        with root.books.opened() as path:
            mine = [symbol for symbol in _symbols_in(path, root) if symbol in left]
            for symbol in mine:
                del left[symbol]
            yield path, mine
    if left:
        yield None, list(left)


def with_books(part: DayPart) -> set[str]:
    """The symbols whose books of that day were recorded."""
    booked: set[str] = set()
    for root in telling(_parts(part.day)):
        with root.books.opened() as path:
            booked.update(_symbols_in(path, root))
    return booked


def _symbols_in(path: Path, root: Telling) -> list[str]:
    return sorted(book_symbols(path)) if root.symbols is None else list(root.symbols)


def _parts(day: Day) -> list[Day]:
    """Of what it is made; a file that was named alone lies in its data root."""
    return [
        part if part.data_root is not None or part.db is None else replace(part, data_root=part.db.parent)
        for part in day.parts
    ]


def by_symbol(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Each symbol of a batch of ``days.books``, and its rows in their order."""
    column = batch.column("symbol")
    codes, words = np.asarray(column.indices), column.dictionary.to_pylist()
    for code in np.unique(codes).tolist():
        yield words[code], batch.filter(pa.array(codes == code))


def by_memory(symbols: Sequence[str], path: Path | None, parts: int = 1) -> Iterator[Sequence[str]]:
    """As many at a time as have their books (in the file at ``path``) in memory together, about. ``parts``: so many
    processes share it; the symbols are one of as many parts of the file, then."""
    if not symbols:
        return
    pushes = 0 if path is None else books.newest_no(path)
    if path is None or pushes <= PUSHES_AT_ONCE:
        yield symbols
        return
    shares = sampled_shares(path)
    yield from in_groups({symbol: round(shares[symbol] * pushes) for symbol in symbols}, PUSHES_AT_ONCE // parts)


def proofs_of_plan(plan: Plan, proofs_of: Callable[[Day], Mapping[str, Proof]], options: Options) -> Proofs:
    """What is known of each day, read once. Incomplete with ``strict``, naming what is not whole."""
    proofs = {part.day.trading_day: proofs_of(part.day) for part, symbols in plan if symbols}
    if options.strict:
        _refuse_unproven(plan, proofs)
        if not options.trades_only:
            _refuse_blind(plan)
    return proofs


def _refuse_unproven(plan: Plan, proofs: Proofs) -> None:
    problems = []
    for part, symbols in plan:
        day = part.day.trading_day
        for symbol in symbols:
            proof = proofs[day].get(symbol, NOTHING_STORED)
            if proof.state != PROVEN or proof.gaps:
                problems.append(f"{day} {symbol}: {proof.reason or proof.state}")
    _refuse(problems)


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        shown = "\n".join(problems[:SHOWN]) + (f"\nand {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else "")
        raise Incomplete(f"not proven complete, so nothing was written (--strict):\n{shown}")


def _refuse_blind(plan: Plan) -> None:
    """Where books were not known for a while in trading hours; symbols without books are none of its affair."""
    problems = []
    for part, symbols in plan:
        stretches: dict[str, list[tuple[int, int]]] = {}
        for path, told in book_files(part.day, symbols):
            stretches |= _blind_stretches(path, told) if path is not None else {}
        problems += [
            f"{part.day.trading_day} {symbol}: its book was not known for a while"
            for symbol, blind in stretches.items()
            if while_trading(part.day, np.array(blind, np.int64))
        ]
    _refuse(problems)


def _blind_stretches(path: Path, symbols: Sequence[str]) -> dict[str, list[tuple[int, int]]]:
    """From when to when, UTC epoch ms, the books in a file are not known; the first is from 0, the last for ever."""
    there = set(book_symbols(path)).intersection(symbols)
    since = dict.fromkeys(sorted(there), 0)
    stretches_of: dict[str, list[tuple[int, int]]] = {symbol: [] for symbol in since}
    for names, chunk, walked in books.walk(path, list(since), 1) if since else ():
        recv_ms = chunk.recv_ts_us // 1000
        for key in np.unique(chunk.symbol_ids).tolist():
            rows = np.flatnonzero(chunk.symbol_ids == key)
            known = walked.known_rows[rows]
            symbol = names[key]
            changes = np.flatnonzero(np.diff(known, prepend=symbol not in since))
            for row in changes.tolist():
                at_ms = int(recv_ms[rows[row]])
                if known[row]:
                    stretches_of[symbol].append((since.pop(symbol), at_ms))
                else:
                    since[symbol] = at_ms
    for symbol, from_ms in since.items():
        stretches_of[symbol].append((from_ms, FOR_EVER))
    return stretches_of


def while_trading(day: Day, blind: Ints) -> list[tuple[int, int]]:
    """The parts of these stretches in which the market traded continuously; a row is from and until, UTC epoch ms."""
    kind = TradingCalendar(day.market).day_kind(day.trading_day)
    return [
        (max(begin, open_ms), min(end, close_ms))
        for begin, end in blind.tolist()
        for open_ms, close_ms in day.market.continuous_windows(day.trading_day, kind)
        if max(begin, open_ms) < min(end, close_ms)
    ]


def sizes_of(prices: Floats, quantities: Floats, told: tuple[float | None, int | None], options: Options) -> Sizes:
    """Tick and lot size: the options', else OpenD's word (``told``); a tick size that some price does not fit becomes
    the largest that fits all. None of them is beyond the limit (``hft_events.beyond_limit``)."""
    traded = prices[prices > 0]
    step = int(np.gcd.reduce(np.rint(traded * PARTS_OF_ONE).astype(np.int64))) if len(traded) else 0
    tick, lot = options.tick_size, options.lot_size
    tick_from = lot_from = "given"
    if tick is None:
        tick, tick_from = told[0], "OpenD"
        if tick is None or (step and round(tick * PARTS_OF_ONE) and step % round(tick * PARTS_OF_ONE)):
            tick = math.gcd(step, round((tick or 0.0) * PARTS_OF_ONE)) / PARTS_OF_ONE or 0.001
            tick_from = "prices of the day"
    if lot is None:
        lot, lot_from = told[1], "OpenD"
        if lot is None:
            units = quantities[quantities > 0].astype(np.int64)
            lot, lot_from = int(np.gcd.reduce(units)) if len(units) else 1, "volumes of the day"
    return Sizes(float(tick), float(lot), tick_from, lot_from)


def told_sizes(day: Day) -> dict[str, tuple[float | None, int | None]]:
    """OpenD's tick and lot sizes of that day, by symbol."""
    return {row.symbol: (row.tick_size, row.lot_size) for row in day.symbol_rows()}


def meta_of(
    part: DayPart,
    symbol: str,
    options: Options,
    told: Told,
    proof: Proof,
    blind: Sequence[tuple[int, int]],
    sizes: Sizes,
    lag_ns: Ints,
) -> dict[str, Any]:
    """What every meta says, whatever it is beside. ``lag_ns``: of each event, from when it happened to when we saw
    it."""
    manifest = part.day.manifest
    lag_ms = np.maximum(lag_ns, 0) / 1_000_000
    quantiles = np.quantile(lag_ms, (0.5, 0.9, 0.99)).round(3).tolist() if len(lag_ms) else [None] * 3
    return {
        "symbol": symbol,
        "trading_day": part.day.trading_day,
        "market": part.day.market.code,
        "so_far": part.so_far,
        "tick_size": sizes.tick,
        "tick_size_from": sizes.tick_from,
        "lot_size": sizes.lot,
        "lot_size_from": sizes.lot_from,
        "counts": told.counts,
        "left_out_by_type": told.left_out,
        "neutral": "tick-rule" if options.tick_rule else "no side: such a trade fills nothing",
        "latency": {
            **asdict(options.latency),
            "typical_ms": told.typical_latency_ms,
            "p50_ms": quantiles[0],
            "p90_ms": quantiles[1],
            "p99_ms": quantiles[2],
        },
        "proof": asdict(proof),
        "blind": [{"from_ms": begin, "until_ms": end} for begin, end in blind],
        "content_hash": None if manifest is None else manifest.content_hash,
        "made_by": f"hk-tick-collector {__version__}",
    }


def meta_text(meta: Mapping[str, Any]) -> str:
    """A meta as its file holds it."""
    return json.dumps(meta, ensure_ascii=False, indent=1) + "\n"
