"""One recorder's day in a table there: dropped as a whole, and replaced as a whole by what was staged."""

from __future__ import annotations

from typing import NamedTuple

from hk_tick_collector.clickhouse.connection import ClickHouse
from hk_tick_collector.clickhouse.tables import DAY, RECORDER, quoted, stage_of, staged


class Partition(NamedTuple):
    """It has the same name in every table. Raises EngineAway and EngineRefused."""

    engine: ClickHouse
    day: str
    recorder: str

    def drop(self, table: str) -> None:
        """Of that table. Nothing there is fine."""
        self._alter(table, "DROP PARTITION", "")

    def take_the_place(self, table: str, *, is_empty: bool) -> None:
        """As ``swap``, of rows whose copy is noted as proven: what is there is dropped first.

        What REPLACE PARTITION replaces lies on the server's disk for some minutes, and is there again when the server
        dies meanwhile. What DROP PARTITION has dropped is not."""
        self.drop(table)
        self.swap(table, is_empty=is_empty)

    def swap(self, table: str, *, is_empty: bool) -> None:
        """Put what was staged into the place of what is there, in one step. An empty stage would replace nothing.

        For notes, which readers look for at every moment: what comes back with a server that died is found by their
        number (``note_rows``)."""
        if is_empty:
            self.drop(table)
            return
        self._alter(table, "REPLACE PARTITION", f" FROM {self.engine.database}.{stage_of(table)}")
        self.drop(stage_of(table))

    def _alter(self, table: str, action: str, more: str) -> None:
        partition = f"({quoted(self.day)}, {quoted(self.recorder)})"
        self.engine.run(f"ALTER TABLE {self.engine.database}.{table} {action} {partition}{more}")


def clear_stages(engine: ClickHouse, recorder: str) -> None:
    """Drop what is left in the stages of this recorder.

    Who was killed behind a swap, or was not answered there, leaves the whole day: its copy is equal, so nobody brings
    it again. To be called while nothing is staged under that name: ``State`` lets one process ship."""
    asked = (
        f"SELECT '{table}' AS name, {DAY} FROM {engine.database}.{stage_of(table)} "  # noqa: S608 - names of ours
        f"WHERE {RECORDER} = {quoted(recorder)} GROUP BY {DAY}"
        for table in staged()
    )
    left = engine.rows(" UNION ALL ".join(asked))
    for table, day in left:
        Partition(engine, day, recorder).drop(stage_of(table))
