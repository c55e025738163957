"""Two recorders on the live channel against what their files hold: random losses, repairs, days, cuts and slow readers.
What a reader was sent, over all its connections, is each trade once, and it ends in the ring."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import tempfile
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hk_tick_collector.serve.keys import ANONYMOUS
from hk_tick_collector.serve.live.frames import COLUMNS, Event
from hk_tick_collector.serve.live.hub import Hub, News, Readers
from hk_tick_collector.serve.live.question import subscription
from hk_tick_collector.serve.live.session import Session
from hk_tick_collector.store.layout import archive_dir
from tests.nights import examples
from tests.unit.serve.test_live_model import Here
from tests.unit.store_ticks import DAY
from tests.unit.test_joined_follow import Recorders

DAYS = (DAY, "20261123", "20261124")
NONE, ALL = 0, 2**12 - 1
_DAY, _SYMBOL, _SEQ = (COLUMNS["ticks"].index(name) for name in ("trading_day", "symbol", "seq"))
MASKS = st.one_of(st.sampled_from((NONE, ALL)), st.integers(NONE, ALL))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("trade"), st.integers(1, 12), st.sampled_from(("HK.00700", "HK.00005")), MASKS, MASKS),
        st.tuples(st.just("repair"), st.integers(0, 1)),
        st.tuples(st.just("hub"), st.integers(1, 3)),
        st.tuples(st.just("read"), st.integers(1, 6)),
        st.tuples(st.just("cut")),
        st.tuples(st.just("new_day")),
    ),
    max_size=40,
)  # fmt: skip


class Reader:
    """Connects again with its cursor after each cut."""

    is_ready = True  # of its socket

    def __init__(self, hub: Hub, news: News) -> None:
        self.hub, self.news, self.readers = hub, news, Readers(1, make=Here)
        self.cursor = "day"
        self.session: Session | None = None
        self.given: Counter[tuple[str, str, int]] = Counter()

    async def read(self, times: int) -> Session:
        if self.session is None:
            asked = subscription({"since": self.cursor}, [self.hub], ANONYMOUS)
            self.session = Session(
                asked, [self.hub], ANONYMOUS, self.news, self.readers, stopping=asyncio.Event(), outlet=self
            )
            await self.session.open()
            self.session._heartbeat_at_sec = float("inf")
            self.cursor = self.session.told
        for _ in range(times):
            for feed in self.session._feeds:
                for event in await self.session._step(feed):
                    self.give(event)
        return self.session

    def give(self, event: Event) -> None:
        message: dict[str, Any] = json.loads(event.data)
        assert message["prev"] == self.cursor
        assert message["type"] in ("ticks", "end_of_day")
        self.cursor = message["cursor"]
        self.given.update((row[_DAY], row[_SYMBOL], int(row[_SEQ])) for row in message.get("ticks", ()))


async def play(steps: list[tuple[Any, ...]], recorders: Recorders, roots: list[Path]) -> None:
    news = News()
    hub = Hub(roots[0], news, make=Here, beside=[(root, archive_dir(root)) for root in roots[1:]])
    await hub.begin()
    reader = Reader(hub, news)
    await reader.read(1)
    for word, *arguments in steps:
        if word == "trade":
            recorders.trade(*arguments)
        elif word == "repair":
            recorders.repair(*arguments)
        elif word == "hub":
            for _ in range(*arguments):
                await hub.step(0, 0)
        elif word == "read":
            (await reader.read(*arguments))._pass_on()
        elif word == "cut":
            reader.session = None
        else:
            recorders.day = DAYS[min(DAYS.index(recorders.day) + 1, len(DAYS) - 1)]
    for _ in range(4):
        while await hub.step(0, 0):
            pass
        session = await reader.read(100)
    await hub.close()
    await reader.readers.close()
    assert reader.given == Counter(stored(roots))
    assert all(feed.is_live for feed in session._feeds)


def stored(roots: list[Path]) -> set[tuple[str, str, int]]:
    keys_stored: set[tuple[str, str, int]] = set()
    for path in (path for root in roots for path in root.glob("*.db")):
        with closing(sqlite3.connect(path)) as conn:
            keys_stored.update(conn.execute("SELECT trading_day, symbol, seq FROM ticks"))
    return keys_stored


@settings(max_examples=examples(30), deadline=None, suppress_health_check=list(HealthCheck))
@given(STEPS, st.sampled_from((NONE, ALL)))
def test_each_trade_once_whoever_of_two_has_it(steps: list[tuple[Any, ...]], second_lacks: int) -> None:
    with tempfile.TemporaryDirectory() as directory, ExitStack() as held:
        roots = [Path(directory, name) for name in ("a", "b")]
        recorders = Recorders(roots, held)
        recorders.trade(1, "HK.00700", NONE, second_lacks)
        asyncio.run(play(steps, recorders, roots))
