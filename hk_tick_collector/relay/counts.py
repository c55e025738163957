"""What a relay has done since its start. Each field is written by the one thread that its comment names; anybody may
read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from hk_tick_collector.relay.kinds import TICK_RELAY, Relayed
from hk_tick_collector.relay.sink import Frame


@dataclass(slots=True)
class RelayCounts:
    """Counters begin at 0 with each start; moments are UTC epoch seconds, 0 when it has not happened yet."""

    ticks: int = 0  # the loop's, as all but the last; of another kind its rows
    frames: int = 0
    waits: int = 0  # times that the sink could take nothing
    is_waiting: bool = False
    days_begun_again: int = 0
    last_put_sec: float = 0.0
    newest_tick_sec: float = 0.0  # by event time
    signals: int = 0  # the signals' thread's

    relayed: Relayed = TICK_RELAY

    def note_put(self, frames: Sequence[Frame]) -> None:
        """The sink has taken these."""
        self.frames += len(frames)
        self.ticks += sum(len(frame.rows) for frame in frames)
        newest_ms = max(self.relayed.newest_ms(frame.rows) for frame in frames)
        self.newest_tick_sec = max(self.newest_tick_sec, newest_ms / 1000)
        self.last_put_sec = time.time()
