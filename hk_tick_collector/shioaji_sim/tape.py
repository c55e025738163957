"""Trades that the simulator makes up, one seed one tape, and the truth file that says what was shown.

A line of the truth file is one event: ``{"code": "2330", "date": "2026-11-27", "time": "09:00:01.123456", "ts_us": ...,
"price": 1100.0, "volume": 3, "total": 120, "side": 1, "trial": false, "spoilt": "", "shown": true}``. ``spoilt``: it
was told in a way that no program can store (a price NaN, half a lot); its true numbers stand in the day's history.
``shown``: it went to somebody. The code ``2330@ODD`` stands for the stream of odd lots of 2330, in shares.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hk_tick_collector.market.tw import TW
from hk_tick_collector.sims import truth

ODDITIES = ("nan", "fraction", "trial", "backwards")
LOT = 1000
ODD = "@ODD"


@dataclass(slots=True)
class Event:
    """One tick."""

    code: str
    date: str
    time: str
    ts_us: int  # UTC
    price: float
    volume: int
    total: int  # after it
    side: int  # 1 buyer, 2 seller, 0 unknown
    trial: bool = False
    spoilt: str = ""
    shown: bool = False

    @property
    def channel(self) -> str:
        """Which of the two it goes by."""
        return "tick_fop" if is_contract(self.code) else "tick_stk"

    @property
    def stream(self) -> tuple[str, bool]:
        """As a subscription names it: the code, and whether it is that of odd lots."""
        return self.code.removesuffix(ODD), self.code.endswith(ODD)

    @property
    def day(self) -> str:
        """The trading day."""
        return TW.trading_day(self.ts_us // 1000)

    def payload(self) -> dict[str, Any]:
        """By the gateway's names: money is text, volumes are numbers."""
        price: str = "NaN" if self.spoilt == "nan" else f"{self.price:g}"
        volume: float = 0.5 if self.spoilt == "fraction" else self.volume
        total = -1 if self.spoilt == "backwards" else self.total
        code, is_odd = self.stream
        amount = f"{self.price * self.volume * (1 if is_odd or self.channel == 'tick_fop' else LOT):.0f}"
        told = {
            "code": code, "date": self.date, "time": self.time, "open": price, "avg_price": price,
            "close": price, "high": price, "low": price, "amount": amount, "total_amount": amount,
            "volume": volume, "total_volume": total, "tick_type": self.side, "chg_type": 2, "price_chg": "1",
            "pct_chg": "0.1", "bid_side_total_vol": 10, "ask_side_total_vol": 12, "simtrade": self.trial,
        }  # fmt: skip
        if self.channel == "tick_stk":
            told |= {
                "bid_side_total_cnt": 3, "ask_side_total_cnt": 4, "closing_oddlot_shares": 0,
                "closing_oddlot_close": "0", "closing_oddlot_amount": "0", "closing_oddlot_bid_price": "0",
                "closing_oddlot_ask_price": "0", "fixed_trade_vol": 0, "fixed_trade_amount": "0", "suspend": False,
                "intraday_odd": is_odd,
            }  # fmt: skip
        else:
            told["underlying_price"] = price
        return told


_FIELDS = {field.name for field in fields(Event)}


def is_contract(code: str) -> bool:
    """Of TAIFEX: letters in front."""
    return code[:1].isalpha()


class Tape:
    """Makes ticks of ``codes``; each one's time is given. Any thread. ``goes_on``: the totals of the day session of
    TAIFEX go on from those of its night."""

    def __init__(self, codes: Sequence[str], seed: int, path: Path | None, *, goes_on: bool = False) -> None:
        self._random = random.Random(seed)
        self.codes = list(codes)
        self._goes_on = goes_on
        self._prices = {code: 20.0 + round(980.0 * self._random.random()) for code in codes}
        self._totals: dict[tuple[str, str], int] = {}
        self._last_us = 0
        self._lock = threading.Lock()
        self.oddities: list[str] = []  # to be made next, in order
        self.history: list[Event] = []  # every real trade
        self._truth = truth.TruthFile(path)

    def next(self, now_ms: int) -> Event:
        """The next event, an oddity if one was asked for. Times rise by a microsecond at least."""
        with self._lock:
            code = self._random.choice(self.codes)
            oddity = self.oddities.pop(0) if self.oddities else ""
            ts_us = self._last_us = max(now_ms * 1000 + self._random.randrange(1000), self._last_us + 1)
            day, clock = TW.zone.date(ts_us // 1000), TW.zone.clock(ts_us // 1000)
            price = self._prices[code] = max(1.0, self._prices[code] + self._random.choice((-0.5, 0.0, 0.5)))
            volume = self._random.choice((7, 40, 999) if code.endswith(ODD) else (1, 1, 2, 3, 5, 20))
            is_trial = oddity == "trial"
            event = Event(
                code, f"{day[:4]}-{day[4:6]}-{day[6:]}", f"{clock}.{ts_us % 1_000_000:06d}", ts_us, price, volume,
                0 if is_trial else self._total(code, ts_us, volume), self._random.choice((0, 1, 2)), is_trial,
                "" if is_trial else oddity,
            )  # fmt: skip
            if not is_trial:
                self.history.append(event)
            return event

    def _total(self, code: str, ts_us: int, volume: int) -> int:
        day, hour = TW.trading_day(ts_us // 1000), TW.zone.ms_of_day(ts_us // 1000) // 3_600_000
        is_night = is_contract(code) and not 5 <= hour < 15
        key = (code, f"{day} night" if is_night else day)
        if key not in self._totals:
            self._totals[key] = self._totals.get((code, f"{day} night"), 0) if self._goes_on else 0
        self._totals[key] += volume
        return self._totals[key]

    def whole_day(self, code: str, date: str, *, with_night: bool = True) -> dict[str, list[Any]]:
        """As ``/data/ticks`` shows it, the trading day with its night or without."""
        day = date.replace("-", "")
        with self._lock:
            shown = [event for event in self.history if event.code == code and event.day == day]
        if not with_night:
            shown = [event for event in shown if "05" <= event.time < "15"]
        return {
            "datetime": [f"{event.date}T{event.time}" for event in shown],
            "close": [event.price for event in shown],
            "volume": [event.volume for event in shown],
            "bid_price": [event.price for event in shown],
            "bid_volume": [1 for _ in shown],
            "ask_price": [event.price + 0.5 for event in shown],
            "ask_volume": [1 for _ in shown],
            "tick_type": [event.side for event in shown],
        }

    def note(self, events: Sequence[Event]) -> None:
        """Into the truth file."""
        self._truth.note(asdict(event) for event in events)


def read_truth(path: Path) -> list[dict[str, Any]]:
    """The events of a truth file. OSError; TruthError when it is none."""
    return truth.read_truth(path, _FIELDS)
