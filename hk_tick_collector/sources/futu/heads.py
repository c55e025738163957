"""Whose push it is, by the first bytes of its message: a microsecond, where decoding all of it takes five.

Of books that come faster than they are stored most are passed over for a newer one, and of those nothing but the symbol
is ever wanted. A ``Response`` of protocol 3013 or 3015 begins with the fields of success, then comes ``s2c``, whose
first field is the security; what protobuf allows besides is decoded whole (None here)::

    08 00                  retType 0; then retMsg "" (12 00) and errCode 0 (18 00), or neither
    22 db 04               s2c, of 603 bytes: all that is left
    0a 09                  security, of 9 bytes
    08 01 12 05 "00826"    market 1, code 00826

A field that comes again later would overrule the first one. No program is known to write such a message, and
``futu.books`` holds the symbol against the whole message when it reads it.
"""

from __future__ import annotations

from hk_tick_collector.sources.futu.mapping import SYMBOL_CACHE_ENTRIES, TickMapper
from hk_tick_collector.sources.futu.sdk import decode_security

_SUCCESS = b"\x08\x00\x22"
_SUCCESS_IN_FULL = b"\x08\x00\x12\x00\x18\x00\x22"
_SECURITY_TAG = 0x0A
_LENGTH_GOES_ON = 0x80  # a byte of a varint behind which another one follows


class Heads:
    """One instance for one kind of push of one connection. ``tail``: what the last field of a wanted push is."""

    def __init__(self, mapper: TickMapper, tail: bytes) -> None:
        self._mapper = mapper
        self._tail = tail
        self._symbols: dict[bytes, str] = {}

    def symbol(self, body: bytes) -> str | None:
        """None: its bytes are not as expected, or of no market of ours; decoding it tells."""
        if body.startswith(_SUCCESS):
            at = len(_SUCCESS)
        elif body.startswith(_SUCCESS_IN_FULL):
            at = len(_SUCCESS_IN_FULL)
        else:
            return None
        try:
            s2c_bytes = body[at]
            if s2c_bytes >= _LENGTH_GOES_ON:
                at += 1
                s2c_bytes += (body[at] - 1) << 7  # less the 128 of the first byte's mark
                if body[at] >= _LENGTH_GOES_ON:
                    return None
            at += 1
            security_bytes = body[at + 1]
            end = at + 2 + security_bytes
            if body[at] != _SECURITY_TAG or security_bytes >= _LENGTH_GOES_ON or at + s2c_bytes != len(body):
                return None
            if not body.endswith(self._tail, end):
                return None
        except IndexError:
            return None
        security = body[at + 2 : end]
        return self._symbols.get(security) or self._new_symbol(security)

    def _new_symbol(self, security: bytes) -> str | None:
        try:
            symbol = self._mapper.symbol(decode_security(security))
        except Exception:  # noqa: BLE001 (a market of others, a code that is none, bytes that are no message)
            return None
        if len(self._symbols) >= SYMBOL_CACHE_ENTRIES:
            self._symbols.clear()
        self._symbols[security] = symbol
        return symbol
