"""Days as a NautilusTrader catalog: trades, best prices from the recorded books, and the instruments.

::

    data/equity/00700.SEHK/...parquet            the instrument; its ``info`` says which days are whole
    data/trade_tick/00700.SEHK/...parquet        trades of the order book
    data/quote_tick/00700.SEHK/...parquet        best prices where they change
    hk_tick_collector/00700.SEHK_20261120.json   where they come from, what was left out, what is not known

The library itself writes the files of ``data`` (``nautilus_catalog``), into a hidden directory; each symbol and day
then moves to its place, the meta last.

Where the book is not known, or a side of it is empty, the quote has the price and the size 0: an order then finds no
market. Nothing of a moment that was not seen looks as if it was.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hk_tick_collector.core.disk import unavailable, unwritable
from hk_tick_collector.core.errors import NoData
from hk_tick_collector.core.scratch import Scratch
from hk_tick_collector.days import books
from hk_tick_collector.days.books import Form
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.export.backtest import (
    LIMITS,
    NOTHING_STORED,
    Options,
    Plan,
    Proof,
    Proofs,
    book_files,
    by_memory,
    by_symbol,
    meta_of,
    meta_text,
    proofs_of_plan,
    sizes_of,
    told_sizes,
    wanted_types,
    while_trading,
    with_books,
)
from hk_tick_collector.export.hft_events import TICK_COLUMNS, Told, trades_of
from hk_tick_collector.export.job import Exported
from hk_tick_collector.export.nautilus_library import Library, quotes_of
from hk_tick_collector.export.rows import Advance, DayPart
from hk_tick_collector.export.target import check_free, writing
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.symbols import file_name
from hk_tick_collector.store.atomic import sync_file
from hk_tick_collector.store.book_reader import symbols as book_symbols
from hk_tick_collector.store.layout import sync_dir

FORMAT_VERSION = 1
OWN_DIR = "hk_tick_collector"
MAX_META_BYTES = 16 << 20
_VENUES = {"HK": "SEHK", "SH": "SSE", "SZ": "SZSE"}
_TRADES, _QUOTES, _EQUITY = "trade_tick", "quote_tick", "equity"
_BEGINS = re.compile(r"(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)-\d{9}Z_.*[.]parquet", re.ASCII)

_LIMITS = {
    **LIMITS,
    "instrument": "Everything is an Equity with one price step for all its days in this catalog, the finest of them.",
    "quotes": "A price and size of 0: there are no orders, or the book is not known (blind).",
    "fills": "To NautilusTrader a trade is the best price of both sides until the next quote, also where the book is "
    "not known: give a backtest the quotes alone where that matters.",
    "quote_ts_event": "When Futu's server had the later of both sides from the exchange; the way to Futu is not in it.",
}
NO_QUOTES = "No books: an order is filled at the price of the last trade, as much of it as there is."


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the files of one symbol and day stand."""

    root: Path
    instrument: str
    day: str
    market: Market

    @property
    def meta(self) -> Path:
        return self.root / OWN_DIR / f"{self.instrument}_{self.day}.json"

    def stored(self) -> list[Path]:
        """The files of the day that are there."""
        files = []
        for kind in (_TRADES, _QUOTES):
            with contextlib.suppress(OSError):
                files += [path for path in (self.root / "data" / kind / self.instrument).iterdir() if self._is_of(path)]
        return sorted(files)

    def _is_of(self, path: Path) -> bool:
        begins = _BEGINS.fullmatch(path.name)
        if begins is None:
            return False
        begin = datetime.strptime(begins.group(1), "%Y-%m-%dT%H-%M-%S").replace(tzinfo=UTC)
        return self.market.trading_day(int(begin.timestamp()) * 1000) == self.day


def export_nautilus(
    parts: Sequence[DayPart],
    root: Path,
    options: Options,
    proofs_of: Callable[[Day], Mapping[str, Proof]],
    say: Callable[[str], None],
    *,
    python: Path,
    force: bool,
    advance: Advance,
) -> Iterator[Exported]:
    """One symbol after the other. ``python``: one that has NautilusTrader. ``say`` takes what is left out and why.
    TargetExists before any work, NoData when there is nothing to export, Incomplete with ``strict``, CatalogFailed when
    the library is not there or refuses."""
    plan = [(part, _symbols(part, options, say)) for part in parts]
    places = {
        (part.day.trading_day, symbol): _Place(root, instrument_id(symbol), part.day.trading_day, part.day.market)
        for part, symbols in plan
        for symbol in symbols
    }
    if not places:
        raise NoData("there is no tick to export on these days")
    check_free((path for place in places.values() for path in (place.meta, *place.stored())), force=force)
    proofs = proofs_of_plan(plan, proofs_of, options)
    return _exported(plan, places, proofs, options, root, python, advance)


def instrument_id(symbol: str) -> str:
    """``00700.SEHK`` of ``HK.00700``."""
    prefix, _, code = symbol.partition(".")
    return f"{code}.{_VENUES.get(prefix, prefix)}"


def _symbols(part: DayPart, options: Options, say: Callable[[str], None]) -> list[str]:
    symbols = part.symbols()
    odd = [symbol for symbol in symbols if file_name(symbol) != symbol]  # of a file of an earlier version
    if odd:
        say(f"{part.day.trading_day}: no names for a catalog, left out: {', '.join(map(ascii, odd[:5]))}")
    symbols = [symbol for symbol in symbols if symbol not in odd]
    booked = set(symbols) if options.trades_only else with_books(part)
    without = [symbol for symbol in symbols if symbol not in booked]
    if without:
        shown = ", ".join(without[:5]) + (" ..." if len(without) > 5 else "")
        say(f"{part.day.trading_day}: no books of {shown}: trades without quotes")
    return symbols


def _exported(
    plan: Plan,
    places: Mapping[tuple[str, str], _Place],
    proofs: Proofs,
    options: Options,
    root: Path,
    python: Path,
    advance: Advance,
) -> Iterator[Exported]:
    with _scratch_in(root) as scratch, Library(python, scratch) as library:
        for part, symbols in plan:
            files = [(None, symbols)] if options.trades_only else book_files(part.day, symbols)
            for path, told in files:
                for group in by_memory(told, path):
                    quotes = _quote_batches(path, group) if path is not None else {}
                    for symbol, ticks in part.day.ticks_by_symbol(group, TICK_COLUMNS):
                        place = places[part.day.trading_day, symbol]
                        proof = proofs[part.day.trading_day].get(symbol, NOTHING_STORED)
                        job = _Job(part, symbol, ticks, options, place, proof, quotes.pop(symbol, None))
                        done = job.run(library, scratch)
                        advance(done.rows)
                        yield done


@dataclass(frozen=True, slots=True)
class _Job:
    """One symbol of one day."""

    part: DayPart
    symbol: str
    ticks: pa.Table  # TICK_COLUMNS
    options: Options
    place: _Place
    proof: Proof
    batches: list[pa.RecordBatch] | None  # in the form QUOTES; None without books

    def run(self, library: Library, scratch: Path) -> Exported:
        day, options, told = self.part.day, self.options, Told()
        types = wanted_types(day, options)
        trades = trades_of(self.ticks, types, options.latency, self.symbol, told, tick_rule=options.tick_rule)
        quotes = None if self.batches is None else quotes_of(self.batches, options.latency, self.symbol, told)
        columns = [(trades.price, trades.volume)]
        lags = [trades.local_ns - trades.exch_ns]
        if quotes is not None:
            columns += [(quotes.bid_price, quotes.bid_size), (quotes.ask_price, quotes.ask_size)]
            lags.append(quotes.seen_ns - quotes.event_ns)
        prices, sizes_traded = (np.concatenate(some) for some in zip(*columns, strict=True))
        sizes = sizes_of(prices, sizes_traded, told_sizes(day).get(self.symbol, (None, None)), options)
        blind = [] if quotes is None else while_trading(day, quotes.blind())
        meta = meta_of(self.part, self.symbol, options, told, self.proof, blind, sizes, np.concatenate(lags))
        meta |= {
            "format_version": FORMAT_VERSION,
            "instrument_id": self.place.instrument,
            "quotes": "none" if quotes is None else "books",
            "nautilus_trader": library.version,
            "limits": {**_LIMITS, "fills": NO_QUOTES} if quotes is None else _LIMITS,
        }
        instrument = _instrument(self.place, self.symbol, meta)
        rows = library.write(scratch, instrument, trades, quotes, f"{day.trading_day} {self.symbol}")
        meta["rows"] = rows
        size_bytes = _put_in_place(scratch, self.place, meta)
        return Exported(self.place.meta, (day.trading_day,), sum(rows.values()), size_bytes, self.part.so_far)


def _quote_batches(path: Path, symbols: Sequence[str]) -> dict[str, list[pa.RecordBatch]]:
    """The quotes of those of the symbols that have books, in one pass over the file."""
    there = book_symbols(path)
    batches_of: dict[str, list[pa.RecordBatch]] = {symbol: [] for symbol in symbols if symbol in there}
    for batch in books.read(path, Form.QUOTES, list(batches_of)) if batches_of else ():
        for symbol, rows in by_symbol(batch):
            batches_of[symbol].append(rows)
    return batches_of


def _instrument(place: _Place, symbol: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    """The symbol as the library is told of it: of all its days in the catalog."""
    days = {str(day_meta["trading_day"]): day_meta for day_meta in (*_metas(place), meta)}
    steps = [float(day_meta["tick_size"]) for day_meta in days.values()]
    return {
        "id": place.instrument,
        "code": symbol.partition(".")[2],
        "currency": place.market.currency_of(symbol) or place.market.currency,
        "decimals": place.market.price_decimals,
        "tick_size": min(steps),
        "lot_size": max(1, round(meta["lot_size"])),
        "info": {
            name: {
                "proof": day_meta["proof"]["state"],
                "missing_ticks": day_meta["proof"]["missing_ticks"],
                "blind_stretches": len(day_meta["blind"]),
                "quotes": day_meta["quotes"],
            }
            for name, day_meta in sorted(days.items())
        },
    }


def _metas(place: _Place) -> Iterator[dict[str, Any]]:
    """Those of the instrument's other days; what cannot be read is none of ours."""
    for path in sorted((place.root / OWN_DIR).glob(f"{place.instrument}_????????.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if path == place.meta or path.stat().st_size > MAX_META_BYTES:
                continue
            meta = json.loads(path.read_bytes())
            if meta["tick_size"] > 0 and {"trading_day", "blind", "quotes"} <= meta.keys():
                _ = meta["proof"]["state"], meta["proof"]["missing_ticks"], len(meta["blind"])
                yield meta


@contextlib.contextmanager
def _scratch_in(root: Path) -> Iterator[Path]:
    """A hidden directory beside the catalog; what killed ones before it left goes, too."""
    made = [directory for directory in (root, *root.parents) if not directory.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise unwritable(root, exc) from exc
    try:
        with Scratch("nautilus", root) as scratch:
            yield scratch
    finally:
        for directory in made:
            with contextlib.suppress(OSError):  # not empty
                directory.rmdir()


def _put_in_place(scratch: Path, place: _Place, meta: Mapping[str, Any]) -> int:
    """Move what the library wrote to where it belongs, over what was there of the day; its bytes."""
    moved = 0
    try:
        for path in (place.meta, *place.stored()):
            path.unlink(missing_ok=True)
        for kind in (_TRADES, _QUOTES, _EQUITY):
            source = scratch / "data" / kind / place.instrument
            target = place.root / "data" / kind / place.instrument
            for path in sorted(source.glob("*.parquet")):
                target.mkdir(parents=True, exist_ok=True)
                sync_file(path)
                moved += path.stat().st_size
                path.replace(target / path.name)
            if target.exists():
                sync_dir(target)
    except OSError as exc:
        raise unavailable(place.root, exc) from exc
    with writing(place.meta) as temporary:
        temporary.write_text(meta_text(meta), encoding="utf-8")
    return moved
