"""Places outside the archive's directory where archived days are copied to and read back from.

A store keeps named files ("objects") under one place: a bucket (``archive.s3``) or a directory that is mounted from
elsewhere. The names in it are those of the archive's own tree (``days.manifest``), so whoever can read Parquet reads it
where it is. Nothing in a store is ever deleted by us: rights to list, read and write are enough.

What every store promises: an object appears whole or not at all; ``write`` never replaces what its caller did not see.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hk_tick_collector.archive import atomic
from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import RecorderError, StoreUnavailable
from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.store.atomic import sync_file

BLOCK_BYTES = 1024 * 1024
SPARED_BYTES = 64 * 1024 * 1024  # of the disk that objects are read to


class Taken(RecorderError):
    """Somebody else wrote under that name meanwhile; nothing was replaced."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as a store has it. ``version`` changes whenever its bytes do. ``sha256`` (hex) is what its writer said
    of it, which is a claim; None when he said nothing."""

    size_bytes: int
    version: str
    sha256: str | None


class ArchiveStore(Protocol):
    """Where copies of archived days are kept. One that keeps them in memory, whole::

        class MemoryStore:
            place = "memory:"

            def __init__(self):
                self._held = {}  # name: (bytes, version, sha256)

            def names(self, prefix):
                return sorted(name for name in self._held if name.startswith(prefix))

            def stat(self, name):
                held = self._held.get(name)
                return held and Stored(len(held[0]), held[1], held[2])

            def read(self, name, target, most_bytes):
                found = self.stat(name)
                if found is not None:
                    target.write_bytes(self._held[name][0][: most_bytes + 1])
                return found

            def write(self, source, name, sha256, replaces):
                before = self.stat(name)
                if (before and before.version) != replaces:
                    raise Taken
                self._held[name] = (source.read_bytes(), str(len(self._held) + 1), sha256)

    All raise StoreUnavailable when the store cannot be reached or refuses, and say what to do about it; no text of
    theirs holds a credential. ``places.open_store`` chooses by the form of a place.
    """

    @property
    def place(self) -> str:
        """As a person names it."""

    def names(self, prefix: str) -> list[str]:
        """The names that begin so, sorted."""

    def stat(self, name: str) -> Stored | None:
        """What is there; None when nothing is."""

    def read(self, name: str, target: Path, most_bytes: int) -> Stored | None:
        """Copy an object into the file ``target``: never more than a byte above ``most_bytes``. None when there is no
        such object, and no file then. The bytes are of one version, however often the line broke."""

    def write(self, source: Path, name: str, sha256: str, replaces: str | None) -> None:
        """Store the file's bytes, whose SHA-256 (hex) the store checks where it can. ``replaces``: the version that
        this one follows, None for a new name. ``Taken`` when something else is there."""


def check_room(target: Path, size_bytes: int, place: str) -> None:
    """StoreUnavailable when the disk cannot take so many bytes more."""
    disk = os.statvfs(target.parent)
    free_bytes = disk.f_bavail * disk.f_frsize
    if size_bytes + min(SPARED_BYTES, disk.f_blocks * disk.f_frsize // 10) > free_bytes:
        raise StoreUnavailable(
            f"{place} has {size_bytes:,} bytes and {target.parent} {free_bytes:,} free: make room, or set TMPDIR"
        )


@dataclass(frozen=True, slots=True)
class DirectoryStore:
    """A directory, for example of a file server."""

    root: Path

    @property
    def place(self) -> str:
        return str(self.root)

    def names(self, prefix: str) -> list[str]:
        paths = (path for path in (self.root / prefix).parent.rglob("*") if path.is_file())
        names = (str(path.relative_to(self.root)) for path in paths)
        return sorted(name for name in names if name.startswith(prefix) and not Path(name).name.startswith("."))

    def stat(self, name: str) -> Stored | None:
        with self._errors(name), contextlib.suppress(FileNotFoundError):
            status = (self.root / name).stat()
            return Stored(status.st_size, f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}", None)
        return None

    def read(self, name: str, target: Path, most_bytes: int) -> Stored | None:
        stored = self.stat(name)
        if stored is None:
            return None
        check_room(target, min(stored.size_bytes, most_bytes), name)
        with self._errors(name), open_regular(self.root / name) as source, target.open("wb") as file:
            left_bytes = most_bytes + 1
            while left_bytes and (block := source.read(min(left_bytes, BLOCK_BYTES))):
                left_bytes -= file.write(block)
        return stored

    def write(self, source: Path, name: str, sha256: str, replaces: str | None) -> None:
        target = self.root / name
        with self._errors(name), atomic.only_job(self.root):
            before = self.stat(name)
            if (before and before.version) != replaces:
                raise Taken(f"{target} was written by another program meanwhile: archive the day again")
            part = atomic.new_part(target)
            with source.open("rb") as file, part.open("wb") as copy:
                shutil.copyfileobj(file, copy)
            sync_file(part)
            atomic.rename(part, target)

    @contextlib.contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as exc:
            raise unavailable(self.root / name, exc) from exc
