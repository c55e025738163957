"""What a relay hands ticks to.

A sink keeps, with the ticks, how far it has come; the relay keeps nothing. So a relay that was killed at any moment
goes on where the sink's own contents end, and nothing is stored twice or left out.

A sink that appends to one text file, whole::

    class LineSink:
        def __init__(self, path: Path) -> None:
            self._path = path

        def where(self) -> Stand | None:
            lines = self._path.read_text().splitlines() if self._path.exists() else []
            return parse_stand(json.loads(lines[-1])["position"]) if lines else None

        def begin_again(self, day: str) -> None:
            with self._path.open("a") as file:
                file.write(json.dumps({"again": day, "position": str(Position.at_start_of(day))}) + "\\n")

        def put(self, frames: Sequence[Frame]) -> None:
            with self._path.open("a") as file:
                for frame in frames:
                    file.write(json.dumps({"ticks": frame.rows, "position": str(frame.position)}) + "\\n")

        def close(self) -> None:
            pass

    run(data_root, LineSink(Path("ticks.ndjson")), stop=threading.Event())
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.days.joined_follow import JoinedBatch
from hk_tick_collector.store.follow import Batch
from hk_tick_collector.store.position import Stand

Frame = Batch | JoinedBatch  # of one data root, or of several that are followed as one


class SinkAway(RecorderError):
    """The sink cannot take anything now. The text says why and what to do; the relay waits and asks ``where`` again."""


class SinkMoved(RecorderError):
    """What the sink holds is not what it was given: it was emptied, or somebody else writes to it. The relay asks
    ``where`` again at once."""


class Sink(Protocol):
    """Where ticks go. All calls come from one thread, and each may raise SinkAway or SinkMoved."""

    def where(self) -> Stand | None:
        """Behind what it holds; None when it holds nothing. Asked at the start and after every error. A position that
        begins a day may be that of one data root, whatever is followed."""

    def begin_again(self, day: str) -> None:
        """The file of ``day`` (YYYYMMDD) is another one than what was put is of: that day comes again from its start.

        Durable when it returns: ``where`` then says that the day has not begun.
        """

    def put(self, frames: Sequence[Frame]) -> None:
        """Take these frames, all or none, and their last position with them. They follow on what was put before; each
        has a row. ``read_rows`` of one of several data roots counts all that was read of its day since the last one
        that was put; ``told`` is what its readers have to know (``days.joined_follow``)."""

    def close(self) -> None:
        """Let go of what it holds open. Raises nothing."""
