"""Two recorders beside each other, each dead for a while, never both: their day is whole."""

from __future__ import annotations

import json
import time

from hk_tick_collector.opend_sim.check import check
from tests.faults.lab import BEFORE_OPENING, Lab, Verdict, day_claims, kill_9, more_recorded
from tests.harness import Simulator, wait_until
from tests.tickctl import tickctl_json

SYMBOL = "HK.00700"
MORE_THAN_OPEND_SHOWS = 2_000


def test_two_recorders_that_were_down_in_turn_make_one_whole_day(lab: Lab) -> None:
    simulator = lab.market(symbols=SYMBOL, rate=400, start=BEFORE_OPENING)
    roots = [lab.directory / "a", lab.directory / "b"]
    recorders = []
    for root in roots:
        lab.data_root = root
        recorders.append(lab.recording(simulator, 200, SYMBOL))
    for place, recorder in enumerate(recorders):
        kill_9(recorder)
        misses(simulator, MORE_THAN_OPEND_SHOWS)
        lab.data_root = roots[place]
        recorders[place] = again = lab.recording(simulator, recorder.rows() + 200, SYMBOL)
        again.wait_for(r"health connected=True .* open_holes=0 missing_ticks=[1-9]")
        more_recorded(again, 300)
    asked_sec = time.monotonic()
    assert [recorder.stop() for recorder in recorders] == [0, 0]
    simulator.stop()
    lost = [claim.open_gap_ticks for root in roots for claim in day_claims(simulator.truth, root)]
    assert min(lost) > 500, lost
    into = lab.directory / "both"
    merged = tickctl_json("merge", *roots, "--into", into)["days"][0]
    tail_ms = round((time.monotonic() - asked_sec + 0.5) * 1000)
    report = json.loads(check(simulator.truth, into, allow_tail_ms=tail_ms).to_json())
    verdict = Verdict(report, day_claims(simulator.truth, into), "")
    verdict.assert_complete()
    # Each notes all its interruptions, so it is known that the line of one held while the other was down.
    assert (merged["states"], merged["missing_ticks"]) == ({"proven": 1}, 0)


def misses(simulator: Simulator, ticks: int) -> None:
    """Wait until so many more were made."""
    seen = simulator.ctl("status")["ticks_arrived"]
    wait_until(lambda: simulator.ctl("status")["ticks_arrived"] > seen + ticks, f"{ticks} ticks that nobody there took")
