"""What an outside list of a day's trades showed, kept beside the day's certificate: ``_reports/YYYYMMDD.witness.json``.

The certificate repeats it as a note and is never judged better for it: the recorder's own proof is one thing, what an
exchange's page says is another.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.core.text import cut, printable
from hk_tick_collector.quality.report_file import change_notes, report_file
from hk_tick_collector.store.atomic import write_whole

FORMAT_VERSION = 1
_SUFFIX = ".witness.json"
_MOST_BYTES = 64 * 1024
_MARK = "outside witness: "


@dataclass(frozen=True, slots=True)
class Witness:
    """One comparison of a whole day."""

    format_version: int
    trading_day: str
    against: str  # daily-quotations
    file: str  # its name
    made_at_ms: int
    version: str  # of the program that compared
    stored_ticks: int  # of the day, of all symbols, when it was compared
    equal_symbols: int
    different_symbols: int
    uncompared_symbols: int
    is_cut: bool  # the list ended too early
    sentence: str


def write_witness(data_root: Path, witness: Witness) -> Path:
    """Put it in its place, and into the certificate that is there. OSError when the disk refuses."""
    day = witness.trading_day
    text = json.dumps(asdict(witness), ensure_ascii=False, indent=1)
    path = write_whole(report_file(data_root, day, _SUFFIX), f"{text}\n")
    told = witness_notes(data_root, day, witness.stored_ticks)
    change_notes(data_root, day, lambda notes: [*(note for note in notes if not note.startswith(_MARK)), *told])
    return path


def witness_notes(data_root: Path, day: str, stored_ticks: int) -> list[str]:
    """What the certificate says of it: nothing when nobody compared the day."""
    path = report_file(data_root, day, _SUFFIX)
    try:
        with open_regular(path) as file:
            told = json.loads(file.read(_MOST_BYTES))
        witness = Witness(**{field.name: told[field.name] for field in fields(Witness)})
        text, held = printable(cut(str(witness.sentence), 1000)), int(witness.stored_ticks)
    except FileNotFoundError:
        return []
    except (OSError, StoreCorrupt, ValueError, KeyError, TypeError):
        return [f"{path} cannot be read: compare the day again with hk-tickctl audit {day} --against ..."]
    if witness.trading_day != day or witness.format_version != FORMAT_VERSION:
        return [f"{path} is of another day or form: compare the day again with hk-tickctl audit {day} --against ..."]
    later = "" if held == stored_ticks else f"; that was with {held:,} ticks, the day holds {stored_ticks:,} now"
    return [f"{_MARK}{text}{later}"]
