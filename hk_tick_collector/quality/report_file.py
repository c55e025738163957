"""The files of a day's report: ``DATA_ROOT/_reports/YYYYMMDD.json`` and ``.html``, each whole or not there; the page of
all days is ``index.py``'s.

Whether a report still tells of the day's file is seen from its first lines: the file's time of change when it was read
stands there.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.quality.model import FORMAT_VERSION, Certificate
from hk_tick_collector.store import layout
from hk_tick_collector.store.atomic import write_whole

CHINESE_FILE = Path(__file__).with_name("chinese.js")  # the words of pages, here and on the dashboard
_HEAD_BYTES = 4096
_HEAD = re.compile(
    rb'\{\s*"format_version": (\d+),\s*"trading_day": "\d{8}",\s*"so_far": (true|false),\s*"recounted": (true|false),'
    rb'\s*"source_changed_ns": (\d+|null)'
)
_VERDICT = re.compile(rb',\s*"grade": "([A-F])",\s*"sentence": ("(?:[^"\\]|\\.)*")')


def report_file(data_root: Path, day: str, suffix: str = ".json") -> Path:
    """Where the report of a day stands."""
    return layout.reports_dir(data_root) / f"{layout.check_day(day)}{suffix}"


def write_certificate(data_root: Path, certificate: Certificate) -> Path:
    """Put the certificate in its place as JSON. OSError when the disk refuses."""
    text = json.dumps(asdict(certificate), ensure_ascii=False, indent=1)
    return write_whole(report_file(data_root, certificate.trading_day), f"{text}\n")


def change_notes(data_root: Path, day: str, changed: Callable[[list[str]], list[str]]) -> None:
    """Another list of notes in the certificate that is there, all else as it was; where there is none of this form,
    nothing. OSError when the disk refuses."""
    path = report_file(data_root, day)
    if read_head(path) is None:
        return
    try:
        with open_regular(path) as file:
            told = json.loads(file.read())
        told["notes"] = changed([str(note) for note in told["notes"]])
    except (StoreCorrupt, ValueError, KeyError, TypeError):
        return
    write_whole(path, f"{json.dumps(told, ensure_ascii=False, indent=1)}\n")


@dataclass(frozen=True, slots=True)
class Head:
    """The first fields of a certificate's JSON."""

    so_far: bool
    recounted: bool
    source_changed_ns: int | None
    grade: str = ""  # empty where it is not among the first bytes
    sentence: str = ""


def read_head(report: Path) -> Head | None:
    """What a report says of itself; None when there is none, or one of another form."""
    try:
        with open_regular(report) as file:
            text = file.read(_HEAD_BYTES)
    except (OSError, StoreCorrupt):
        return None
    match = _HEAD.match(text)
    if match is None or int(match[1]) != FORMAT_VERSION:
        return None
    head = Head(match[2] == b"true", match[3] == b"true", None if match[4] == b"null" else int(match[4]))
    verdict = _VERDICT.match(text, match.end())
    if verdict is not None:
        with contextlib.suppress(ValueError):
            return replace(head, grade=verdict[1].decode(), sentence=json.loads(verdict[2]))
    return head


def is_current(report: Path, source: Path) -> bool:
    """Does the report tell of the end of its day, from the file as it is now?"""
    head = read_head(report)
    return head is not None and not head.so_far and head.source_changed_ns == changed_ns(source)


def changed_ns(source: Path) -> int | None:
    """When a day's file, or its write-ahead log, was last written to; None when it is not there."""
    try:
        last_ns = source.stat().st_mtime_ns
    except OSError:
        return None
    with contextlib.suppress(OSError):
        log = Path(f"{source}-wal").stat()
        if log.st_size:
            last_ns = max(last_ns, log.st_mtime_ns)
    return last_ns
