"""Faults: what may go wrong on command, and which of it is going wrong now.

``parse_fault`` turns the words of a command (``skip percent=10 seconds=5``) into a checked ``Fault``; ``FAULTS`` is the
one list of names, parameters and texts, from which help and error messages are made. ``FaultState`` holds the lasting
faults of one simulator; the server owns it, and asks it at named points:

- accepting a connection: refuse
- making a tick: renumber, twins, backdate, spoil
- answering a request: hang, delay-answers, keep-silent, old-answers, yesterday, no-ms, market-state, fail-state,
  fail-subscribe, quota, logout, kick-out, right
- building a push: silent, skip, twice, disorder, late, unreadable, first-push, no-sequence, lose-server
- building a push of an order book: those whose names begin with ``book-``, see ``book_faults.py``; of a broker queue:
  broker-freeze, broker-drop
- sending a frame: cut, oversize, bad-sha1, throttle

Faults that happen once (drop, restart, login, gtw-event) are carried out by ``control.py`` and leave nothing here, as
are stand, run and jump, which are no faults: they set the market's clock.
But for those of the first line a fault never touches what the market made: the truth file and ``get_rt_ticker`` stay
whole. A spoiled tick stands in the truth file as it was made.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.opend_sim.simclock import hk_time_ms

MAX_WORDS = 16


class FaultError(RecorderError):
    """The command is no fault this simulator knows, or a parameter of it is wrong."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One checked command. ``None`` means: no such limit."""

    name: str
    seconds: float | None = None
    next: int | None = None
    percent: float = 100.0
    every: int = 1
    ms: int = 0
    limit: int = 0
    bytes_per_sec: int = 0
    kind: str = ""
    symbol: str = ""
    to: str = ""

    def fields(self) -> dict[str, str | int | float]:
        """The parameters that say something, for answers and logs."""
        default = Fault(self.name)
        names = (n for n in _PARAMS if getattr(self, n) != getattr(default, n))
        return {n: getattr(self, n) for n in names}


@dataclass(frozen=True, slots=True)
class _Param:
    kind: type
    low: float
    high: float
    text: str


_PARAMS = {
    "seconds": _Param(float, 0.01, 86_400, "how long; without it until cleared"),
    "next": _Param(int, 1, 1_000_000, "how many times"),
    "percent": _Param(float, 0.01, 100, "share of the pushes"),
    "every": _Param(int, 1, 1_000_000, "each Nth one"),
    "ms": _Param(int, 1, 600_000, "milliseconds"),
    "limit": _Param(int, 0, 100_000, "how many"),
    "bytes_per_sec": _Param(int, 1, 1_000_000_000, "bytes a second and connection"),
    "kind": _Param(str, 0, 0, "one of the kinds listed"),
    "symbol": _Param(str, 0, 0, "only this one, as HK.00700"),
    "to": _Param(str, 0, 0, "a time of the market, as 2026-12-22T09:10:00"),
}


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """A fault a user can ask for. ``defaults`` are the parameters set when the command does not give them."""

    text: str
    params: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    default_next: int | None = None
    default_seconds: float | None = None


_PUSH_PARAMS = ("percent", "next", "seconds", "symbol")
UNREADABLE_KINDS = ("time", "nan", "negative", "enum", "zero-seq", "future", "turnover", "sign")
FIRST_PUSH_KINDS = ("stale", "empty", "foreign")
RESTART_KINDS = ("remember", "forget")
DELAY_KINDS = ("late", "under-way")
MARKET_STATES = ("CLOSED", "REST", "NONE")
RIGHT_KINDS = ("sf", "level2", "level1", "bmp", "no")
SILENT_KINDS = ("ticks", "subscribe", "list")
REPEAT_KINDS = ("price", "push")
ONE_SIDED_KINDS = ("no-bid", "no-ask")
GTW_EVENT_KINDS = (
    "LocalCfgLoadFailed",
    "APISvrRunFailed",
    "ForceUpdate",
    "LoginFailed",
    "UnAgreeDisclaimer",
    "KickedOut",
    "LoginPwdChanged",
    "BanLogin",
    "NeedPicVerifyCode",
    "NeedPhoneVerifyCode",
    "AppDataNotExist",
    "NessaryDataMissing",
    "TradePwdChanged",
    "EnableDeviceLock",
)

FAULTS: dict[str, FaultSpec] = {
    "drop": FaultSpec("close every connection now"),
    "refuse": FaultSpec("refuse new connections", ("seconds",), ("seconds",)),
    "restart": FaultSpec(
        "close the listening port and all connections, come back later, with or without the ticks from before",
        ("kind", "seconds"),
        kinds=RESTART_KINDS,
        default_seconds=3,
    ),
    "hang": FaultSpec("neither answer nor push, keep connections open", ("seconds",)),
    "silent": FaultSpec("answer, but push no ticks", ("seconds", "symbol")),
    "skip": FaultSpec("lose pushes", _PUSH_PARAMS),
    "twice": FaultSpec("send pushes twice", _PUSH_PARAMS),
    "disorder": FaultSpec("newest tick first in a push, and a push after its successor", _PUSH_PARAMS),
    "late": FaultSpec("hold pushes back", ("ms", "percent", "next", "seconds", "symbol"), ("ms",)),
    "unreadable": FaultSpec(
        "damage ticks in pushes", ("every", "kind", "next", "seconds", "symbol"), kinds=UNREADABLE_KINDS
    ),
    "spoil": FaultSpec(
        "make new ticks unreadable wherever OpenD shows them",
        ("kind", "next", "seconds", "symbol"),
        kinds=UNREADABLE_KINDS,
    ),
    "twins": FaultSpec("new ticks are equal to the one before them, but for the sequence", _PUSH_PARAMS),
    "backdate": FaultSpec("new ticks bear an earlier time", ("ms", "percent", "next", "seconds", "symbol"), ("ms",)),
    "first-push": FaultSpec(
        "after a subscription push something else than the newest tick",
        ("kind", "next", "seconds"),
        kinds=FIRST_PUSH_KINDS,
    ),
    "fail-state": FaultSpec("refuse to say how OpenD is (GetGlobalState)", ("every", "next", "seconds")),
    "fail-subscribe": FaultSpec("refuse the next subscriptions", ("every", "next", "seconds"), default_next=1),
    "quota": FaultSpec("set the subscription quota", ("limit", "seconds"), ("limit",)),
    "logout": FaultSpec("lose the login: requests are refused, nothing is pushed", ("seconds",)),
    "kick-out": FaultSpec("another terminal took the login (GTW_EVENT KickedOut)", ("seconds",)),
    "login": FaultSpec("login is back after logout or kick-out"),
    "lose-server": FaultSpec("OpenD loses its server; afterwards at most 50 missed ticks a symbol", ("seconds",)),
    "right": FaultSpec("set the quote right of the market", ("kind", "seconds"), ("kind",), kinds=RIGHT_KINDS),
    "gtw-event": FaultSpec("push a gateway event", ("kind",), ("kind",), kinds=GTW_EVENT_KINDS),
    "renumber": FaultSpec(
        "number new ticks otherwise: counters from 1 again, or index within the second",
        ("kind", "seconds"),
        kinds=("restart", "second"),
    ),
    "no-sequence": FaultSpec("leave the sequence out of ticks", ("seconds", "symbol")),
    "throttle": FaultSpec("slow connections down", ("bytes_per_sec", "seconds"), ("bytes_per_sec",)),
    "cut": FaultSpec("break off in the middle of the next push frame and drop", ("next",), default_next=1),
    "oversize": FaultSpec("send a header that promises 100 MB before the next push", ("next",), default_next=1),
    "bad-sha1": FaultSpec("send the next push frames with a wrong SHA-1", ("next",), default_next=1),
    "delay-answers": FaultSpec(
        "answer late: with what there is then, or with what there was when it was asked for",
        ("ms", "kind", "next", "seconds"),
        ("ms",),
        kinds=DELAY_KINDS,
    ),
    "keep-silent": FaultSpec(
        "never answer requests for ticks, subscriptions or the list of them",
        ("kind", "next", "seconds", "symbol"),
        ("kind",),
        kinds=SILENT_KINDS,
    ),
    "old-answers": FaultSpec("answer with ticks as they were so long ago", ("ms", "seconds", "symbol"), ("ms",)),
    "yesterday": FaultSpec("a tick in the middle of an answer is of the day before", ("next", "seconds", "symbol")),
    "no-ms": FaultSpec("leave milliseconds out of the ticks of answers", ("seconds", "symbol")),
    "market-state": FaultSpec("say another state of the market", ("kind", "seconds"), kinds=MARKET_STATES),
    "book-freeze": FaultSpec("push no order books, while ticks go on", ("seconds", "symbol")),
    "book-drop": FaultSpec("lose pushes of order books", _PUSH_PARAMS),
    "book-cross": FaultSpec("the best bid is above the best ask", _PUSH_PARAMS),
    "book-one-sided": FaultSpec("leave one side of books empty", ("kind", *_PUSH_PARAMS), kinds=ONE_SIDED_KINDS),
    "book-unsorted": FaultSpec("the best three levels of books in the wrong order", _PUSH_PARAMS),
    "book-repeat": FaultSpec(
        "a price twice in a book, or the same push twice", ("kind", *_PUSH_PARAMS), kinds=REPEAT_KINDS
    ),
    "book-no-volume": FaultSpec("no shares at the best bid", _PUSH_PARAMS),
    "book-zero-times": FaultSpec("books without times, as cached ones", _PUSH_PARAMS),
    "book-clock-back": FaultSpec("books with earlier times", ("ms", *_PUSH_PARAMS), ("ms",)),
    "broker-freeze": FaultSpec("push no broker queues, while books go on", ("seconds", "symbol")),
    "broker-drop": FaultSpec("lose pushes of broker queues", _PUSH_PARAMS),
    "book-flood": FaultSpec("so many states of books more in a second, all together", ("limit", "seconds"), ("limit",)),
    "stand": FaultSpec("market time stops from now on"),
    "run": FaultSpec("market time goes on"),
    "jump": FaultSpec("market time is a later one at once; what trades until then is made at once", ("to",), ("to",)),
    "clear": FaultSpec("end one fault (kind=NAME) or all", ("kind",)),
    "status": FaultSpec("say what is active, and the counters"),
}

_ALIASES = {
    "out-of-order": "disorder",
    "wrong-first-push": "first-push",
    "lose-login": "logout",
    "login-back": "login",
    "fail-sub": "fail-subscribe",
    "no-sequences": "no-sequence",
}


def fault_help() -> str:
    """One line a fault: name, parameters, text."""
    lines = []
    for name, spec in FAULTS.items():
        words = [f"{p}=" + ("|".join(spec.kinds) if p == "kind" and spec.kinds else p.upper()) for p in spec.params]
        shown = [w if p in spec.required else f"[{w}]" for p, w in zip(spec.params, words, strict=True)]
        lines.append(f"  {' '.join([name, *shown])}\n      {spec.text}")
    return "\n".join(lines)


def parse_fault(words: Sequence[str]) -> Fault:
    """``["skip", "percent=10"]`` -> Fault. FaultError names what is wrong and what is allowed."""
    if not words:
        raise FaultError("empty command; known faults: " + ", ".join(FAULTS))
    if len(words) > MAX_WORDS:
        raise FaultError(f"more than {MAX_WORDS} words in one command")
    name = words[0].lower().replace("_", "-")
    name = _ALIASES.get(name, name)
    spec = FAULTS.get(name)
    if spec is None:
        raise FaultError(f"unknown fault {words[0]!r}; known faults: " + ", ".join(FAULTS))
    given = dict(_parse_param(name, spec, word) for word in words[1:])
    for param in spec.required:
        if param not in given:
            raise FaultError(f"{name}: {param}= is missing ({_PARAMS[param].text})")
    fault = replace(Fault(name), **given)  # type: ignore[arg-type]  # each value has the type its parameter names
    return _with_defaults(fault, spec)


def _parse_param(name: str, spec: FaultSpec, word: str) -> tuple[str, str | int | float]:
    key, sep, text = word.partition("=")
    key = key.lower().replace("-", "_")
    if not sep or key not in spec.params:
        allowed = ", ".join(f"{p}=" for p in spec.params) or "no parameters"
        raise FaultError(f"{name}: unknown parameter {word!r}; allowed: {allowed}")
    param = _PARAMS[key]
    if key == "kind":
        return key, _parse_kind(name, spec, text)
    if key == "to":
        try:
            hk_time_ms(text)
        except ValueError as err:
            raise FaultError(f"{name}: {err}") from err
    if param.kind is str:
        return key, text.upper()
    try:
        value = param.kind(text)
    except ValueError:
        value = None
    if value is None or not param.low <= value <= param.high:
        raise FaultError(f"{name}: {key}={text} is not a number from {param.low:g} to {param.high:g}")
    return key, value


def _parse_kind(name: str, spec: FaultSpec, text: str) -> str:
    kinds = tuple(FAULTS) if name == "clear" else spec.kinds
    matching = [k for k in kinds if k.lower() == text.lower().replace("_", "-")]
    if not matching:
        raise FaultError(f"{name}: unknown kind {text!r}; allowed: " + ", ".join(kinds))
    return matching[0]


def _with_defaults(fault: Fault, spec: FaultSpec) -> Fault:
    if fault.next is None and fault.seconds is None and spec.default_next is not None:
        fault = replace(fault, next=spec.default_next)
    if fault.seconds is None and spec.default_seconds is not None:
        fault = replace(fault, seconds=spec.default_seconds)
    if not fault.kind and spec.kinds:
        fault = replace(fault, kind=spec.kinds[0])
    return fault


@dataclass(slots=True)
class _Active:
    fault: Fault
    until_sec: float
    left: int | None
    seen: int = 0


class FaultState:
    """The lasting faults of one simulator. One of each name; a new command replaces the old one."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, seed: int = 0) -> None:
        self._monotonic = monotonic
        self._rng = random.Random(seed)
        self._active: dict[str, _Active] = {}
        self.hit_counts: dict[str, int] = {}

    def begin(self, fault: Fault) -> None:
        """From now on, for its seconds, its number of times, or until cleared."""
        until_sec = float("inf") if fault.seconds is None else self._monotonic() + fault.seconds
        self._active[fault.name] = _Active(fault, until_sec, fault.next)

    def end(self, name: str = "") -> list[str]:
        """End one fault, or all. The names that were active."""
        names = [n for n in self.active_faults() if not name or n == name]
        for ended in names:
            del self._active[ended]
        return names

    def active(self, name: str, symbol: str = "") -> Fault | None:
        """The fault, if it holds now for this symbol."""
        entry = self._active.get(name)
        if entry is None:
            return None
        if self._monotonic() >= entry.until_sec:
            del self._active[name]
            return None
        if entry.fault.symbol and symbol and entry.fault.symbol != symbol:
            return None
        return entry.fault

    def hit(self, name: str, symbol: str = "") -> Fault | None:
        """The fault, if it strikes this time: its share, its every and its number of times are counted here."""
        fault = self.active(name, symbol)
        if fault is None:
            return None
        entry = self._active[name]
        entry.seen += 1
        if entry.seen % fault.every:
            return None
        if fault.percent < 100 and self._rng.random() * 100 >= fault.percent:
            return None
        self.hit_counts[name] = self.hit_counts.get(name, 0) + 1
        if entry.left is not None:
            entry.left -= 1
            if entry.left <= 0:
                del self._active[name]
        return fault

    def any_active(self) -> bool:
        """False on the fast path: nothing was ever asked for, or all has ended."""
        return bool(self._active)

    def active_faults(self) -> dict[str, Fault]:
        """What holds now, by name."""
        return {n: f for n in list(self._active) if (f := self.active(n)) is not None}
