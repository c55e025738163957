"""A plugin of pytest for ``scripts/mutation.py``: which lines of some modules each test runs, and how long it takes.

    MUTATION_TRACED='["/copy/hk_tick_collector/store/rows.py"]' MUTATION_NOTED=traced.json pytest -p mutation_trace

Writes a list of [test, seconds, {module: lines}] when all tests have passed. Lines that run in threads count for the
test that runs then; those of other processes are not seen.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

_MODULES = frozenset(json.loads(os.environ.get("MUTATION_TRACED", "[]")))
_noted: list[tuple[str, float, dict[str, list[int]]]] = []
_lines: dict[str, set[int]] = {}


def _calls(frame: FrameType, event: str, argument: Any) -> Any:
    """Look at the lines of these modules alone."""
    return _look if frame.f_code.co_filename in _MODULES else None


def _look(frame: FrameType, event: str, argument: Any) -> Any:
    if event == "line":
        _lines.setdefault(frame.f_code.co_filename, set()).add(frame.f_lineno)
    return _look


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Fixtures run with their test."""
    _lines.clear()
    began_sec = time.monotonic()
    threading.settrace(_calls)
    sys.settrace(_calls)
    try:
        return (yield)
    finally:
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        lines = {module: sorted(numbers) for module, numbers in _lines.items()}
        _noted.append((item.nodeid, time.monotonic() - began_sec, lines))


def pytest_sessionfinish(exitstatus: int) -> None:
    """All of them at once."""
    if exitstatus == 0:
        Path(os.environ["MUTATION_NOTED"]).write_text(json.dumps(_noted))
