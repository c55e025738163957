"""The dashboard's files: read and packed once, when the program starts, and sent from memory.

There is no build step: what is in ``static/`` is what a browser gets, packed without the lines of our own code that are
comments alone. ``static/vendor`` holds other people's libraries
as they were published (``THIRD_PARTY.md`` there: versions, licences, checksums, which a test computes again).
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from hk_tick_collector.quality.report_file import CHINESE_FILE

_COMMENT_LINE = re.compile(rb"^[ \t]*(?://|/\*\*|\*[ /]).*$", re.MULTILINE)
_VENDOR = "vendor"
STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file as it goes out."""

    body: bytes
    packed: bytes  # gzip
    etag: str
    media_type: str


def read_files(directory: Path = STATIC) -> dict[str, StaticFile]:
    """Every file that a browser may ask for, by its path below ``directory`` (``pages/symbol.js``)."""
    paths = sorted(path for path in directory.rglob("*") if path.suffix in TYPES and path.is_file())
    files = {path.relative_to(directory).as_posix(): _read(path) for path in paths}
    words = CHINESE_FILE.read_bytes() + b"export { inChinese };\n"  # the pages of days have it as it is
    return {**files, CHINESE_FILE.name: _packed(words, CHINESE_FILE.suffix, is_ours=True)}


def _read(path: Path) -> StaticFile:
    return _packed(path.read_bytes(), path.suffix, is_ours=path.parent.name != _VENDOR)


def _packed(body: bytes, suffix: str, *, is_ours: bool) -> StaticFile:
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    # Empty lines in their place: an error in a browser's console names the line of the file.
    short = _COMMENT_LINE.sub(b"", body) if is_ours and suffix == ".js" else body
    return StaticFile(body, gzip.compress(short, 9, mtime=0), etag, TYPES[suffix])
