"""The least a program on the futu-api SDK can do to keep ticks in day files: what the recorder is measured against.

The SDK's own push handler reads the protobuf (no DataFrame), its debug log is off, and one thread inserts what waits,
500 rows at most and every 10 ms at most, as the recorder does, into the recorder's own schema. That is all: no zones,
no checks, no continuity, no spill, no retry, no reconnect, no metrics. It loses ticks on any disturbance.

Takes FUTU_HOST, FUTU_PORT, FUTU_SYMBOLS and DATA_ROOT from the environment and runs until SIGTERM.
"""

from __future__ import annotations

import itertools
import operator
import os
import queue
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import futu
from futu.common.ft_logger import logger as sdk_logger

from hk_tick_collector.store.connect import SqliteOptions, open_day_file

BATCH_ROWS = 500
COMMIT_INTERVAL_SEC = 0.01
DIRECTIONS = {1: "BUY", 2: "SELL", 3: "NEUTRAL"}
TICK_TYPES = {1: "AUTO_MATCH", 4: "INTER_AUTO_MATCH", 5: "INTER_NON_AUTO_MATCH", 6: "ODD_LOT", 7: "AUCTION"}
PUSH_DATA_TYPES = {1: "REALTIME", 2: "BYDISCONN", 3: "CACHE"}
COLUMNS = (
    "market", "symbol", "ts_ms", "price", "volume", "turnover", "direction", "seq", "tick_type", "push_type",
    "provider", "trading_day", "recv_ts_ms", "inserted_at_ms", "push_data_type", "opend_recv_ts_ms", "type_sign",
)  # fmt: skip
INSERT = f"INSERT OR IGNORE INTO ticks ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_TRADING_DAY = operator.itemgetter(COLUMNS.index("trading_day"))

Row = tuple[Any, ...]


class Handler(futu.TickerHandlerBase):  # type: ignore[misc]
    """Turns a push into rows on the SDK's callback thread."""

    def __init__(self, rows: queue.SimpleQueue[list[Row]]) -> None:
        super().__init__()
        self._rows = rows

    def on_recv_rsp(self, rsp_pb: Any) -> tuple[int, None]:
        now_ms = time.time_ns() // 1_000_000
        s2c = rsp_pb.s2c
        symbol = "HK." + s2c.security.code
        self._rows.put(
            [
                (
                    "HK",
                    symbol,
                    int(t.timestamp * 1000 + 0.5),
                    t.price,
                    t.volume,
                    t.turnover,
                    DIRECTIONS.get(t.dir),
                    t.sequence,
                    TICK_TYPES.get(t.type),
                    "push",
                    "futu",
                    t.time[:10].replace("-", ""),
                    now_ms,
                    now_ms,
                    PUSH_DATA_TYPES.get(t.pushDataType),
                    int(t.recvTime * 1000 + 0.5),
                    chr(t.typeSign),
                )
                for t in s2c.tickerList
            ]
        )
        return futu.RET_OK, None


def write(data_root: Path, rows: queue.SimpleQueue[list[Row]], stop: threading.Event) -> None:
    """Insert until told to stop."""
    files: dict[str, sqlite3.Connection] = {}
    while not stop.is_set():
        try:
            batch = rows.get(timeout=0.2)
        except queue.Empty:
            continue
        while len(batch) < BATCH_ROWS and not rows.empty():
            batch += rows.get()
        for day, same_day in itertools.groupby(batch, _TRADING_DAY):
            conn = files.get(day)
            if conn is None:
                conn = files[day] = open_day_file(data_root / f"{day}.db", SqliteOptions())
            conn.execute("BEGIN IMMEDIATE")
            conn.executemany(INSERT, same_day)
            conn.execute("COMMIT")
        if rows.empty():
            time.sleep(COMMIT_INTERVAL_SEC)
    for conn in files.values():
        conn.close()


def run(make_handler: Callable[[queue.SimpleQueue[list[Row]]], Any]) -> int:
    """Subscribe and store until SIGTERM. Exit code 1 when OpenD refuses or the writer fails."""
    futu.SysConfig.set_all_thread_daemon(True)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    rows: queue.SimpleQueue[list[Row]] = queue.SimpleQueue()
    context = futu.OpenQuoteContext(os.environ["FUTU_HOST"], int(os.environ["FUTU_PORT"]))
    context.set_handler(make_handler(rows))
    writer = threading.Thread(target=write, args=(Path(os.environ["DATA_ROOT"]), rows, stop))
    writer.start()
    codes = os.environ["FUTU_SYMBOLS"].split(",")
    ret, message = context.subscribe(codes, [futu.SubType.TICKER])
    if ret != futu.RET_OK:
        print(f"OpenD refused: {message}", file=sys.stderr)
        stop.set()
    else:
        print(f"futu_subscribed symbols={len(codes)}", flush=True)
    while writer.is_alive() and not stop.wait(0.5):
        pass
    failed = ret != futu.RET_OK or not stop.is_set()
    stop.set()
    writer.join()
    context.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sdk_logger.file_level = sdk_logger.console_level = 40
    sys.exit(run(Handler))
