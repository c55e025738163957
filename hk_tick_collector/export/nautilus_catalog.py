"""Writes a NautilusTrader catalog, as a program of its own. What its files hold inside depends on the library's build,
so the library writes them. It wants another pandas than the recorder, so the Python that runs this may be another one,
and nothing of the recorder is imported.

    python -I nautilus_catalog.py CATALOG

A line of JSON on standard output says which NautilusTrader that is. Then each line of standard input is a job::

    {"instrument": {"id", "code", "currency", "decimals", "tick_size", "lot_size", "info"},
     "trades": ARROW_FILE, "quotes": ARROW_FILE | null}

and is answered by ``{"trades": rows, "quotes": rows}`` or ``{"error": text}``. The Arrow files have the columns that
``export.nautilus`` gives them, in the order of ``ts_init``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

OBJECTS_AT_ONCE = 100_000  # each is some 200 bytes of Python


def main(catalog_path: str) -> int:
    """Run it."""
    try:
        import nautilus_trader  # noqa: PLC0415 - whether it is there is the question
        from nautilus_trader.persistence.catalog import ParquetDataCatalog  # noqa: PLC0415
    except ImportError as exc:
        _tell({"error": str(exc)})
        return 1
    _tell({"nautilus_trader": nautilus_trader.__version__})
    catalog = ParquetDataCatalog(catalog_path)
    for line in sys.stdin:
        try:
            _tell(_write(catalog, json.loads(line)))
        except Exception as exc:  # noqa: BLE001 - the library's words are for the user
            _tell({"error": f"{type(exc).__name__}: {exc}"})
    return 0


def _tell(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _write(catalog: Any, job: dict[str, Any]) -> dict[str, int]:
    instrument = _instrument(job["instrument"])
    catalog.write_data([instrument])
    rows = {"trades": 0, "quotes": 0}
    for kind, objects_of in (("trades", _trades), ("quotes", _quotes)):
        for table in _pieces(job[kind]) if job[kind] else ():
            catalog.write_data(objects_of(instrument, table))
            rows[kind] += table.num_rows
    return rows


def _instrument(told: dict[str, Any]) -> Any:
    from nautilus_trader.model.identifiers import InstrumentId, Symbol  # noqa: PLC0415
    from nautilus_trader.model.instruments import Equity  # noqa: PLC0415
    from nautilus_trader.model.objects import Currency, Price, Quantity  # noqa: PLC0415

    return Equity(
        instrument_id=InstrumentId.from_str(told["id"]),
        raw_symbol=Symbol(told["code"]),
        currency=Currency.from_str(told["currency"]),
        price_precision=told["decimals"],
        price_increment=Price(told["tick_size"], told["decimals"]),
        lot_size=Quantity.from_int(told["lot_size"]),
        ts_event=0,
        ts_init=0,
        info=told["info"],
    )


def _trades(instrument: Any, table: Any) -> Any:
    from nautilus_trader.model.data import TradeTick  # noqa: PLC0415

    column = _columns(table)
    return TradeTick.from_raw_arrays_to_list(
        instrument.id, instrument.price_precision, instrument.size_precision, column["price"], column["size"],
        column["aggressor_side"], table.column("trade_id").to_pylist(), column["ts_event"], column["ts_init"],
    )  # fmt: skip


def _quotes(instrument: Any, table: Any) -> Any:
    from nautilus_trader.model.data import QuoteTick  # noqa: PLC0415

    column = _columns(table)
    return QuoteTick.from_raw_arrays_to_list(
        instrument.id, instrument.price_precision, instrument.size_precision, column["bid_price"], column["ask_price"],
        column["bid_size"], column["ask_size"], column["ts_event"], column["ts_init"],
    )  # fmt: skip


def _columns(table: Any) -> dict[str, Any]:
    """Arrays that may be written to, as the library wants them."""
    return {name: table.column(name).to_numpy().copy() for name in table.column_names if name != "trade_id"}


def _pieces(path: str) -> Iterator[Any]:
    """The rows of a file, in pieces that no moment is part of two of: the library refuses files that overlap."""
    import numpy as np  # noqa: PLC0415
    import pyarrow as pa  # noqa: PLC0415

    table = pa.ipc.open_file(pa.memory_map(path)).read_all()
    seen = table.column("ts_init").to_numpy()
    start = 0
    while start < len(seen):
        end = min(start + OBJECTS_AT_ONCE, len(seen))
        if end < len(seen):
            begins = int(np.searchsorted(seen, seen[end]))  # of the moment that the piece would cut
            end = begins if begins > start else int(np.searchsorted(seen, seen[end], side="right"))
        yield table.slice(start, end - start)
        start = end


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
