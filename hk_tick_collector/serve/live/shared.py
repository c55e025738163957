"""What all connections of the live channel share: hubs, keys, tickets, and how many readers there are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from hk_tick_collector.core.logline import event
from hk_tick_collector.serve.auth import Gate
from hk_tick_collector.serve.keys import Key, KeyRing
from hk_tick_collector.serve.live.counts import LiveCounts
from hk_tick_collector.serve.live.hub import Hub, News, Readers
from hk_tick_collector.serve.live.outlet import Outlet
from hk_tick_collector.serve.live.question import KINDS, Subscription, subscription
from hk_tick_collector.serve.live.session import Session
from hk_tick_collector.serve.live.signals import Signals
from hk_tick_collector.serve.problems import Problem
from hk_tick_collector.serve.settings import ServeSettings
from hk_tick_collector.store.data_root import by_market
from hk_tick_collector.store.layout import BOOKS, BROKERS, SNAPSHOTS, TICKS

if TYPE_CHECKING:
    from hk_tick_collector.serve.live.metrics import LiveMetrics

MAX_CONNECTIONS = 500
PACE_SEC = ((20, 0.01), (100, 0.025), (MAX_CONNECTIONS, 0.05))  # up to so many readers, so long between two messages
TICKET_SEC = 30.0
MAX_TICKETS = 10_000
KEYS_LOOK_SEC = 0.5

_log = logging.getLogger(__name__)


class Live:
    """What all connections share."""

    def __init__(self, settings: ServeSettings) -> None:
        self.keys = KeyRing.open(settings.api_keys_file)
        self.gate = Gate(settings, self.keys)
        self.news = News(self.pace_sec)
        self.hubs = [
            Hub(
                settings.roots[first][0], self.news, settings.roots[first][1],
                beside=[settings.roots[n] for n in others], numbers=(first, *others),
            )
            for first, *others in by_market([root for root, _ in settings.roots])
        ]  # fmt: skip
        self.resting_hubs = {
            kind: [Hub(root, self.news, archive, kind=kind) for root, archive in settings.roots]
            for kind in (BOOKS, BROKERS, SNAPSHOTS)
        }
        self.readers = Readers()
        self.signals = None if settings.hooks_dir is None else Signals(settings.hooks_dir, self.news)
        self.counts = LiveCounts()
        self.sessions: set[Session] = set()  # of readers that are connected
        self.stopping = asyncio.Event()
        self.tickets: dict[str, tuple[Key, str | None, float]] = {}
        self.connections: Counter[str] = Counter()
        self.keys_used: WeakValueDictionary[Key, asyncio.Event] = WeakValueDictionary()  # set: good no more

    def pace_sec(self) -> float:
        """Between two messages of a reader, with as many readers as there are."""
        return pace_sec_of(self.connections.total())

    def wanted(self, given: Mapping[str, Any], key: Key) -> Subscription:
        """What a reader asks for, checked. Problem."""
        return subscription(given, self.resting_hubs.get(KINDS.get(str(given.get("kind")), TICKS), self.hubs), key)

    @contextlib.contextmanager
    def session(self, wanted: Subscription, key: Key, outlet: Outlet | None = None) -> Iterator[Session]:
        """A reader, for as long as it is connected: one that has gone is counted and shown no more."""
        hubs = self.resting_hubs.get(wanted.kind, self.hubs)
        session = Session(
            wanted, hubs, key, self.news, self.readers, stopping=self.stopping, signals=self.signals,
            counts=self.counts, outlet=outlet,
        )  # fmt: skip
        self.sessions.add(session)
        for hub in hubs:
            hub.enter()
        try:
            yield session
        finally:
            self.sessions.discard(session)
            for hub in hubs:
                hub.leave()

    @cached_property
    def metrics(self) -> LiveMetrics:
        """For Prometheus, whose library is loaded when it first asks."""
        from hk_tick_collector.serve.live.metrics import LiveMetrics  # noqa: PLC0415

        return LiveMetrics(self.counts, self.hubs, self.sessions)

    @contextlib.contextmanager
    def connected(self, key: Key) -> Iterator[None]:
        """A reader more. Problem when the key, or the server, has enough."""
        if self.connections.total() >= MAX_CONNECTIONS:
            raise Problem("overloaded", f"{MAX_CONNECTIONS} readers are connected")
        if self.connections[key.id] >= key.limits.live_connections:
            raise Problem("rate-limited", f"the key {key.id} may have {key.limits.live_connections} live connections")
        self.connections[key.id] += 1
        self.counts.connections += 1
        try:
            yield
        finally:
            self.connections[key.id] -= 1
            self.connections += Counter()  # without those that have none

    # Tickets

    def new_ticket(self, key: Key, origin: str | None) -> str:
        """For one connection of a page of this origin."""
        now_sec = time.monotonic()
        self.tickets = {text: ticket for text, ticket in self.tickets.items() if ticket[2] > now_sec}
        if len(self.tickets) >= MAX_TICKETS:
            raise Problem("overloaded", "too many tickets wait")
        text = secrets.token_urlsafe(32)
        self.tickets[text] = key, origin, now_sec + TICKET_SEC
        return text

    def of_ticket(self, text: str, origin: str | None) -> Key:
        """The key of a ticket, which is used up. Problem when it is none."""
        key, of_origin, until_sec = self.tickets.pop(text, (None, None, 0.0))
        if key is None or until_sec <= time.monotonic() or of_origin != origin or self.keys.current(key) is None:
            raise Problem("unauthorized", "the ticket is not known, was used, or its time is over")
        return key

    async def watch_keys(self) -> None:
        """Read the keys again when they change; end who has none any more."""
        while True:
            await asyncio.sleep(KEYS_LOOK_SEC)
            if await asyncio.to_thread(self.keys.reload):
                _log.info(event("keys_read", keys=len(self.keys.keys)))
            for hub in chain(*self.resting_hubs.values()):
                await hub.rest()
            for key, ended in list(self.keys_used.items()):
                if self.keys.current(key) != key:
                    ended.set()
            self.news.tell()  # so that readers look at the clock: heartbeats, lag

    async def key_ended(self, key: Key) -> None:
        """Returns once the key is good no more, or has other rights than those that were checked."""
        await self.keys_used.setdefault(key, asyncio.Event()).wait()


def pace_sec_of(readers: int) -> float:
    """Between two messages of a reader, with so many readers."""
    return next((pace for most, pace in PACE_SEC if readers <= most), PACE_SEC[-1][1])
