"""Are the data roots there? Asked by every probe, and answered within ANSWER_SEC whatever their disk does.

A look at a disk that hangs (a network drive whose server has gone) does not come back, and the thread that took it is
lost until it does. So there is one look at a time: probes that come meanwhile wait for that one, and take no thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import anyio.to_thread

ANSWER_SEC = 2.0


class RootsLook:
    """One a server. All calls come from its event loop."""

    def __init__(self, data_roots: Sequence[Path], answer_sec: float = ANSWER_SEC) -> None:
        self._data_roots = data_roots
        self._answer_sec = answer_sec
        self._look: asyncio.Task[bool] | None = None

    async def are_there(self) -> bool:
        """False also when the disk does not tell in time."""
        if self._look is None:
            self._look = asyncio.create_task(self._looked())
        look = self._look
        await asyncio.wait([look], timeout=self._answer_sec)
        if not look.done():
            return False
        if self._look is look:
            self._look = None
        return look.result()

    async def _looked(self) -> bool:
        try:
            # Abandoned: the server can end while a disk hangs.
            return await anyio.to_thread.run_sync(self._all_there, abandon_on_cancel=True)
        except OSError:
            return False

    def _all_there(self) -> bool:
        return all(root.is_dir() for root in self._data_roots)
