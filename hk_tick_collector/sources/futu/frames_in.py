"""From the bytes of one connection to frames: ticker pushes decoded here, pushes of books and queues put by as bytes,
every other frame handed on whole.

Frames are bounded: a header that promises a body above ``MAX_FRAME_BYTES``, or bytes that are no frame, raise (nothing
behind them can be trusted); a wrong checksum or encoding costs its frame. Runs on the SDK's network thread.
"""

from __future__ import annotations

import hashlib
import logging
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from hk_tick_collector.core.errors import FeedError
from hk_tick_collector.core.logline import RateLimitedLog

log = logging.getLogger(__name__)

MAX_FRAME_BYTES = 16 * 1024 * 1024  # 1000 ticks are about 100 KB; a day's K-lines stay far below

HEAD = struct.Struct("<2sIBBII20s8s")  # FT, proto id, body format, version, serial, body length, SHA-1, reserve
_HEAD_BYTES = HEAD.size
_MAGIC = b"FT"
_FMT_PROTOBUF = 0


@dataclass(slots=True)
class WireStats:
    """What the network thread saw. Written by that thread only, read by health lines."""

    ticker_frames: int = 0
    book_frames: int = 0
    other_frames: int = 0
    bad_sha1_frames: int = 0
    undecodable_frames: int = 0
    callback_errors: int = 0


class FrameCutter:
    """Cuts one connection's bytes. ``decode_push`` reads a body of ``push_proto``; ``other`` takes whole frames.

    Bodies of ``kept_protos`` are left in ``kept`` for whoever takes them when the ticks have gone on.
    """

    def __init__(
        self,
        push_proto: int,
        decode_push: Callable[[bytes], Any],
        other: Callable[[bytes], None],
        stats: WireStats,
        kept_protos: Collection[int] = (),
    ) -> None:
        self.kept: dict[int, list[bytes]] = {}
        self._kept_protos = frozenset(kept_protos)
        self._push_proto = push_proto
        self._decode_push = decode_push
        self._other = other
        self._stats = stats
        self._tail = b""
        self._log = RateLimitedLog(log)

    def cut(self, data: bytes, pushes: list[Any], *, encrypted: bool) -> None:
        """Cut ``data`` (after what was left of the last read) into frames; put the ticker pushes into ``pushes``.

        Replaces the SDK's per-frame buffer deletion, header dict, lock and log call: about a third of its CPU a push.
        Raises ``FeedError`` when the bytes are no frames; the pushes before them are in ``pushes`` then.
        """
        if self._tail:
            data = self._tail + data
        at, end = 0, len(data)
        while end - at >= _HEAD_BYTES:
            magic, proto_id, body_format, _, _, body_bytes, sha1, _ = HEAD.unpack_from(data, at)
            if magic != _MAGIC:
                raise FeedError(f"bytes from OpenD are no frame: {data[at : at + 16].hex()}")
            stop = at + _HEAD_BYTES + body_bytes
            if body_bytes > MAX_FRAME_BYTES:
                raise FeedError(f"frame of {body_bytes} bytes announced (proto {proto_id}), limit {MAX_FRAME_BYTES}")
            if stop > end:
                break
            if proto_id == self._push_proto and not encrypted and body_format == _FMT_PROTOBUF:
                push = self._read_push(data[at + _HEAD_BYTES : stop], sha1)
                if push is not None:
                    pushes.append(push)
            elif proto_id in self._kept_protos and not encrypted and body_format == _FMT_PROTOBUF:
                self._keep(proto_id, data[at + _HEAD_BYTES : stop], sha1)
            else:
                self._stats.other_frames += 1
                self._other(data[at:stop])
            at = stop
        self._tail = data[at:]

    def _keep(self, proto_id: int, body: bytes, sha1: bytes) -> None:
        if self._is_whole(body, sha1, proto_id):
            self._stats.book_frames += 1
            self.kept.setdefault(proto_id, []).append(body)

    def _is_whole(self, body: bytes, sha1: bytes, proto: int) -> bool:
        if hashlib.sha1(body, usedforsecurity=False).digest() == sha1:
            return True
        self._stats.bad_sha1_frames += 1
        self._log.log(logging.ERROR, "futu_frame_bad_sha1", proto=proto, body_bytes=len(body))
        return False

    def _read_push(self, body: bytes, sha1: bytes) -> Any:
        """The decoded push, or None when its checksum or its encoding is wrong: only that frame is lost, and said."""
        if not self._is_whole(body, sha1, self._push_proto):
            return None
        try:
            push = self._decode_push(body)
        except Exception as exc:  # noqa: BLE001 (protobuf's DecodeError is not a public stable name)
            self._stats.undecodable_frames += 1
            self._log.log(logging.ERROR, "futu_frame_undecodable", proto=self._push_proto, error=repr(exc))
            return None
        self._stats.ticker_frames += 1
        return push
