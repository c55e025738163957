"""NautilusTrader, in a process of its own (``nautilus_catalog``), and the trades and quotes that it is handed."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.days import books
from hk_tick_collector.days.books import Form
from hk_tick_collector.export import nautilus_catalog
from hk_tick_collector.export.hft_events import FOR_EVER, Floats, Ints, Latency, LatencyMode, Told, Trades, beyond_limit


class CatalogFailed(RecorderError):
    """NautilusTrader is not there, or did not write what it was given."""


class Quotes(NamedTuple):
    """A symbol's best prices where they change, in the order in which they were seen; price and size 0 where there is
    nobody, or the book is not known."""

    event_ns: Ints
    seen_ns: Ints
    bid_price: Floats
    ask_price: Floats
    bid_size: Floats
    ask_size: Floats
    known: npt.NDArray[np.bool_]

    def blind(self) -> Ints:
        """From when to when the book was not known, UTC epoch ms: the first begins with 0, an end is FOR_EVER where it
        stayed unknown."""
        known = np.concatenate(([False], self.known, [True]))
        seen_ms = np.concatenate(([0], self.seen_ns // 1_000_000, [FOR_EVER]))
        begins = np.flatnonzero(~known & np.concatenate(([True], known[:-1])))
        ends = np.flatnonzero(known & np.concatenate(([False], ~known[:-1])))
        return np.stack((seen_ms[begins], seen_ms[ends]), axis=1)


def quotes_of(batches: Sequence[pa.RecordBatch], latency: Latency, symbol: str, told: Told) -> Quotes:
    """Of rows in the form QUOTES of ``days.books``, of one symbol."""
    table = pa.Table.from_batches(batches, books.schema_of(Form.QUOTES))
    recv_ns = _ints(table, "recv_ts") * 1000
    side_ns = np.maximum(_ints(table, "bid_ts"), _ints(table, "ask_ts")) * 1_000_000
    event_ns = np.where(side_ns > 0, np.minimum(side_ns, recv_ns), recv_ns)
    if latency.mode is not LatencyMode.MEASURED:
        recv_ns = event_ns + latency.draw_ns(len(event_ns), f"{symbol} quotes", 0.0)
    seen_ns = np.maximum.accumulate(recv_ns) if len(recv_ns) else recv_ns
    bid, ask, bid_size, ask_size = (_floats(table, f"{name}_0") for name in ("bid_px", "ask_px", "bid_qty", "ask_qty"))
    for price, size in ((bid, bid_size), (ask, ask_size)):
        is_beyond = beyond_limit(price, size, told)
        price[is_beyond] = size[is_beyond] = 0.0
    unknown = np.asarray(table.column("bid_levels").is_null())
    told.add("quotes", len(seen_ns))
    told.add("quotes_of_one_side", int(np.count_nonzero(~unknown & ((bid_size == 0) != (ask_size == 0)))))
    told.add("quotes_of_none", int(np.count_nonzero(~unknown & (bid_size == 0) & (ask_size == 0))))
    told.add("quotes_not_known", int(np.count_nonzero(unknown)))
    told.add("quotes_without_time", int(np.count_nonzero(~unknown & (side_ns <= 0))))
    return Quotes(event_ns, seen_ns, bid, ask, bid_size, ask_size, ~unknown)


def _ints(table: pa.Table, name: str) -> Ints:
    return np.asarray(pc.fill_null(table.column(name).cast(pa.int64()), 0)).astype(np.int64)


def _floats(table: pa.Table, name: str) -> Floats:
    return np.asarray(pc.fill_null(table.column(name).cast(pa.float64()), 0.0)).astype(np.float64)


class Library:
    """The program that has NautilusTrader, for as long as the block runs."""

    def __init__(self, python: Path, catalog: Path) -> None:
        self.version = ""
        self._python = python
        self._words = [str(python), "-I", str(Path(nautilus_catalog.__file__)), str(catalog)]

    def __enter__(self) -> Library:
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - a Python that the user names
                self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True
            )
        except OSError as exc:
            self._errors.close()
            raise CatalogFailed(f"{self._python} cannot be run: {exc.strerror or exc}") from exc
        try:
            self.version = str(self._answer()["nautilus_trader"])
        except CatalogFailed as exc:
            self._end()
            raise CatalogFailed(
                f"{self._python} has no NautilusTrader ({exc}): pip install nautilus_trader into an environment of its "
                "own, and name its Python with --python"
            ) from exc
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def write(
        self, scratch: Path, instrument: dict[str, Any], trades: Trades, quotes: Quotes | None, subject: str
    ) -> dict[str, int]:
        """Into the catalog; the rows by kind."""
        files = {"trades": scratch / "trades.arrow", "quotes": scratch / "quotes.arrow"}
        _write_arrow(files["trades"], _trade_columns(trades))
        job: dict[str, Any] = {"instrument": instrument, "trades": str(files["trades"]), "quotes": None}
        if quotes is not None:
            _write_arrow(files["quotes"], _quote_columns(quotes))
            job["quotes"] = str(files["quotes"])
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it is gone: its last words come as the answer
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
        answer = self._answer(subject)
        return {name: int(answer[name]) for name in files}

    def _answer(self, subject: str = "") -> dict[str, Any]:
        about = f"{subject}: " if subject else ""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError:
            raise CatalogFailed(f"{about}{self._last_words() or 'it ended without a word'}") from None
        if "error" in answer:
            raise CatalogFailed(f"{about}{answer['error']}")
        return answer

    def _last_words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        self._errors.seek(0)
        lines = self._errors.read()[-4096:].decode("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else ""

    def _end(self) -> None:
        with contextlib.suppress(OSError):
            self._process.communicate(timeout=10)
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._errors.close()


def _trade_columns(trades: Trades) -> dict[str, npt.NDArray[Any] | pa.Array]:
    seen_ns = np.maximum(trades.local_ns, trades.exch_ns)
    order = np.argsort(seen_ns, kind="stable")
    numbers = np.where(trades.seq != 0, trades.seq, np.arange(1, len(order) + 1))
    return {
        "price": trades.price[order],
        "size": trades.volume[order],
        "aggressor_side": trades.side[order].astype(np.uint8),
        "trade_id": pa.array(numbers[order]).cast(pa.string()),
        "ts_event": trades.exch_ns[order].astype(np.uint64),
        "ts_init": seen_ns[order].astype(np.uint64),
    }


def _quote_columns(quotes: Quotes) -> dict[str, npt.NDArray[Any] | pa.Array]:
    return {
        "bid_price": quotes.bid_price,
        "ask_price": quotes.ask_price,
        "bid_size": quotes.bid_size,
        "ask_size": quotes.ask_size,
        "ts_event": quotes.event_ns.astype(np.uint64),
        "ts_init": quotes.seen_ns.astype(np.uint64),
    }


def _write_arrow(path: Path, columns: Mapping[str, npt.NDArray[Any] | pa.Array]) -> None:
    table = pa.table({name: pa.array(column) for name, column in columns.items()})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
