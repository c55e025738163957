"""What goes wrong in a simulated week, and when: all of it follows from a seed.

A plan holds faults that OpenD's memory of 1,000 ticks heals completely, so that a recorder has no excuse. Those of the
simulator become its scenario file; those of the recorder's process and disk are carried out by ``soak``. Three rules:

- What loses pushes falls into the quiet hours of continuous trading, one after the other with a pause between them: in
  the rush after the open the most traded symbol makes 1,000 ticks within seconds. What only disturbs pushes may fall
  into the rush. Before the open, at lunch and in the closing auction connections are lost as well.
- Kinds come in shuffled rounds, each once a round, so that a week has all of them.
- The process ends on the first day only (killed, killed with rows in the spill, stopped in order), so that one and the
  same process is seen at the later closes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from random import Random

from hk_tick_collector.market.hk.sessions import HK_TZ, day_start_ms
from hk_tick_collector.market.hours import DayKind

Words = Callable[[Random], Sequence[str]]


def _seconds(rng: Random, least: float, most: float) -> str:
    return f"seconds={rng.uniform(least, most):.1f}"


def _percent(rng: Random) -> str:
    return f"percent={rng.randrange(5, 41)}"


_UNREADABLE = ("time", "nan", "negative")
_GTW_EVENTS = ("APISvrRunFailed", "ForceUpdate", "NeedPhoneVerifyCode")

# Commands of ``hk-opend-sim ctl``; several are given at once, in this order.
_LOSING: dict[str, Words] = {
    "drop": lambda _: ["drop"],
    "restart": lambda rng: [f"restart {_seconds(rng, 0.3, 2)}"],
    "hang": lambda rng: [f"hang {_seconds(rng, 0.5, 2)}"],
    "silent": lambda rng: [f"silent {_seconds(rng, 0.5, 2)}"],
    "skip": lambda rng: [f"skip {_percent(rng)} {_seconds(rng, 1, 3)}"],
    "unreadable": lambda rng: [
        f"unreadable every=5 kind={rng.choice(['time', 'nan', 'negative'])} {_seconds(rng, 1, 2)}"
    ],
    "fail-subscribe": lambda rng: [f"fail-subscribe next={rng.randrange(1, 4)}", "drop"],
    "quota": lambda rng: [f"quota limit={rng.randrange(5, 30)} {_seconds(rng, 0.5, 1)}", "drop"],
    "logout": lambda rng: [f"logout {_seconds(rng, 0.5, 2)}"],
    "kick-out": lambda rng: [f"kick-out {_seconds(rng, 0.5, 2)}"],
    "lose-server": lambda rng: [f"lose-server {_seconds(rng, 0.5, 2)}"],
    "right": lambda rng: [f"right kind=bmp {_seconds(rng, 0.5, 2)}"],
    "cut": lambda _: ["cut"],
    "oversize": lambda _: ["oversize"],
    "bad-sha1": lambda rng: [f"bad-sha1 next={rng.randrange(1, 6)}"],
    "first-push": lambda rng: [f"first-push kind={rng.choice(['stale', 'empty', 'foreign'])} next=1", "drop"],
    "delay-answers": lambda rng: [f"delay-answers ms={rng.randrange(200, 900)} {_seconds(rng, 1, 2)}", "drop"],
}
_DISTURBING: dict[str, Words] = {
    "twice": lambda rng: [f"twice {_percent(rng)} {_seconds(rng, 1, 3)}"],
    "disorder": lambda rng: [f"disorder {_percent(rng)} {_seconds(rng, 1, 3)}"],
    "late": lambda rng: [f"late ms={rng.randrange(50, 1000)} {_percent(rng)} {_seconds(rng, 1, 3)}"],
    "throttle": lambda rng: [f"throttle bytes_per_sec={rng.randrange(100, 300)}000 {_seconds(rng, 0.5, 1.5)}"],
    "gtw-event": lambda rng: [
        f"gtw-event kind={rng.choice(['APISvrRunFailed', 'ForceUpdate', 'NeedPhoneVerifyCode'])}"
    ],
}
_OFF_HOURS: dict[str, Words] = {name: _LOSING[name] for name in ("drop", "restart", "logout", "kick-out", "hang")}

# Done to the recorder's process and files by ``soak``; the number is how long, in real seconds.
_TO_PROCESS: dict[str, tuple[float, float]] = {
    "stop": (0.5, 2.0),  # SIGSTOP and SIGCONT
    "lock": (0.5, 2.5),  # another program holds the write lock of the day file
    "read": (1.0, 3.0),  # another program reads the day file in one long transaction: no checkpoint can finish
    "full": (0.5, 1.5),  # no file may grow: neither the day file nor the spill takes a row
    "reload": (0.0, 0.0),  # SIGHUP
}
_TO_LIFE: dict[str, tuple[float, float]] = {
    "kill": (0.0, 0.0),  # SIGKILL, started again at once
    "kill-locked": (0.5, 1.0),  # the same with rows in queue and spill
    "terminate": (0.0, 0.0),  # SIGTERM, started again
}


@dataclass(frozen=True, slots=True)
class Act:
    """Something done by ``soak`` at a market time (UTC epoch milliseconds), for so many real seconds."""

    at_ms: int
    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """A week's faults, each list in order of time."""

    commands: list[tuple[int, str]]  # market time, words for the simulator
    acts: list[Act]

    @property
    def faults(self) -> int:
        """How many there are; commands of one moment are one."""
        return len({at_ms for at_ms, _ in self.commands}) + len(self.acts)

    def scenario(self) -> str:
        """The simulator's scenario file."""
        return "".join(f"{hk_time(at_ms)} {words}\n" for at_ms, words in self.commands)

    def listing(self) -> str:
        """All of it in order of time, one a line."""
        lines = [(at_ms, words) for at_ms, words in self.commands]
        lines += [(act.at_ms, f"[{act.name} for {act.seconds:.1f} s]") for act in self.acts]
        return "".join(f"{hk_time(at_ms)} {words}\n" for at_ms, words in sorted(lines, key=lambda line: line[0]))


def make(seed: int, days: Sequence[tuple[str, DayKind]], pause_ms: int) -> Plan:
    """The plan of these trading days with about ``pause_ms`` of market time from one fault to the next."""
    rng = Random(f"soak/{seed}")
    kinds = _rounds(rng, [*_LOSING, *_DISTURBING, *_TO_PROCESS])
    plan = Plan([], [])
    for number, (day, kind) in enumerate(days):
        names = iter(_first_day(rng, kinds) if number == 0 else kinds)
        for first, last in _quiet_hours(kind):
            at_ms = first + rng.uniform(0, pause_ms / 2)
            while at_ms < last:
                _add(plan, rng, day_start_ms(day) + round(at_ms), next(names))
                at_ms += pause_ms * rng.uniform(0.8, 1.2)
        for first, last, choices in _other_hours(kind):
            if rng.random() < 0.7:
                at_ms = day_start_ms(day) + round(rng.uniform(first, last))
                _add(plan, rng, at_ms, rng.choice(sorted(choices)))
    plan.commands.sort(key=lambda command: command[0])
    plan.acts.sort(key=lambda act: act.at_ms)
    return plan


def _add(plan: Plan, rng: Random, at_ms: int, name: str) -> None:
    words = (_LOSING | _DISTURBING).get(name)
    if words is not None:
        plan.commands.extend((at_ms, command) for command in words(rng))
        return
    least, most = (_TO_PROCESS | _TO_LIFE)[name]
    plan.acts.append(Act(at_ms, name, rng.uniform(least, most)))


def _rounds(rng: Random, names: Sequence[str]) -> Iterator[str]:
    while True:
        yield from rng.sample(names, len(names))


def _first_day(rng: Random, kinds: Iterator[str]) -> Iterator[str]:
    """As on other days, but the recorder ends first, and at every third fault until each way to end had its turn."""
    for name in rng.sample(sorted(_TO_LIFE), len(_TO_LIFE)):
        yield name
        yield next(kinds)
        yield next(kinds)
    while True:  # not "yield from", which would end the rounds with this day
        yield next(kinds)


def _quiet_hours(kind: DayKind) -> list[tuple[int, int]]:
    """Stretches of continuous trading without its rush, milliseconds of the day."""
    morning = _hm(10, 0), _hm(11, 40)
    return [morning, (_hm(13, 10), _hm(15, 40))] if kind is DayKind.WHOLE else [morning]


def _other_hours(kind: DayKind) -> list[tuple[int, int, dict[str, Words]]]:
    """Before the open, in the rush after it, at lunch, in the closing auction."""
    close = _hm(16, 0) if kind is DayKind.WHOLE else _hm(12, 0)
    hours = [
        (_hm(9, 2), _hm(9, 15), _OFF_HOURS),
        (_hm(9, 30), _hm(9, 40), _DISTURBING),
        (close + _hm(0, 1), close + _hm(0, 4), _OFF_HOURS),
    ]
    return [*hours, (_hm(12, 10), _hm(12, 50), _OFF_HOURS)] if kind is DayKind.WHOLE else hours


def _hm(hour: int, minute: int) -> int:
    return (hour * 60 + minute) * 60_000


def hk_time(at_ms: int) -> str:
    """As the simulator reads it: ``2026-12-21T10:15:00.000``."""
    return datetime.fromtimestamp(at_ms / 1000, HK_TZ).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3]
