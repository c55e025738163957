"""Sequences that do not count, or are not there: the day is called unproven, and still nothing is lost or doubled."""

from __future__ import annotations

import re

from tests.faults.lab import Lab, count_lines, more_recorded, one_more_line, select


def _one_line_a_symbol(lab: Lab, log: str) -> None:
    symbols = re.findall(rf"sequence_distrusted symbol=(\S+) trading_day={lab.day_file.stem}", log)
    assert sorted(symbols) == sorted(set(symbols)), f"said more than once: {symbols}"


def test_counters_that_begin_again(lab: Lab) -> None:
    simulator = lab.market()
    recorder = lab.recording(simulator, 3000)
    simulator.ctl("renumber kind=restart")
    more_recorded(recorder, 600)
    recorder.wait_for("sequence_distrusted symbol=.*counters went back")
    simulator.ctl("drop")
    one_more_line(recorder, "backfill_done", 1)
    more_recorded(recorder, 600)
    verdict = lab.finish(simulator, recorder)
    assert verdict.report["clean"], verdict.report
    verdict.assert_unproven("counters went back")
    _one_line_a_symbol(lab, verdict.log)
    assert count_lines(recorder, "hole_unrepaired") == 0, "counters that do not count make no holes"


def test_an_index_within_the_second(lab: Lab) -> None:
    simulator = lab.market()
    simulator.ctl("renumber kind=second")
    recorder = lab.recording(simulator, 1500)
    simulator.ctl("skip percent=5")
    simulator.ctl("drop")
    one_more_line(recorder, "backfill_done", 1)
    more_recorded(recorder, 900)
    simulator.ctl("clear kind=skip")
    simulator.ctl("drop")  # nothing shows the skipped ones but a pull of everything
    one_more_line(recorder, "backfill_done", 2)
    verdict = lab.finish(simulator, recorder)
    assert verdict.report["clean"], verdict.report
    verdict.assert_unproven("counters went back")
    _one_line_a_symbol(lab, verdict.log)


def test_sequences_absent(lab: Lab) -> None:
    simulator = lab.market(rate=150)
    simulator.ctl("no-sequence")
    recorder = lab.recording(simulator, 900)
    simulator.ctl("twice")
    more_recorded(recorder, 300)
    simulator.ctl("drop")
    one_more_line(recorder, "backfill_done", 1)
    more_recorded(recorder, 300)
    simulator.ctl("stand")  # equal trades of one millisecond in two pushes are told apart by an answer that has both
    simulator.ctl("drop")
    one_more_line(recorder, "backfill_done", 2)
    verdict = lab.finish(simulator, recorder)
    verdict.assert_unproven("without a sequence")
    # The check calls a row without its sequence wrong: nothing else about these rows may be.
    (rows,) = select(lab.day_file, "SELECT COUNT(*) AS count, COUNT(seq) AS sequenced FROM ticks")
    assert rows["sequenced"] == 0
    assert set(verdict.report["wrong_fields"]) == {"seq"}, verdict.report
    _one_line_a_symbol(lab, verdict.log)


def test_sequences_absent_for_a_while_in_one_symbol(lab: Lab) -> None:
    simulator = lab.market(rate=150)
    recorder = lab.recording(simulator, 450)
    simulator.ctl("no-sequence symbol=HK.00005")
    more_recorded(recorder, 300)
    simulator.ctl("clear")
    simulator.ctl("drop")
    one_more_line(recorder, "backfill_done", 1)
    more_recorded(recorder, 150)
    assert recorder.stop() == 0
    recorder = lab.recording(simulator)  # a restart does not forget it either
    more_recorded(recorder, 150)
    verdict = lab.finish(simulator, recorder)
    assert verdict.report["missing"] == verdict.report["extra"] == verdict.report["duplicate"] == 0, verdict.report
    states = {claim.symbol: claim.coverage["state"] for claim in verdict.of_day()}
    assert states["HK.00005"] == "unproven", verdict.log
    others = [claim.coverage for claim in verdict.of_day() if claim.symbol != "HK.00005"]
    assert all(row["distrust"] is None for row in others), others
