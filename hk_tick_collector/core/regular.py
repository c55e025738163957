"""Opening what ought to be a file. A pipe or a device under its name would be waited for, or read, for ever."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from pathlib import Path
from typing import BinaryIO

from hk_tick_collector.core.errors import StoreCorrupt

PIPE_SEC = 60.0  # ``--env-file <(decrypt settings)`` may ask for a passphrase
_CHUNK_BYTES = 1 << 16
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # for a pipe's other end nobody waits


def open_regular(path: Path) -> BinaryIO:
    """The file, open for reading. OSError as of ``open``, StoreCorrupt when it is anything but a file."""
    file = _opened(path)
    if file is None:
        raise StoreCorrupt(f"{path} is not a regular file: move it away")
    return file


def check_regular(path: Path) -> None:
    """For what a library opens by its name. Raises as ``open_regular``."""
    open_regular(path).close()


def open_named(path: Path) -> BinaryIO:
    """The same of a file that somebody named. OSError also when it is anything but a file."""
    file = _opened(path)
    if file is None:
        raise OSError(errno.EINVAL, "neither a file nor a pipe that ends", str(path))
    return file


def read_named(path: Path, max_bytes: int, *, pipe_sec: float = PIPE_SEC) -> bytes:
    """All that a file holds that somebody named, or that is written into a pipe of that name (``<(command)`` of a
    shell), if it ends in time. OSError as of ``open_named``, and when there is more."""
    if path.is_fifo():
        content = _piped(path, max_bytes + 1, pipe_sec)
    else:
        with open_named(path) as file:
            content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        size = f"{max_bytes >> 20} MiB" if max_bytes >= 1 << 20 else f"{max_bytes:,} bytes"
        raise OSError(errno.EFBIG, f"larger than {size}", str(path))
    return content


def _opened(path: Path) -> BinaryIO | None:
    """None when it is anything but a file."""
    descriptor = os.open(path, _FLAGS)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    return None


def _piped(path: Path, max_bytes: int, within_sec: float) -> bytes:
    """Until whoever writes has closed it."""
    content = b""
    has_begun = False  # before somebody opens it, it looks as if it had ended
    ends_sec = time.monotonic() + within_sec
    descriptor = os.open(path, _FLAGS)
    try:
        while len(content) < max_bytes:
            try:
                chunk = os.read(descriptor, _CHUNK_BYTES)
            except BlockingIOError:
                chunk = None  # it is open, and nothing has come yet
            if chunk:
                content, has_begun = content + chunk, True
                continue
            if chunk is not None and has_begun:
                break
            left_sec = max(0.0, ends_sec - time.monotonic())
            if not select.select([descriptor], [], [], left_sec)[0]:
                told = f"a pipe that nobody wrote to its end within {within_sec:g} seconds"
                raise OSError(errno.ETIMEDOUT, told, str(path))
            has_begun = True
    finally:
        os.close(descriptor)
    return content
