"""An answer of a reading process as an ASGI response.

A body that breaks in its middle is never finished: the connection ends without the last chunk, so every client sees
that it is not whole. A client that has gone, or takes nothing for as long as a read may work, ends the read; so does
one whose key was taken back or has expired meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.serve.api.pool import Answer, Broken, Pool
from hk_tick_collector.serve.auth import request_id_of
from hk_tick_collector.serve.problems import Problem, send_problem

PACKED = ("application/json", "application/x-ndjson", "text/csv", "text/html")
_GZIP_LEVEL = 1
KEY_LOOK_SEC = 1.0
_log = RateLimitedLog(logging.getLogger(__name__))


class PoolResponse(Response):
    """The answer to ``question``. ``on_rows`` is told how many rows went out; ``is_welcome``: is the key still good?"""

    def __init__(
        self,
        pool: Pool,
        question: Mapping[str, Any],
        *,
        timeout_sec: float,
        headers: Mapping[str, str],
        on_rows: Callable[[int], None],
        is_welcome: Callable[[], bool],
    ) -> None:
        self._pool = pool
        self._question = question
        self._timeout_sec = timeout_sec
        self._more = headers
        self._on_rows = on_rows
        self._is_welcome = is_welcome
        self._has_begun = False
        self.background = None
        self.status_code = 200

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, unless the client goes before, or is not welcome any more."""
        sending = asyncio.create_task(self._send(scope, send))
        others = asyncio.create_task(_gone(receive)), asyncio.create_task(self._not_welcome())
        try:
            await asyncio.wait({sending, *others}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            refused = others[1].done() and not sending.done()
            for task in (sending, *others):
                if not task.done():
                    task.cancel()
            results = await asyncio.gather(sending, *others, return_exceptions=True)
        if refused:
            _log.log(logging.WARNING, "answer_broken", reason="the key was taken back", request_id=request_id_of(scope))
        if refused and not self._has_begun:
            problem = Problem("unauthorized", "the key was taken back, or its time is over")
            await send_problem(scope, send, problem, request_id_of(scope))
        error = results[0]
        if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
            raise error

    async def _not_welcome(self) -> None:
        while self._is_welcome():  # noqa: ASYNC110 - nobody tells when a key's time is over
            await asyncio.sleep(KEY_LOOK_SEC)

    async def _send(self, scope: Scope, send: Send) -> None:
        try:
            async with self._pool.answer(self._question) as answer:
                pack = _packer(scope, answer)
                self._has_begun = True
                await self._start(answer, send, is_packed=pack is not None)
                async for piece in answer.body():
                    await self._piece(send, piece if pack is None else pack.compress(piece))
                await self._piece(send, b"" if pack is None else pack.flush(), is_last=True)
                self._on_rows(answer.rows)
        except Problem as problem:
            if self._has_begun:
                raise
            self.status_code = problem.kind.status
            problem.headers.update(self._more)
            await send_problem(scope, send, problem, request_id_of(scope))
        except (Broken, TimeoutError) as exc:
            reason = str(exc) or "the client took nothing"
            _log.log(logging.WARNING, "answer_broken", reason=reason, request_id=request_id_of(scope))
            # Without the end of the body: uvicorn then ends the connection.

    async def _start(self, answer: Answer, send: Send, *, is_packed: bool) -> None:
        self.status_code = answer.status
        headers = {
            **answer.headers,
            **{name.lower(): value for name, value in self._more.items()},
            "vary": "Accept, Accept-Encoding",
        }
        if is_packed:
            headers["content-encoding"] = "gzip"
        raw = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": raw})

    async def _piece(self, send: Send, piece: bytes, *, is_last: bool = False) -> None:
        if piece or is_last:
            async with asyncio.timeout(self._timeout_sec):
                await send({"type": "http.response.body", "body": piece, "more_body": not is_last})


def _packer(scope: Scope, answer: Answer) -> Any:
    """gzip, where the client takes it and the body is text."""
    accepted = b",".join(value for name, value in scope["headers"] if name == b"accept-encoding")
    kind = answer.headers.get("content-type", "").partition(";")[0]
    if b"gzip" not in accepted or kind not in PACKED:
        return None
    return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
