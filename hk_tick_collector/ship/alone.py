"""One shipper of a recording to a sink: two, each with a SHIP_DIR of its own, would send each row twice.

Each holds a lock on the data root while it ships: a byte that the sink and the recorder's name choose, so that one
recording may go to several sinks. It is a lock that readers may hold together, for who ships may have no right to write
there; whoever finds another one beside his own gives it back. The kernel ends it with the process, and it holds between
containers as well. A file system without locks cannot be asked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from hashlib import blake2b
from pathlib import Path
from types import TracebackType

from hk_tick_collector.clickhouse.connection import EngineRefused

_FLOCK = struct.Struct("hhqqi4x")


class Alone:
    """What one process holds of a data root. To be closed."""

    def __init__(self, data_root: Path) -> None:
        self._data_root = data_root
        self._descriptor = -1

    def __enter__(self) -> Alone:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go()

    def hold(self, sink: str, recorder: str) -> None:
        """From now on this process ships it there. EngineRefused when another one does."""
        self.let_go()
        with contextlib.suppress(OSError):
            self._descriptor = os.open(self._data_root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            place = int.from_bytes(blake2b(f"{sink}\n{recorder}".encode(), digest_size=7).digest(), "big")
            fcntl.fcntl(self._descriptor, fcntl.F_OFD_SETLK, _lock(fcntl.F_RDLCK, place))
            seen = fcntl.fcntl(self._descriptor, fcntl.F_OFD_GETLK, _lock(fcntl.F_WRLCK, place))
            if _FLOCK.unpack(seen)[0] == fcntl.F_UNLCK:
                return
            self.let_go()
            raise EngineRefused(
                f"another hk-tick-ship, or another command, ships {self._data_root} there as {recorder}, with another "
                "SHIP_DIR: stop one of them"
            )

    def let_go(self) -> None:
        """Another process may have it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def _lock(kind: int, start: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, start, 1, 0)
