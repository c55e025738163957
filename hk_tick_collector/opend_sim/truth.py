"""The truth file: every tick that the simulated market made, so that any recorder can be checked against it.

Format: UTF-8 text. The first line names format and columns, every further line is a tick, comma-separated:
``symbol,seq,ts_ms,price,volume,turnover,direction,tick_type,type_sign,has_ms,recv_ts_ms,history``. Numbers are decimal
and read back to the same value; ``has_ms`` and ``history`` are 0 or 1; a volume of shares and a part of
one has a decimal point. ``history`` marks ticks from before the
simulation began: OpenD can show the newest of them, nobody must have them.

Promises: what ``write`` was given has been handed to the operating system when it returns, so a check may run beside
the simulator. A line without its line break is not there yet and is passed over when it is the last one.
Cost: some 1.5 µs a tick, to write and to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from hk_tick_collector.opend_sim.simtick import SimTick

_MARK = "#hk-opend-sim-truth-1"
_COLUMNS = (
    "symbol",
    "seq",
    "ts_ms",
    "price",
    "volume",
    "turnover",
    "direction",
    "tick_type",
    "type_sign",
    "has_ms",
    "recv_ts_ms",
    "history",
)
HEADER = f"{_MARK} {','.join(_COLUMNS)}"


class TruthError(Exception):
    """The file is not a truth file, or a line of it is damaged."""


class TruthWriter:
    """Writes a truth file; with ``append`` an existing one is continued, else replaced. OSError as the disk says."""

    def __init__(self, path: Path | str, append: bool = False) -> None:
        self.path = Path(path)
        continued = append and self.path.exists() and self.path.stat().st_size > 0
        self._file = self.path.open("a" if append else "w", encoding="utf-8", newline="\n", buffering=1 << 20)
        self.written_rows = 0
        if not continued:
            self._file.write(HEADER + "\n")
            self._file.flush()

    def write(self, ticks: Iterable[SimTick], history: bool = False) -> None:
        """Add ticks; ``history`` for those from before the simulation began."""
        end = ",1\n" if history else ",0\n"
        lines = [
            f"{t.symbol},{t.seq},{t.ts_ms},{t.price!r},{t.volume + t.part if t.part else t.volume},{t.turnover!r},"
            f"{t.direction},{t.tick_type},{t.type_sign},{1 if t.has_ms else 0},{t.recv_ts_ms}{end}"
            for t in ticks
        ]
        if lines:
            self._file.write("".join(lines))
            self._file.flush()
            self.written_rows += len(lines)

    def close(self) -> None:
        """Close the file; further calls do nothing."""
        self._file.close()


def read_truth(path: Path | str) -> Iterator[SimTick]:
    """The ticks of a truth file in the order they were written. TruthError names a damaged line, OSError the file."""
    for tick, _ in read_truth_flagged(path):
        yield tick


def read_truth_flagged(path: Path | str) -> Iterator[tuple[SimTick, bool]]:
    """As ``read_truth``, each tick with its ``history`` mark."""
    with Path(path).open(encoding="utf-8", newline="\n", buffering=1 << 20) as file:
        try:
            first = file.readline()
        except UnicodeDecodeError:
            first = "not text"
        if first and first.rstrip("\n") != HEADER:
            raise TruthError(f"{path} is not a truth file of hk-opend-sim: its first line should begin {_MARK}")
        number = 1
        try:
            for number, line in enumerate(file, start=2):  # noqa: B007  (the number is for the error)
                if not line.endswith("\n"):
                    return
                yield _parse(line)
        except ValueError as error:
            raise TruthError(f"{path} line {number} is damaged: {error}") from None


def _parse(line: str) -> tuple[SimTick, bool]:
    fields = line.rstrip("\n").split(",")
    if len(fields) != len(_COLUMNS):
        raise ValueError(f"{len(fields)} columns instead of {len(_COLUMNS)}")
    symbol, seq, ts_ms, price, volume, turnover, direction, tick_type, sign, has_ms, recv_ts_ms, history = fields
    whole = int(volume.partition(".")[0])
    part = float(volume) - whole if "." in volume else 0.0
    tick = SimTick(
        symbol,
        int(ts_ms),
        float(price),
        whole,
        float(turnover),
        direction,
        int(seq),
        tick_type,
        int(sign),
        has_ms == "1",
        int(recv_ts_ms),
        part=part,
    )
    return tick, history == "1"
