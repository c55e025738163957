"""``missing_ranges.json`` out of ``hk-tickctl gaps``, held against another recording, and into ``repair``."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tickctl import record_day, tickctl, tickctl_json
from tests.ticks import DAY


def test_gaps_go_out_and_are_held_against_days(tmp_path: Path) -> None:
    lacks, whole, ranges = tmp_path / "a", tmp_path / "b", tmp_path / "missing_ranges.json"
    record_day(lacks, count=60, lost=(20, 21, 40))
    record_day(whole, count=60)
    done = tickctl("gaps", "--output", ranges, data_root=lacks)
    assert done.returncode == 1, done.stderr
    told = json.loads(ranges.read_text())
    assert (told["trading_days"], told["summary"]["missing_ticks"]) == ([DAY], 3)
    assert [(gap["gap_type"], gap["seq_start"]) for gap in told["missing_ranges"]] == [
        ("tick", 20), ("tick", 21), ("tick", 40),
    ]  # fmt: skip
    again = tickctl("gaps", "-o", ranges, data_root=lacks)
    assert (again.returncode, "replace with --force" in again.stderr) == (1, True)

    assert set(tickctl_json("gaps", "--against", ranges, data_root=lacks, code=1)["counts"]) == {"missing"}
    assert set(tickctl_json("gaps", "--against", ranges, data_root=whole)["counts"]) == {"stored"}
    shown = tickctl("gaps", "--against", ranges, data_root=whole)
    assert shown.stdout.rstrip().endswith("stored"), shown.stdout
    other = tickctl_json("gaps", "--against", ranges, "--symbols", "700", data_root=whole, code=3)
    assert "no range of these days and symbols" in other["error"]


def test_a_day_that_cannot_be_read_is_not_among_those_that_the_ranges_speak_of(tmp_path: Path) -> None:
    root, ranges = tmp_path / "d", tmp_path / "missing_ranges.json"
    record_day(root, count=60, lost=(20,))
    record_day(root, "20261119", count=60)
    (root / "20261119.db").write_bytes(b"no database" * 1000)
    done = tickctl("gaps", "--days", f"20261119..{DAY}", "-o", ranges, data_root=root)
    assert (done.returncode, "20261119 is left out" in done.stderr) == (1, True), done.stderr
    assert json.loads(ranges.read_text())["trading_days"] == [DAY]


def test_repair_asks_for_what_a_list_names(tmp_path: Path) -> None:
    record_day(tmp_path / "d", count=20)
    ranges = tmp_path / "f.json"
    ranges.write_text(json.dumps([{"symbol": "HK.00700", "start_ts": "2020-01-02T02:00:00Z"}, {"symbol": "TXF"}]))
    done = tickctl("repair", "--ranges", ranges, "--dry-run", data_root=tmp_path / "d")
    words = " ".join(done.stderr.split())
    assert done.returncode == 3, done.stderr
    assert "range 2: has no symbol of market HK: left out" in words
    assert "1 range of 20200102 cannot be asked for" in words
