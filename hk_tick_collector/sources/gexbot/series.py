"""Which snapshots are asked for: packages and categories, and what a symbol's ticker is."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from itertools import product
from typing import NamedTuple

from hk_tick_collector.core.errors import InputError
from hk_tick_collector.core.text import cut, printable
from hk_tick_collector.records.snapshot import Series

MAX_SERIES = 150  # one request a second each; as many as gexbot's other interface takes

_GEX = ("gex_full", "gex_zero", "gex_one")
_GREEKS = tuple(
    f"{greek}{expiry}" for greek, expiry in product(("delta", "gamma", "vanna", "charm"), ("_zero", "_one"))
)
CATEGORIES = {
    "classic": _GEX,
    "state": (*_GEX, *_GREEKS, "delta", "gamma", "vanna", "charm"),
    "orderflow": ("orderflow",),
}


class SeriesName(NamedTuple):
    """What is computed, of whatever symbol: ``classic/gex_full``."""

    package: str
    category: str

    def __str__(self) -> str:
        return f"{self.package}/{self.category}"


def parse_series_name(text: str) -> SeriesName:
    """``classic/gex_full``. InputError for one that gexbot does not make, with the nearest one."""
    known = [f"{package}/{category}" for package, names in CATEGORIES.items() for category in names]
    word = text.strip().lower()
    if word not in known:
        raise InputError(f"{printable(cut(word, 40))} is none of gexbot's snapshots{nearest(word, known)}")
    package, _, category = word.partition("/")
    return SeriesName(package, category)


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence that says what may have been meant."""
    there = list(known)
    close = difflib.get_close_matches(word, there, 1, 0.5)
    return f": did you mean {close[0]}?" if close else f"; there is {', '.join(sorted(there)[:8])} ..."


def ticker_of(symbol: str) -> str:
    """gexbot's name of US.SPX is SPX."""
    return symbol.partition(".")[2]


def series_of(symbol: str, series_names: Sequence[SeriesName]) -> list[Series]:
    """What is asked for of a symbol."""
    return [Series(symbol, *name) for name in series_names]
