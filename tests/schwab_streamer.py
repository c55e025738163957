"""The built ``hk-schwab-sim`` as a process, for tests."""

from __future__ import annotations

from contextlib import suppress

from hk_tick_collector.schwab_sim.tape import read_truth
from tests.simulators import Simulator

Key = tuple[str, int, float, float]


class Streamer(Simulator):
    name, ready = "schwab", r"ws=(\S+) rest=(\S+)"

    def shown(self) -> set[Key]:
        """What can be stored of what was told."""
        with suppress(OSError):
            return {
                (trade["symbol"], trade["time"], trade["price"], trade["size"])
                for trade in read_truth(self.truth)
                if trade["shown"] and not trade["odd"]
            }
        return set()
