"""Extents of counters, ``(first, last)`` both included, and their text ``501-502 900-910`` in the day files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Extent = tuple[int, int]


def format_extents(extents: Iterable[Extent]) -> str:
    """The text; empty when there is none."""
    return " ".join(f"{first}-{last}" for first, last in extents)


def parse_extents(text: str | None) -> list[Extent]:
    """What ``format_extents`` wrote. ValueError when it is something else."""
    return [(int(first), int(last)) for first, _, last in (part.partition("-") for part in (text or "").split())]


def count(extents: Iterable[Sequence[int]]) -> int:
    """How many counters they hold."""
    return sum(last - first + 1 for first, last in extents)


def subtract(extents: Iterable[Extent], ranges: Iterable[Sequence[int]]) -> list[Extent]:
    """What of ``extents`` lies in none of ``ranges``, which are ascending and disjoint."""
    taken = list(ranges)
    left: list[Extent] = []
    for low, high in extents:
        for first, last in taken:
            if last < low:
                continue
            if first > high:
                break
            if first > low:
                left.append((low, first - 1))
            low = last + 1  # noqa: PLW2901 - what is left of this extent
        if low <= high:
            left.append((low, high))
    return left
