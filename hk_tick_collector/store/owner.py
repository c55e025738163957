"""Root in a directory of somebody else: the recorder's user owns the data root and may plant anything in it.

Whoever works there as root first takes the rights of the directory's owner, for the whole process and for good
(``become_owner``): then no link, however quickly it is planted, leads to anything that the owner could not reach
anyway, and what is made belongs to the recorder. Where root stays root (the data root is root's, its archive is not)
files are made anew, never through a link, and given away by their descriptor (``hand_over``), never by a name.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from hk_tick_collector.core.errors import RecorderError


@dataclass(frozen=True, slots=True)
class Acting:
    """Whose rights this process took."""

    name: str
    uid: int
    directory: Path


class NotPermitted(RecorderError):
    """The system does not let root take another user's rights."""


_acting: Acting | None = None


def acting_as() -> Acting | None:
    """Whose rights ``become_owner`` took; None when it had nothing to do."""
    return _acting


def become_owner(directory: Path) -> None:
    """Root takes the rights of the directory's owner, unless that is root; nothing for anybody else.

    ``HOME`` becomes the owner's, too. NotPermitted when the system refuses, OSError when there is no such directory.
    """
    global _acting  # noqa: PLW0603 - the rights are the process's
    if os.geteuid() != 0:
        return
    status = directory.stat()
    if status.st_uid == 0:
        return
    try:
        user = pwd.getpwuid(status.st_uid)
    except KeyError:
        user = None
    try:
        if user is not None:
            os.initgroups(user.pw_name, user.pw_gid)
            os.setgid(user.pw_gid)
        else:
            os.setgroups([])
            os.setgid(status.st_gid or status.st_uid)
        os.setuid(status.st_uid)
    except OSError as exc:
        raise NotPermitted(
            f"{directory} belongs to uid {status.st_uid}, and root may not take that user's rights here "
            f"({exc.strerror}): run this as that user"
        ) from exc
    os.environ.pop("HOME", None)
    if user is not None:
        os.environ["HOME"] = user.pw_dir
    _acting = Acting(user.pw_name if user is not None else f"uid {status.st_uid}", status.st_uid, directory)


def hand_over(descriptor: int, directory: Path) -> None:
    """Give what root just made in a directory to the directory's owner. For a descriptor of a new file or directory
    alone: what was there before is not ours to give away."""
    if os.geteuid() == 0:
        status = directory.stat()
        with contextlib.suppress(OSError):
            os.fchown(descriptor, status.st_uid, status.st_gid)
