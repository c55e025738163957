"""Files of a source that are kept as they are beside a day: compressed, hashed and listed, never taken apart.

::

    DATA_ROOT/_depth/20261120/ESZ26_FUT_CME.2026-11-20.depth.0f3a...gz   the file, packed with gzip
    DATA_ROOT/_depth/20261120/ESZ26_FUT_CME.2026-11-20.depth.json        what was packed (``KeptFile``)

A packed file is named after its content and never changed. Its list entry is replaced in one step when the source's
file has another content, and only then the packed file of before is removed: killed at any moment, the entry names a
whole file. gzip, because it is in Python itself and opens everywhere.

Promise: a listed file is, unpacked, byte for byte what was read; ``problems_of`` reads it to its end to say so.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import BinaryIO

from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import StoreCorrupt, StoreUnavailable
from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.store.layout import (
    DEPTH_DIR,
    FILE_MODE,
    depth_dir,
    make_dir,
    parse_day_dir,
    replace_file,
    sync_dir,
)

BLOCK_BYTES = 1024 * 1024
LEVEL = 6
MAX_LIST_BYTES = 65_536
SPARED_BYTES = 256 * 1024 * 1024  # of the disk, for the recorder
LIST_SUFFIX, PACKED_SUFFIX = ".json", ".gz"

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class KeptFile:
    """One file as it was read. ``packed_*`` tells of the compressed copy."""

    name: str
    symbol: str
    records: int
    torn_bytes: int  # behind the last whole record: the source had not written it wholly
    size_bytes: int
    sha256: str
    packed_bytes: int
    packed_sha256: str
    source_changed_ns: int  # the modification time of the source's file
    kept_at_ms: int  # UTC epoch ms

    @property
    def packed_name(self) -> str:
        """Named after its content."""
        return f"{self.name}.{self.sha256[:16]}{PACKED_SUFFIX}"

    @property
    def content(self) -> tuple[str, int, str]:
        """What two copies of one file agree in."""
        return self.name, self.size_bytes, self.sha256


def kept_file(values: object) -> KeptFile:
    """From JSON. ValueError when it is no such entry: names become paths, so nothing else is let in."""
    if not isinstance(values, dict):
        raise ValueError("an entry of a kept file is not an object")
    try:
        kept = KeptFile(**{field.name: values[field.name] for field in fields(KeptFile)})
    except KeyError as exc:
        raise ValueError(f"an entry of a kept file lacks {exc}") from None
    texts = (kept.name, kept.symbol)
    if not all(isinstance(text, str) and _NAME.fullmatch(text) and ".." not in text for text in texts):
        raise ValueError(f"{kept.name!r} is not a name of a kept file")
    if not all(isinstance(text, str) and _SHA256.fullmatch(text) for text in (kept.sha256, kept.packed_sha256)):
        raise ValueError(f"{kept.name}: a checksum is none")
    numbers = (kept.records, kept.torn_bytes, kept.size_bytes, kept.packed_bytes, kept.source_changed_ns)
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"{kept.name}: a number is none")
    return kept


def list_entry(data_root: Path, day: str, name: str) -> KeptFile | None:
    """What is listed of one file; None when it is not kept. StoreCorrupt, StoreUnavailable."""
    return _read_entry(depth_dir(data_root, day) / f"{name}{LIST_SUFFIX}")


def entry_in(directory: Path, name: str) -> KeptFile | None:
    """As ``list_entry``, of another directory than the day's own."""
    return _read_entry(directory / f"{name}{LIST_SUFFIX}")


def kept_files(data_root: Path, day: str) -> list[KeptFile]:
    """All that are listed beside a day, by name. StoreCorrupt, StoreUnavailable."""
    directory = depth_dir(data_root, day)
    try:
        paths = sorted(path for path in directory.iterdir() if path.suffix == LIST_SUFFIX)
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise unavailable(directory, exc) from exc
    return [entry for path in paths if (entry := _read_entry(path)) is not None]


def kept_days(data_root: Path) -> list[str]:
    """The days beside which files are listed, oldest first; none where the directory cannot be read."""
    try:
        lists = [path.parent.name for path in (data_root / DEPTH_DIR).glob(f"????????/*{LIST_SUFFIX}")]
    except OSError:
        return []
    return sorted({day for day in lists if parse_day_dir(day)})


def _read_entry(path: Path) -> KeptFile | None:
    try:
        with open_regular(path) as file:
            text = file.read(MAX_LIST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise unavailable(path, exc) from exc
    try:
        if len(text) > MAX_LIST_BYTES:
            raise ValueError("it is too long")
        entry = kept_file(json.loads(text))
        if f"{entry.name}{LIST_SUFFIX}" != path.name:
            raise ValueError(f"it is of {entry.name}")
    except ValueError as exc:
        raise StoreCorrupt(
            f"{path} is not an entry of a kept file ({exc}): remove it, and import the file again"
        ) from exc
    return entry


def keep(source: BinaryIO, data_root: Path, day: str, describe: Callable[[int, str, int, str], KeptFile]) -> KeptFile:
    """Pack an open file, and list it. ``describe`` makes its entry of size, SHA-256, packed size and packed SHA-256; it
    may raise, and nothing is kept then. OSError, StoreUnavailable when the disk refuses or has no room to spare."""
    return keep_in(depth_dir(data_root, day), source, describe)


def keep_in(directory: Path, source: BinaryIO, describe: Callable[[int, str, int, str], KeptFile]) -> KeptFile:
    """``keep``, in another directory than the day's own."""
    make_dir(directory)
    check_room(directory, os.fstat(source.fileno()).st_size)
    part = directory / ".packing"
    part.unlink(missing_ok=True)
    try:
        size_bytes, sha256 = _pack(source, part)
        entry = describe(size_bytes, sha256, *digest_of(part))
        part.replace(directory / entry.packed_name)
        sync_dir(directory)
        list_file(directory, entry)
    finally:
        part.unlink(missing_ok=True)
    for other in directory.glob(f"{entry.name}.*{PACKED_SUFFIX}"):
        if other.name != entry.packed_name:
            other.unlink(missing_ok=True)
    return entry


def list_file(directory: Path, entry: KeptFile) -> None:
    """Put the entry of a file whose packed form stands in ``directory``, in one step. OSError."""
    replace_file(directory / f"{entry.name}{LIST_SUFFIX}", (json.dumps(asdict(entry), indent=1) + "\n").encode())


def _pack(source: BinaryIO, part: Path) -> tuple[int, str]:
    import gzip  # noqa: PLC0415 - commands that list files need none

    sha256, size_bytes = hashlib.sha256(), 0
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        with gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as packed:
            while block := source.read(BLOCK_BYTES):
                sha256.update(block)
                size_bytes += len(block)
                packed.write(block)
        file.flush()
        os.fsync(file.fileno())
    return size_bytes, sha256.hexdigest()


def check_room(directory: Path, size_bytes: int) -> None:
    """StoreUnavailable when the disk cannot take so many bytes more and leave the recorder room. OSError."""
    disk = os.statvfs(directory)
    free_bytes = disk.f_bavail * disk.f_frsize
    if size_bytes + SPARED_BYTES > free_bytes:
        raise StoreUnavailable(
            f"{directory} has {free_bytes:,} bytes free, of which {SPARED_BYTES:,} stay for the recorder: make room "
            f"for a file of {size_bytes:,}"
        )


def digest_of(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file's bytes. OSError."""
    sha256, size_bytes = hashlib.sha256(), 0
    with open_regular(path) as file:
        while block := file.read(BLOCK_BYTES):
            sha256.update(block)
            size_bytes += len(block)
    return size_bytes, sha256.hexdigest()


def problems_of(directory: Path, entry: KeptFile) -> list[str]:
    """Read a packed file to its end: where it is not what its entry says. Never unpacks more than that."""
    import gzip  # noqa: PLC0415

    path = directory / entry.packed_name
    try:
        if digest_of(path) != (entry.packed_bytes, entry.packed_sha256):
            return [f"{path} is not what was packed: its size or checksum is another one"]
        with open_regular(path) as file, gzip.GzipFile(fileobj=file) as packed:
            size_bytes, sha256 = 0, hashlib.sha256()
            while size_bytes <= entry.size_bytes and (block := packed.read(BLOCK_BYTES)):
                size_bytes += len(block)
                sha256.update(block)
    except FileNotFoundError:
        return [f"{path} is gone"]
    except (OSError, EOFError, zlib.error, StoreCorrupt) as exc:
        return [f"{path} cannot be read: {getattr(exc, 'strerror', None) or exc}"]
    if (size_bytes, sha256.hexdigest()) != (entry.size_bytes, entry.sha256):
        return [f"{path} does not unpack to the file that was kept"]
    return []


def copy_packed(source: Path, target: Path) -> None:
    """Copy a packed file under another name in one step, synced. StoreUnavailable."""
    part = target.with_name(f".{target.name}.part")
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file, open_regular(source) as packed:
            while block := packed.read(BLOCK_BYTES):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        sync_dir(target.parent)
    except OSError as exc:
        part.unlink(missing_ok=True)
        raise unavailable(target, exc) from exc
