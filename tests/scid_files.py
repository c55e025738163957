"""Writes ``.scid`` files from the published layouts, and reads them in another way than the recorder does.

The layout stands here a second time on purpose: a mistake in the recorder's reading must not be one of the tests, too.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

EPOCH = datetime(1899, 12, 30)  # noqa: DTZ001 - as the layout says, without a zone
UNIX = datetime(1970, 1, 1)  # noqa: DTZ001
FIRST_PART, LAST_PART = -1.99900095e37, -1.99900197e37

DTYPE = np.dtype(
    [
        ("t", "<i8"), ("open", "<f4"), ("high", "<f4"), ("low", "<f4"), ("close", "<f4"),
        ("n", "<u4"), ("vol", "<u4"), ("bid", "<u4"), ("ask", "<u4"),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class Trade:
    """One record of 1-tick storage. ``us``: Unix microseconds; ``side``: whose price was hit."""

    us: int
    price: float = 5000.25
    volume: int = 1
    side: str = "ask"  # ask | bid | none
    bid: float = 5000.0
    ask: float = 5000.25
    open: float = 0.0
    trades: int = 1

    def pack(self) -> bytes:
        time = self.us + round((UNIX - EPOCH).total_seconds()) * 1_000_000
        hit = (self.volume if self.side == "bid" else 0, self.volume if self.side == "ask" else 0)
        return struct.pack(
            "<qffffIIII", time, self.open, self.ask, self.bid, self.price, self.trades, self.volume, *hit
        )


def header(header_bytes: int = 56, record_bytes: int = 40, version: int = 1) -> bytes:
    fields = struct.pack("<4sIIHHI", b"SCID", header_bytes, record_bytes, version, 0, 0)
    return fields.ljust(header_bytes, b"\0")


def scid_bytes(trades: Iterable[Trade]) -> bytes:
    return header() + b"".join(trade.pack() for trade in trades)


def write_scid(path: Path, trades: Iterable[Trade]) -> Path:
    path.write_bytes(scid_bytes(trades))
    return path


def append(path: Path, trades: Iterable[Trade]) -> None:
    with path.open("ab") as file:
        file.write(b"".join(trade.pack() for trade in trades))


def bar(us: int) -> Trade:
    """A record of another storage unit."""
    return Trade(us, price=5000.5, volume=40, open=5000.0, bid=4999.75, ask=5001.0, trades=17)


def read_independently(path: Path) -> np.ndarray:
    """The file's records as an array, and their times in Unix microseconds."""
    records = np.fromfile(path, dtype=DTYPE, offset=56)
    records["t"] -= np.int64(25_569 * 86_400 * 1_000_000)  # days from 1899-12-30 to 1970-01-01
    return records


def run_of(start_us: int, count: int, step_us: int = 250_000, **more: object) -> list[Trade]:
    """``count`` trades that follow each other, with prices and sides that change."""
    first = Trade(start_us, **more)  # type: ignore[arg-type]
    return [
        replace(
            first,
            us=start_us + number * step_us,
            price=5000.0 + 0.25 * (number % 9),
            volume=1 + number % 5,
            side=("ask", "bid")[number % 2],
        )
        for number in range(count)
    ]
