"""The further sources at steady rates: made to readable by another process, and the recorder's CPU an event.

    python -m benchmarks.sources

Each source's simulator makes 5,000 events a second over 100 symbols and stamps each with the moment it is made; this
process polls the day file as ``benchmarks.latency`` does. The recorder and the least a program can do for that source
(``source_floor.py``) take turns. Every run of the recorder ends with the simulator's own check: an event that is
missing, doubled or wrong ends the benchmark with exit code 1. (Of gexbot there is a snapshot a second and series: no
rate to measure.)
"""

from __future__ import annotations

import itertools
import json
import statistics
import string
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks import rig
from benchmarks.latency import SHORT_WINDOW_SEC, WINDOW_SEC, Window, watch
from tests.harness import BIN, Process, clean_env, ended

RATE = 5000
SYMBOLS = 100
SETTLE_SEC = 2.0
WANTED = "wanted: p99 40 ms, CPU 30 us"


@dataclass(frozen=True)
class Measured:
    """A source, its symbols in its own spelling, and what its simulator is told."""

    name: str
    market: str
    symbols: Sequence[str]
    option: str  # of the simulator, for symbols
    options: tuple[str, ...] = ()


_LETTERS = ["".join(letters) for letters in itertools.islice(itertools.product(string.ascii_uppercase, repeat=3), 100)]
MEASURED = (
    Measured("dxlink", "US", _LETTERS, "--symbols"),
    Measured("schwab", "US", _LETTERS, "--symbols", ("--conflate-ms", "0")),
    Measured("shioaji", "TW", [str(1000 + number) for number in range(SYMBOLS)], "--codes"),
)


class Collector(rig.Program):
    """The recorder, or the floor, at a source's simulator."""

    def __init__(self, kind: str, source: Measured, rest: str, directory: Path) -> None:
        self.kind = kind
        self.data_root = directory / source.market
        listed = [f"{source.market}.{symbol}" for symbol in source.symbols]
        command: list[str | Path] = [BIN / "hk-tick-collector"]
        if kind == rig.FLOOR:
            self.data_root.mkdir()
            command = [sys.executable, "-m", "benchmarks.source_floor", source.name, rest, ",".join(source.symbols)]
            command.append(self.data_root)
        super().__init__(
            command,
            clean_env(
                directory / "home", SOURCE=source.name, MARKET=source.market, FUTU_SYMBOLS=",".join(listed),
                DATA_ROOT=self.data_root, **_settings(source.name, rest, directory),
            ),
        )  # fmt: skip


def _settings(name: str, rest: str, directory: Path) -> dict[str, object]:
    if name == "shioaji":
        return {"SHIOAJI_URL": rest}
    secrets, token = directory / "secrets", directory / "token"
    words = ("client_secret", "refresh_token") if name == "dxlink" else ("client_id", "client_secret")
    secrets.write_text("".join(f"{word}=any\n" for word in words))
    secrets.chmod(0o600)
    if name == "dxlink":
        return {"DXLINK_API": rest, "DXLINK_SECRETS_FILE": secrets}
    token.write_text(json.dumps({"creation_timestamp": time.time(), "token": {"refresh_token": "a-refresh-token"}}))
    token.chmod(0o600)
    return {"SCHWAB_API": rest, "SCHWAB_SECRETS_FILE": secrets, "SCHWAB_TOKEN_FILE": token}


def measure(directory: Path, kind: str, source: Measured, rate: int, window_sec: float) -> Window:
    """One program. AssertionError when the recorder did not store every event that was shown."""
    directory.mkdir(parents=True)
    truth, program = directory / "truth", BIN / f"hk-{source.name}-sim"
    words: list[str | Path] = [
        "--truth",
        truth,
        "--rate",
        str(rate),
        source.option,
        ",".join(source.symbols),
        *source.options,
    ]
    with ended(simulator := Process([program, "run", *words], clean_env(directory / "sim"))):
        rest = simulator.wait_for(r"_sim_ready .*(?:rest|url)=(\S+)").group(1)
        with ended(collector := Collector(kind, source, rest, directory)):
            collector.wait_for(rf"floor_subscribed|_subscribed symbols={len(source.symbols)} ", timeout_sec=60)
            time.sleep(SETTLE_SEC)
            window = watch(collector, window_sec)
            pause = urllib.request.Request(f"{rest}/sim/pause", method="POST")
            urllib.request.urlopen(pause, timeout=30).close()
            time.sleep(1.0)  # what is on its way; the check below says whether that was enough
            code = collector.stop()
            assert code == 0, f"{kind} ended with {code}\n{collector.output}"
    if kind == rig.RECORDER:
        checked: list[str | Path] = [program, "check", truth, collector.data_root]
        result = subprocess.run(checked, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"not all that was shown was stored:\n{result.stdout}{result.stderr}"
    return window


def compare(directory: Path, source: Measured, rate: int, window_sec: float, rounds: int) -> list[list[object]]:
    """Rows of the table: recorder, floor, and the recorder's ratio to it."""
    windows: dict[str, list[Window]] = {rig.RECORDER: [], rig.FLOOR: []}
    for number in range(rounds):
        for kind in windows if number % 2 == 0 else reversed(windows):
            windows[kind].append(measure(directory / f"{kind}-{number}", kind, source, rate, window_sec))
    figures = [_figures(windows[kind], window_sec) for kind in (rig.RECORDER, rig.FLOOR)]
    rows: list[list[object]] = [[source.name, kind, *of_kind] for kind, of_kind in zip(windows, figures, strict=True)]
    ours, floor = figures
    p50, p99, cpu = ours.p50_ms / floor.p50_ms, ours.p99_ms / floor.p99_ms, ours.cpu_us / floor.cpu_us
    return [*rows, [source.name, f"ratio; {WANTED}", None, p50, p99, None, cpu, None]]


class _Figures(NamedTuple):
    """Columns of the table."""

    events_per_sec: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_us: float  # an event
    rss_mib: float


def _figures(windows: Sequence[Window], window_sec: float) -> _Figures:
    return _Figures(
        statistics.median(window.rows / window_sec for window in windows),
        statistics.median(window.p50_ms for window in windows),
        statistics.median(window.p99_ms for window in windows),
        max(window.max_ms for window in windows),
        statistics.median(window.cpu_percent * 1e4 / (window.rows / window_sec) for window in windows),
        statistics.median(window.rss_mib for window in windows),
    )


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 measured, 1 an event was lost."""
    parser = rig.parser(str(__doc__).splitlines()[0])
    parser.add_argument("--rate", type=int, default=RATE, help="events a second")
    parser.add_argument("--window", type=float, default=WINDOW_SEC, metavar="SEC", help="how long each is watched")
    parser.add_argument("--source", nargs="+", default=[source.name for source in MEASURED], help="these alone")
    args = parser.parse_args(argv)
    rig.print_machine()
    rows: list[list[object]] = []
    with rig.workspace(args.keep) as directory:
        for source in MEASURED:
            if source.name not in args.source:
                continue
            window_sec, rounds = (SHORT_WINDOW_SEC, 1) if args.short else (args.window, args.rounds)
            try:
                rows += compare(directory / source.name, source, args.rate, window_sec, rounds)
            except AssertionError as exc:
                print(exc, file=sys.stderr)
                return 1
    print(rig.table(["source", "program", "events/s", "p50 ms", "p99 ms", "max ms", "CPU us", "RSS MiB"], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
