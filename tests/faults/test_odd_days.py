"""Days on which OpenD shows odd things: counters anew, unreadable ticks, old answers, late ticks and twins, an
unexpected closing, a symbol refused. Nothing that OpenD shows is lost or doubled, and no certificate says more than is
so."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from contextlib import closing
from typing import Any

from hk_tick_collector.market.hk.sessions import hk_date
from hk_tick_collector.opend_sim.simclock import hk_time_ms
from hk_tick_collector.opend_sim.truth import read_truth
from hk_tick_collector.records.tick import seq_counter
from tests.faults.lab import (
    DAY,
    Lab,
    Verdict,
    count_lines,
    kill_9,
    more_recorded,
    one_more_line,
    select,
)
from tests.faults.test_certificates import truths
from tests.harness import Recorder, Simulator, at_market_time, check, wait_until
from tests.tickctl import tickctl

ONE = "HK.00700"


def certified(lab: Lab) -> dict[str, dict[str, Any]]:
    """What ``hk-tickctl day`` says of each symbol; nothing while there is no day yet."""
    done = tickctl("day", DAY, "--all", "--no-write", "--json", data_root=lab.data_root)
    assert done.stdout, done.stderr
    return {row["symbol"]: row for row in json.loads(done.stdout).get("symbols", [])}


def made_ticks(simulator: Simulator) -> list[int]:
    """Counters of the day's ticks in the truth file, in the order they were made."""
    return [seq_counter(tick.seq) for tick in read_truth(simulator.truth) if hk_date(tick.ts_ms) == DAY]


def stored_counters(recorder: Recorder) -> set[int]:
    """Counters of the day's rows in its file."""
    with closing(sqlite3.connect(f"file:{recorder.data_root}/{DAY}.db?mode=ro", uri=True)) as conn:
        return {seq_counter(seq) for (seq,) in conn.execute("SELECT seq FROM ticks")}


def begin_anew(simulator: Simulator) -> None:
    simulator.ctl("clear kind=renumber")
    simulator.ctl("renumber kind=restart")


def until(simulator: Simulator, to_ms: int) -> None:
    """Market time is this, and all that traded until then is made."""
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(to_ms // 1000 + 8 * 3600))
    simulator.ctl(f"jump to={text}.{to_ms % 1000:03d}")


def test_counters_begin_anew_and_the_first_push_fits_the_old_ones(lab: Lab) -> None:
    simulator = lab.market(symbols=ONE, rate=100, start="2026-11-20T09:15:00")
    simulator.ctl("renumber kind=restart")  # so the day's first tick, of the auction, has the number 1
    recorder = lab.recorder(simulator, ONE)
    recorder.wait_for("backfill_done")
    opens_ms = hk_time_ms("2026-11-20T09:30:00")
    until(simulator, opens_ms)
    wait_until(lambda: len(made_ticks(simulator)) > 200, "ticks with old numbers")
    stands_ms = (simulator.ctl("stand")["market_time_ms"] + 9) // 1000 * 1000 + 990  # not before it stands now
    until(simulator, stands_ms)  # no second has ticks of both kinds
    whole = 1 + (stands_ms + 10 - opens_ms) // 10
    wait_until(lambda: len(made_ticks(simulator)) == whole, f"{whole} ticks: whole seconds, and the auction's")
    old = made_ticks(simulator)
    assert old[-1] == len(old) < 1000
    _day_recorded(lab, len(old))
    begin_anew(simulator)
    simulator.ctl("first-push kind=empty")
    simulator.ctl("restart kind=forget seconds=2")
    until(simulator, stands_ms + len(old) * 10)  # so many new ticks, while nobody is connected
    wait_until(lambda: len(made_ticks(simulator)) > len(old), "new ticks")
    assert made_ticks(simulator)[len(old) :] == old, "the next tick has the number behind the old ones"
    simulator.ctl("delay-answers ms=300")  # the push is there before the answer
    one_more_line(recorder, "futu_subscribed ", 1)
    simulator.ctl("run")
    one_more_line(recorder, "backfill_done", 1)
    more_recorded(recorder, 200)
    verdict = lab.finish(simulator, recorder)
    assert verdict.report["clean"], verdict.report
    assert certified(lab)[ONE]["state"] == "unproven", verdict.log


def _day_recorded(lab: Lab, rows: int) -> None:
    count = "SELECT COUNT(*) AS count FROM ticks"
    wait_until(lambda: select(lab.day_file, count)[0]["count"] == rows, f"{rows} rows of the day")


def test_counters_begin_anew_over_lunch_while_the_recorder_is_away(lab: Lab) -> None:
    simulator = lab.market(symbols=ONE, rate=100, start="2026-11-20T11:59:56")
    recorder = lab.recording(simulator, 1200, ONE)
    until(simulator, hk_time_ms("2026-11-20T12:30:00"))
    simulator.ctl("stand")
    newest = made_ticks(simulator)[-1]
    wait_until(lambda: newest in stored_counters(recorder), "all that was pushed is stored")
    kill_9(recorder)
    simulator.ctl("restart kind=forget seconds=0.1")
    begin_anew(simulator)
    until(simulator, hk_time_ms("2026-11-20T13:00:03"))
    simulator.ctl("run")
    again = lab.recording(simulator, recorder.rows() + 450, ONE)
    verdict = lab.finish(simulator, again)
    assert verdict.report["clean"], verdict.report
    assert certified(lab)[ONE]["state"] != "proven", verdict.log


def test_the_only_the_first_and_the_last_tick_cannot_be_read(lab: Lab) -> None:
    first, last, other = "HK.00700", "HK.00005", "HK.09988"
    simulator = lab.market(rate=150, start="2026-11-20T09:19:50")
    simulator.ctl(f"spoil kind=nan next=1 symbol={first}")
    clock = at_market_time("2026-11-20T09:26:00")
    recorder = lab.recorder(simulator, **clock)
    recorder.wait_for("backfill_done")
    until(simulator, hk_time_ms("2026-11-20T09:25:00"))  # one print of each symbol
    recorder.wait_for("tick_quarantined")
    _proven(lab, other)
    assert recorder.stop() == 0
    recorder = lab.recorder(simulator, **clock)  # it finds a file, and tells it of all symbols
    recorder.wait_for("backfill_done")
    wait_until(lambda: first in certified(lab), f"a row of {first}")
    _proven(lab, other)
    assert not count_lines(recorder, "tick_quarantined"), "it is in the quarantine since before the restart"
    by_symbol = certified(lab)
    assert by_symbol[first]["state"] != "proven", by_symbol[first]
    assert by_symbol[last]["state"] == "proven", by_symbol[last]
    until(simulator, hk_time_ms("2026-11-20T09:30:00"))
    more_recorded(recorder, 300)
    simulator.ctl(f"spoil kind=nan symbol={last}")
    more_recorded(recorder, 150)
    simulator.ctl("drop")  # an answer ends with them
    one_more_line(recorder, "backfill_done", 1)
    more_recorded(recorder, 100)
    verdict = lab.finish(simulator, recorder)
    by_symbol = certified(lab)
    assert {s for s, row in by_symbol.items() if row["state"] == "proven"} == {other}, by_symbol
    assert verdict.report["missing"] >= 10
    assert all(verdict.report[word] == 0 for word in ("extra", "wrong", "duplicate")), verdict.report


def _proven(lab: Lab, symbol: str) -> None:
    wait_until(lambda: certified(lab).get(symbol, {}).get("state") == "proven", f"{symbol} is proven")


def test_a_tick_of_yesterday_in_answers_of_a_thousand_proves_no_beginning(lab: Lab) -> None:
    simulator = lab.market(start="2026-11-20T10:15:00")
    simulator.ctl("yesterday")
    recorder = lab.recording(simulator, 3600)
    simulator.ctl("drop")
    one_more_line(recorder, "backfill_done", 1)
    simulator.ctl("clear")
    simulator.ctl("drop")
    one_more_line(recorder, "backfill_done", 2)
    more_recorded(recorder, 300)
    verdict = lab.finish(simulator, recorder)
    assert (verdict.report["missing"], verdict.report["wrong"]) == (0, 0), verdict.report
    for claim in verdict.of_day():
        assert not claim.coverage["head_proven"], claim.coverage
    by_symbol = certified(lab)
    assert len(by_symbol) == 3
    assert all(row["state"] != "proven" for row in by_symbol.values()), by_symbol


def test_answers_long_under_way_and_answers_of_seconds_ago(lab: Lab) -> None:
    simulator = lab.market()
    simulator.ctl("delay-answers kind=under-way ms=700")
    recorder = lab.recording(simulator)
    simulator.ctl("skip next=4")
    more_recorded(recorder, 600)
    simulator.ctl("clear")
    simulator.ctl("old-answers ms=3000")
    simulator.ctl("drop")
    one_more_line(recorder, "backfill_done", 1)
    simulator.ctl("skip next=6")
    more_recorded(recorder, 300)
    assert recorder.stop() == 0
    by_symbol, truth = certified(lab), truths(simulator, lab.day_file)
    verified = {row["symbol"]: row["verified_counter"] for row in select(lab.day_file, "SELECT * FROM coverage")}
    for symbol, symbol_row in by_symbol.items():
        head, lost = truth[symbol].lost(verified[symbol])
        assert symbol_row["state"] != "proven" or not (head or lost), (
            f"{symbol_row}, {lost} are missing\n{recorder.output}"
        )
    simulator.ctl("clear")
    lab.finish(simulator, lab.recording(simulator, recorder.rows() + 300)).assert_complete()
    assert {row["state"] for row in certified(lab).values()} == {"proven"}


def test_late_ticks_twins_and_answers_without_milliseconds_make_no_doubles(lab: Lab) -> None:
    bare, others = "HK.00005", "HK.00700,HK.09988"
    simulator = lab.market(rate=150)
    for fault in ("backdate ms=10000 percent=10", "twins percent=30", "no-ms", f"no-sequence symbol={bare}"):
        simulator.ctl(fault)
    recorder = lab.recording(simulator, 600)
    simulator.ctl("twice seconds=1")
    more_recorded(recorder, 200)
    simulator.ctl("stand")
    for backfills in (1, 2):  # the second answer shows what is known already
        simulator.ctl("drop")
        one_more_line(recorder, "backfill_done", backfills)
    assert recorder.stop() == 0
    # A twin in a push of its own is known to be one by the answers only, whose times end at the second.
    made = Counter(
        (t.ts_ms // 1000, t.price, t.volume, t.turnover)
        for t in read_truth(simulator.truth)
        if t.symbol == bare and hk_date(t.ts_ms) == DAY
    )
    rows = select(lab.day_file, "SELECT ts_ms, price, volume, turnover FROM ticks WHERE symbol = ?", bare)
    stored = Counter((row["ts_ms"] // 1000, row["price"], row["volume"], row["turnover"]) for row in rows)
    assert stored == made, f"doubled {stored - made}, lost {made - stored}\n{recorder.output}"
    assert len(made) < made.total(), "no twins"
    assert check(simulator, lab.data_root, "--symbols", others).returncode == 0, recorder.output
    by_symbol = certified(lab)
    assert {symbol: row["state"] for symbol, row in by_symbol.items()} == {
        bare: "unproven", **dict.fromkeys(others.split(","), "proven")
    }  # fmt: skip


def test_market_closed_by_opend_and_a_symbol_refused(lab: Lab) -> None:
    refused = "HK.09988"
    simulator = lab.market(rate=300, quota=2)
    recorder = lab.recording(simulator, 300, **at_market_time("2026-11-20T09:31:00"), DRIFT_WARN_SEC=1.5)
    recorder.wait_for(f"futu_symbol_refused symbol={refused}")
    until(simulator, hk_time_ms("2026-11-20T09:30:30"))  # more than OpenD shows
    simulator.ctl("quota limit=1000")
    recorder.wait_for(f"futu_symbol_recovered symbol={refused}")
    more_recorded(recorder, 300)
    simulator.ctl("market-state kind=CLOSED")
    simulator.ctl("silent")
    simulator.ctl("stand")
    recorder.wait_for("market_closed_by_opend market_hk=Closed phase=morning")
    closed = len(recorder.lines)  # before, a slow start may have raised an alarm of its own
    wait_until(lambda: len(_lines_since(recorder, closed, "health connected=True")) >= 4, "health lines")
    assert count_lines(recorder, "WARNING market_closed_by_opend") == 1, recorder.output
    alarms = _lines_since(recorder, closed, "health connected=True status=alert", "WATCHDOG feed_silent")
    assert not alarms, recorder.output
    simulator.ctl("clear kind=market-state")
    wait_until(lambda: _lines_since(recorder, closed, "status=alert"), "an alarm: the same silence in an open market")
    simulator.ctl("clear")
    simulator.ctl("quota limit=1000")
    simulator.ctl("run")
    more_recorded(recorder, 300)
    verdict = lab.finish(simulator, recorder)
    _named_as_absent(lab, verdict, refused)


def _lines_since(recorder: Recorder, first: int, *texts: str) -> list[str]:
    return [line for line in recorder.lines[first:] if any(text in line for text in texts)]


def _named_as_absent(lab: Lab, verdict: Verdict, refused: str) -> None:
    done = tickctl("day", DAY, "--no-write", data_root=lab.data_root)
    assert done.returncode == 1
    assert refused in done.stdout
    by_symbol = certified(lab)
    assert by_symbol[refused]["not_subscribed"], by_symbol[refused]
    assert {symbol for symbol, row in by_symbol.items() if row["state"] == "proven"} == set(by_symbol) - {refused}, (
        verdict.log
    )
