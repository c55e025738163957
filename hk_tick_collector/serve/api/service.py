"""What the routes work with: rights and limits of a request, questions to the reading processes, looks of a thread."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

import anyio.to_thread
import orjson
from fastapi import Request
from starlette.responses import Response

from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.serve.api.health import RootsLook
from hk_tick_collector.serve.api.latest import KEEP_SEC, Latest, Newest
from hk_tick_collector.serve.api.metrics import Metrics
from hk_tick_collector.serve.api.older import OlderAt
from hk_tick_collector.serve.api.pool import Broken, Pool
from hk_tick_collector.serve.api.roots import Root, Roots
from hk_tick_collector.serve.api.stream import PoolResponse
from hk_tick_collector.serve.api.worker import key_to_json
from hk_tick_collector.serve.auth import Gate, limit_headers, limited
from hk_tick_collector.serve.keys import Key
from hk_tick_collector.serve.problems import Problem, problem_of
from hk_tick_collector.serve.settings import ServeSettings

SQL_SEC, SQL_MEMORY_MB = 30.0, 768  # DuckDB's own limit is in sql.py; Arrow and Python take the rest
MAX_QUEUED = 20  # heavy reads of one key that wait for its others
_T = TypeVar("_T")


class Admitted:
    """A request that was let in."""

    def __init__(self, key: Key, headers: dict[str, str]) -> None:
        self.key = key
        self.headers = headers  # of every answer to it


class Service:
    """One a server."""

    def __init__(self, settings: ServeSettings, roots: Roots, gate: Gate, pool: Pool, metrics: Metrics) -> None:
        self.settings = settings
        self.roots = roots
        self.gate = gate
        self.pool = pool
        self.sql_pool = Pool(  # SQL may take any time and memory: a process that nobody else waits for
            settings.roots, workers=1, timeout_sec=SQL_SEC, memory_bytes=SQL_MEMORY_MB << 20, whole_sec=SQL_SEC,
            older=OlderAt.of(settings),
        )  # fmt: skip
        self.metrics = metrics
        self.roots_look = RootsLook([root.data_root for root in roots.all])
        self._newest = [Newest(root) for root in roots.all]
        self._heavy: dict[str, list[int]] = {}  # by key: reads that run and wait
        self._slots: dict[str, asyncio.Semaphore] = {}

    async def newest(self, root: Root, symbols: Sequence[str], count: int) -> Latest:
        """The newest ticks of a root's symbols. Problems of the store."""
        try:
            return await self._newest[root.number].ask(symbols, count)
        except (RecorderError, OSError) as exc:
            raise problem_of(exc) from exc

    async def let_go(self) -> None:
        """For ever: day files that nobody asks about any more are let go."""
        while True:
            await asyncio.sleep(KEEP_SEC)
            for looker in self._newest:
                with contextlib.suppress(RecorderError, OSError):  # the next question meets it, and says it
                    await looker.drop_when_idle()

    def close(self) -> None:
        """Let all files go."""
        for looker in self._newest:
            looker.close()

    def admit(self, request: Request, scope: str = "read") -> Admitted:
        """The key of a request, which counts. Problems: 401, 403, 429."""
        key, allowance = self.gate.admit_request(request.scope, scope)
        return Admitted(key, limit_headers(allowance))

    def check_rows(self, key: Key) -> None:
        """A Problem when the key has read its rows of this minute. Whatever gives rows asks first and charges after."""
        rows = self.gate.rows.take(key.id, key.limits.rows_per_min, 0)
        if rows.remaining < 1:
            raise limited(rows, f"the key {key.id} may read {rows.limit} rows a minute")

    def ask(self, admitted: Admitted, job: str, asked: Mapping[str, Any]) -> Response:
        """The answer of a reading process, as it comes."""
        key = admitted.key
        self.check_rows(key)

        def on_rows(count: int) -> None:
            self.gate.rows.charge(key.id, count)
            self.metrics.rows.inc(count)

        question = {"asked": {"job": job, **asked}, "key": key_to_json(key)}
        timeout_sec = self.settings.api_timeout_sec
        pool = self.sql_pool if job == "sql" else self.pool
        response = PoolResponse(
            pool, question, timeout_sec=timeout_sec, headers=admitted.headers, on_rows=on_rows,
            is_welcome=lambda: self.gate.ring.current(key) is not None,
        )  # fmt: skip
        return _Heavy(self, key, response)

    async def collect(self, admitted: Admitted, job: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of a reading process, whole, for a question whose ``limit`` bounds it."""
        self.check_rows(admitted.key)
        question = {"asked": {"job": job, **asked}, "key": key_to_json(admitted.key)}
        async with self.slot(admitted.key), self.pool.answer(question) as answer:
            try:
                body = b"".join([piece async for piece in answer.body()])
            except Broken as exc:
                raise Problem("store-busy", "the read ended in its middle") from exc
        self.gate.rows.charge(admitted.key.id, answer.rows)
        collected: dict[str, Any] = orjson.loads(body)
        return collected

    @contextlib.asynccontextmanager
    async def slot(self, key: Key) -> AsyncIterator[None]:
        """One of the heavy reads that a key may have at once; others of it wait."""
        counted = self._heavy.setdefault(key.id, [0])
        if counted[0] >= MAX_QUEUED + key.limits.heavy_reads:
            raise Problem("rate-limited", f"too many reads of the key {key.id} wait", headers={"Retry-After": "1"})
        slots = self._slots.setdefault(key.id, asyncio.Semaphore(max(1, key.limits.heavy_reads)))
        counted[0] += 1
        try:
            async with slots:
                yield
        finally:
            counted[0] -= 1
            if not counted[0]:
                self._heavy.pop(key.id, None)
                self._slots.pop(key.id, None)


class _Heavy(Response):
    """A read that waits for its key's turn."""

    def __init__(self, service: Service, key: Key, response: PoolResponse) -> None:
        self._service = service
        self._key = key
        self._response = response
        self.background = None
        self.status_code = 200

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with self._service.slot(self._key):
            await self._response(scope, receive, send)


async def in_thread(work: Callable[..., _T], *args: Any, **kwargs: Any) -> _T:
    """A short look at files, on a thread; our errors as Problems."""
    try:
        return await anyio.to_thread.run_sync(functools.partial(work, *args, **kwargs))
    except (RecorderError, OSError) as exc:
        raise problem_of(exc) from exc
