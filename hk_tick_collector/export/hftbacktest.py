"""Days as files for HftBacktest: for each symbol and day the events (``.npz``), an order latency, and what they are.

::

    HK.00700_20261120.npz           events, as in ``hft_events``; trades alone are HK.00700_20261120_trades.npz
    HK.00700_20261120_latency.npz   for intp_order_latency
    HK.00700_20261120_meta.json     where they come from, what was left out, what is not known, tick and lot size

The three appear together or not at all, the meta last. Without books no fill means anything much: nobody stands in the
queue before an order. So trades alone have to be asked for, and say so in name and meta.

A day that is not whole is exported, and the meta names every gap and blind stretch; ``strict`` refuses it instead.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hk_tick_collector import __version__
from hk_tick_collector.core.errors import NoData, RecorderError
from hk_tick_collector.days import books
from hk_tick_collector.days.books import Form
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.export.hft_events import (
    TICK_COLUMNS,
    Changes,
    Latency,
    Rows,
    Told,
    changes_of,
    depth_rows,
    in_both_orders,
    order_latency,
    trade_rows,
)
from hk_tick_collector.export.job import Exported
from hk_tick_collector.export.rows import Advance, DayPart
from hk_tick_collector.export.target import check_free, writing
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.symbols import file_name
from hk_tick_collector.store.book_reader import symbols as book_symbols
from hk_tick_collector.store.layout import book_file

FORMAT_VERSION = 1
SHOWN = 10
PROVEN = "proven"
SYMBOLS_AT_ONCE = 8  # whose books are in memory together
_COMPRESS_LEVEL = 1  # level 6 takes four times as long for 10 % less
_MILLI = 1000

# What a user has to know before a result is believed; in the meta, by its key.
LIMITS = {
    "depth": "Below the levels that the account's right shows nothing is known: a level that left them is taken out.",
    "depth_exch_ts": "When Futu's server had that side from the exchange: the way from there to Futu is not in it.",
    "tick_size": "The step that fits every price of the day; Hong Kong's steps grow with the price, so that one tick "
    "away is not always the market's next price.",
    "night": "Hong Kong's books do not survive the night: days are no chain, each begins with its own snapshot.",
    "prices": "As traded; corporate actions are not in the feed.",
}
NO_DEPTH = "No book: an order is filled at once when a trade of the other side touches its price, which no market does."


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
class _Names:
    events: Path
    latency: Path
    meta: Path

    @property
    def all(self) -> tuple[Path, Path, Path]:
        return self.events, self.latency, self.meta


def export_hftbacktest(
    parts: Sequence[DayPart],
    root: Path,
    options: Options,
    proofs_of: Callable[[Day], Mapping[str, Proof]],
    say: Callable[[str], None],
    *,
    force: bool,
    advance: Advance,
) -> Iterator[Exported]:
    """One symbol after the other. ``say`` takes what is left out and why. NoData when nothing can be exported at all,
    TargetExists before any work, Incomplete with ``strict``."""
    plan = []
    for part in parts:
        symbols = _symbols(part, options, say)
        plan += [(part, symbols[n : n + SYMBOLS_AT_ONCE]) for n in range(0, len(symbols), SYMBOLS_AT_ONCE)]
    if not plan:
        raise NoData("there are no books of these days and symbols: --trades-only exports the trades alone")
    names = {(part.day.trading_day, one): _names(root, part, one, options) for part, some in plan for one in some}
    check_free((path for some in names.values() for path in some.all), force=force)
    proofs = {part.day.trading_day: proofs_of(part.day) for part, _ in plan}
    if options.strict:
        _refuse_unproven(plan, proofs)
    return _files(plan, names, proofs, options, advance)


def _symbols(part: DayPart, options: Options, say: Callable[[str], None]) -> list[str]:
    day = part.day.trading_day
    ticked = part.symbols()
    if options.trades_only:
        return ticked
    path = _book_path(part.day)
    with_books = set(book_symbols(path)) if path is not None else set()
    if part.selection.symbols:
        with_books.intersection_update(part.selection.symbols)
    without = [symbol for symbol in ticked if symbol not in with_books]
    if without:
        shown = ", ".join(without[:5]) + (" ..." if len(without) > 5 else "")
        say(f"{day}: no books of {shown}: left out (--trades-only exports the trades alone)")
    return sorted(with_books)


def _book_path(day: Day) -> Path | None:
    root = day.data_root if day.data_root is not None else (day.db.parent if day.db is not None else None)
    path = None if root is None else book_file(root, day.trading_day)
    return path if path is not None and path.exists() else None


def _names(root: Path, part: DayPart, symbol: str, options: Options) -> _Names:
    stem = f"{file_name(symbol)}_{part.day.trading_day}"
    kind = "_trades" if options.trades_only else ""
    return _Names(root / f"{stem}{kind}.npz", root / f"{stem}{kind}_latency.npz", root / f"{stem}{kind}_meta.json")


def _refuse_unproven(plan: Sequence[tuple[DayPart, list[str]]], proofs: Mapping[str, Mapping[str, Proof]]) -> None:
    found = []
    for part, symbols in plan:
        day = part.day.trading_day
        for symbol in symbols:
            proof = proofs[day].get(symbol, NOTHING_STORED)
            if proof.state != PROVEN or proof.gaps:
                found.append(f"{day} {symbol}: {proof.reason or proof.state}")
    if found:
        shown = "\n".join(found[:SHOWN]) + (f"\nand {len(found) - SHOWN:,} more" if len(found) > SHOWN else "")
        raise Incomplete(f"not proven complete, so nothing was written (--strict):\n{shown}")


def _files(
    plan: Sequence[tuple[DayPart, list[str]]],
    names: Mapping[tuple[str, str], _Names],
    proofs: Mapping[str, Mapping[str, Proof]],
    options: Options,
    advance: Advance,
) -> Iterator[Exported]:
    for part, symbols in plan:
        day = part.day
        path = None if options.trades_only else _book_path(day)
        changes = _changes(path, symbols) if path is not None else {}
        told_sizes = {row.symbol: (row.tick_size, row.lot_size) for row in day.symbol_rows()}
        for symbol in symbols:
            ticks = day.ticks([symbol], TICK_COLUMNS)
            told = Told()
            types = day.market.trade_types.price_making
            types = types if options.auctions else types - day.market.trade_types.auction
            rows = trade_rows(ticks, types, options.latency, symbol, told, tick_rule=options.tick_rule)
            depth, unknown = depth_rows(changes.pop(symbol, []), options.latency, symbol, told)
            blind = [] if options.trades_only else _while_trading(day, unknown)
            if options.strict and blind:
                raise Incomplete(f"{day.trading_day} {symbol}: its book was not known for a while (--strict)")
            rows = rows.then(depth)
            sizes = _sizes(rows, told_sizes.get(symbol, (None, None)), options)
            proof = proofs[day.trading_day].get(symbol, NOTHING_STORED)
            meta = _meta(part, symbol, options, told, proof, blind, rows, sizes)
            events = in_both_orders(rows)
            meta["events"] = len(events)
            size_bytes = _write(names[day.trading_day, symbol], events, order_latency(rows), meta)
            advance(ticks.num_rows)
            yield Exported(
                names[day.trading_day, symbol].events, (day.trading_day,), len(events), size_bytes, part.so_far
            )


def _while_trading(day: Day, blind: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """The parts of these stretches in which the market traded continuously."""
    kind = TradingCalendar(day.market).day_kind(day.trading_day)
    return [
        (max(begin, open_ms), min(end, close_ms))
        for begin, end in blind.tolist()
        for open_ms, close_ms in day.market.continuous_windows(day.trading_day, kind)
        if max(begin, open_ms) < min(end, close_ms)
    ]


def _changes(path: Path, symbols: Sequence[str]) -> dict[str, list[Changes]]:
    """The book rows of some symbols, in one pass over the file."""
    found: dict[str, list[Changes]] = {symbol: [] for symbol in symbols}
    for batch in books.read(path, Form.LONG, symbols):
        column = batch.column("symbol")
        codes, words = np.asarray(column.indices), column.dictionary.to_pylist()
        for code in np.unique(codes).tolist():
            found[words[code]].append(changes_of(batch.filter(pa.array(codes == code))))
    return found


@dataclass(frozen=True, slots=True)
class _Sizes:
    tick: float
    lot: float
    tick_from: str
    lot_from: str


def _sizes(rows: Rows, told: tuple[float | None, int | None], options: Options) -> _Sizes:
    """Tick and lot size: the options', else OpenD's word; a tick size that some price does not fit becomes the largest
    that fits all."""
    traded = rows.price > 0
    step = int(np.gcd.reduce(np.rint(rows.price[traded] * _MILLI).astype(np.int64))) if traded.any() else 0
    tick, lot = options.tick_size, options.lot_size
    tick_from = lot_from = "given"
    if tick is None:
        tick, tick_from = told[0], "OpenD"
        if tick is None or (step and round(tick * _MILLI) and step % round(tick * _MILLI)):
            tick, tick_from = math.gcd(step, round((tick or 0.0) * _MILLI)) / _MILLI or 0.001, "prices of the day"
    if lot is None:
        lot, lot_from = told[1], "OpenD"
        if lot is None:
            units = rows.quantity[rows.quantity > 0].astype(np.int64)
            lot, lot_from = int(np.gcd.reduce(units)) if len(units) else 1, "volumes of the day"
    return _Sizes(float(tick), float(lot), tick_from, lot_from)


def _meta(
    part: DayPart,
    symbol: str,
    options: Options,
    told: Told,
    proof: Proof,
    blind: Sequence[tuple[int, int]],
    rows: Rows,
    sizes: _Sizes,
) -> dict[str, Any]:
    manifest = part.day.manifest
    has_depth = not options.trades_only
    limits = {**LIMITS, "fills": NO_DEPTH} if not has_depth else LIMITS
    lag_ms = np.maximum(rows.local_ns - rows.exch_ns, 0) / 1_000_000
    quantiles = np.quantile(lag_ms, (0.5, 0.9, 0.99)).round(3).tolist() if len(lag_ms) else [None] * 3
    return {
        "format_version": FORMAT_VERSION,
        "symbol": symbol,
        "trading_day": part.day.trading_day,
        "market": part.day.market.code,
        "so_far": part.so_far,
        "time_unit": "ns",
        "depth": "pushes" if has_depth else "none",
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
        "limits": limits,
        "made_by": f"hk-tick-collector {__version__}",
    }


def _write(names: _Names, events: npt.NDArray[np.void], latency: npt.NDArray[np.void], meta: dict[str, Any]) -> int:
    """All three in their place; the bytes of the events. The meta comes last: with it the export is whole."""
    with writing(names.meta) as three, writing(names.latency) as two, writing(names.events) as one:
        _write_npz(one, events)
        _write_npz(two, latency)
        three.write_text(json.dumps(meta, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return names.events.stat().st_size


def _write_npz(path: Path, data: npt.NDArray[np.void]) -> None:
    """As ``numpy.savez_compressed(path, data=data)``, at a level that keeps up, and the same bytes each time."""
    entry = zipfile.ZipInfo("data.npy")
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=_COMPRESS_LEVEL) as archive:
        entry._compresslevel = _COMPRESS_LEVEL  # type: ignore[attr-defined]
        with archive.open(entry, "w", force_zip64=True) as file:
            np.lib.format.write_array(file, data, allow_pickle=False)
