"""The simulated interface: what gexbot's REST interface answers, and faults that can be asked for.

One HTTP server on 127.0.0.1. ``POST /sim/NAME`` does something to it, ``GET /sim/state`` says what it was asked,
``GET /sim/waiting`` how many oddities nobody was shown yet.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import urlsplit

from hk_tick_collector.gexbot_sim.snapshots import SESSION_SEC, Truth, is_offered, session, snapshot
from hk_tick_collector.sims.rest import Rest, start_handler

SLOW_SEC = 1.5
SKEW_SEC = 3600
RETRY_AFTER_SEC = 90
CATEGORIES = {
    "classic": ["gex_full", "gex_zero", "gex_one"],
    "state": ["gex_full", "gex_zero", "gex_one", "delta_zero", "gamma_zero", "vanna_zero", "charm_zero"],
    "orderflow": ["orderflow"],
}
FAULTS = {
    "stale": "the same snapshot again and again, until `fresh`",
    "fresh": "a new snapshot a second again",
    "slow": "each answer takes longer than a second, until `fast`",
    "fast": "answers at once again",
    "mute": "takes connections and answers nothing, until `fast`",
    "revoke": "the key is taken no more (401), until `accept`",
    "forbid": "what is asked for is not in the subscription (403), until `accept`",
    "busy": "429, to be left alone for a minute, until `accept`",
    "maintenance": "503 to whatever is asked, until `accept`",
    "announced": f"503 as in `maintenance`, with a Retry-After of {RETRY_AFTER_SEC} s, until `accept`",
    "skew": "snapshots are of an hour ahead, until `on_time`",
    "on_time": "snapshots of now again",
    "accept": "keys are taken and questions answered again",
    "nan": "one snapshot with a spot of NaN",
    "garbage": "one answer that is no JSON",
    "half": "one answer that ends in the middle",
    "other_ticker": "one snapshot of another ticker",
    "twice": "one second is told again with other numbers",
    "cut_file": "the next file of a day ends in the middle",
    "no_file": "no file of a day is there (404), until `file`",
    "file": "files of days are there again",
}


@dataclass
class Market:
    """What the simulator knows; shared by the threads of its server."""

    tickers: list[str]
    truth: Truth
    key: str = "gexbot_custom_sim"
    seed: int = 1
    strikes: int = 4
    missing_a_thousand: int = 1
    file_seconds: int = SESSION_SEC
    asked: Counter[str] = field(default_factory=Counter)
    states: set[str] = field(
        default_factory=set
    )  # stale slow mute revoke forbid busy maintenance announced skew no_file
    once: list[str] = field(default_factory=list)  # nan garbage half other_ticker twice cut_file
    stale_second: int = 0

    _ENDS: ClassVar[dict[str, tuple[str, ...]]] = {
        "fresh": ("stale",), "fast": ("slow", "mute"), "on_time": ("skew",), "file": ("no_file",),
        "accept": ("revoke", "forbid", "busy", "maintenance", "announced"),
    }  # fmt: skip

    @property
    def skew_sec(self) -> int:
        """How far its clock is ahead."""
        return SKEW_SEC if "skew" in self.states else 0

    def fault(self, fault: str) -> None:
        """What FAULTS says."""
        if fault in self._ENDS:
            self.states.difference_update(self._ENDS[fault])
        elif fault in ("nan", "garbage", "half", "other_ticker", "twice", "cut_file"):
            self.once.append(fault)
        else:
            self.stale_second = int(time.time())
            self.states.add(fault)

    def state(self) -> dict[str, int]:
        """How often each address was asked for."""
        return dict(self.asked)

    def take(self, *names: str) -> str:
        """The next of these that was asked for once."""
        with contextlib.suppress(StopIteration):
            once_name = next(name for name in self.once if name in names)
            self.once.remove(once_name)
            return once_name
        return ""

    def newest(self, series: str) -> dict[str, Any]:
        """The newest snapshot that is offered, noted as shown."""
        second = self.stale_second if "stale" in self.states else int(time.time()) + self.skew_sec
        while not is_offered(series, second, self.seed, self.missing_a_thousand):
            second -= 1
        return snapshot(series, second, self.seed, self.strikes)

    def file(self, series: str, day: str) -> list[dict[str, Any]]:
        """All snapshots of a day."""
        seconds = session(day, self.file_seconds)
        return [
            snapshot(series, second, self.seed, self.strikes)
            for second in seconds
            if is_offered(series, second, self.seed, self.missing_a_thousand)
        ]


def start(market: Market, port: int) -> ThreadingHTTPServer:
    """A server on a thread."""
    return start_handler(_Gexbot, market, port)


class _Gexbot(Rest):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 65_536
    faults = FAULTS
    simulated: ClassVar[Market]

    def asked(self) -> None:
        market, path = self.simulated, urlsplit(self.path).path
        if path == "/sim/waiting":
            self.answer(200, len(market.once))
            return
        if "mute" in market.states:
            time.sleep(SLOW_SEC)
            self.close_connection = True
            return
        if market.states & {"maintenance", "announced"}:
            market.asked["503"] += 1
            until = {"Retry-After": str(RETRY_AFTER_SEC)} if "announced" in market.states else {}
            self.answer(503, {"error": "down for maintenance"}, until)
            return
        if not self.headers.get("User-Agent") or "Accept" not in self.headers:
            self.answer(400, {"error": "User-Agent and Accept are required"})
            return
        words = [word for word in path.split("/") if word]
        if words == ["v2", "tickers"]:
            self.answer(200, {"stocks": [], "indexes": market.tickers, "futures": []})
        elif len(words) == 2 and words[1] == "categories" and words[0] in CATEGORIES:
            self.answer(200, CATEGORIES[words[0]])
        elif words[:1] == ["files"]:
            self._send_file("/".join(words[1:4]), words[4])
        elif words[:1] == ["v2"]:
            self._keyed(words[1:])
        else:
            self.answer(404, {"error": "not found"})

    def _keyed(self, words: list[str]) -> None:
        market = self.simulated
        market.asked["/".join(words)] += 1
        if "busy" in market.states:
            self.answer(429, {"error": "slow down"}, {"Retry-After": "60"})
        elif "revoke" in market.states or self.headers.get("Authorization") != f"Bearer {market.key}":
            self.answer(401, {"error": "unauthorized"})
        elif "forbid" in market.states:
            self.answer(403, {"error": "not in your subscription"})
        elif words[0] == "hist" and len(words) == 5:
            self._send_address(words[1:])
        elif len(words) == 3 and words[0] in market.tickers and words[2] in CATEGORIES.get(words[1], ()):
            self._send_snapshot("/".join(words))
        else:
            self.answer(404, {"error": "unknown"})

    def _send_snapshot(self, series: str) -> None:
        market = self.simulated
        if "slow" in market.states:
            time.sleep(SLOW_SEC)
        oddity = market.take("nan", "garbage", "half", "other_ticker", "twice")
        made = market.newest(series)
        if oddity == "garbage":
            self.send(200, b"\x00\xff\xfe<html>")
            return
        if oddity == "nan":
            made["spot"] = math.nan
        elif oddity == "other_ticker":
            made["ticker"] = "OTHER"
        elif oddity == "twice":
            made["spot"] += 1
        text = json.dumps(made)
        if oddity == "half":
            text = text[: len(text) // 2]
        is_odd = oddity in ("nan", "half", "other_ticker") or bool(market.skew_sec)
        market.truth.note(series, [(made, is_odd)], "live")
        self.send(200, text.encode())

    def _send_address(self, words: list[str]) -> None:
        if "no_file" in self.simulated.states:
            self.answer(404, {"error": "not there yet"})
            return
        self.answer(200, {"url": f"http://{self.headers['Host']}/files/{'/'.join(words)}?sig=very-secret"})

    def _send_file(self, series: str, day: str) -> None:
        market = self.simulated
        if self.headers.get("Authorization"):
            self.answer(400, {"error": "a signed address wants no key"})
            return
        records = market.file(series, day)
        text = json.dumps(records)
        if market.take("cut_file"):
            text = text[: len(text) // 2]
        else:
            market.truth.note(series, [(record, False) for record in records], "copy")
        self.send(200, text.encode())
