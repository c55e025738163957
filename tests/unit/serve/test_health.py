"""A probe gets its answer, whatever the disk of the data roots does."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from hk_tick_collector.serve.api.health import RootsLook


class HangingDisk(Path().__class__):  # type: ignore[misc]
    """A place whose disk does not answer before it is let."""

    looks = 0
    may_answer: threading.Event

    def is_dir(self) -> bool:
        type(self).looks += 1
        self.may_answer.wait()
        return super().is_dir()  # type: ignore[no-any-return]


def test_a_disk_that_hangs_takes_one_thread_and_no_probe_waits_for_it(tmp_path: Path) -> None:
    HangingDisk.may_answer = threading.Event()
    HangingDisk.looks = 0
    look = RootsLook([tmp_path, HangingDisk(tmp_path)], answer_sec=0.05)

    async def probed() -> None:
        # More probes than a server has threads: with one each the last of them would never be answered.
        assert await asyncio.gather(*(look.are_there() for _ in range(100))) == [False] * 100
        assert not await look.are_there()
        assert HangingDisk.looks == 1
        HangingDisk.may_answer.set()
        async with asyncio.timeout(30):
            while not await look.are_there():
                pass

    try:
        asyncio.run(probed())
    finally:
        HangingDisk.may_answer.set()


def test_the_server_can_end_while_a_disk_hangs(tmp_path: Path) -> None:
    HangingDisk.may_answer = threading.Event()
    look = RootsLook([HangingDisk(tmp_path)], answer_sec=0.05)
    ending = threading.Thread(target=lambda: asyncio.run(look.are_there()))  # type: ignore[arg-type]
    ending.start()
    try:
        ending.join(30)
        assert not ending.is_alive()
    finally:
        HangingDisk.may_answer.set()


def test_a_root_that_comes_is_seen_by_the_next_probe(tmp_path: Path) -> None:
    async def probed() -> tuple[bool, bool]:
        look = RootsLook([tmp_path, tmp_path / "later"])
        before = await look.are_there()
        (tmp_path / "later").mkdir()
        return before, await look.are_there()

    assert asyncio.run(probed()) == (False, True)
