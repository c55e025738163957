"""The built ``hk-tickctl``, and recorded days to use it on."""

from __future__ import annotations

import json
import random
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from hk_tick_collector.core.facts import GapFound, HeadProven, Verified
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.writer import DayFileWriter
from tests import forked
from tests.harness import BIN, clean_env
from tests.ticks import DAY

SYMBOLS = ("HK.00005", "HK.00700", "HK.09988")
MORNING_MS, CONFIRMED_MS = int(9.5 * 3_600_000), int(16.2 * 3_600_000)
BUILT = ("env",)  # the console script itself, whatever it costs
_KINDS = (("AUTO_MATCH", " "), ("AUTO_MATCH", " "), ("INTER_AUTO_MATCH", "Y"), ("ODD_LOT", "D"), ("AUCTION", "U"))


@cache
def _home() -> tempfile.TemporaryDirectory[str]:
    """HOME of commands that have no data root beside which there could be one; gone when the tests end."""
    return tempfile.TemporaryDirectory(prefix="tickctl-home-")


def tickctl(
    *arguments: object,
    data_root: Path | None = None,
    timeout_sec: float = 120,
    under: Sequence[str] = (),
    **settings: object,
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own (``tests.forked``), ``under`` another command, as one that takes rights
    away; after BUILT it is the console script. ``settings`` are environment variables."""
    where: Sequence[object] = () if data_root is None else ("--data-root", data_root)
    home = Path(_home().name) if data_root is None else (data_root / ".." / "home").absolute()
    words, environment = [str(word) for word in (*arguments, *where)], clean_env(home, **settings)
    if tuple(under[:1]) != BUILT and forked.may_fork(settings):
        return forked.parent(words[0], under).run(words, environment, timeout_sec)
    return subprocess.run(
        [*under, str(BIN / "hk-tickctl"), *words], env=environment, capture_output=True, text=True,
        timeout=timeout_sec, check=False,
    )  # fmt: skip


@contextmanager
def running(*arguments: object, data_root: Path) -> Iterator[forked.Child]:
    """The command while it runs, in a process whose imports are done; what it prints is dropped."""
    words = [*map(str, arguments), "--data-root", str(data_root)]
    child = forked.parent(words[0]).start(words, clean_env((data_root / ".." / "home").absolute()))
    try:
        yield child
    finally:
        child.kill()
        child.wait(60)
        child.stdout.close()


def tickctl_json(*arguments: object, data_root: Path | None = None, code: int = 0, **settings: object) -> Any:
    """The command's JSON; fails when it ends with another code."""
    done = tickctl(*arguments, "--json", data_root=data_root, **settings)
    assert done.returncode == code, f"{done.returncode}: {done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def day_ticks(symbol: str, count: int, day: str = DAY, *, first: int = 1, seed: int = 1) -> list[Tick]:
    """``count`` ticks of a morning like OpenD's, the counters running from ``first``."""
    draw = random.Random(f"{seed}{symbol}{day}")
    start_ms = day_start_ms(day) + MORNING_MS
    ticks = []
    price = draw.randint(100, 4000) / 10
    for n in range(count):
        ts_ms = start_ms + n * 5_000 * 1000 // max(count, 1) + draw.randint(0, 3)
        price = max(0.1, round(price + draw.choice((-0.1, 0, 0, 0.1)), 3))
        volume = draw.randint(1, 50) * 100
        kind, sign = draw.choice(_KINDS)
        ticks.append(
            Tick(
                symbol,
                ts_ms,
                price,
                volume,
                round(price * volume, 3),
                draw.choice(("BUY", "SELL", "NEUTRAL")),
                (ts_ms // 1000) << 32 | (first + n),
                kind,
                "push",
                day,
                ts_ms + 60,
                "REALTIME",
                ts_ms + 40,
                sign,
            )
        )
    return ticks


def record_day(
    data_root: Path,
    day: str = DAY,
    *,
    symbols: Sequence[str] = SYMBOLS,
    count: int = 1000,
    lost: Sequence[int] = (),
    proven: bool = True,
) -> int:
    """A day file as the recorder leaves it: ``count`` ticks a symbol, those with the counters ``lost`` of the first
    symbol missing and noted as a gap; the rows stored. Written by the recorder's own writer."""
    writer = DayFileWriter(data_root)
    confirmed_ms = day_start_ms(day) + CONFIRMED_MS
    rows = 0
    for symbol in symbols:
        gone = set(lost) if symbol == symbols[0] else set()
        ticks = [tick for tick in day_ticks(symbol, count, day) if (tick.seq or 0) & 0xFFFFFFFF not in gone]
        facts: list[Any] = []
        if proven:
            facts += [HeadProven(symbol, day, 1), Verified(symbol, day, count, confirmed_ms)]
        facts += [
            GapFound(symbol, day, counter, counter, confirmed_ms, "OpenD no longer shows them")
            for counter in sorted(gone)
        ]
        writer.write(ticks, facts)
        rows += len(ticks)
    writer.close()
    return rows
