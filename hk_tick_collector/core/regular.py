"""Opening what ought to be a file. A pipe or a device under its name would be waited for, or read, for ever."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from hk_tick_collector.core.errors import StoreCorrupt


def open_regular(path: Path) -> BinaryIO:
    """The file, open for reading. OSError as of ``open``, StoreCorrupt when it is anything but a file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StoreCorrupt(f"{path} is not a regular file: move it away")
    return os.fdopen(descriptor, "rb")


def check_regular(path: Path) -> None:
    """For what a library opens by its name. Raises as ``open_regular``."""
    open_regular(path).close()
