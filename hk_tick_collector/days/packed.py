"""A packed file of an archive, unpacked to be read: order books, broker queues, snapshots.

It goes into a temporary directory while it is read, hashed on the way, and never further than its entry says::

    with unpacked(packed, entry, "snapshots") as path:
        ...
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.core.scratch import Scratch
from hk_tick_collector.store.kept import BLOCK_BYTES, KeptFile


@contextmanager
def unpacked(packed: Path, entry: KeptFile, noun: str) -> Iterator[Path]:
    """The file, while the context lasts; ``noun``: what is in it, for messages. StoreCorrupt when it cannot be
    unpacked or is not what its entry says, StoreUnavailable."""
    with Scratch(noun.rpartition(" ")[2]) as place:
        path = place / entry.name
        _unpack(packed, entry, path, noun)
        yield path


def _unpack(packed: Path, entry: KeptFile, path: Path, noun: str) -> None:
    digest, size_bytes = hashlib.sha256(), 0
    try:
        with open_regular(packed) as source, gzip.GzipFile(fileobj=source) as stream, path.open("xb") as target:
            for block in _blocks(stream, entry.size_bytes + 1):
                size_bytes += len(block)
                digest.update(block)
                target.write(block)
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise StoreCorrupt(f"{packed} cannot be unpacked: {exc}") from exc
    except OSError as exc:
        raise unavailable(packed, exc) from exc
    if (size_bytes, digest.hexdigest()) != (entry.size_bytes, entry.sha256):
        raise StoreCorrupt(f"{packed} does not unpack to the {noun} that were archived: hk-tickctl verify says more")


def _blocks(source: BinaryIO | gzip.GzipFile, most_bytes: int) -> Iterator[bytes]:
    """Of a stream, and no more bytes than that."""
    while most_bytes > 0 and (block := source.read(min(BLOCK_BYTES, most_bytes))):
        most_bytes -= len(block)
        yield block
