"""The least that sending followed rows to many WebSocket clients costs: what ``benchmarks.live`` is judged beside.

python -m benchmarks.live_floor ROOT PORT PACE_SEC

The same uvicorn and the same follower; every pace each client gets the new rows as they are, made into JSON once.
There is no cursor, no filter, no key, no limit and no resume.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import uvicorn

from hk_tick_collector.store.follow import LOOK_SEC, Follower


class Floor:
    """An ASGI application: whoever connects gets every row that comes."""

    def __init__(self, root: Path, pace_sec: float) -> None:
        self._root, self._pace_sec = root, pace_sec
        self._sends: set[Callable[[Any], Awaitable[None]]] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """As ASGI has it."""
        if scope["type"] == "lifespan":
            async with self._following():
                await receive()
                await send({"type": "lifespan.startup.complete"})
                await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await receive()
        await send({"type": "websocket.accept"})
        self._sends.add(send)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        self._sends.discard(send)

    @contextlib.asynccontextmanager
    async def _following(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._follow())
        yield
        task.cancel()

    async def _follow(self) -> None:
        with Follower(self._root) as follower:
            position, rows, told_sec = follower.end(), [], 0.0
            loop = asyncio.get_running_loop()
            while True:
                batch = follower.read_behind(position)
                if batch is not None:
                    position, rows = batch.position, rows + [row[1:] for row in batch.rows]
                if rows and loop.time() >= told_sec + self._pace_sec:
                    told_sec, text = loop.time(), orjson.dumps({"type": "ticks", "ticks": rows}).decode()
                    rows = []
                    for send in list(self._sends):
                        with contextlib.suppress(Exception):
                            await send({"type": "websocket.send", "text": text})
                await asyncio.sleep(LOOK_SEC)


def main() -> None:
    """Serve until killed."""
    app = Floor(Path(sys.argv[1]), float(sys.argv[3]))
    uvicorn.run(
        app, port=int(sys.argv[2]), ws="websockets-sansio", ws_per_message_deflate=False, log_config=None,
        access_log=False,
    )  # fmt: skip


if __name__ == "__main__":
    main()
