"""Read a Parquet file of ours with single bits flipped, a line of JSON a bit and way of reading.

    python parquet_flips.py FILE SCRATCH < numbers of bits

A process of its own, because Arrow ends it over some footers. Of each read: ``same``, ``refused`` (StoreCorrupt or
StoreUnavailable), ``other`` (other rows than the whole file has) or the exception.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hk_tick_collector.core.errors import StoreCorrupt, StoreUnavailable
from hk_tick_collector.days import parquet
from hk_tick_collector.days.content import content_of

SYMBOLS = ("HK.00005", "HK.09988")
READERS: dict[str, Callable[[Path], Any]] = {
    "read_batches": lambda path: content_of(parquet.read_batches(path)).content_hash,
    "read_symbols": lambda path: parquet.read_symbols(path, SYMBOLS).to_pylist(),
    "some columns": lambda path: parquet.read_symbols(path, SYMBOLS, ("price",), start_ms=0).to_pylist(),
}


def outcome(read: Callable[[Path], Any], path: Path, expected: Any) -> str:
    try:
        return "same" if read(path) == expected else "other"
    except (StoreCorrupt, StoreUnavailable):
        return "refused"
    except Exception as exc:  # whatever it is, the test names it
        return repr(exc)


def main() -> None:
    whole, scratch = Path(sys.argv[1]), Path(sys.argv[2])
    expected = {name: read(whole) for name, read in READERS.items()}
    data = bytearray(whole.read_bytes())
    for bit in map(int, sys.stdin.read().split()):
        data[bit // 8] ^= 1 << bit % 8
        scratch.write_bytes(data)
        data[bit // 8] ^= 1 << bit % 8
        for name, read in READERS.items():
            print(json.dumps([bit, name, outcome(read, scratch, expected[name])]), flush=True)


if __name__ == "__main__":
    main()
