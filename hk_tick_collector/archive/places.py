"""Which store a place is (``stores.ArchiveStore``)."""

from __future__ import annotations

import re
from pathlib import Path

from hk_tick_collector.archive.stores import ArchiveStore, DirectoryStore
from hk_tick_collector.core.errors import InputError
from hk_tick_collector.core.text import cut, printable

_S3 = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[A-Za-z0-9!_.*'()/-]*))?", re.ASCII)


def open_store(place: str) -> ArchiveStore:
    """The store at ``s3://BUCKET/PREFIX`` or in a directory. InputError when it is neither, ConfigError when its
    credentials cannot be used, ModuleNotFoundError without the library for it."""
    if "://" not in place:
        return DirectoryStore(Path(place).absolute())
    match = _S3.fullmatch(place)
    if match is None or ".." in place:
        shown = printable(cut(place.partition("://")[0]))  # the rest may hold a secret
        if shown == "s3":
            raise InputError(
                "this is no bucket and prefix: write s3://BUCKET/PREFIX, the bucket with 3 to 63 of a-z, 0-9, . and -, "
                "the prefix with letters, digits and !_.*'()/-, and without .."
            )
        raise InputError(f"{shown}:// is not a place to archive to: give s3://BUCKET/PREFIX or a directory")
    from hk_tick_collector.archive.s3 import open_bucket  # noqa: PLC0415 - its library is an extra

    return open_bucket(match["bucket"], (match["prefix"] or "").strip("/"))
