"""What a key may not read is refused in the same words everywhere."""

from __future__ import annotations

from collections.abc import Iterable

from hk_tick_collector.serve.keys import Key
from hk_tick_collector.serve.problems import Problem

_NAMED = 5


def refuse_hidden(key: Key, named: Iterable[str]) -> None:
    """A Problem when one of the symbols that were named is none that the key may read."""
    hidden = [symbol for symbol in named if not key.may_read(symbol)]
    if hidden:
        raise Problem("forbidden", f"the key {key.id} may not read {', '.join(hidden[:_NAMED])}")


def refuse_part(key: Key, what_for: str) -> None:
    """A Problem unless the key may read every symbol. ``what_for``: ``which the page shows``."""
    if not key.reads_all:
        raise Problem("forbidden", f"the key {key.id} may not read every symbol, {what_for}")
