"""``import hk_tick_collector as hk``: light, typed, and it finds the recordings that hk-tickctl finds."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hk_tick_collector as hk
from hk_tick_collector.client.errors import BadQuestion, NoData
from hk_tick_collector.client.places import find_roots
from tests.tickctl import record_day
from tests.ticks import DAY

HEAVY = (
    "pyarrow",
    "pandas",
    "numpy",
    "duckdb",
    "polars",
    "pydantic",
    "httpx",
    "sqlite3",
    "asyncio",
    "hk_tick_collector.client",
)


def python(code: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_importing_it_loads_nothing() -> None:
    assert python(f"import sys, hk_tick_collector as hk; print([n for n in {HEAVY!r} if n in sys.modules])") == "[]"


def test_what_reads_no_rows_needs_no_arrow(tmp_path: Path) -> None:
    record_day(tmp_path, DAY, count=5)
    count = "len(hk.coverage(hk.days()[0].trading_day))"
    code = f"import sys, hk_tick_collector as hk; print({count}, 'pyarrow' in sys.modules)"
    assert python(code, DATA_ROOT=str(tmp_path)) == "3 False"


def test_days_is_a_package_and_a_call(tmp_path: Path) -> None:
    """Whichever came first."""
    record_day(tmp_path, DAY, count=5)
    call = "hk.days()[0].stored_ticks"
    for code in (
        f"print({call}, {call})",
        f"import hk_tick_collector.days.catalog as c; print({call}, c.Day.__name__)",
    ):
        assert python(f"import hk_tick_collector as hk; {code}", DATA_ROOT=str(tmp_path)).startswith("15 ")


def test_every_name_is_there_and_typed() -> None:
    stub = ast.parse(Path(hk.__file__).with_name("__init__.pyi").read_text())
    typed = {alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert typed | {"__version__"} == set(hk.__all__) <= set(dir(hk))
    assert all(getattr(hk, name).__doc__ for name in typed)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        hk.lode  # noqa: B018


def test_errors_have_a_hint() -> None:
    errors = [
        value for name in hk.__all__ if isinstance(value := getattr(hk, name), type) and issubclass(value, Exception)
    ]
    ours = [error for error in errors if not issubclass(error, Warning)]
    assert len(ours) == 10
    for error in ours:
        raised = error("what happened", "do this")
        assert (raised.hint, str(raised)) == ("do this", "what happened (do this)")
        assert issubclass(error, hk.RecordingsError)


def test_where_recordings_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, elsewhere = (tmp_path / name for name in ("a", "b", "elsewhere"))
    for path in (first, second, elsewhere):
        path.mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_roots(environ={"DATA_ROOT": str(first)}) == [(first, first / "_archive")]
    both = {"DATA_ROOT": str(first), "ARCHIVE_ROOT": str(elsewhere)}
    assert find_roots(environ=both) == [(first, elsewhere)]
    assert find_roots("a", environ=both) == [(first, first / "_archive")]
    assert find_roots(environ=both | {"DATA_ROOTS": "a, b"}) == [
        (first, first / "_archive"),
        (second, second / "_archive"),
    ]
    (tmp_path / ".env").write_text("DATA_ROOT=b\nFUTU_SYMBOLS=nonsense\n")
    assert find_roots(environ={"PATH": ""}) == [(second, second / "_archive")]
    assert find_roots(environ={"DATA_ROOT": "a"}) == [(first, first / "_archive")]
    with pytest.raises(NoData, match=r"c does not exist .set DATA_ROOT"):
        find_roots("c")
    with pytest.raises(BadQuestion, match="several data roots"):
        find_roots([first, second], elsewhere)
