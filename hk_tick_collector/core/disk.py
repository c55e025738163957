"""What is said when a file or a directory refuses: which one, what happened, and what to do about it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from hk_tick_collector.core.errors import StoreUnavailable

_UNKNOWN = "check the disk and the kernel log"
_CURES = {
    errno.ENOSPC: "free disk space",
    errno.EDQUOT: "raise the disk quota",
    errno.EROFS: "remount the file system read-write, or name another place",
    errno.ENAMETOOLONG: "name a shorter one",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the limit of open files (sysctl fs.file-max)",
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP), "check the name"),
    **dict.fromkeys((errno.EINVAL, errno.ENODEV, errno.ENXIO, errno.EOPNOTSUPP), "name another place"),
}  # fmt: skip


def unavailable(path: Path, exc: OSError) -> StoreUnavailable:
    """The file system's refusal, with what an operator can do about it."""
    return StoreUnavailable(f"{path}: {exc.strerror or exc}; {_cure(exc)}")


def unwritable(path: Path, exc: OSError) -> StoreUnavailable:
    """The same where a file or directory of that name was to be made."""
    if exc.errno in (errno.EEXIST, errno.ENOTDIR):
        return StoreUnavailable(f"{path}: a file is in its way; name another place")
    if exc.errno != errno.ENOENT:
        return unavailable(path, exc)
    parent = (Path(exc.filename) if isinstance(exc.filename, str) else path).parent  # of several that are made at once
    if os.path.isdir(parent):  # noqa: PTH112 - Path.is_dir() raises where we may not look
        return StoreUnavailable(f"{path}: {parent} takes no new files; name another place")
    return StoreUnavailable(f"{path}: {parent} does not exist; make it, or name another place")


def told(exc: OSError) -> str:
    """An error of the system as one sentence. What is not of a file, or has words of its own, has no cure of ours."""
    words = exc.strerror or str(exc)
    if not isinstance(exc.filename, (str, bytes)):
        return words
    named = f"{os.fsdecode(exc.filename)}: {words}"
    return f"{named}; {_cure(exc)}" if exc.errno and words == os.strerror(exc.errno) else named


def _cure(exc: OSError) -> str:
    if exc.errno in (errno.EACCES, errno.EPERM):
        return f"give uid {os.geteuid()} write permission, or name another place"
    return _CURES.get(exc.errno or 0, _UNKNOWN)
