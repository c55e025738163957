"""Symbols that are read together: small ones share the cost of a reading, and memory does not depend on the day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def in_groups(rows_by_symbol: Mapping[str, int], max_rows: int, max_symbols: int | None = None) -> Iterator[list[str]]:
    """The symbols in their order, as many at a time as have ``max_rows`` rows together; one that has more comes alone.

    >>> list(in_groups({"HK.00005": 60, "HK.00700": 50, "HK.09988": 40}, 100))
    [['HK.00005'], ['HK.00700', 'HK.09988']]
    """
    group: list[str] = []
    rows = 0
    for symbol, more in rows_by_symbol.items():
        if group and (rows + more > max_rows or len(group) == max_symbols):
            yield group
            group, rows = [], 0
        group.append(symbol)
        rows += more
    if group:
        yield group
