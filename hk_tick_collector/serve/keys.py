"""Keys of readers: what a key is, the file of keys, and the check of one.

A key is ``hktk_<id>_<secret>``: an id of 8 signs, which may be shown, and a secret of 32 random bytes, which is shown
once and stored nowhere. The file holds its SHA-256: for a random secret of that length a slow hash would protect
nothing more, and would cost each request.

The file is JSON, mode 0640. Whoever may write to it makes keys, and whoever reads it learns names and rights, so a file
that others than owner and group may touch, or the group may write to, is refused. It is replaced in one step and read
again when it changes; while it cannot be read, no key is good.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import fnmatch
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import ConfigError, InputError, NoData, RecorderError
from hk_tick_collector.store.atomic import make_own_dir, open_lock_file, write_whole

PREFIX = "hktk"
SCOPES = ("read", "live", "sql", "mute", "restart", "admin")  # and hook:<name>
DEFAULT_SCOPES = ("read", "live")
EVERY_SYMBOL = "*"
MAX_KEYS = 10_000
MAX_FILE_BYTES = 16 << 20
_FORM = 1
_ID_CHARS, _SECRET_BYTES = 8, 32
_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # none that people confuse
_KEY = re.compile(rf"{PREFIX}_([a-z0-9]{{8}})_([A-Za-z0-9_-]{{43}})", re.ASCII)
_SCOPE = re.compile(r"read|live|sql|mute|restart|admin|hook:[a-z0-9][a-z0-9-]{0,31}", re.ASCII)
_PATTERN = re.compile(r"\*|[A-Z]{1,6}\.(?:\*|[A-Za-z0-9._-]{1,24}\*?)", re.ASCII)
_NAME_CHARS = 64
_OTHERS_MAY = stat.S_IWGRP | stat.S_IRWXO
_DUMMY = hashlib.sha256(b"no key has this secret").digest()


class KeysFileError(ConfigError):
    """The file of keys cannot be used."""


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What one key may ask for."""

    requests_per_min: int = 120_000
    rows_per_min: int = 50_000_000
    heavy_reads: int = 2  # at once
    live_connections: int = 10
    live_symbols: int = 5000  # of one connection


@dataclass(frozen=True, slots=True)
class Key:
    """A reader and what it may do. Times are UTC epoch milliseconds."""

    id: str
    name: str
    scopes: tuple[str, ...]
    symbols: tuple[str, ...] = ("*",)  # patterns: *, HK.*, HK.00700
    limits: KeyLimits = field(default_factory=KeyLimits)
    created_at_ms: int = 0
    expires_at_ms: int | None = None

    def may(self, scope: str) -> bool:
        """Has it this scope? ``admin`` has all."""
        return scope in self.scopes or "admin" in self.scopes

    def may_read(self, symbol: str) -> bool:
        """May it see this symbol (``HK.00700``)?"""
        return may_read(self.symbols, symbol)

    @property
    def reads_all(self) -> bool:
        """May it see every symbol?"""
        return EVERY_SYMBOL in self.symbols

    def is_expired(self, now_ms: int) -> bool:
        """Is its time over?"""
        return self.expires_at_ms is not None and now_ms >= self.expires_at_ms


def may_read(patterns: Sequence[str], symbol: str) -> bool:
    """Does one of a key's patterns name this symbol?"""
    return EVERY_SYMBOL in patterns or any(fnmatch.fnmatchcase(symbol, pattern) for pattern in patterns)


ANONYMOUS = Key("anonymous", "anyone on this machine", DEFAULT_SCOPES)


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as the file has it."""

    key: Key
    sha256: str


def new_key(
    name: str,
    scopes: Iterable[str] = DEFAULT_SCOPES,
    symbols: Iterable[str] = ("*",),
    *,
    now_ms: int,
    expires_at_ms: int | None = None,
    limits: KeyLimits | None = None,
) -> tuple[StoredKey, str]:
    """A key and the text that its reader sends. InputError when a part of it means nothing."""
    key = Key(
        "".join(secrets.choice(_ALPHABET) for _ in range(_ID_CHARS)),
        name,
        tuple(dict.fromkeys(scopes)),
        tuple(dict.fromkeys(symbols)),
        limits or KeyLimits(),
        now_ms,
        expires_at_ms,
    )
    _check(key)
    secret = base64.urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).rstrip(b"=").decode()
    return StoredKey(key, _digest(secret).hex()), f"{PREFIX}_{key.id}_{secret}"


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _check(key: Key) -> None:
    if not key.name or len(key.name) > _NAME_CHARS or not key.name.isprintable():
        raise InputError(f"the name of a key has 1 to {_NAME_CHARS} printable characters: {key.name!r:.100} has not")
    for scope in key.scopes:
        if not _SCOPE.fullmatch(scope):
            raise InputError(f"{scope!r:.60} is not a scope: there are {', '.join(SCOPES)} and hook:NAME")
    for pattern in key.symbols:
        if not _PATTERN.fullmatch(pattern):
            raise InputError(f"{pattern!r:.60} is not a pattern of symbols: write HK.00700, HK.* or *")
    if not key.scopes or not key.symbols:
        raise InputError("a key needs a scope and a pattern of symbols")
    if any(not 0 <= value <= 10**12 for value in asdict(key.limits).values()):
        raise InputError("a limit is a whole number from 0 to 1000000000000")


def read_keys(path: Path) -> list[StoredKey]:
    """The keys of a file. KeysFileError when others may read it, or when it is no such file."""
    try:
        with open(path, "rb", opener=_no_wait) as file:
            mode = stat.S_IMODE(_status(file.fileno()).st_mode)
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise KeysFileError(
            f"API_KEYS_FILE={path} cannot be read ({exc.strerror}); check path and permissions"
        ) from exc
    if mode & _OTHERS_MAY:
        raise KeysFileError(
            f"API_KEYS_FILE={path} has mode {mode:04o}: others could read or change the keys; set it with: "
            f"chmod 0640 {path}"
        )
    try:
        if len(content) > MAX_FILE_BYTES:
            raise ValueError("too large")
        document = json.loads(content)
        if document["form"] != _FORM:
            raise ValueError("of another version")
        return [_stored(entry) for entry in document["keys"][:MAX_KEYS]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InputError) as exc:
        raise KeysFileError(
            f"API_KEYS_FILE={path} is not a file of keys ({exc!s:.100}): restore it, or make a new one with: "
            "hk-tickctl keys add NAME"
        ) from exc


def _no_wait(path: str, flags: int) -> int:
    """For ``open``: a pipe of that name is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def _status(descriptor: int) -> os.stat_result:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "is not a regular file")
    return status


def _stored(entry: Mapping[str, Any]) -> StoredKey:
    given = entry["limits"]
    limits = KeyLimits(**{limit.name: int(given[limit.name]) for limit in fields(KeyLimits) if limit.name in given})
    expires = entry.get("expires_at_ms")
    key = Key(
        str(entry["id"]),
        str(entry["name"]),
        tuple(map(str, entry["scopes"])),
        tuple(map(str, entry["symbols"])),
        limits,
        int(entry["created_at_ms"]),
        None if expires is None else int(expires),
    )
    _check(key)
    if not re.fullmatch(r"[0-9a-f]{64}", entry["sha256"]):
        raise ValueError("a hash is none")
    return StoredKey(key, entry["sha256"])


def write_keys(path: Path, keys: Iterable[StoredKey]) -> None:
    """Replace the file in one step, mode 0640. OSError when the disk refuses."""
    listed = [{**asdict(stored_key.key), "sha256": stored_key.sha256} for stored_key in keys]
    if len(listed) > MAX_KEYS:
        raise RecorderError(f"{path} would hold more than {MAX_KEYS} keys: revoke some")
    write_whole(path, json.dumps({"form": _FORM, "keys": listed}, indent=1) + "\n")


@contextlib.contextmanager
def edited(path: Path) -> Iterator[list[StoredKey]]:
    """The keys of a file, to change; written when the block ends well. One at a time, by a lock beside the file.
    KeysFileError when it cannot be used, StoreUnavailable when the disk refuses."""
    try:
        make_own_dir(path.parent)
        descriptor = open_lock_file(path.with_name(f".{path.name}.lock"))
    except OSError as exc:
        raise unavailable(path, exc) from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        keys = read_keys(path)
        yield keys
        try:
            write_keys(path, keys)
        except OSError as exc:
            raise unavailable(path, exc) from exc
    finally:
        os.close(descriptor)


def named(keys: Iterable[StoredKey], word: str) -> StoredKey:
    """The key of this id, or the only one of this name. NoData when there is none, InputError when there are more."""
    namesakes = [stored_key for stored_key in keys if word in (stored_key.key.id, stored_key.key.name)]
    if not namesakes:
        raise NoData(f"there is no key {word!r:.60}; hk-tickctl keys list shows all")
    if len(namesakes) > 1:
        raise InputError(
            f"{len(namesakes)} keys have the name {word!r:.60}: give the id, which hk-tickctl keys list shows"
        )
    return namesakes[0]


class KeyRing:
    """The keys of a file, in memory. ``check`` touches no disk; ``reload`` does, and is called every second or so."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.problem: str | None = None  # why no key is good now
        self._keys: dict[str, StoredKey] = {}
        self._seen: tuple[int, ...] | None = None

    @classmethod
    def open(cls, path: Path | None) -> KeyRing:
        """Read the keys for the first time. KeysFileError when the file cannot be used; an absent one has no keys."""
        ring = cls(path)
        ring.reload()
        if ring.problem is not None:
            raise KeysFileError(ring.problem)
        return ring

    @property
    def keys(self) -> list[Key]:
        """All of them, expired ones too."""
        return [stored.key for stored in self._keys.values()]

    def reload(self) -> bool:
        """Read the file again if it is another one; was it? While it cannot be used, no key is good."""
        if self.path is None:
            return False
        seen = self._mark(self.path)
        if seen == self._seen:
            return False
        self._seen = seen
        try:
            keys, self.problem = {stored.key.id: stored for stored in read_keys(self.path)}, None
        except KeysFileError as exc:
            keys, self.problem = {}, str(exc)
        self._keys = keys
        return True

    @staticmethod
    def _mark(path: Path) -> tuple[int, ...]:
        try:
            status = path.stat()
        except OSError:
            return ()
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode

    def check(self, bearer: str, now_ms: int | None = None) -> Key | None:
        """The key of this text, if it is good now. Costs the same for a wrong id and for a wrong secret."""
        match = _KEY.fullmatch(bearer)
        key_id, secret = match.groups() if match else ("", "")
        stored = self._keys.get(key_id)
        wanted = bytes.fromhex(stored.sha256) if stored is not None else _DUMMY
        is_right = hmac.compare_digest(_digest(secret), wanted)
        if stored is None or not is_right:
            return None
        return None if stored.key.is_expired(_now_ms(now_ms)) else stored.key

    def current(self, key: Key, now_ms: int | None = None) -> Key | None:
        """The same key as it is now; None once it was revoked or rotated (which gives another id) or has expired. For a
        connection that lasts."""
        if key is ANONYMOUS:
            return key
        stored = self._keys.get(key.id)
        if stored is None or stored.key.is_expired(_now_ms(now_ms)):
            return None
        return stored.key


def _now_ms(given: int | None) -> int:
    return time.time_ns() // 1_000_000 if given is None else given
