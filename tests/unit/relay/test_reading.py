"""What a relay reads between two looks at whether it is to end."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from hk_tick_collector.days.joined_follow import JoinedFollower
from hk_tick_collector.market.hk import HK
from hk_tick_collector.relay.kinds import TICK_RELAY
from hk_tick_collector.relay.loop import _Reading
from hk_tick_collector.store.follow import Follower
from hk_tick_collector.store.position import JoinedPosition, Position, Stand, parts_of
from hk_tick_collector.store.writer import DayFileWriter
from tests.unit.store_ticks import ticks

AT_ONCE_ROWS = TICK_RELAY.frame_rows * TICK_RELAY.max_frames


def test_of_what_the_other_recorder_has_told_no_more_is_read_at_once_than_of_news(tmp_path: Path) -> None:
    """A twin that comes back may have millions of them, and whoever reads them is to hear of an order to end."""
    roots = [tmp_path / "a", tmp_path / "b"]
    for root in roots:
        with closing(DayFileWriter(root)) as writer:
            writer.write(ticks(AT_ONCE_ROWS + 10))
    with closing(Follower(roots[0])) as told, JoinedFollower([Follower(root) for root in roots], HK) as follower:
        start = JoinedPosition((told.end(), Position()))
        reading = _Reading(follower, TICK_RELAY)
        position: Stand = start
        for read_rows in (AT_ONCE_ROWS, AT_ONCE_ROWS + 10):
            frames, position = reading.next_frames(position)
            assert frames == []
            assert [place.rowid for place in parts_of(position)[1].places] == [read_rows]
