"""Snapshots that the simulator makes up, one seed one snapshot a second, and the truth file that says what was shown.

A line of the truth file is one snapshot: ``{"series": "SPX/classic/gex_full", "second": ..., "digest": ...,
"odd": false, "how": "live"}``. ``odd``: no program can store it. ``how``: live, or copy for a record of a day's file.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from hk_tick_collector.sims import truth

NEW_YORK = ZoneInfo("America/New_York")
SESSION_SEC = 23_400
FIELDS = {"series", "second", "digest", "odd", "how"}


def snapshot(series: str, second: int, seed: int, strikes: int) -> dict[str, Any]:
    """What is computed of a series (TICKER/package/category) in a second."""
    ticker, package, _ = series.split("/")
    rng = random.Random(f"{seed} {series} {second}")
    spot = round(5000 + 200 * random.Random(f"{seed} {ticker} {second // 300}").random() + rng.random(), 2)
    made: dict[str, Any] = {"timestamp": second, "ticker": ticker, "spot": spot}
    if package == "orderflow":
        made.update(z_mlgamma=round(spot - 10, 2), dexoflow=rng.randrange(-500, 500), gexoflow=rng.randrange(-500, 500))
        return made
    base = round(spot / 5) * 5 - 5 * (strikes // 2)
    rows = [
        [base + 5 * n, round(rng.uniform(-900, 900), 2), round(rng.uniform(-900, 900), 2), [0.0, 0.1, -0.2, 0.3, 0.0]]
        for n in range(strikes)
    ]
    made.update(
        min_dte=0, sec_min_dte=1, zero_gamma=round(spot - 12.5 + rng.random(), 2), major_pos_vol=base, strikes=rows,
        sum_gex_vol=round(rng.uniform(-9000, 9000), 3), delta_risk_reversal=round(rng.uniform(-1, 1), 3),
        max_priors=[[base, 0.5]] * 6,
    )  # fmt: skip
    return made


def is_offered(series: str, second: int, seed: int, missing_a_thousand: int) -> bool:
    """The source leaves a second out now and then."""
    return random.Random(f"{seed} {series} {second} offered").randrange(1000) >= missing_a_thousand


def digest_of(made: dict[str, Any]) -> str:
    """What a recorder has to store of it, made by another road than the recorder's."""
    return hashlib.sha256(json.dumps(made, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]


def session(day: str, seconds: int = SESSION_SEC) -> range:
    """The seconds of a day (YYYY-MM-DD) of New York, the first ones of it."""
    opening = datetime.fromisoformat(f"{day}T09:30:00").replace(tzinfo=NEW_YORK)
    first = int(opening.timestamp())
    return range(first, first + seconds)


class Truth:
    """Writes what was shown; each snapshot once a road. Any thread."""

    def __init__(self, path: Path | None) -> None:
        self._file = truth.TruthFile(path)
        self._lock = threading.Lock()
        self._told: set[tuple[str, int, str, str]] = set()

    def note(self, series: str, made: Iterable[tuple[dict[str, Any], bool]], how: str) -> None:
        """Those snapshots; with each, whether it is odd."""
        with self._lock:
            self._file.note(list(self._new(series, made, how)))

    def _new(self, series: str, made: Iterable[tuple[dict[str, Any], bool]], how: str) -> Iterator[dict[str, Any]]:
        for record, odd in made:
            digest = "" if odd else digest_of(record)
            key = series, record["timestamp"], digest, how
            if key not in self._told:
                self._told.add(key)
                yield {"series": series, "second": record["timestamp"], "digest": digest, "odd": odd, "how": how}


def read_truth(path: Path) -> list[dict[str, Any]]:
    """The snapshots of a truth file. OSError; TruthError when it is none."""
    return truth.read_truth(path, FIELDS)
