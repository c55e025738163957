"""The API and the live channel behind one port, for one machine: what ``hk-tickctl serve`` runs.

One process and one loop: with a few readers nobody sees the difference to two, and nothing has to be passed on. A
server with hundreds of live clients runs ``hk-tick-api`` and ``hk-tick-live`` as two processes behind a reverse proxy
(docs/serving.md): sending to 500 clients would hold the API's answers up.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette

from hk_tick_collector.serve.api.app import create_app as create_api
from hk_tick_collector.serve.auth import Receive, Scope
from hk_tick_collector.serve.live.app import create_app as create_live
from hk_tick_collector.serve.problems import Send
from hk_tick_collector.serve.settings import ServeSettings

LIVE_PATH = "/v1/live"


def create_app(settings: ServeSettings) -> Both:
    """Both applications as one. KeysFileError when the file of keys cannot be used."""
    return Both(create_api(settings), create_live(settings))


class Both:
    """An ASGI application of two: LIVE_PATH and what is below it are the second one's."""

    def __init__(self, api: Starlette, live: Starlette) -> None:
        self._api = api
        self._live = live
        self._lifespan = Starlette(lifespan=self._begun)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        app = self._lifespan if scope["type"] == "lifespan" else self._app_of(scope)
        await app(scope, receive, send)

    def _app_of(self, scope: Scope) -> Starlette:
        path = str(scope["path"]).removeprefix(str(scope.get("root_path", "")))
        return self._live if path == LIVE_PATH or path.startswith(f"{LIVE_PATH}/") else self._api

    @contextlib.asynccontextmanager
    async def _begun(self, _app: Starlette) -> AsyncIterator[None]:
        """Both begin before the server does, and both end."""
        async with self._api.router.lifespan_context(self._api), self._live.router.lifespan_context(self._live):
            yield
