"""Signals of hooks, routed to the people whose targets ask for them. Each once, from the first look on: what was there
before is history."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from hk_tick_collector.alert.outbox import Outbox
from hk_tick_collector.alert.targets import TargetSettings
from hk_tick_collector.alert.words import signal_line
from hk_tick_collector.core.complaint import Level
from hk_tick_collector.core.logline import event
from hk_tick_collector.market.market import Market
from hk_tick_collector.store.signals import newest_signal, read_signals

MARK = "signals"
MAX_SIGNALS = 200  # of a look

_log = logging.getLogger(__name__)


class SignalDesk:
    """One directory of hooks. ``step`` is called with every look."""

    def __init__(self, hooks_dir: Path, targets: Sequence[TargetSettings], outbox: Outbox, market: Market) -> None:
        self._hooks_dir, self._outbox, self._market = hooks_dir, outbox, market
        self._targets = [target for target in targets if target.signals]

    def step(self, now_ms: int) -> None:
        """Put what came since the last look into the outbox. StoreError when either file does not let us."""
        seen = self._outbox.mark(MARK)
        if seen is None:
            self._outbox.set_mark(MARK, newest_signal(self._hooks_dir))
            return
        signals = read_signals(self._hooks_dir, seen, MAX_SIGNALS)
        if not signals:
            self._look_for_a_new_file(seen)
            return
        with self._outbox.transaction():
            for signal in signals:
                line = signal_line(signal, self._market)
                for target in (target for target in self._targets if signal.name in target.signals):
                    if target.is_quiet(now_ms):
                        self._outbox.hold(target.name, line)
                    else:
                        self._outbox.add(
                            target.name, Level.NOTE, [line], now_ms, kind="signal", room_chars=target.room_chars
                        )
            self._outbox.set_mark(MARK, signals[-1].number)
        _log.info(event("alert_signals", count=len(signals), last=signals[-1].number))

    def _look_for_a_new_file(self, seen: int) -> None:
        newest = newest_signal(self._hooks_dir)
        if newest < seen:
            _log.warning(event("alert_signals_anew", seen=seen, newest=newest, action="reading from its beginning"))
            self._outbox.set_mark(MARK, 0)
