"""The truth file: what a simulator made and showed, so that any recorder can be checked against it.

Format: UTF-8 text, a JSON object a line; which fields it has, each simulator says. Only ever appended to.

Promises: what ``note`` was given has been handed to the operating system when it returns, so a check may run beside the
simulator, and the simulator may be killed. A last line without its line break is not there yet.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any, TextIO

from hk_tick_collector.core.errors import RecorderError


class TruthError(RecorderError):
    """A file is not a truth file of this simulator."""


class TruthFile:
    """Written to by one thread; without a path to nowhere. OSError as the disk says."""

    def __init__(self, path: Path | None) -> None:
        self._file: TextIO | None = path.open("a", encoding="utf-8") if path is not None else None

    def note(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write these."""
        if self._file is not None:
            self._file.writelines(json.dumps(line) + "\n" for line in lines)
            self._file.flush()


def read_truth(path: Path, names: Set[str]) -> list[dict[str, Any]]:
    """The lines of a truth file, each with all of ``names``. OSError; TruthError when it is none."""
    try:
        text = path.read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
    except ValueError:
        raise TruthError(f"{path} is not a truth file") from None
    if not all(isinstance(line, dict) and line.keys() >= names for line in lines):
        raise TruthError(f"{path} is not a truth file")
    return lines
