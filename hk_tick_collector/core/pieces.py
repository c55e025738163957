"""An answer that comes in pieces, as a file that can be read once: for Arrow, which reads from nothing else."""

from __future__ import annotations

import io
from collections.abc import Iterator


class Pieces(io.RawIOBase):
    """What ``pieces`` gives, in order; an error that it raises is raised by ``read``."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        """Yes."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Exactly ``size`` bytes unless the answer ends before; all when negative."""
        parts, length = [self._rest], len(self._rest)
        while size < 0 or length < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            parts.append(piece)
            length += len(piece)
        content = b"".join(parts)
        if size < 0:
            size = len(content)
        self._rest = content[size:]
        return content[:size]
