"""What a type checker is told: mypy on a program that uses the API, beside libraries that are a class each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import hk_tick_collector as hk

LIBRARIES = {
    "pyarrow": ("Table", "RecordBatch", "Schema"),
    "polars": ("DataFrame",),
    "pandas": ("DataFrame",),
    "duckdb": ("DuckDBPyRelation",),
}
PROGRAM = """
from datetime import date
from typing import assert_type
import duckdb, pandas, polars, pyarrow
import hk_tick_collector as hk
from hk_tick_collector.client.api import To

def ask(here: hk.Recordings, to: To) -> None:
    assert_type(hk.load("700"), pyarrow.Table)
    assert_type(hk.load("700", "last", to="arrow", tz="hk"), pyarrow.Table)
    assert_type(hk.load(["700"], date(2026, 11, 20), to="polars", columns="price"), polars.DataFrame)
    assert_type(hk.load("700", [date(2026, 11, 20)], to="pandas", as_of=0), pandas.DataFrame)
    assert_type(here.load("700", to="duckdb", require="proven"), duckdb.DuckDBPyRelation)
    hk.load("700", to=to)
    assert_type(hk.bars("700", "last", "5m", fill=True), pyarrow.Table)
    assert_type(here.bars("700", to="polars"), polars.DataFrame)
    assert_type(here.bars("700", to="pandas"), pandas.DataFrame)
    assert_type(hk.bars("700", to="duckdb"), duckdb.DuckDBPyRelation)
    assert_type(hk.days(), list[hk.DayInfo])
    assert_type(hk.coverage("last")[0], hk.SymbolCoverage)
    for batch in hk.iter_batches("700"):
        assert_type(batch, pyarrow.RecordBatch)
    for told in hk.live("700"):
        assert_type(told.cursor, str)
    hk.load("700", require="complete")  # wrong
    hk.load("700", to="numpy")  # wrong
    hk.bars("700", colums="price")  # wrong
"""


def test_each_output_has_its_type(tmp_path: Path) -> None:
    for name, classes in LIBRARIES.items():
        (tmp_path / f"{name}.pyi").write_text("".join(f"class {text}: ...\n" for text in classes))
    (tmp_path / "program.py").write_text(PROGRAM)
    package = Path(hk.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--cache-dir", os.devnull, "program.py"],
        env={**os.environ, "MYPYPATH": f"{tmp_path}:{package}"}, cwd=tmp_path, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    lines = PROGRAM.splitlines()
    wrong = {f"program.py:{n}" for n, line in enumerate(lines, 1) if line.endswith("# wrong")}
    told = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert {line.partition(": ")[0] for line in told} == wrong, done.stdout + done.stderr
