"""Work for the processes that make files together. A module of its own: each process imports what it is to do."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.export.job import Exported
from hk_tick_collector.export.rows import Advance
from hk_tick_collector.export.target import writing
from tests.ticks import DAY


@dataclass(frozen=True)
class Failing:
    """Writes half a file of each symbol; ``how`` it ends at ``at``."""

    root: Path
    how: str
    at: str

    def export(self, symbols: Sequence[str], parts: int, advance: Advance) -> Iterator[Exported]:
        """As of ``Work``."""
        assert parts == 2
        for symbol in symbols:
            with writing(self.root / symbol) as temporary:
                temporary.write_text("half")
                advance(1)
                while symbol not in (self.at, self.how):
                    time.sleep(0.01)  # until the other process has failed, and this one is told to stop
                if self.how == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise StoreCorrupt("the file is damaged") if self.how == "raises" else _Strange(1, 2)
        yield Exported(self.root, (DAY,), 1, 1, so_far=False)


class _Strange(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__(f"{first} and {second}")


@dataclass(frozen=True)
class TypedMeanwhile:
    """Ctrl-C comes in each process while it still imports what it is to do."""

    root: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return _typed_ctrl_c, (self.root,)

    def export(self, symbols: Sequence[str], parts: int, advance: Advance) -> Iterator[Exported]:
        """As of ``Work``."""
        for symbol in symbols:
            yield Exported(self.root / symbol, (DAY,), 1, 1, so_far=False)


def _typed_ctrl_c(root: Path) -> TypedMeanwhile:
    os.kill(os.getpid(), signal.SIGINT)
    return TypedMeanwhile(root)
