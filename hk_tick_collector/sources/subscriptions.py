"""Wanted symbols against what the source says is subscribed, until they are equal.

OpenD refuses a whole request for one bad code or a quota that is one short, so a refused batch is halved until the
culprits stand alone; every other symbol is recorded. What is not answered is refused, too, and asked for again behind
the others and in smaller parts, so that in the end it costs itself alone. When quota is short, the list's order decides
who fits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence
from itertools import chain
from typing import Protocol

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.sources.culprits import SEARCHED, Culprits
from hk_tick_collector.sources.source import Link, SourceSpec, Subscribed

log = logging.getLogger(__name__)

SUBSCRIBE_TIMEOUT_SEC = 12
RETRY_MIN_SEC = 5
RETRY_MAX_SEC = 300
SILENT_RETRY_MAX_SEC = 60  # of a source that keeps silent over many: it may be well again
COMPARE_SEC = 60  # a small request: what OpenD drops without a word is missed for no longer


MAX_UNANSWERED = 2  # requests of one asking; each takes its whole time


class Subscribing(Protocol):
    """What subscribes: a ``Link``, or what a link does of books."""

    async def subscribe(self, symbols: Sequence[str], timeout_sec: float) -> None:
        """See ``Link.subscribe``."""


class Asker:
    """Asks for symbols in parts. What was not answered is asked for behind the others at the next tries, in halves,
    quarters and so on: a far side that keeps silent over a symbol, or over some, keeps no other one waiting."""

    def __init__(self, batch: int) -> None:
        self._max_batch = batch
        self._silent_batch = batch  # of those that were not answered
        self._silent: list[str] = []  # those, the one first that was asked for the longest ago
        self.is_getting_on = False
        """Will the next try ask for symbols that were not asked for yet, or in smaller parts?"""
        self.has_more = False
        """Were some not asked for, because too many were not answered?"""
        self.unanswered: frozenset[str] = frozenset()
        """Those and these, of the last asking: the source may well send them."""

    async def subscribe(
        self, link: Subscribing, codes: Sequence[str], on_ask: Callable[[Sequence[str]], None] = lambda _: None
    ) -> dict[str, str]:
        """Subscribe ``codes``, in their order; those that are refused alone, with the source's words, and those of a
        part that was not answered. ``on_ask`` is told each part before. FeedLost."""
        refused: dict[str, str] = {}
        unanswered: list[list[str]] = []  # the parts
        silence = ""
        parts = self._parts(codes)
        while parts and len(unanswered) < MAX_UNANSWERED:
            part = parts.pop(0)
            on_ask(part)
            try:
                await link.subscribe(part, SUBSCRIBE_TIMEOUT_SEC)
            except FeedLost:
                raise
            except FeedTimeout as exc:
                silence = str(exc)
                unanswered.append(part)
                refused.update(dict.fromkeys(part, silence))
            except FeedError as exc:
                if len(part) == 1:
                    refused[part[0]] = str(exc)
                else:
                    middle = len(part) // 2
                    parts[:0] = [part[:middle], part[middle:]]
        self._note_silence(unanswered, parts)
        return refused | dict.fromkeys(chain(*parts), silence)

    def _parts(self, codes: Sequence[str]) -> list[list[str]]:
        silent = [code for code in self._silent if code in codes]
        others = [code for code in codes if code not in silent]
        sizes = (others, self._max_batch), (silent, self._silent_batch)
        return [theirs[at : at + size] for theirs, size in sizes for at in range(0, len(theirs), size)]

    def _note_silence(self, unanswered: Sequence[Sequence[str]], not_asked: Sequence[Sequence[str]]) -> None:
        known, waiting = set(self._silent), set(chain(*not_asked))
        self._silent = [code for code in self._silent if code in waiting] + list(chain(*unanswered))
        self._silent_batch = max(1, max((len(part) for part in unanswered), default=self._max_batch) // 2)
        self.is_getting_on = any(len(part) > 1 for part in (*unanswered, *not_asked)) or not waiting <= known
        self.has_more = bool(waiting)
        self.unanswered = frozenset(waiting.union(*unanswered))


class Subscriptions:
    """The subscriptions of one connection."""

    def __init__(
        self,
        link: Link,
        spec: SourceSpec,
        wanted: Sequence[str],
        progress: FeedProgress,
        clock: Clock,
        on_missing: Callable[[Sequence[str]], None] = lambda _: None,
        on_wanted: Callable[[frozenset[str]], None] = lambda _: None,
        culprits: Culprits | None = None,
    ) -> None:
        """``on_missing`` is told what is not subscribed before it is subscribed: nothing of it was pushed so far.
        ``on_wanted``, whose ticks are to be taken: what is on the list, and what was not given back yet.
        ``culprits`` lives over connections."""
        self._on_missing = on_missing
        self._on_wanted = on_wanted
        self._culprits = culprits or Culprits(clock)
        self._asker = Asker(spec.pull.subscribe_batch)
        self._link = link
        self._spec = spec
        self.wanted = wanted
        self._progress = progress
        self._clock = clock
        self._retry = Backoff(RETRY_MIN_SEC, RETRY_MAX_SEC)
        self._retry_at_monotonic = 0.0
        self._compare_at_monotonic = 0.0
        self._to_give_back = False
        self._kept: frozenset[str] = frozenset()  # not wanted, and could not be given back
        self._log = RateLimitedLog(log)
        self.active: list[str] = []  # in list order, confirmed by OpenD
        self.refused: dict[str, str] = {}  # code -> OpenD's words
        progress.symbols_wanted = len(wanted)

    def set_wanted(self, wanted: Sequence[str]) -> None:
        """Another list: the next ``reconcile`` subscribes what is new and gives back what is no longer wanted."""
        self.wanted = wanted
        self._progress.symbols_wanted = len(wanted)
        self._retry_at_monotonic = 0.0
        self._to_give_back = True

    @property
    def complete(self) -> bool:
        return len(self.active) == len(self.wanted)

    def retry_due(self) -> bool:
        """Is something missing, and has its waiting time passed?"""
        if self._culprits.look():
            return True
        return (not self.complete or self._to_give_back) and self._clock.monotonic() >= self._retry_at_monotonic

    async def lost_some(self) -> bool:
        """Does OpenD no longer list a code that was active? Asked at most every ``COMPARE_SEC``; no answer is none.
        Such a code is not active from then on."""
        if self._clock.monotonic() < self._compare_at_monotonic:
            return False
        self._compare_at_monotonic = self._clock.monotonic() + COMPARE_SEC
        try:
            info = await self._link.subscribed(SUBSCRIBE_TIMEOUT_SEC)
        except FeedLost:
            raise
        except FeedError:
            return False
        listed = [code for code in self.active if code in info.symbols]
        has_lost = len(listed) < len(self.active)
        self.active = listed
        return has_lost

    async def reconcile(self, *, anew: bool = False) -> list[str]:
        """Compare, subscribe what is missing, compare again. Returns the codes that were not active before.

        A code that OpenD dropped by itself counts as not active, whatever we thought: nothing was pushed since. Where
        it does not say what is subscribed, its answers to what we asked on this connection count; ``anew``: it may have
        dropped all of that.
        """
        kept: frozenset[str] = frozenset() if anew else self._kept
        info = await self._listed(() if anew else kept.union(self.active))
        self._on_wanted(info.symbols.union(self.wanted))
        before = info.symbols.intersection(self.active)
        missing = [code for code in self.wanted if code not in info.symbols]
        self._on_missing(missing)
        missing, refused = self._culprits.may_be_asked(missing, self.wanted)
        if missing:
            quota = len(missing) if info.quota_left is None else info.quota_left
            fits = missing[:quota]
            for code in missing[quota:]:
                refused[code] = f"quota is short: {quota} left for {len(missing)} codes"
            refused.update(await self._asker.subscribe(self._link, fits, self._culprits.note_asked))
            info = await self._listed(before.union(fits).difference(refused).union(kept))
        unwanted = info.symbols.difference(self.wanted)
        self._to_give_back = not await self._give_back(sorted(unwanted))
        self._kept = unwanted if self._to_give_back else frozenset()
        self._on_wanted(self._kept.union(self.wanted))
        self.active = [code for code in self.wanted if code in info.symbols]
        self._compare_at_monotonic = self._clock.monotonic() + COMPARE_SEC
        self._report(refused, info)
        return [code for code in self.active if code not in before]

    async def _listed(self, taken: Collection[str]) -> Subscribed:
        """What the far side says; ``taken`` when it does not say."""
        try:
            return await self._link.subscribed(SUBSCRIBE_TIMEOUT_SEC)
        except FeedLost:
            raise
        except FeedError as exc:
            self._log.log(logging.WARNING, f"{self._spec.provider}_list_unknown", symbols=len(taken), error=str(exc))
            return Subscribed(frozenset(taken), is_told=False)

    async def _give_back(self, codes: list[str]) -> bool:
        """Unsubscribe what is no longer wanted. False: not now (OpenD wants a minute to have passed)."""
        if not codes:
            return True
        try:
            await self._link.unsubscribe(codes, SUBSCRIBE_TIMEOUT_SEC)
        except FeedLost:
            raise
        except FeedError as exc:
            log.info(event(f"{self._spec.provider}_unsubscribe_later", symbols=len(codes), reason=str(exc)))
            return False
        log.info(event(f"{self._spec.provider}_unsubscribed", symbols=len(codes), first=codes[0]))
        return True

    def _report(self, refused: dict[str, str], info: Subscribed) -> None:
        active = set(self.active)
        still = {code: refused.get(code, "OpenD does not list it") for code in self.wanted if code not in active}
        searched = [code for code, reason in still.items() if reason == SEARCHED]
        if searched and SEARCHED not in self.refused.values():
            action = "finding which symbol it is; the others follow"
            log.warning(
                event(
                    f"{self._spec.provider}_symbols_held", symbols=len(searched), first=searched[0], reason=SEARCHED,
                    action=action,
                )
            )  # fmt: skip
        for code, reason in still.items():
            if self.refused.get(code) != reason and reason != SEARCHED:
                action = "retrying later; all others are recorded"
                log.warning(event(f"{self._spec.provider}_symbol_refused", symbol=code, reason=reason, action=action))
        for code in {code for code, reason in self.refused.items() if reason != SEARCHED} - still.keys():
            log.info(event(f"{self._spec.provider}_symbol_recovered", symbol=code))
        changed = self._progress.symbols_subscribed != len(active) or still != self.refused
        self.refused = still
        self._progress.symbols_subscribed = len(active)
        self._progress.symbols_refused = len(still)
        self._progress.refused_symbols = still
        if changed:
            log.info(
                event(
                    f"{self._spec.provider}_subscribed",
                    symbols=len(active),
                    wanted=len(self.wanted),
                    refused=len(still),
                    remain_quota=_quota_word(info),
                )
            )
        if self._asker.is_getting_on:
            self._retry.reset()
        if still or self._to_give_back:
            wait_sec = self._retry.next_sec()
            wait_sec = min(wait_sec, SILENT_RETRY_MAX_SEC) if self._asker.has_more else wait_sec
            self._retry_at_monotonic = self._clock.monotonic() + wait_sec
        else:
            self._retry.reset()


def _quota_word(info: Subscribed) -> str | int:
    if not info.is_told:
        return "unknown"
    return "no limit" if info.quota_left is None else info.quota_left
