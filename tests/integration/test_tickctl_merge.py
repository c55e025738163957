"""``hk-tickctl compare`` and ``merge``, as somebody with two recorders uses them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hk_tick_collector.core.facts import GapFound, HeadProven, Verified
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.store import data_root
from hk_tick_collector.store.writer import DayFileWriter
from tests.tickctl import CONFIRMED_MS, day_ticks, tickctl, tickctl_json
from tests.ticks import DAY

SYMBOL = "HK.00700"


def record(root: Path, lost: tuple[int, int], count: int = 200) -> Path:
    """A day of which these counters were lost, and OpenD could not show them again."""
    ticks = day_ticks(SYMBOL, count)
    ticks = [tick for tick in ticks if not lost[0] <= (tick.seq or 0) & 0xFFFFFFFF <= lost[1]]
    confirmed_ms = day_start_ms(DAY) + CONFIRMED_MS
    root.mkdir()
    writer = DayFileWriter(root)
    writer.write(
        ticks,
        [
            HeadProven(SYMBOL, DAY, 1),
            Verified(SYMBOL, DAY, count, confirmed_ms),
            GapFound(SYMBOL, DAY, *lost, confirmed_ms, "OpenD no longer shows them"),
        ],
    )
    writer.close()
    return root


@pytest.fixture
def twins(tmp_path: Path) -> tuple[Path, Path]:
    return record(tmp_path / "a", (20, 29)), record(tmp_path / "b", (100, 104))


def test_two_recorders_make_one_proven_day(twins: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = twins
    into = tmp_path / "both"
    different = tickctl_json("compare", a, b, code=1)
    assert [(row["only_a"], row["only_b"]) for row in different["differing"]] == [(5, 10)]
    done = tickctl("merge", a, b, "--into", into)
    assert (done.returncode, "200 ticks" in done.stdout) == (0, True), done.stdout + done.stderr
    assert tickctl_json("day", DAY, data_root=into)["grade"] in ("A", "B")
    assert tickctl_json("gaps", data_root=into) == []
    assert tickctl_json("compare", a, into, code=1)["differing"][0]["only_a"] == 0
    again = tickctl("merge", a, b, "--into", into)
    assert (again.returncode, "merged already" in again.stdout) == (0, True)


def test_a_day_waits_for_the_other_recording_and_a_merged_one_that_was_put_away_stays(
    twins: tuple[Path, Path], tmp_path: Path
) -> None:
    a, b = twins
    into, later = tmp_path / "both", tmp_path / "later"
    (b / f"{DAY}.db").rename(later)
    waits = tickctl("merge", a, b, "--into", into)
    assert (waits.returncode, f"--days merges it all the same): {DAY}" in waits.stderr) == (0, True), waits.stderr
    assert not list(into.glob("*.db"))
    later.rename(b / f"{DAY}.db")
    assert tickctl_json("merge", a, b, "--into", into)["days"][0]["states"] == {"proven": 1}
    assert tickctl("archive", DAY, data_root=into).returncode == 0
    (into / f"{DAY}.db").unlink()
    assert tickctl_json("merge", a, b, "--into", into)["days"] == []


def test_a_contradiction_is_named_and_ends_with_1(tmp_path: Path) -> None:
    a, b = record(tmp_path / "a", (20, 29)), record(tmp_path / "b", (100, 104), count=210)  # other trades
    into = tmp_path / "both"
    result = tickctl_json("merge", a, b, "--into", into, code=1)["days"][0]
    assert [conflict["symbol"] for conflict in result["conflicts"]] == [SYMBOL]
    assert result["states"] == {"missing": 1} or result["states"] == {"unproven": 1}
    human = tickctl("merge", a, b, "--into", into, "--days", DAY)
    assert "contradict each other" in human.stderr
    assert "hk-tickctl compare" in human.stderr


def test_what_cannot_be_merged_is_refused(twins: tuple[Path, Path], tmp_path: Path) -> None:
    a, b = twins
    us = tmp_path / "us"
    us.mkdir()
    data_root.claim(us, "US")
    shutil.copy(a / f"{DAY}.db", us)
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, code, text in (
        (["merge", a, "--into", tmp_path / "x"], 2, "two data roots"),
        (["merge", a, a, "--into", tmp_path / "x"], 2, "same data root"),
        (["merge", a, b, "--into", b], 2, "is one of the recordings"),
        (["merge", a, us, "--into", tmp_path / "x"], 2, "one market at a time"),
        (["merge", a, b, "--into", us], 2, "holds days of market US"),
        (["merge", empty, a, "--into", tmp_path / "x", "--days", "20200101"], 3, "20200101"),
        (["compare", a, empty], 3, "no day in common"),
        (["compare", a, tmp_path / "nothing"], 3, "nothing does not exist: give the data roots"),
    ):
        done = tickctl(*words)
        assert (done.returncode, text in done.stderr) == (code, True), done.stderr
    assert not (tmp_path / "x").exists() or not list((tmp_path / "x").glob("*.db"))
