"""What a reader of the live channel asks for, checked; and the cursor, a position in each data root.

The cursor is the text of the position (``store/position.py``). With several data roots it is one for each, in the order
of ``DATA_ROOTS``, with commas between; ``-`` for one of which no symbol was asked for. Who asks for signals has the
number of the last one behind them (``store/signals.py``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hk_tick_collector.core.text import counted
from hk_tick_collector.market.symbols import check_symbols
from hk_tick_collector.serve.keys import Key
from hk_tick_collector.serve.live.frames import ALL, TYPES
from hk_tick_collector.serve.live.hub import Hub
from hk_tick_collector.serve.problems import FieldError, Problem
from hk_tick_collector.serve.rights import refuse_hidden
from hk_tick_collector.store.layout import BOOKS, BROKERS, SNAPSHOTS, TICKS
from hk_tick_collector.store.position import Position
from hk_tick_collector.store.signals import NAME_PATTERN, parted

NOW, DAY = "now", "day"
CATCH_UP, CONFLATE, CLOSE = "catch_up", "conflate", "close"
ON_SLOW = (CATCH_UP, CONFLATE, CLOSE)
SHAPES = ("array", "object")
MAX_BACK_ROWS = 100_000
MAX_SYMBOLS_TEXT = 60_000
MAX_CURSOR_CHARS = 4000
NOT_FOLLOWED = "-"
_BACK = re.compile(r"-([1-9][0-9]{0,5})", re.ASCII)
_FIELDS = ("op", "symbols", "since", "kind", "types", "depth", "shape", "on_slow", "signals")
BOOK = "book"
KINDS = {"tick": TICKS, BOOK: BOOKS, "broker": BROKERS, "snapshot": SNAPSHOTS}
_NOT_OF = {"tick": ("depth",), BOOK: ("types",), "broker": ("depth", "types"), "snapshot": ("depth", "types")}
DEPTH, MAX_DEPTH = 10, 1000
MAX_HOOKS = 100


@dataclass(frozen=True)
class Subscription:
    """``symbols``: those of each hub (by its place in the list); None for all of it. ``since``: NOW, DAY, a number of
    rows to go back, or a position for each data root. ``signals``: the hooks whose signals are wanted, or ALL that the
    key may read; ``after_signal``: behind which number, None when ``since`` has none. ``kind``: TICKS, BROKERS,
    SNAPSHOTS, or BOOKS with ``depth`` levels a side at most."""

    symbols: Mapping[int, frozenset[str] | None]
    since: str | int | tuple[Position | None, ...] = NOW
    types: frozenset[str] = frozenset((ALL,))
    shape: str = "array"
    on_slow: str = CATCH_UP
    signals: frozenset[str] = frozenset()
    after_signal: int | None = None
    kind: str = TICKS
    depth: int = DEPTH

    def wants_signal(self, name: str, symbol: str, key: Key) -> bool:
        """Is a signal of this hook, of this symbol, for this reader?"""
        return (ALL in self.signals or name in self.signals) and key.may(f"hook:{name}") and key.may_read(symbol)


def subscription(given: Mapping[str, Any], hubs: Sequence[Hub], key: Key) -> Subscription:
    """From a message or the parameters of an address. A Problem names what is wrong."""
    for name in given:
        if name not in _FIELDS:
            raise _bad(str(name)[:40], f"is not known; there are {', '.join(_FIELDS[1:])}")
    since, after_signal = _since_and_signal(given.get("since", NOW))
    word = _word("kind", given.get("kind", "tick"), tuple(KINDS))
    for other in _NOT_OF[word]:
        if other in given:
            raise _bad(other, f"is nothing that kind={word} has")
    return Subscription(
        _symbols(given.get("symbols", ALL), hubs, key),
        _since(since, sum(map(len, numbers_of(hubs))), KINDS[word]),
        frozenset(_words("types", given.get("types", ALL), TYPES)),
        _word("shape", given.get("shape", SHAPES[0]), SHAPES),
        _word("on_slow", given.get("on_slow", CATCH_UP), ON_SLOW),
        _hooks(given.get("signals"), key),
        after_signal,
        KINDS[word],
        _depth(given.get("depth", DEPTH)),
    )


def numbers_of(hubs: Sequence[Hub]) -> list[tuple[int, ...]]:
    """The places of each hub's data roots in a cursor."""
    numbers, next_number = [], 0
    for hub in hubs:
        count = len(hub.roots.of)
        numbers.append(hub.numbers or tuple(range(next_number, next_number + count)))
        next_number += count
    return numbers


def _since_and_signal(given: Any) -> tuple[Any, int | None]:
    try:
        return parted(given) if isinstance(given, str) and len(given) <= MAX_CURSOR_CHARS else (given, None)
    except ValueError as exc:
        raise _no_cursor(exc) from None


def _hooks(given: Any, key: Key) -> frozenset[str]:
    """The hooks whose signals are wanted; the key needs the scope of each."""
    if given is None:
        return frozenset()
    names = given.split(",") if isinstance(given, str) else given
    if not isinstance(names, list) or not 0 < len(names) <= MAX_HOOKS or not all(map(_is_hook, names)):
        raise _bad("signals", "name hooks separated by commas, or all")
    refused = sorted(name for name in set(names) - {ALL} if not key.may(f"hook:{name}"))
    if ALL in names and not any(scope == "admin" or scope.startswith("hook:") for scope in key.scopes):
        refused.append("NAME")
    if refused:
        raise Problem("forbidden", f"the key {key.id} has no scope hook:{refused[0]}")
    return frozenset(names)


def _is_hook(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(NAME_PATTERN, name) is not None


def _depth(given: Any) -> int:
    text = str(given)
    if isinstance(given, bool) or re.fullmatch(r"[1-9][0-9]{0,3}", text, re.ASCII) is None or int(text) > MAX_DEPTH:
        raise _bad("depth", f"levels of each side, 1 to {MAX_DEPTH}")
    return int(text)


def _words(field: str, given: Any, known: Sequence[str]) -> list[str]:
    words = given.split(",") if isinstance(given, str) else given
    if not isinstance(words, list) or not words or len(words) > len(known) or not all(word in known for word in words):
        raise _bad(field, f"there are {', '.join(known)}")
    return words


def _word(field: str, given: Any, known: Sequence[str]) -> str:
    words = _words(field, given, known)
    if len(words) > 1:
        raise _bad(field, f"give one of {', '.join(known)}")
    return words[0]


def _symbols(given: Any, hubs: Sequence[Hub], key: Key) -> dict[int, frozenset[str] | None]:
    text = ",".join(map(str, given)) if isinstance(given, list) else given
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_SYMBOLS_TEXT:
        raise _bad("symbols", "name symbols separated by commas, or all")
    if text.strip() == ALL:
        return dict.fromkeys(range(len(hubs)))
    wanted: dict[int, set[str]] = {}
    for word in re.split(r"[,\s]+", text.strip().strip(",")):
        mine = [number for number, hub in enumerate(hubs) if hub.market.symbols.symbol(word)]
        if not mine:  # of no market: the one that it seems to be of says why
            code, dot, _ = word.partition(".")
            market = code.upper() if dot else hubs[0].market.code
            mine = [number for number, hub in enumerate(hubs) if hub.market.code == market]
        if not mine or word.startswith("@"):
            raise _bad("symbols", f"{word!r:.40} is of no market that is served here")
        symbols, problems = check_symbols(word, hubs[mine[0]].market.symbols)
        if problems:
            raise _bad("symbols", problems[0])
        for number in mine:
            wanted.setdefault(number, set()).update(symbols)
    named = set().union(*wanted.values())
    if len(named) > key.limits.live_symbols:
        raise _bad("symbols", f"{len(named)} are named; the key may have {key.limits.live_symbols} of a connection")
    refuse_hidden(key, sorted(named))
    return {number: frozenset(symbols) for number, symbols in wanted.items()}


def _since(given: Any, roots: int, kind: str) -> str | int | tuple[Position | None, ...]:
    if not isinstance(given, str) or len(given) > MAX_CURSOR_CHARS:
        raise _bad("since", "give a cursor, now, day, or -500 for the newest 500 rows")
    if given in (NOW, DAY, ""):
        return given or NOW
    back = _BACK.fullmatch(given)
    if back:
        return min(int(back[1]), MAX_BACK_ROWS)
    texts = given.split(",")
    try:
        if len(texts) != roots:
            raise ValueError(f"it is of {counted(len(texts), 'data root')}; served here: {roots}")
        return tuple(None if text == NOT_FOLLOWED else Position.parse(text, kind) for text in texts)
    except ValueError as exc:
        raise _no_cursor(exc) from None


def _no_cursor(error: ValueError) -> Problem:
    return Problem("bad-cursor", f"since is not a cursor of this server: {error}", hint="begin with now or day")


def _bad(field: str, message: str) -> Problem:
    return Problem("bad-parameter", f"{field}: {message}", errors=[FieldError(field, message)])
