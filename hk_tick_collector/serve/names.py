"""Names in JSON that comes from outside. An object with a name twice says two things, and readers differ in which they
take: it is refused."""

from __future__ import annotations

import json
from typing import Any

from hk_tick_collector.core.text import cut, printable

_SHOWN_CHARS = 40


class NameTwice(ValueError):
    """An object has a name twice. ``name``: as it may be shown."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{printable(cut(name, _SHOWN_CHARS))} is given twice")
        self.name = printable(cut(name, _SHOWN_CHARS))


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of its names and values: the ``object_pairs_hook`` of ``json.loads``. NameTwice."""
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise NameTwice(next(name for number, name in enumerate(names) if name in names[:number]))
    return members


def check_names(text: str | bytes) -> None:
    """NameTwice when an object in this JSON has a name twice; ValueError or RecursionError when it is none."""
    json.loads(text, object_pairs_hook=unique)
