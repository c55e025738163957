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

import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from isal import isal_zlib

from hk_tick_collector.core.errors import NoData
from hk_tick_collector.days import books
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.export import shares
from hk_tick_collector.export.backtest import (
    LIMITS,
    NOTHING_STORED,
    Options,
    Plan,
    Proof,
    Proofs,
    book_files,
    by_memory,
    meta_of,
    meta_text,
    proofs_of_plan,
    sizes_of,
    told_sizes,
    wanted_types,
    while_trading,
    with_books,
)
from hk_tick_collector.export.hft_depth import Changes, by_symbol, depth_rows
from hk_tick_collector.export.hft_events import (
    TICK_COLUMNS,
    Told,
    in_both_orders,
    order_latency,
    trade_rows,
    trades_of,
)
from hk_tick_collector.export.job import Exported
from hk_tick_collector.export.rows import Advance, DayPart
from hk_tick_collector.export.target import check_free, writing
from hk_tick_collector.market.symbols import file_name

FORMAT_VERSION = 1
_WRITERS = 2
_COMPRESS_LEVEL = 2  # of ISA-L: smaller than zlib's level 1, at a fifth of its time

# What a user has to know before a result is believed; in the meta, by its key.
_LIMITS = {
    "depth": "Below the levels that the account's right shows nothing is known: a level that left them is taken out.",
    "depth_exch_ts": "When Futu's server had that side from the exchange: the way from there to Futu is not in it.",
    **LIMITS,
}
NO_DEPTH = "No book: an order is filled at once when a trade of the other side touches its price, which no market does."


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
    processes: int = 1,
) -> Iterator[Exported]:
    """One day after the other, the symbols of a day by as many ``processes``. ``say`` takes what is left out and why.
    NoData when nothing can be exported at all, TargetExists before any work, Incomplete with ``strict``."""
    plan = [(part, _symbols(part, options, say)) for part in parts]
    names = {
        (part.day.trading_day, symbol): _names(root, part, symbol, options) for part, some in plan for symbol in some
    }
    if not names:
        raise NoData("there are no books of these days and symbols: --trades-only exports the trades alone")
    check_free((path for some in names.values() for path in some.all), force=force)
    return _files(plan, names, proofs_of_plan(plan, proofs_of, options), options, processes, advance)


def _symbols(part: DayPart, options: Options, say: Callable[[str], None]) -> list[str]:
    day = part.day.trading_day
    ticked = part.symbols()
    if options.trades_only:
        return ticked
    booked = with_books(part)
    if part.selection.symbols:
        booked.intersection_update(part.selection.symbols)
    without = [symbol for symbol in ticked if symbol not in booked]
    if without:
        shown = ", ".join(without[:5]) + (" ..." if len(without) > 5 else "")
        say(f"{day}: no books of {shown}: left out (--trades-only exports the trades alone)")
    return sorted(booked)


def _names(root: Path, part: DayPart, symbol: str, options: Options) -> _Names:
    stem = f"{file_name(symbol)}_{part.day.trading_day}"
    kind = "_trades" if options.trades_only else ""
    return _Names(root / f"{stem}{kind}.npz", root / f"{stem}{kind}_latency.npz", root / f"{stem}{kind}_meta.json")


def _files(
    plan: Plan,
    names: Mapping[tuple[str, str], _Names],
    proofs: Proofs,
    options: Options,
    processes: int,
    advance: Advance,
) -> Iterator[Exported]:
    for part, symbols in plan:
        day = part.day.trading_day
        names_of_day = {symbol: names[day, symbol] for symbol in symbols}
        sizes = told_sizes(part.day)
        files = [(None, symbols)] if options.trades_only else book_files(part.day, symbols)
        for path, told in files:
            work = _BookFile(part, path, options, names_of_day, proofs.get(day, {}), sizes)
            made = {file.path: file for file in shares.exported(work, path, told, processes, advance)}
            yield from (made[names_of_day[symbol].events] for symbol in told)


@dataclass(frozen=True, slots=True)
class _BookFile:
    """The files of the symbols whose books one file tells."""

    part: DayPart
    path: Path | None
    options: Options
    names: Mapping[str, _Names]
    proofs: Mapping[str, Proof]
    sizes: Mapping[str, tuple[float | None, int | None]]

    def export(self, symbols: Sequence[str], parts: int, advance: Advance) -> Iterator[Exported]:
        """As of ``shares.Work``."""
        with _Writers() as writers:
            for group in by_memory(symbols, self.path, parts):
                changes = _changes(self.path, group) if self.path is not None else {}
                for symbol, ticks in self.part.day.ticks_by_symbol(group, TICK_COLUMNS):
                    proof, size = self.proofs.get(symbol, NOTHING_STORED), self.sizes.get(symbol, (None, None))
                    of_symbol = changes.pop(symbol, [])
                    job = _Job(self.part, symbol, ticks, self.options, self.names[symbol], proof, size, of_symbol)
                    yield from writers.put(job.run())
                    advance(ticks.num_rows)
            yield from writers.rest()


class _Writers:
    """Packs and writes files beside the making of the next ones: zlib and the disk wait for nobody, and nobody for
    them. At most ``_WRITERS`` files more than are being written are in memory."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_WRITERS, thread_name_prefix="export")
        self._pending: deque[Future[Exported]] = deque()

    def __enter__(self) -> _Writers:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def put(self, write: Callable[[], Exported]) -> Iterator[Exported]:
        """What was written meanwhile, in the order in which it was put."""
        self._pending.append(self._threads.submit(write))
        while len(self._pending) > 2 * _WRITERS:
            yield self._pending.popleft().result()

    def rest(self) -> Iterator[Exported]:
        """All that is left."""
        while self._pending:
            yield self._pending.popleft().result()


@dataclass(frozen=True, slots=True)
class _Job:
    """One symbol of one day."""

    part: DayPart
    symbol: str
    ticks: pa.Table  # TICK_COLUMNS
    options: Options
    names: _Names
    proof: Proof
    source_size: tuple[float | None, int | None]
    changes: list[Changes]

    def run(self) -> Callable[[], Exported]:
        """What writes the files, from any thread."""
        day, options, told = self.part.day, self.options, Told()
        types = wanted_types(day, options)
        trades = trades_of(self.ticks, types, options.latency, self.symbol, told, tick_rule=options.tick_rule)
        depth, unknown = depth_rows(self.changes, options.latency, self.symbol, told)
        blind = [] if options.trades_only else while_trading(day, unknown)
        rows = trade_rows(trades).then(depth)
        sizes = sizes_of(rows.price, rows.quantity, self.source_size, options)
        meta = meta_of(self.part, self.symbol, options, told, self.proof, blind, sizes, rows.local_ns - rows.exch_ns)
        events = in_both_orders(rows)
        meta |= {**_own_meta(options), "events": len(events)}
        latency = order_latency(rows)

        def write() -> Exported:
            size_bytes = _write(self.names, events, latency, meta)
            return Exported(self.names.events, (day.trading_day,), len(events), size_bytes, self.part.so_far)

        return write


def _changes(path: Path, symbols: Sequence[str]) -> dict[str, list[Changes]]:
    """What became of the books of some symbols, in one pass over the file."""
    parts: dict[str, list[Changes]] = {}
    for rows in books.walk(path, symbols, 1, with_changes=True):
        for symbol, changes in by_symbol(rows):
            parts.setdefault(symbol, []).append(changes)
    return parts


def _own_meta(options: Options) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "time_unit": "ns",
        "depth": "none" if options.trades_only else "pushes",
        "limits": {**_LIMITS, "fills": NO_DEPTH} if options.trades_only else _LIMITS,
    }


def _write(names: _Names, events: npt.NDArray[np.void], latency: npt.NDArray[np.void], meta: dict[str, Any]) -> int:
    """All three in their place; the bytes of the events. The meta comes last: with it the export is whole."""
    with writing(names.meta) as meta_file, writing(names.latency) as latency_file, writing(names.events) as events_file:
        _write_npz(events_file, events)
        _write_npz(latency_file, latency)
        meta_file.write_text(meta_text(meta), encoding="utf-8")
    return names.events.stat().st_size


def _write_npz(path: Path, data: npt.NDArray[np.void]) -> None:
    """As ``numpy.savez_compressed(path, data=data)``, packed by a library that keeps up, and the same bytes each
    time."""
    entry = zipfile.ZipInfo("data.npy")
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    with zipfile.ZipFile(path, "w") as archive, archive.open(entry, "w", force_zip64=True) as file:
        # zipfile has no way to name a compressor, and its own is slow. A test sees that this one is used.
        packer = isal_zlib.compressobj(_COMPRESS_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
        file._compressor = packer  # type: ignore[attr-defined]
        np.lib.format.write_array(file, data, allow_pickle=False)
