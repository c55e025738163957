"""The file with the login: ``{"creation_timestamp": ..., "token": {"access_token": ..., "refresh_token": ...}}``.

The form is that of schwab-py, so that a login made by that program can be used as it is. Readable by its owner alone
(0600), replaced as a whole, by one process at a time (``changing``). Nothing of it is ever repeated in a message.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hk_tick_collector.core.errors import InputError
from hk_tick_collector.sources.remote.asking import is_token
from hk_tick_collector.sources.secrets import read_private

LOGIN_LASTS_SEC = 7 * 86_400  # a refresh token, from the moment that somebody logged in; nothing makes it longer
MAX_TIME_SEC = 4_102_444_800
LOCK_SEC, LOCK_LOOK_SEC = 20.0, 0.05  # who holds it asks Schwab once, and not longer than that
HOW = "log in with: hk-tickctl schwab login"


class Login(NamedTuple):
    """What a person's login gave. Times in seconds since 1970, by the clock of the machine that asked."""

    refresh_token: str
    made_sec: float  # when the person logged in
    access_token: str = ""
    access_until_sec: float = 0.0

    @property
    def ends_sec(self) -> float:
        """From then on somebody has to log in again."""
        return self.made_sec + LOGIN_LASTS_SEC


def read_login(path: Path) -> Login:
    """InputError when there is none, with what to do."""
    if not path.exists():
        raise InputError(f"{path} is not there: {HOW}")
    return parse_login(path, read_private(path))


def parse_login(path: Path, content: bytes) -> Login:
    """Of the content of a file."""
    try:
        whole = json.loads(content)
        token = whole["token"]
        refresh, access = token["refresh_token"], token.get("access_token", "")
        made_sec, until_sec = whole["creation_timestamp"], token.get("expires_at", 0)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{path} is no file of a login at Schwab: {HOW}") from None
    if not is_token(refresh) or not _is_time(made_sec):
        raise InputError(f"{path} has no refresh token that can be used: {HOW}")
    if not is_token(access) or not _is_time(until_sec):
        access, until_sec = "", 0
    return Login(refresh, made_sec, access, until_sec)


def write_login(path: Path, login: Login) -> None:
    """As a whole or not at all, 0600. OSError when the disk refuses. What root writes belongs to the directory's owner:
    the recorder has to read it."""
    token = {
        "access_token": login.access_token,
        "refresh_token": login.refresh_token,
        "token_type": "Bearer",
        "expires_at": int(login.access_until_sec),
    }
    text = json.dumps({"creation_timestamp": int(login.made_sec), "token": token})
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with contextlib.suppress(FileNotFoundError):
        part.unlink()  # of a process that was killed
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - a descriptor
            _hand_over(descriptor, path.parent)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def changing(path: Path) -> Iterator[None]:
    """Nobody else changes the file meanwhile. OSError when that cannot be had; TimeoutError when somebody else keeps
    it, such as a command that was stopped at its terminal."""
    lock = path.with_name(f".{path.name}.lock")
    descriptor = os.open(lock, os.O_CREAT | os.O_NOFOLLOW | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _hand_over(descriptor, path.parent)
        _lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    until_sec = time.monotonic() + LOCK_SEC
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until_sec:
                raise TimeoutError(errno.ETIMEDOUT, "another process does not let go of it") from None
        time.sleep(LOCK_LOOK_SEC)


def _hand_over(descriptor: int, directory: Path) -> None:
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _is_time(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < MAX_TIME_SEC  # NaN is neither
