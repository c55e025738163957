"""Reference data and K-lines for many symbols, within OpenD's limits: paced, paged, and a bad code costs only itself.

Limits (Futu's OpenD documentation, per account and 30 seconds): history K-line 60 calls, snapshot 60 calls of 400
codes, static data 10 calls. Asking for the K-line history of a symbol takes one of the account's history quota, which
is counted over 30 days; the same symbol again takes none.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from hk_tick_collector.core.clock import Clock, SystemClock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout
from hk_tick_collector.sources.futu.answers import MinuteBar, Snapshot, SymbolInfo
from hk_tick_collector.sources.futu.sdk import Connection

WINDOW_SEC = 30.0
HISTORY_CALLS, SNAPSHOT_CALLS, STATIC_CALLS = 60, 60, 10
CODES_A_CALL = 400
LISTED_KINDS = ("STOCK", "ETF")  # warrants and CBBC are 12,000 codes of a few weeks each
REQUEST_TIMEOUT_SEC = 12.0
TOO_FREQUENT_TRIES = 3  # windows waited for when others use up the account's limit
MAX_UNANSWERED_IN_A_ROW = 8
MAX_UNANSWERED = 32  # requests of one question, each of which takes its whole time
MAX_PAGES = 20  # a day of minutes is one page: more is an OpenD that turns in circles

# OpenD says it in the language it was started with.
_TOO_FREQUENT = re.compile(r"frequen|频率|频繁|頻率|頻繁", re.IGNORECASE)

_T = TypeVar("_T")


class Pace:
    """At most ``calls`` in any ``WINDOW_SEC``: waits before the one that would be too many."""

    def __init__(self, calls: int, clock: Clock) -> None:
        self._calls = calls
        self._clock = clock
        self._made_sec: deque[float] = deque()

    async def take(self) -> None:
        """Return when one more call is allowed, and count it."""
        while len(self._made_sec) >= self._calls:
            wait_sec = self._made_sec[0] + WINDOW_SEC - self._clock.monotonic()
            if wait_sec > 0:
                await asyncio.sleep(wait_sec)
            else:
                self._made_sec.popleft()
        self._made_sec.append(self._clock.monotonic())


@dataclass(frozen=True)
class Answers(Generic[_T]):
    """What OpenD gave, by code, and the codes it refused with its words."""

    given: dict[str, _T]
    refused: dict[str, str]
    unanswered: dict[str, str]
    """Those of ``refused`` that it kept silent over: it may answer another time."""


class Reference:
    """Asks one connection. Raises ``FeedLost`` or ``FeedTimeout`` where going on makes no sense: a code that OpenD
    keeps silent over costs itself alone, and an OpenD that says nothing at all is asked no more."""

    def __init__(self, connection: Connection, clock: Clock | None = None) -> None:
        clock = clock or SystemClock()
        self._connection = connection
        self._history = Pace(HISTORY_CALLS, clock)
        self._snapshot = Pace(SNAPSHOT_CALLS, clock)
        self._static = Pace(STATIC_CALLS, clock)

    async def clock_ms(self) -> int:
        """OpenD's time, UTC epoch ms."""
        return (await self._connection.global_state(REQUEST_TIMEOUT_SEC)).opend_time_sec * 1000

    async def static_info(self, codes: Sequence[str]) -> Answers[SymbolInfo]:
        """Name, board lot and kind of ``codes``."""
        return await self._in_batches(
            codes, self._static, lambda part: self._connection.static_info(part, REQUEST_TIMEOUT_SEC)
        )

    async def quota(self) -> int:
        """How many symbols the account may have subscribed, over all its connections."""
        subscriptions = await self._connection.subscriptions(REQUEST_TIMEOUT_SEC, all_connections=True)
        return subscriptions.used_quota + subscriptions.remain_quota

    async def listed(self, kinds: Sequence[str] = LISTED_KINDS) -> dict[str, SymbolInfo]:
        """All codes of these kinds (``futu.SecurityType``) that the market lists, by code."""
        infos: dict[str, SymbolInfo] = {}
        for kind in kinds:
            for place in self._connection.market.prefixes.values():
                infos |= await _patiently(
                    self._static,
                    lambda: self._connection.listed(place, kind, REQUEST_TIMEOUT_SEC),  # noqa: B023 - called before the loop goes on
                )
        return infos

    async def members(self, group: str) -> list[str]:
        """The codes of a ``group``: ``plate:HK.800000`` (a plate or an index) or ``watchlist:NAME``. ``FeedError`` with
        OpenD's words when there is no such group."""
        kind, _, name = group.partition(":")
        ask = self._connection.of_plate if kind == "plate" else self._connection.of_watchlist
        infos = await _patiently(self._static, lambda: ask(name, REQUEST_TIMEOUT_SEC))
        return [code for code, info in infos.items() if not info.delisted]

    async def snapshots(self, codes: Sequence[str]) -> Answers[Snapshot]:
        """The day so far of ``codes``."""
        return await self._in_batches(
            codes, self._snapshot, lambda part: self._connection.snapshots(part, REQUEST_TIMEOUT_SEC)
        )

    async def minute_bars(self, code: str, day: str) -> list[MinuteBar]:
        """All one-minute bars of ``code`` on ``day`` (``YYYYMMDD``). Raises ``FeedError`` with OpenD's words."""
        dashed = f"{day[:4]}-{day[4:6]}-{day[6:]}"
        bars: list[MinuteBar] = []
        key: bytes | None = None
        for _ in range(MAX_PAGES):
            page_key = key
            page = await _patiently(
                self._history,
                lambda: self._connection.minute_bars(code, dashed, REQUEST_TIMEOUT_SEC, page_key),  # noqa: B023
            )
            bars += page.bars
            key = page.next_key
            if key is None:
                return bars
        raise FeedError(f"OpenD gives more than {MAX_PAGES} pages of minute bars for one day of {code}")

    async def _in_batches(
        self, codes: Sequence[str], pace: Pace, ask: Callable[[list[str]], Awaitable[Mapping[str, _T]]]
    ) -> Answers[_T]:
        answers: Answers[_T] = Answers({}, {}, {})
        parts = [list(codes[at : at + CODES_A_CALL]) for at in range(0, len(codes), CODES_A_CALL)]
        silent: list[list[str]] = []  # halves of parts that were not answered: behind all others
        silence = _Silence(self._connection)
        while parts or (silent and not silence.is_long):
            part = parts.pop(0) if parts else silent.pop(0)
            try:
                answered = await _patiently(pace, lambda: ask(part))  # noqa: B023 - called before the loop goes on
            except FeedLost:
                raise
            except FeedTimeout as exc:
                await silence.note(exc)
                silent += _halves(part) if len(part) > 1 else []
                answers.unanswered.update(dict.fromkeys(part, str(exc)))
                continue
            except FeedError as exc:
                silence.end()
                if len(part) == 1:
                    answers.refused[part[0]] = str(exc)
                else:
                    parts = [*_without_culprits(part, str(exc)), *parts]
                continue
            silence.end()
            answers.given.update(answered)
            answers.refused.update((code, "OpenD gives no answer for it") for code in part if code not in answered)
        silence.check()
        for code in answers.given.keys() | answers.refused.keys():
            answers.unanswered.pop(code, None)
        answers.refused.update(answers.unanswered)
        return answers


class _Silence:
    """Requests of one question that OpenD did not answer, each of which took its whole time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._requests = 0
        self._in_a_row = 0
        self._was_answered = False
        self._last: FeedTimeout | None = None

    async def note(self, silence: FeedTimeout) -> None:
        """One more. Raises it when this is all that comes, ``FeedTimeout`` when OpenD does not even say how it is."""
        self._requests += 1
        self._in_a_row += 1
        self._last = silence
        if self.is_long:
            self.check()
        try:
            await self._connection.global_state(REQUEST_TIMEOUT_SEC)
        except (FeedLost, FeedTimeout):
            raise
        except FeedError:
            return  # that is an answer

    def check(self) -> None:
        """``FeedTimeout`` when there was nothing else."""
        if self._last is not None and not self._was_answered:
            raise self._last

    def end(self) -> None:
        """By an answer, whatever it says."""
        self._in_a_row = 0
        self._was_answered = True

    @property
    def is_long(self) -> bool:
        """So long that the silent codes are no longer searched for."""
        return self._in_a_row >= MAX_UNANSWERED_IN_A_ROW or self._requests >= MAX_UNANSWERED


async def _patiently(pace: Pace, ask: Callable[[], Awaitable[_T]]) -> _T:
    """Ask at the right pace; wait out the window when others have used up the limit."""
    for _ in range(TOO_FREQUENT_TRIES):
        await pace.take()
        try:
            return await ask()
        except (FeedLost, FeedTimeout):
            raise
        except FeedError as exc:
            if not _TOO_FREQUENT.search(str(exc)):
                raise
        await asyncio.sleep(WINDOW_SEC)
    await pace.take()
    return await ask()


def _without_culprits(codes: list[str], refusal: str) -> list[list[str]]:
    """OpenD refuses a whole request for one bad code. Parts to ask next: the codes it names alone and the rest, or two
    halves when it names none."""
    named = [code for code in codes if code in refusal or re.search(rf"\b{re.escape(code[3:])}\b", refusal)]
    if named and len(named) < len(codes):
        return [[code for code in codes if code not in named], *([code] for code in named)]
    return _halves(codes)


def _halves(codes: list[str]) -> list[list[str]]:
    middle = len(codes) // 2
    return [codes[:middle], codes[middle:]]
