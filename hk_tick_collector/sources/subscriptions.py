"""Wanted symbols against what the source says is subscribed, until they are equal.

OpenD refuses a whole request for one bad code or a quota that is one short, so a refused batch is halved until the
culprits stand alone; every other symbol is recorded. When quota is short, the list's order decides who fits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.sources.source import Link, SourceSpec

log = logging.getLogger(__name__)

SUBSCRIBE_TIMEOUT_SEC = 12
RETRY_MIN_SEC = 5
RETRY_MAX_SEC = 300
COMPARE_SEC = 60  # a small request: what OpenD drops without a word is missed for no longer


async def subscribe_each(link: Link, codes: Sequence[str], batch: int) -> dict[str, str]:
    """Subscribe ``codes``, in their order, ``batch`` at a time; those that are refused alone, with the source's words.
    FeedLost or FeedTimeout when there is no answer."""
    refused: dict[str, str] = {}
    parts = [list(codes[at : at + batch]) for at in range(0, len(codes), batch)]
    while parts:
        part = parts.pop(0)
        try:
            await link.subscribe(part, SUBSCRIBE_TIMEOUT_SEC)
        except (FeedLost, FeedTimeout):
            raise
        except FeedError as exc:
            if len(part) == 1:
                refused[part[0]] = str(exc)
            else:
                middle = len(part) // 2
                parts[:0] = [part[:middle], part[middle:]]
    return refused


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
    ) -> None:
        """``on_missing`` is told what is not subscribed before it is subscribed: nothing of it was pushed so far."""
        self._on_missing = on_missing
        self._link = link
        self._spec = spec
        self.wanted = wanted
        self._progress = progress
        self._clock = clock
        self._retry = Backoff(RETRY_MIN_SEC, RETRY_MAX_SEC)
        self._retry_at_monotonic = 0.0
        self._compare_at_monotonic = 0.0
        self._to_give_back = False
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
        return (not self.complete or self._to_give_back) and self._clock.monotonic() >= self._retry_at_monotonic

    async def lost_some(self) -> bool:
        """Does OpenD no longer list a code that was active? Asked at most every ``COMPARE_SEC``; no answer is none."""
        if self._clock.monotonic() < self._compare_at_monotonic:
            return False
        self._compare_at_monotonic = self._clock.monotonic() + COMPARE_SEC
        try:
            info = await self._link.subscribed(SUBSCRIBE_TIMEOUT_SEC)
        except FeedLost:
            raise
        except FeedError:
            return False
        return not info.symbols.issuperset(self.active)

    async def reconcile(self) -> list[str]:
        """Compare, subscribe what is missing, compare again. Returns the codes that were not active before.

        A code that OpenD dropped by itself counts as not active, whatever we thought: nothing was pushed since.
        """
        info = await self._link.subscribed(SUBSCRIBE_TIMEOUT_SEC)
        before = info.symbols.intersection(self.active)
        missing = [code for code in self.wanted if code not in info.symbols]
        self._on_missing(missing)
        refused: dict[str, str] = {}
        if missing:
            quota = len(missing) if info.quota_left is None else info.quota_left
            fits = missing[:quota]
            for code in missing[quota:]:
                refused[code] = f"quota is short: {quota} left for {len(missing)} codes"
            refused.update(await subscribe_each(self._link, fits, self._spec.pull.subscribe_batch))
            info = await self._link.subscribed(SUBSCRIBE_TIMEOUT_SEC)
        self._to_give_back = not await self._give_back(sorted(info.symbols.difference(self.wanted)))
        self.active = [code for code in self.wanted if code in info.symbols]
        self._compare_at_monotonic = self._clock.monotonic() + COMPARE_SEC
        self._report(refused, info.quota_left)
        return [code for code in self.active if code not in before]

    async def _give_back(self, codes: list[str]) -> bool:
        """Unsubscribe what is no longer wanted. False: OpenD refuses for now (it wants a minute to have passed)."""
        if not codes:
            return True
        try:
            await self._link.unsubscribe(codes, SUBSCRIBE_TIMEOUT_SEC)
        except (FeedLost, FeedTimeout):
            raise
        except FeedError as exc:
            log.info(event(f"{self._spec.provider}_unsubscribe_later", symbols=len(codes), reason=str(exc)))
            return False
        log.info(event(f"{self._spec.provider}_unsubscribed", symbols=len(codes), first=codes[0]))
        return True

    def _report(self, refused: dict[str, str], quota_left: int | None) -> None:
        active = set(self.active)
        still = {code: refused.get(code, "OpenD does not list it") for code in self.wanted if code not in active}
        for code, reason in still.items():
            if self.refused.get(code) != reason:
                action = "retrying later; all others are recorded"
                log.warning(event(f"{self._spec.provider}_symbol_refused", symbol=code, reason=reason, action=action))
        for code in self.refused.keys() - still.keys():
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
                    remain_quota="no limit" if quota_left is None else quota_left,
                )
            )
        if still or self._to_give_back:
            self._retry_at_monotonic = self._clock.monotonic() + self._retry.next_sec()
        else:
            self._retry.reset()
