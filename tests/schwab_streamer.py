"""The built ``hk-schwab-sim`` as a process, for tests."""

from __future__ import annotations

import json
import urllib.request
from contextlib import suppress
from pathlib import Path

from hk_tick_collector.schwab_sim.tape import read_truth
from tests.harness import BIN, Process, clean_env

Key = tuple[str, int, float, float]


class Streamer(Process):
    """``hk-schwab-sim run`` with a truth file."""

    def __init__(self, directory: Path, **options: object) -> None:
        self.truth = directory / "truth.jsonl"
        words = [str(word) for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
        super().__init__([BIN / "hk-schwab-sim", "run", "--truth", self.truth, *words], clean_env(directory / "home"))
        ready = self.wait_for(r"schwab_sim_ready ws=(\S+) rest=(\S+)")
        self.url, self.rest = ready.group(1), ready.group(2)

    def fault(self, name: str) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.rest}/sim/{name}", method="POST"), timeout=30).close()

    def state(self) -> dict[str, int]:
        with urllib.request.urlopen(f"{self.rest}/sim/state", timeout=30) as answer:
            state_json: dict[str, int] = json.load(answer)
        return state_json

    def shown(self) -> set[Key]:
        """What can be stored of what was told."""
        with suppress(OSError):
            return {
                (trade["symbol"], trade["time"], trade["price"], trade["size"])
                for trade in read_truth(self.truth)
                if trade["shown"] and not trade["odd"]
            }
        return set()
