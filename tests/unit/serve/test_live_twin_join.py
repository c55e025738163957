"""A reader of two recorders reads the ring once it has all, also where one of them has no tick of the day."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from hk_tick_collector.serve.keys import ANONYMOUS
from hk_tick_collector.serve.live.files import Files
from hk_tick_collector.serve.live.frames import COLUMNS
from hk_tick_collector.serve.live.hub import Hub, News, Readers
from hk_tick_collector.serve.live.question import subscription
from hk_tick_collector.serve.live.session import Session
from hk_tick_collector.store.layout import archive_dir
from hk_tick_collector.store.writer import DayFileWriter
from tests.unit.serve.test_live_model import Here as _Here
from tests.unit.store_ticks import ticks

NEXT_DAY = "20261123"
_DAY, _SEQ = (COLUMNS["ticks"].index(name) for name in ("trading_day", "seq"))


class Here(_Here):
    """With pieces of the usual size."""

    def __init__(self) -> None:
        self.files = Files(days_look_sec=0)


async def followed(roots: list[Path], writers: list[DayFileWriter], since: str) -> list[int]:
    """The numbers of the ticks of NEXT_DAY that a reader is given, while both recorders go on."""
    news = News()
    hub = Hub(roots[0], news, make=Here, beside=[(root, archive_dir(root)) for root in roots[1:]])
    readers = Readers(1, make=Here)
    await hub.begin()
    asked = subscription({"since": since}, [hub], ANONYMOUS)
    session = Session(asked, [hub], ANONYMOUS, news, readers, stopping=asyncio.Event())
    await session.open()
    (feed,) = session._feeds
    given: list[int] = []

    async def read() -> None:
        for _ in range(5):
            for event in await session._step(feed):
                message = json.loads(event.data)
                given.extend(int(row[_SEQ]) & 0xFFFFFFFF for row in message.get("ticks", ()) if row[_DAY] == NEXT_DAY)

    await read()
    assert feed.is_live, "it has all: the next rows are the ring's"
    for first, writer in zip((11, 11, 21, 21), (writers[0], writers[1], writers[1], writers[0]), strict=True):
        writer.write(ticks(10, first, day=NEXT_DAY))
        while await hub.step(0, 0):
            pass
        await read()
    await hub.close()
    await readers.close()
    return given


@pytest.mark.parametrize("second_has", ["nothing", "the day before", "an older day"])
def test_a_reader_of_the_day_is_live_where_the_other_recorder_has_none_of_it(tmp_path: Path, second_has: str) -> None:
    roots = [tmp_path / "a", tmp_path / "b"]
    with ExitStack() as held:
        writers = [held.enter_context(closing(DayFileWriter(root))) for root in roots]
        writers[0].write(ticks(20))
        writers[0].write(ticks(10, day=NEXT_DAY))
        if second_has == "the day before":
            writers[1].write(ticks(20))
        elif second_has == "an older day":
            writers[1].write(ticks(20, day="20261118"))
        assert asyncio.run(followed(roots, writers, "day")) == list(range(1, 31))
