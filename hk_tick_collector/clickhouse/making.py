"""How many days' files may be made anew of copies at once, and how large."""

from __future__ import annotations

import gc
import weakref

from hk_tick_collector.core.errors import TooMuchAtOnce
from hk_tick_collector.core.scratch import Scratch


class Making:
    """The bounds of one process, None for no bound. A file counts, as large as it was thought to become, for as long as
    somebody holds its directory."""

    def __init__(self, max_files: int | None = None, max_bytes: int | None = None) -> None:
        self.max_files, self.max_bytes = max_files, max_bytes
        self._bytes_of: weakref.WeakKeyDictionary[Scratch, int] = weakref.WeakKeyDictionary()

    def begin(self, directory: Scratch, of_day: str, size_bytes: int) -> None:
        """Count a file that is to be made in a directory. TooMuchAtOnce when it does not fit beside the others."""
        if not self._fits(size_bytes):
            gc.collect()  # a question that failed leaves its directories in a cycle, which nobody holds any more
        files, there_bytes = self._with_one_more(size_bytes)
        if self.max_files is not None and files > self.max_files:
            raise TooMuchAtOnce(
                f"{of_day} would be day {files} to be made anew of a copy in ClickHouse for one question; "
                f"{self.max_files} at most"
            )
        if self.max_bytes is not None and there_bytes > self.max_bytes:
            raise TooMuchAtOnce(
                f"{of_day} and the days before it would take {there_bytes >> 20:,} MB to be made anew of copies in "
                f"ClickHouse for one question; {self.max_bytes >> 20:,} MB at most"
            )
        self._bytes_of[directory] = size_bytes

    def _with_one_more(self, size_bytes: int) -> tuple[int, int]:
        return len(self._bytes_of) + 1, sum(self._bytes_of.values()) + size_bytes

    def _fits(self, size_bytes: int) -> bool:
        files, there_bytes = self._with_one_more(size_bytes)
        return (self.max_files is None or files <= self.max_files) and (
            self.max_bytes is None or there_bytes <= self.max_bytes
        )
