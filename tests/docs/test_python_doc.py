"""docs/python.md and docs/notebook.ipynb, run on recorded days of the kind that they speak of."""

from __future__ import annotations

import doctest
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.store.writer import DayFileWriter
from tests.archived_day import archive_day
from tests.books import record_books
from tests.clock import ManualClock
from tests.harness import clean_env
from tests.tickctl import day_ticks, record_day

DOCS = Path(__file__).resolve().parents[2] / "docs"
PROVEN, HOLED, LATE = "20251120", "20251121", "20251124"
BACKFILLED = range(500, 510)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archived proven day; a day with two holes; a day of which ten ticks came in the afternoon."""
    root = tmp_path_factory.mktemp("python-doc") / "HK"
    record_day(root, PROVEN)
    archive_day(root, root / "_archive", PROVEN)
    record_day(root, HOLED, lost=(7, 8))
    record_books(root, HOLED)
    ticks = [tick for symbol in ("HK.00005", "HK.00700", "HK.09988") for tick in day_ticks(symbol, 1000, LATE)]
    late = [tick for tick in ticks if tick.symbol == "HK.00700" and (tick.seq or 0) & 0xFFFFFFFF in BACKFILLED]
    clock = ManualClock(day_start_ms(LATE) + 11 * 3_600_000 - 1)
    writer = DayFileWriter(root, clock=clock)
    writer.write([tick for tick in ticks if tick not in late])
    clock.advance(3 * 3600)
    writer.write(late)
    writer.close()
    return root


def test_every_example_of_the_page_gives_what_it_says(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATA_ROOT", str(data_root))
    for name in ("DATA_ROOTS", "ARCHIVE_ROOT"):
        monkeypatch.delenv(name, raising=False)
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```pycon\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, "docs/python.md", None, 0)
    assert len(examples.examples) > 25
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = runner.run(examples, clear_globs=False)
    assert result.failed == 0, capsys.readouterr().out


def test_every_block_of_the_page_is_run() -> None:
    page = (DOCS / "python.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^```(\w+)$", page, re.MULTILINE)) == {"pycon"}


RUN_CELLS = """
import json, sys
space = {}
for cell in json.load(sys.stdin)["cells"]:
    if cell["cell_type"] == "code":
        exec("".join(cell["source"]), space)
lines = [len(axes.lines[0].get_xdata()) for axes in space["figure"].axes if axes.lines]
print(json.dumps([len(space["ticks"]), lines, bool(space["same"]), space["touched"].index[space["touched"]].tolist()]))
"""


def test_the_notebook_runs_from_top_to_bottom(data_root: Path) -> None:
    """As a kernel would: its cells one after the other, in a process of their own."""
    notebook = (DOCS / "notebook.ipynb").read_text(encoding="utf-8")
    environment = clean_env(
        data_root.parent / "home", DATA_ROOT=data_root, DAY=HOLED, SYMBOL="HK.00005", MPLBACKEND="Agg"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "default::UserWarning", "-c", RUN_CELLS],
        input=notebook, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows, lines, is_same, touched = json.loads(done.stdout.splitlines()[-1])
    assert 0 < rows < 998
    assert lines == [rows]
    assert is_same
    assert touched == [0], "the seventh and eighth tick are of the first five minutes"
    assert "IncompleteData" in done.stderr


def test_the_notebook_is_kept_without_results() -> None:
    notebook = json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))
    assert (notebook["nbformat"], {cell["cell_type"] for cell in notebook["cells"]}) == (4, {"markdown", "code"})
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
