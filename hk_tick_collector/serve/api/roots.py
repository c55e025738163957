"""The data roots behind one server, and what a question means on them: which root, which symbols, which days.

A symbol's market chooses the root. Several roots of one market are read as one (``days.union``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hk_tick_collector.client.errors import BadQuestion
from hk_tick_collector.client.local import LocalFiles
from hk_tick_collector.client.plan import MarketRoots, nothing_older
from hk_tick_collector.client.question import bound, milliseconds
from hk_tick_collector.core.clock import Clock, SystemClock
from hk_tick_collector.days.catalog import Catalog, Day
from hk_tick_collector.days.union import UnionCatalog
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.market import Market
from hk_tick_collector.serve.problems import FieldError, Problem
from hk_tick_collector.watch.when import one_day

if TYPE_CHECKING:
    from hk_tick_collector.clickhouse.older import Older
    from hk_tick_collector.serve.api.pages import BarPages, DayBars
    from hk_tick_collector.serve.api.today import TodayBars
    from hk_tick_collector.watch.snapshot_series import SeriesLooks

ALL = "all"
MAX_SYMBOLS = 50
_EPOCH_MS = re.compile(r"-?[0-9]{1,14}", re.ASCII)
_PLUS = re.compile(r"(?<=[0-9]) ([0-9]{2}:[0-9]{2})$", re.ASCII)  # a + that the address turned into a blank
_DAY = re.compile(r"[0-9]{8}", re.ASCII)


@dataclass
class Root:
    """One data root; what ``watch.when`` calls Recorded. Days of a ClickHouse are one too."""

    number: int
    data_root: Path
    archive_root: Path
    clock: Clock
    name: str  # what it may be called in an answer

    @property
    def catalog(self) -> Catalog:
        """Looked at anew for every question: days come and go."""
        return Catalog(self.data_root, self.archive_root)

    @cached_property
    def market(self) -> Market:
        """Whose days these are; it never changes."""
        return self.catalog.market

    @cached_property
    def calendar(self) -> TradingCalendar:
        """Its trading days."""
        return TradingCalendar(self.market)

    @cached_property
    def today(self) -> TodayBars:
        """What a reading process keeps of its newest day."""
        from hk_tick_collector.serve.api.today import TodayBars  # noqa: PLC0415 - the server does without Arrow

        return TodayBars(self)

    @cached_property
    def snapshot_series(self) -> SeriesLooks:
        """What is known of its newest day of snapshots."""
        from hk_tick_collector.watch.snapshot_series import SeriesLooks  # noqa: PLC0415 - few data roots have some

        return SeriesLooks(self.data_root, self.calendar)

    @property
    def now_ms(self) -> int:
        """The wall clock."""
        return self.clock.now_ms()


def names_of(data_roots: Sequence[Path]) -> list[str]:
    """The shortest ending of each path that no other one has: ``HK``, or ``sqlite/HK`` beside ``twin/HK``."""

    def endings(parts: int) -> list[str]:
        return ["/".join(path.parts[1:][-parts:]) for path in data_roots]

    names, parts = endings(1), 1
    while len(set(names)) < len(names) and parts < max(len(path.parts) for path in data_roots):
        parts += 1
        names = [longer if names.count(name) > 1 else name for name, longer in zip(names, endings(parts), strict=True)]
    return names


class OlderRoot(Root):
    """Days that no data root has any more, as one question finds them."""

    def __init__(self, number: int, catalog: Catalog, clock: Clock) -> None:
        super().__init__(number, catalog.data_root, catalog.archive_root, clock, catalog.data_root.name)
        self._catalog = catalog

    @property
    def catalog(self) -> Catalog:
        """Those."""
        return self._catalog


class Roots:
    """All of them. ``roots``: each with its archive; ``older``: where days are that these have no more."""

    def __init__(
        self, roots: Iterable[tuple[Path, Path]], clock: Clock | None = None, older: Older | None = None
    ) -> None:
        self._clock = clock or SystemClock()
        self._older = older
        self.paths = list(roots)
        names = names_of([data_root for data_root, _ in self.paths])
        self.all = [Root(number, *paths, self._clock, names[number]) for number, paths in enumerate(self.paths)]

    def files(self) -> LocalFiles:
        """All of it for the Python API."""
        return LocalFiles(self.paths, self._clock, nothing_older if self._older is None else self._older)

    def with_older(self) -> list[Root]:
        """All of them, and behind them the days that they have no more."""
        if self._older is None:
            return self.all
        older = self._older([root.catalog for root in self.all])
        return [*self.all, *(OlderRoot(n, catalog, self._clock) for n, catalog in enumerate(older, len(self.all)))]

    @property
    def unknown(self) -> str:
        """Why it is not known which older days there are; empty when it is."""
        return self._older.reason if self._older is not None else ""

    @cached_property
    def bar_pages(self) -> BarPages:
        """What a reading process keeps of bars whose first page went out."""
        from hk_tick_collector.serve.api.pages import BarPages  # noqa: PLC0415 - the server does without Arrow

        return BarPages()

    @cached_property
    def day_bars(self) -> DayBars:
        """What a reading process keeps of bars of archived days."""
        from hk_tick_collector.serve.api.pages import DayBars  # noqa: PLC0415

        return DayBars()

    def check_there(self) -> None:
        """A Problem while a data root is absent, as before its disk is mounted: its days are not known to be none."""
        absent = [root.name for root in self.all if not root.data_root.is_dir()]
        if absent:
            raise Problem("store-unreadable", f"the data root {', '.join(absent)} is not there")

    def of_market(self, market: str | None) -> list[Root]:
        """The roots of a market; of the first root's when none is named."""
        wanted = market.upper() if market else self.all[0].market.code
        roots = [root for root in self.with_older() if root.market.code == wanted]
        if not roots:
            codes = ", ".join(dict.fromkeys(root.market.code for root in self.all))
            raise bad("market", f"{wanted!r:.20} is not served here; there are {codes}")
        return roots

    def symbols(self, texts: str) -> list[tuple[Root, list[str]]]:
        """Symbols as typed, by the roots in which they may be. A Problem names each that means nothing."""
        by_root: dict[int, list[str]] = {}
        errors: list[FieldError] = []
        words = [word for word in re.split(r"[,\s]+", texts) if word]
        if not 0 < len(words) <= MAX_SYMBOLS:
            raise bad("symbols", f"give 1 to {MAX_SYMBOLS} symbols, or {ALL} for one day")
        for word in words:
            roots = self._of_word(word)
            symbol, problems = _parsed(word, roots[0].market) if roots else (None, [_unserved(word, self.all)])
            errors += [FieldError("symbols", problem) for problem in problems]
            for root in roots if symbol else ():
                mine = by_root.setdefault(root.number, [])
                if symbol and symbol not in mine:
                    mine.append(symbol)
        if errors:
            raise Problem("bad-parameter", "symbols has a word that is not a symbol here", errors=errors)
        return [(self.all[number], sorted(symbols)) for number, symbols in sorted(by_root.items())]

    def _of_word(self, word: str) -> list[Root]:
        meant = [root for root in self.all if root.market.symbols.symbol(word)]
        if meant:
            return meant
        code, dot, _ = word.partition(".")
        named = [root for root in self.all if dot and root.market.code == code.upper()]
        if named or dot:
            return named
        return [root for root in self.all if root.market is self.all[0].market]

    def day(self, text: str, market: str | None) -> tuple[MarketRoots, Day]:
        """One recorded day, in words, of all roots of a market. Raises as ``watch.when.one_day``."""
        recorded = self.recorded(market)
        return recorded, recorded.catalog.day(one_day(recorded, text))

    def recorded(self, market: str | None) -> MarketRoots:
        """The days of all roots of a market; of the first root's when none is named. Looked at anew for every
        question: days come and go."""
        roots = self.of_market(market)
        return MarketRoots(roots[0].market, UnionCatalog([root.catalog for root in roots]), roots[0].clock)


def _parsed(word: str, market: Market) -> tuple[str | None, list[str]]:
    from hk_tick_collector.market.symbols import check_symbols  # noqa: PLC0415

    if word.startswith("@"):  # the CLI reads a file of that name
        return None, [f"{word!r:.40} is not a symbol"]
    symbols, problems = check_symbols(word, market.symbols)
    return (symbols[0] if symbols else None), problems


def _unserved(word: str, roots: Sequence[Root]) -> str:
    codes = ", ".join(dict.fromkeys(root.market.code for root in roots))
    return f"{word!r:.40} is of a market that is not served here; there are {codes}"


def packed(day: str) -> Problem:
    """The problem of a day whose archive cannot be read in place."""
    return Problem(
        "day-packed",
        f"{day} is archived as a packed day file only",
        hint=f"ask who runs the server to bring it back: hk-tickctl restore {day}",
    )


def instant(field: str, text: str, tz: str | None) -> int | str:
    """RFC 3339 with an offset or epoch milliseconds as UTC epoch ms; ``YYYYMMDD`` (that trading day's beginning) as it
    is. A Problem for anything else, also for a time without a zone, unless ``tz`` names one."""
    try:
        if _EPOCH_MS.fullmatch(text) and not _DAY.fullmatch(text):
            return milliseconds(field, int(text))
        moment = bound(field, _PLUS.sub(r"+\1", text.upper()), tz)
    except (BadQuestion, OverflowError) as exc:
        raise bad(field, str(exc)) from None
    assert moment is not None
    return moment


def bad(field: str, message: str) -> Problem:
    """A parameter that is wrong."""
    return Problem("bad-parameter", f"{field}: {message}", errors=[FieldError(field, message)])
