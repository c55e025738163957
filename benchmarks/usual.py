"""A recorder as it is usually written on futu-api: what the others cost that this one takes the place of.

The handler calls the SDK's own ``on_recv_rsp``, which makes a DataFrame of each push, and goes through its records; the
SDK logs as it does when nobody tells it otherwise. Queue, writer and schema are the floor's, which is more than such
programs usually do well: it commits in batches, and takes no step through an event loop. ``recvTime`` and ``typeSign``
are not in the DataFrame and so not in its rows.
"""

from __future__ import annotations

import queue
import sys
import time
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import futu

from benchmarks.floor import Row, run

HK = ZoneInfo("Asia/Hong_Kong")


class Handler(futu.TickerHandlerBase):  # type: ignore[misc]
    """Turns a push into rows on the SDK's callback thread."""

    def __init__(self, rows: queue.SimpleQueue[list[Row]]) -> None:
        super().__init__()
        self._rows = rows

    def on_recv_rsp(self, rsp_pb: Any) -> tuple[int, Any]:
        ret, data = super().on_recv_rsp(rsp_pb)
        if ret != futu.RET_OK:
            return ret, data
        now_ms = time.time_ns() // 1_000_000
        self._rows.put([_row(record, now_ms) for record in data.to_dict("records")])
        return ret, data


def _row(record: dict[str, Any], now_ms: int) -> Row:
    moment = datetime.strptime(record["time"], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=HK)
    return (
        "HK",
        record["code"],
        round(moment.timestamp() * 1000),
        record["price"],
        record["volume"],
        record["turnover"],
        record["ticker_direction"],
        record["sequence"],
        record["type"],
        "push",
        "futu",
        moment.strftime("%Y%m%d"),
        now_ms,
        now_ms,
        record["push_data_type"],
        None,
        None,
    )


if __name__ == "__main__":
    sys.exit(run(Handler))
