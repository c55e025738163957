"""Where an answer of the API goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO, Protocol


class Out(Protocol):
    """Where an answer goes."""

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """First, once."""

    @property
    def body(self) -> BinaryIO:
        """Then the rest."""
