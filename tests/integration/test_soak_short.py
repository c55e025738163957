"""The soak in its short form: a day and a half day with faults."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import clean_env
from tests.integration.test_benchmarks_smoke import ROOT, number, tables


@pytest.mark.timeout(400)
def test_two_days_with_faults_lose_nothing_and_grow_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--short", "--keep", tmp_path / "kept"],
        cwd=ROOT, env=clean_env(tmp_path), capture_output=True, text=True, timeout=380, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = tables(done.stdout)
    eve, whole, half = (row for row in rows if "trading" in row)
    assert [row["day"] for row in (eve, whole, half)] == ["20261222", "20261223", "20261224"]
    assert (whole["trading"], half["trading"]) == ("whole", "half")
    for row in (whole, half):
        assert number(row["ticks"]) > 5_000
        assert (row["missing"], row["unproven"]) == ("0", "0")
    closes = [row for row in rows if "after the close of" in row]
    assert len({row["pid"] for row in closes}) == 1, "the same process at every close"
    assert all(row["connections"] == "1" for row in closes)
    starts = re.search(r"(\d+) faults, (\d+) starts of the recorder", done.stdout)
    assert starts is not None
    assert int(starts[1]) >= 8
    assert int(starts[2]) >= 2, "it was killed on the first day"
    (log,) = (tmp_path / "kept").glob("*/recorder.log")
    assert "futu_disconnected" in log.read_text()
