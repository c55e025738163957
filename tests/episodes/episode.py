"""One random day of feed life, from a seed: what the market does, what goes wrong and when, and what must hold after.

``python -m tests.episodes --seed 17`` runs one and says all it did; see ``plan_of`` for what can happen.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

from hk_tick_collector.core import backoff
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk.sessions import PRE_OPEN_START_MS, day_start_ms, hk_date
from hk_tick_collector.opend_sim.encode import time_text
from hk_tick_collector.opend_sim.venue import HK
from hk_tick_collector.sources.futu import sdk
from tests.episodes.clockwork import VirtualClock, VirtualLoop
from tests.episodes.fake_opend import Street, Weather
from tests.episodes.recorder import Recorder
from tests.episodes.world import Exchange, Numbering, Oddities, OpenD, Told, Trade

DAY, DAY_BEFORE = "20261120", "20261119"  # a Friday and a Thursday, whole days
SYMBOLS = {"HK.00700": 1.2, "HK.00005": 0.3, "HK.00001": 0.03, "HK.00011": 0.004, "HK.00388": 0.0}
MANNERS = (
    *["futu"] * 9, *["anew"] * 3, *["lunch"] * 2, *["index"] * 2, "first_n", "plain", "none", "some", "twice", "skip",
    "split",
)  # fmt: skip
ORDINARY = ("futu", "first_n")
BLIND_SEC = (0, 0, 0, 0.5, 20, 150)  # for so long a start cannot read the day file


def hk_ms(hour: int, minute: int, second: int = 0, day: str = DAY) -> int:
    """A time of the day in Hong Kong as UTC epoch ms."""
    return day_start_ms(day) + ((hour * 60 + minute) * 60 + second) * 1000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed stands for."""

    seed: int
    manner: str
    odd: Oddities
    start_ms: int  # the recorder's first start
    trading: tuple[tuple[int, int], ...]
    faults: tuple[tuple[int, str], ...]  # when, which
    calm_from_ms: int  # nothing goes wrong from here on
    end_ms: int
    poll_rows: int
    backfill_rows: int
    rate: float
    days: tuple[str, ...] = (DAY,)
    keeps_yesterday: bool = False  # OpenD shows the day before until its memory is full

    @property
    def ordinary(self) -> bool:
        """Sequences as documented and trades told as they are: here a proof is wanted, not only no false one."""
        return self.manner in ORDINARY and self.odd == Oddities(twins=self.odd.twins)

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {self.manner}, {self.odd}, rate {self.rate}, poll {self.poll_rows} rows"]
        lines += [f"  {clock(at_ms)} {what}" for at_ms, what in [(self.start_ms, "start"), *self.faults]]
        return "\n".join([*lines, f"  {clock(self.calm_from_ms)} calm", f"  {clock(self.end_ms)} end"])


def clock(ts_ms: int) -> str:
    """Day of the month and time in Hong Kong."""
    return time_text(HK, ts_ms)[8:19]


FAULTS = (
    "drop", "drop", "kill", "stop", "mute", "mute_end", "lose", "double", "disorder", "slow", "stale", "fail", "hang",
    "fair", "reload", "restart_keep", "restart_forget", "restart_behind", "logout", "away", "refuse", "burst",
    "burst_behind",
)  # fmt: skip


def plan_of(seed: int) -> Plan:
    """The plan that a seed stands for; the same for ever, as long as this function stays."""
    rng = random.Random(seed)
    manner = rng.choice(MANNERS)
    odd = Oddities(
        twins=rng.choice([0.0, 0.3, 0.6]),
        late=rng.choice([0, 0, 0, 0.02]),
        unreadable=rng.choice([0, 0, 0, 0, 0.01]),
        other_day=rng.choice([0, 0, 0, 0, 0.01]),
        no_ms_in_pulls=rng.random() < 0.06,
        sorted_by_time=rng.random() < 0.08,
        unreadable_head=rng.random() < 0.06,
        unreadable_tail=rng.random() < 0.06,
    )
    if rng.random() < 0.5:
        odd = Oddities(twins=odd.twins)
    window = rng.choice(["close", "close", "lunch", "morning", "night"])
    calm_sec = 120
    end_ms = hk_ms(16, 24)
    days: tuple[str, ...] = (DAY,)
    trading: tuple[tuple[int, int], ...] = ((hk_ms(15, 35), hk_ms(16, 0)),)
    if window == "lunch":
        trading, end_ms = ((hk_ms(11, 48), hk_ms(12, 0)), (hk_ms(13, 0), hk_ms(13, 12))), hk_ms(13, 30)
    elif window == "morning":
        trading, end_ms = ((hk_ms(9, 30), hk_ms(9, 50)),), hk_ms(10, 8)
    elif window == "night":
        days, end_ms = (DAY_BEFORE, DAY), hk_ms(10, 0)
        trading = ((hk_ms(15, 45, day=DAY_BEFORE), hk_ms(16, 0, day=DAY_BEFORE)), (hk_ms(9, 30), hk_ms(9, 42)))
    first_ms, last_ms = trading[0][0], trading[-1][1] + 30_000
    start_ms = rng.choice([first_ms - 60_000, first_ms - 60_000, first_ms + 60_000 * rng.randint(1, 9)])
    faults = [(_moment(rng, start_ms, trading), rng.choice(FAULTS)) for _ in range(rng.choice([0, 1, 2, 4, 8]))]
    if rng.random() < 0.3 and window == "close":  # trouble in the evening, or no recorder before it
        last_ms, end_ms = hk_ms(16, 38), hk_ms(17, 20)
        faults += [(rng.randint(hk_ms(16, 1), last_ms), rng.choice(FAULTS)) for _ in range(3)]
        if rng.random() < 0.3:
            start_ms = hk_ms(16, 20)
            faults = [(at_ms, what) for at_ms, what in faults if at_ms > start_ms]
    return Plan(
        seed, manner, odd, start_ms, trading, tuple(sorted(faults)), last_ms + calm_sec * 1000 - 30_000, end_ms,
        rng.choice([50, 100, 100, 100, 1000]), rng.choice([1000, 1000, 1000, 300, 0]), rng.choice([0.3, 1.0, 1.0, 2.5]),
        days, rng.random() < 0.5,
    )  # fmt: skip


def _moment(rng: random.Random, start_ms: int, trading: tuple[tuple[int, int], ...]) -> int:
    """When a fault strikes: mostly while the market trades, now and then in between."""
    first_ms, last_ms = trading[rng.randrange(len(trading))]
    if rng.random() < 0.15:
        first_ms, last_ms = trading[0][0], trading[-1][1]
    return max(start_ms + 5_000, rng.randint(first_ms, last_ms + 30_000))


@dataclass
class Outcome:
    """What an episode left behind: the ledger, and the files."""

    plan: Plan
    data_root: Path
    trades: list[Trade]
    memory: dict[str, list[Trade]]  # what OpenD still shows at the end
    together: Counter[Told] = field(default_factory=Counter)  # most trades that look alike in one message
    excused: Counter[tuple[object, ...]] = field(default_factory=Counter)  # killed on their way to the file
    rejected_rows: int = 0
    log: list[str] = field(default_factory=list)


class Episode:
    """Runs a plan."""

    def __init__(self, plan: Plan, data_root: Path, calendar: TradingCalendar) -> None:
        self._plan = plan
        self._root = data_root
        self._calendar = calendar
        self._rng = random.Random(plan.seed + 1_000_003)
        self._loop = asyncio.get_running_loop()
        assert isinstance(self._loop, VirtualLoop)
        self._clock = VirtualClock(self._loop, plan.start_ms - 90_000)
        self._opend = OpenD(Numbering(plan.manner, random.Random(plan.seed + 7)))
        self._street = Street(self._opend, plan.odd, self._rng, self._clock, calendar)
        self._street.on_shown = self._note_shown
        rates = {symbol: rate * plan.rate for symbol, rate in SYMBOLS.items()}
        self._exchange = Exchange(random.Random(plan.seed + 13), rates, plan.odd)
        self._blind = random.Random(plan.seed + 29)  # of its own: the plans stay what they were
        self._recorder: Recorder | None = None
        self._symbols = list(SYMBOLS)
        self._outcome = Outcome(plan, data_root, self._exchange.trades, {})

    async def run(self) -> Outcome:
        """From the recorder's start to its stop in the evening."""
        plan = self._plan
        with (
            mock.patch.object(backoff, "JITTER", random.Random(plan.seed + 19)),
            mock.patch.object(sdk, "Connection", self._street.connect),
            mock.patch.object(sdk, "replace_dead_network_thread", return_value=False),
        ):
            self._schedule_trades()
            await self._until(plan.start_ms)
            self._start()
            for at_ms, what in plan.faults:
                await self._until(at_ms)
                self._say(what)
                await self._fault(what)
            await self._until(plan.calm_from_ms)
            await self._calm()
            await self._until(plan.end_ms)
            if self._recorder is not None:
                self._recorder.check_alive()
                await self._recorder.stop()
                self._outcome.rejected_rows += len(self._recorder.rejected)
        self._outcome.memory = {symbol: list(trades) for symbol, trades in self._opend.memory.items()}
        return self._outcome

    def _say(self, what: str) -> None:
        self._outcome.log.append(f"{clock(self._clock.now_ms())} {what}")

    async def _until(self, ts_ms: int) -> None:
        evening_ms = hk_ms(16, 40, day=self._plan.days[0])
        if len(self._plan.days) > 1 and self._clock.now_ms() < evening_ms < ts_ms:
            await self._until(evening_ms)
            # The machine sleeps: nothing happens at night, and every timer of it would be paid for.
            self._loop.now_sec = self._clock.loop_time(hk_ms(8, 50))
            await asyncio.sleep(0.001)  # and OpenD's new day has begun meanwhile
        delay_sec = (ts_ms - self._clock.now_ms()) / 1000
        if delay_sec > 0:
            await asyncio.sleep(delay_sec)

    def _schedule_trades(self) -> None:
        plan = self._plan
        trades = [trade for window in plan.trading for trade in self._exchange.trades_between(*window)]
        for day in plan.days:
            for symbol, rate in SYMBOLS.items():
                if rate and plan.end_ms > hk_ms(16, 9, day=day) and self._rng.random() < 0.7:
                    at_ms = hk_ms(16, 8, self._rng.randint(10, 17), day)
                    trades.append(self._exchange.make(symbol, at_ms, tick_type=7))
        trades.sort(key=lambda trade: trade.ts_ms // 60_000)  # auctions into their place, late trades stay in theirs
        by_symbol: dict[str, list[Trade]] = {}
        for trade in trades:
            by_symbol.setdefault(f"{trade.symbol} {hk_date(trade.ts_ms)}", []).append(trade)
        for own in by_symbol.values():
            own[0].readable &= not plan.odd.unreadable_head
            own[-1].readable &= not plan.odd.unreadable_tail
        made_at = dict(zip(map(id, trades), self._making_times(trades), strict=True))
        for trade in trades:
            self._loop.call_at(self._clock.loop_time(made_at[id(trade)]), self._street.trade, trade)
        if plan.manner == "lunch":
            self._loop.call_at(self._clock.loop_time(hk_ms(12, 30)), self._opend.numbering.begin_anew)
        if len(plan.days) > 1:
            self._loop.call_at(self._clock.loop_time(hk_ms(8, 0)), self._new_day)

    def _new_day(self) -> None:
        self._opend.numbering.begin_anew()
        if not self._plan.keeps_yesterday:
            self._opend.forget()

    def _making_times(self, trades: list[Trade]) -> list[int]:
        """Trades reach OpenD in the order made, a little after their time; late ones much later."""
        newest_ms = 0
        times: list[int] = []
        for trade in trades:
            newest_ms = max(newest_ms + 1, trade.ts_ms + self._rng.randint(20, 200))
            times.append(newest_ms)
        return times

    def _note_shown(self, trades: Sequence[Trade]) -> None:
        now_ms = self._clock.now_ms()
        for trade in trades:
            if trade.shown_ms is None:
                trade.shown_ms = now_ms
        together = self._outcome.together  # |= would look at all that was ever shown, each time
        for told, count in Counter(trade.told for trade in trades).items():
            together[told] = max(together[told], count)

    def _start(self) -> None:
        plan = self._plan
        blind_sec = self._blind.choice(BLIND_SEC)
        if blind_sec:
            self._say(f"blind for {blind_sec} s")
        self._recorder = Recorder(
            self._root, self._symbols, self._calendar, self._clock, plan.poll_rows, plan.backfill_rows, blind_sec
        )

    async def _end_recorder(self, *, kill: bool) -> None:
        if self._recorder is None:
            return
        self._recorder.check_alive()
        if kill:
            for tick in await self._recorder.kill():
                self._outcome.excused[_key_of_row(tick)] += 1
        else:
            await self._recorder.stop()
        self._outcome.rejected_rows += len(self._recorder.rejected)
        self._recorder = None

    async def _fault(self, what: str) -> None:
        rng, weather = self._rng, self._street.weather
        if what == "drop":
            self._street.drop_all("reset by peer")
        elif what in ("kill", "stop"):
            await self._end_recorder(kill=what == "kill")
            await asyncio.sleep(rng.choice([0.5, 5, 40, 300]))
            self._start()
        elif what.startswith("restart"):
            await self._restart_opend(what)
        elif what == "logout":
            self._opend.logged_in = False
            await asyncio.sleep(rng.choice([2, 20, 90]))
            self._opend.logged_in = True
            self._opend.catch_up(self._clock.now_ms())
        elif what == "away":
            self._opend.up = False
            self._street.drop_all("OpenD went away")
            await asyncio.sleep(rng.choice([5, 60, 240]))
            self._opend.up = True
            self._opend.catch_up(self._clock.now_ms())
        elif what == "reload" and self._recorder is not None:
            self._recorder.session.set_symbols([symbol for symbol in self._symbols if symbol != "HK.00005"])
            await asyncio.sleep(rng.choice([20, 200]))
            self._recorder.session.set_symbols(self._symbols)
        elif what == "refuse":
            weather.refused = {rng.choice(self._symbols)}
            self._street.drop_all("reset by peer")
        elif what.startswith("burst"):
            self._burst(rng.choice([200, 900, 1200]), lost=what == "burst_behind")
        else:
            self._change_weather(what)

    def _change_weather(self, what: str) -> None:
        weather = self._street.weather
        changes: dict[str, dict[str, object]] = {
            "mute": {"mute": True}, "mute_end": {"mute": False}, "lose": {"lose_pushes": 0.2},
            "double": {"double_pushes": 0.3}, "disorder": {"disorder_pushes": 0.2}, "slow": {"slow_share": 0.5},
            "stale": {"stale_share": 0.5}, "fail": {"fail_share": 0.4}, "hang": {"hang_share": 0.3},
        }  # fmt: skip
        if what == "fair":
            self._street.weather = Weather()
        for name, value in changes.get(what, {}).items():
            setattr(weather, name, value)

    async def _restart_opend(self, what: str) -> None:
        """Down, and up again: with what it had, without, or without what was traded meanwhile."""
        self._opend.up = False
        self._street.drop_all("OpenD is restarted")
        await asyncio.sleep(self._rng.choice([0.5, 5, 30, 200]))
        if what != "restart_keep":
            self._opend.forget()
        if self._plan.manner == "anew":
            self._opend.numbering.begin_anew()
        if what == "restart_behind":
            self._opend.lose_unsent()
        else:
            self._opend.catch_up(self._clock.now_ms())
        self._opend.up = True

    def _burst(self, rows: int, *, lost: bool) -> None:
        """Many trades of the busy symbol at once; with ``lost`` none of them is pushed."""
        now_ms = self._clock.now_ms()
        if now_ms >= self._plan.trading[-1][1] or now_ms < day_start_ms(hk_date(now_ms)) + PRE_OPEN_START_MS:
            return  # nobody trades at night
        muted, self._street.weather.mute = self._street.weather.mute, self._street.weather.mute or lost
        for n in range(rows):
            self._street.trade(self._exchange.make("HK.00700", now_ms + n // 10))
        self._street.weather.mute = muted

    async def _calm(self) -> None:
        self._say("calm")
        self._street.weather = Weather()
        if not self._opend.up or not self._opend.logged_in:
            self._opend.up = self._opend.logged_in = True
            self._opend.catch_up(self._clock.now_ms())
        if self._recorder is None:
            self._start()


def _key_of_row(tick: object) -> tuple[object, ...]:
    from tests.episodes.verdict import content_of_row  # noqa: PLC0415 - verdict reads this module's types

    return content_of_row(tick)


def run_episode(seed: int, data_root: Path, calendar: TradingCalendar) -> Outcome:
    """The episode of a seed, in virtual time."""
    return run_plan(plan_of(seed), data_root, calendar)


def run_plan(plan: Plan, data_root: Path, calendar: TradingCalendar) -> Outcome:
    """An episode of a plan of one's own."""

    async def life() -> Outcome:
        return await Episode(plan, data_root, calendar).run()

    make_loop: Callable[[], asyncio.AbstractEventLoop] = VirtualLoop
    with asyncio.Runner(loop_factory=make_loop) as runner:
        return runner.run(life())
