"""What became of a batch that was written."""

from __future__ import annotations

from typing import NamedTuple


class WriteResult(NamedTuple):
    """What became of a batch: every row of it is in one of the two counts."""

    inserted_rows: int = 0
    ignored_rows: int = 0  # already stored
    days: tuple[str, ...] = ()
    ignored_unsequenced_rows: int = 0  # of ignored_rows: without a sequence, told apart by their content only
    missing_ticks: int = 0  # known to be missing in the days that are open now
    unseen_ticks: int = 0  # at most, before the first ones seen of these days
    collisions: int = 0  # of inserted_rows: other ticks with the sequence of a stored one
    replaced_files: int = 0  # day files that were moved, removed or exchanged while they were open

    def merged(self, other: WriteResult) -> WriteResult:
        """Both results as one; ``other`` is the later one."""
        return WriteResult(
            self.inserted_rows + other.inserted_rows,
            self.ignored_rows + other.ignored_rows,
            tuple(dict.fromkeys(self.days + other.days)),
            self.ignored_unsequenced_rows + other.ignored_unsequenced_rows,
            other.missing_ticks,
            other.unseen_ticks,
            self.collisions + other.collisions,
            self.replaced_files + other.replaced_files,
        )
