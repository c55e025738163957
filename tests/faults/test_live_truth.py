"""The short form of a run against the truth: of everything something. The long one is the nightly workflow's."""

from __future__ import annotations

from pathlib import Path

from tests.serving_truth.run import SHORT, run


def test_readers_hold_what_was_made(tmp_path: Path) -> None:
    broken, summary = run(tmp_path, SHORT, seed=1)
    assert not broken, f"{broken}\n{summary}"
    assert {"midnight", "replace_a_file", "kill_live", "kill_api", "kill_relay", "kill_redis", "kill_recorder"} <= set(
        summary.partition("(")[2].partition(")")[0].split()
    )
