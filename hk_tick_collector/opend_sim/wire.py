"""OpenD's wire format: 44-byte header, body, SHA-1 of the plain body, RSA for InitConnect and AES after it.

Owns the bytes and nothing else. Source of the layout and of every cipher: futu-api 10.11, ``futu/common/utils.py``,
``conn_mng.py`` and ``sys_config.py``. Limits: a request body over ``MAX_REQUEST_BYTES`` is refused from its header,
before a byte of it is read. Promise: what ``encode_frame`` writes, the SDK's ``parse_rsp`` reads, and the other way.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from hk_tick_collector.core.errors import ConfigError, RecorderError

HEADER = struct.Struct("<2sI2B2I20s8s")
HEADER_BYTES = HEADER.size
MAGIC = b"FT"
PROTO_VERSION = 0
FMT_PROTOBUF = 0
FMT_JSON = 1
SHA1_OFFSET = 16

MAX_REQUEST_BYTES = 1024 * 1024

ENC_NONE = -1
ENC_FTAES_ECB = 0
ENC_AES_ECB = 1
ENC_AES_CBC = 2

_BLOCK_BYTES = 16
_RSA_KEY_BITS = 1024
_RSA_PLAIN_BYTES = 100
_RSA_CIPHER_BYTES = 128


class FrameError(RecorderError):
    """The bytes are not a frame of OpenD's protocol; the connection cannot be read on."""


class Header(NamedTuple):
    """What stands before a body."""

    proto_id: int
    fmt: int
    serial: int
    body_bytes: int
    sha1: bytes


class Cipher(Protocol):
    """What a connection does to bodies after InitConnect."""

    def encrypt(self, plain: bytes) -> bytes: ...

    def decrypt(self, data: bytes) -> bytes: ...


def decode_header(data: bytes, max_body_bytes: int = MAX_REQUEST_BYTES) -> Header:
    """Read 44 bytes. FrameError for wrong magic, unknown body format, or a length over ``max_body_bytes``."""
    magic, proto_id, fmt, _version, serial, body_bytes, sha1, _reserved = HEADER.unpack(data)
    if magic != MAGIC:
        raise FrameError(f"bad magic {magic!r}, expected {MAGIC!r}: the peer does not speak OpenD's protocol")
    if fmt not in (FMT_PROTOBUF, FMT_JSON):
        raise FrameError(f"unknown body format {fmt}")
    if body_bytes > max_body_bytes:
        raise FrameError(f"body of {body_bytes} bytes is over the limit of {max_body_bytes}")
    return Header(proto_id, fmt, serial, body_bytes, sha1)


def encode_frame(
    proto_id: int, serial: int, body: bytes, fmt: int = FMT_PROTOBUF, cipher: Cipher | None = None
) -> bytes:
    """Header and body. The SHA-1 is of the plain body, the length of what is sent."""
    digest = sha1_of(body)
    if cipher is not None:
        body = cipher.encrypt(body)
    return HEADER.pack(MAGIC, proto_id, fmt, PROTO_VERSION, serial, len(body), digest, b"") + body


def open_body(header: Header, body: bytes, cipher: Cipher | None = None) -> bytes:
    """The plain body of a frame. FrameError when it does not decrypt or its SHA-1 differs from the header's."""
    if cipher is not None:
        try:
            body = cipher.decrypt(body)
        except (ValueError, IndexError) as err:
            raise FrameError(f"body of proto {header.proto_id} does not decrypt: {err}") from err
    if sha1_of(body) != header.sha1:
        raise FrameError(f"wrong SHA-1 in frame of proto {header.proto_id} serial {header.serial}")
    return body


def with_bad_sha1(frame: bytes) -> bytes:
    """The same frame with one bit of its SHA-1 turned over."""
    damaged = bytearray(frame)
    damaged[SHA1_OFFSET] ^= 1
    return bytes(damaged)


def sha1_of(body: bytes) -> bytes:
    return hashlib.sha1(body, usedforsecurity=False).digest()


class RsaCipher:
    """RSA PKCS#1 v1.5 in blocks, for InitConnect only. The SDK fixes the block sizes, so only 1024-bit keys work."""

    def __init__(self, key_file: Path) -> None:
        """ConfigError names the file and what is wrong with it."""
        from Crypto.Cipher import PKCS1_v1_5  # noqa: PLC0415 - only encrypted runs pay for it
        from Crypto.PublicKey import RSA  # noqa: PLC0415

        try:
            key = RSA.import_key(key_file.read_bytes())
        except (OSError, ValueError, IndexError, TypeError) as err:
            raise ConfigError(f"RSA key file {key_file}: {err}; give a PKCS#1 private key without passphrase") from err
        if key.size_in_bits() != _RSA_KEY_BITS or not key.has_private():
            raise ConfigError(
                f"RSA key file {key_file}: the SDK needs a private key of {_RSA_KEY_BITS} bits, this one has "
                f"{key.size_in_bits()}; make one with: openssl genrsa -traditional -out key.pem {_RSA_KEY_BITS}"
            )
        self._cipher = PKCS1_v1_5.new(key)

    def encrypt(self, plain: bytes) -> bytes:
        blocks = range(0, len(plain), _RSA_PLAIN_BYTES)
        return b"".join(self._cipher.encrypt(plain[i : i + _RSA_PLAIN_BYTES]) for i in blocks)

    def decrypt(self, data: bytes) -> bytes:
        """ValueError when a block was not encrypted for this key."""
        if len(data) % _RSA_CIPHER_BYTES:
            raise ValueError("length is not a multiple of an RSA block")
        plain = b""
        for i in range(0, len(data), _RSA_CIPHER_BYTES):
            block = self._cipher.decrypt(data[i : i + _RSA_CIPHER_BYTES], None)
            if block is None:
                raise ValueError("not encrypted with this key")
            plain += block
        return plain


class AesCipher:
    """One connection's AES key, in the three ways OpenD knows (``Common.PacketEncAlgo``)."""

    def __init__(self, algo: int, key: str, iv: str) -> None:
        from Crypto.Cipher import AES  # noqa: PLC0415

        self._aes = AES
        self._algo = algo
        self._key = key.encode()
        self._iv = iv.encode()

    def encrypt(self, plain: bytes) -> bytes:
        if self._algo == ENC_FTAES_ECB:
            tail = len(plain) % _BLOCK_BYTES
            padded = plain + b"\0" * (-len(plain) % _BLOCK_BYTES)
            return bytes(self._engine().encrypt(padded)) + b"\0" * (_BLOCK_BYTES - 1) + bytes([tail])
        fill = _BLOCK_BYTES - len(plain) % _BLOCK_BYTES
        return bytes(self._engine().encrypt(plain + bytes([fill]) * fill))

    def decrypt(self, data: bytes) -> bytes:
        """ValueError when the length or the padding cannot be of this cipher."""
        if self._algo == ENC_FTAES_ECB:
            plain = bytes(self._engine().decrypt(data[:-_BLOCK_BYTES]))
            tail = data[-1]
            if tail >= _BLOCK_BYTES:
                raise ValueError("wrong tail length")
            return plain[: len(plain) - (_BLOCK_BYTES - tail)] if tail else plain
        plain = bytes(self._engine().decrypt(data))
        fill = plain[-1]
        if not 1 <= fill <= _BLOCK_BYTES:
            raise ValueError("wrong padding")
        return plain[:-fill]

    def _engine(self) -> _AesEngine:
        # CBC carries state from call to call and the SDK starts each body afresh: a new engine every time.
        if self._algo == ENC_AES_CBC:
            return cast("_AesEngine", self._aes.new(self._key, self._aes.MODE_CBC, iv=self._iv))
        return cast("_AesEngine", self._aes.new(self._key, self._aes.MODE_ECB))


class _AesEngine(Protocol):
    def encrypt(self, plain: bytes) -> bytes: ...

    def decrypt(self, data: bytes) -> bytes: ...


def new_key_text() -> str:
    """A random 16-character key or initial vector; the protocol carries both as text."""
    return secrets.token_hex(_BLOCK_BYTES // 2).upper()
