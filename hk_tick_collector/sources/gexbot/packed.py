"""Bytes out of gzip as they come, a bounded piece at a time: a few kilobytes may unpack to gigabytes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from hk_tick_collector.core.errors import FeedError
from hk_tick_collector.core.text import cut

UNPACK_BYTES = 256 * 1024


class Gzip:
    """Members one after another, as files that were put together have them. zlib.error for anything else."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(31)

    @property
    def is_whole(self) -> bool:
        """Does a member end here?"""
        return self._member.eof

    def steps(self, chunk: bytes) -> Iterator[bytes]:
        """What it unpacks to, UNPACK_BYTES at a time."""
        while chunk:
            if self._member.eof:
                self._member = zlib.decompressobj(31)
            yield self._member.decompress(chunk, UNPACK_BYTES)
            chunk = self._member.unused_data if self._member.eof else self._member.unconsumed_tail


class Answer:
    """The body of an answer, as it is sent: plain, or packed by gzip (``access.PLAIN_HEADERS`` asks for these)."""

    def __init__(self, encoding: str, most_bytes: int) -> None:
        """``encoding``: the answer's Content-Encoding. FeedError for another one."""
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip"):
            raise FeedError(f"an answer is packed as {cut(ascii(encoding), 40)}, which nobody asked for")
        self._gzip = Gzip() if encoding == "gzip" else None
        self._most_bytes = most_bytes
        self._body = bytearray()

    def add(self, chunk: bytes) -> None:
        """The next part. FeedError when there are more than ``most_bytes``, or it cannot be unpacked."""
        try:
            for part in [chunk] if self._gzip is None else self._gzip.steps(chunk):
                self._body += part
                if len(self._body) > self._most_bytes:
                    raise FeedError(f"an answer has more than {self._most_bytes:,} bytes")
        except zlib.error as exc:
            raise FeedError(f"an answer cannot be unpacked: {exc}") from None

    def whole(self) -> bytes:
        """All of it. FeedError when it ends early."""
        if self._gzip is not None and self._body and not self._gzip.is_whole:
            raise FeedError("an answer ends early")
        return bytes(self._body)
