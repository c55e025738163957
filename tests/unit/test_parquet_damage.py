"""An archived day whose Parquet file was damaged on its disk: refused by name, never read as if it were whole."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.days import parquet
from hk_tick_collector.days.content import content_of
from hk_tick_collector.records.columns import later_than
from tests import nights
from tests.tickctl import SYMBOLS, record_day
from tests.unit import parquet_flips
from tests.unit.test_days import write_parquet

CUT_SHORT = "is no Parquet file, or one that was cut short"
FOOTER_END = 8  # the last bytes: the footer's length and the magic PAR1
READERS: list[Callable[[Path], Any]] = [
    lambda path: list(parquet.read_batches(path)),
    lambda path: parquet.read_symbols(path, SYMBOLS),
]


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole file; nobody writes to it."""
    root = tmp_path_factory.mktemp("day")
    record_day(root, count=300)
    return write_parquet(root, root / "_archive")


def refusals(path: Path) -> list[str]:
    """What each way to read says of the file."""
    refusals = []
    for read in READERS:
        with pytest.raises(StoreCorrupt) as caught:
            read(path)
        refusals.append(str(caught.value))
    return refusals


def footer_start(whole: bytes) -> int:
    return len(whole) - FOOTER_END - int.from_bytes(whole[-FOOTER_END:-4], "little")


@pytest.mark.parametrize("lost", [1, 4, 7, 8, 9, 100, 5000, "footer", "all but the magic"])
def test_a_file_that_lost_its_end(archived: Path, tmp_path: Path, lost: int | str) -> None:
    whole = archived.read_bytes()
    kept = {"footer": footer_start(whole), "all but the magic": 4}.get(str(lost)) or len(whole) - int(lost)
    path = tmp_path / "short.parquet"
    path.write_bytes(whole[:kept])
    for text in refusals(path):
        assert text.startswith(f"{path} {CUT_SHORT}: ")


def test_a_file_with_a_hole_where_a_crash_lost_blocks(archived: Path, tmp_path: Path) -> None:
    whole = archived.read_bytes()
    path = tmp_path / "zeros.parquet"
    for begin, end in (
        (0, len(whole)),
        (len(whole) - 4096, len(whole)),
        (footer_start(whole), len(whole) - FOOTER_END),
    ):
        path.write_bytes(whole[:begin] + bytes(end - begin) + whole[end:])
        for text in refusals(path):
            assert text.startswith(f"{path} {CUT_SHORT}: ")
    path.write_bytes(whole[:4] + bytes(4096) + whole[4100:])
    for text in refusals(path):
        assert text.startswith(f"{path} is damaged: ")


@pytest.mark.parametrize("length", [0, 1, 100, 2**31, 2**32 - 1])
def test_a_footer_of_another_length(archived: Path, tmp_path: Path, length: int) -> None:
    whole = archived.read_bytes()
    path = tmp_path / "footer.parquet"
    path.write_bytes(whole[:-FOOTER_END] + length.to_bytes(4, "little") + whole[-4:])
    for text in refusals(path):
        assert text.startswith(f"{path} {CUT_SHORT}: ")


TOLD_NOWHERE = later_than(1)  # columns without one value in a day of OpenD's: their pages are not read at all


def first_byte(chunk: Any) -> int:
    return int(chunk.dictionary_page_offset or chunk.data_page_offset)


def with_flipped_ends(archived: Path, path: Path, column: str) -> Iterator[None]:
    """``path`` is the file with a bit flipped in the last byte of the column's dictionary, then of its data."""
    whole = archived.read_bytes()
    with pq.ParquetFile(archived) as file:
        chunk = file.metadata.row_group(0).column(parquet.FILE_COLUMNS.index(column))
    first = first_byte(chunk)
    ends = {first + chunk.total_compressed_size, chunk.data_page_offset} - {first}
    assert len(ends) == 1 + (column in parquet._DICTIONARY)
    for end in ends:
        path.write_bytes(whole[: end - 1] + bytes([whole[end - 1] ^ 0x10]) + whole[end:])
        yield


@pytest.mark.parametrize("column", [name for name in parquet.FILE_COLUMNS if name not in TOLD_NOWHERE])
def test_one_flipped_bit_in_a_page(archived: Path, tmp_path: Path, column: str) -> None:
    """The page's checksum finds it."""
    path = tmp_path / "page.parquet"
    for _ in with_flipped_ends(archived, path, column):
        with pytest.raises(StoreCorrupt, match=rf"{re.escape(str(path))} is damaged: .*(?i:checksum|crc)"):
            list(parquet.read_batches(path))
        with pytest.raises(StoreCorrupt, match=r"is damaged: "):
            parquet.read_symbols(path, SYMBOLS)


@pytest.mark.parametrize("column", TOLD_NOWHERE)
def test_a_damaged_page_that_holds_no_value_changes_nothing(archived: Path, tmp_path: Path, column: str) -> None:
    path = tmp_path / "page.parquet"
    for _ in with_flipped_ends(archived, path, column):
        whole = content_of(parquet.read_batches(archived)).content_hash
        assert content_of(parquet.read_batches(path)).content_hash == whole
        assert parquet.read_symbols(path, SYMBOLS) == parquet.read_symbols(archived, SYMBOLS)


def flipped(whole: Path, scratch: Path, bits: list[int]) -> tuple[Counter[str], list[int], list[Any]]:
    """What became of the reads with each of these bits flipped, the bits over which Arrow ended the process, and the
    reads that ended in any other way than they may."""
    counted: Counter[str] = Counter()
    fatal: list[int] = []
    wrong: list[Any] = []
    while bits:
        done = subprocess.run(
            [sys.executable, parquet_flips.__file__, whole, scratch], input=" ".join(map(str, bits)),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        seen = [json.loads(line) for line in done.stdout.splitlines()]
        for bit, reader, how in seen:
            counted[how] += 1
            if how not in ("same", "refused") and (reader, how) not in UNNOTICED:
                wrong.append((bit, reader, how))
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGABRT, done.stderr
        position = len(seen) // len(parquet_flips.READERS)
        fatal.append(bits[position])
        bits = bits[position + 1 :]
    return counted, fatal, wrong


# The bounds of a row group's symbols and times have no checksum: a group may be skipped that holds what is wanted.
UNNOTICED = {("read_symbols", "other"), ("some columns", "other")}


def test_flipped_bits_in_the_footer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of a day is read as it was or refused; nobody has to expect another exception than ours."""
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 200)
    record_day(tmp_path / "day", count=100)
    whole = write_parquet(tmp_path / "day", tmp_path / "archive")
    data = whole.read_bytes()
    bits = random.Random(7).sample(range(8 * footer_start(data), 8 * len(data)), nights.examples(250))
    counted, fatal, wrong = flipped(whole, tmp_path / "flipped.parquet", bits)
    assert wrong == []
    assert len(fatal) <= 3, "one in five thousand is known"
    assert counted["refused"] > 0.8 * len(bits)
    assert counted["same"] > 0.8 * len(bits)
    assert counted["other"] <= 6


def test_flipped_bits_among_the_ticks(archived: Path, tmp_path: Path) -> None:
    """Every page's checksum is looked at: no bit of a page goes unnoticed by who reads its column."""
    with pq.ParquetFile(archived) as file:
        group = file.metadata.row_group(0)
        chunks = [group.column(n) for n in range(file.metadata.num_columns)]
    told = [chunk for chunk in chunks if chunk.path_in_schema not in TOLD_NOWHERE]
    places = [first_byte(chunk) + byte for chunk in told for byte in range(chunk.total_compressed_size)]
    bits = [8 * byte + place % 8 for place, byte in enumerate(random.Random(7).sample(places, nights.examples(200)))]
    counted, fatal, wrong = flipped(archived, tmp_path / "flipped.parquet", bits)
    assert (wrong, fatal) == ([], [])
    assert counted["refused"] > 2 * len(bits)
    assert counted["other"] == 0


def test_a_bound_that_makes_no_sense_excludes_nothing(archived: Path) -> None:
    """The statistics of a damaged footer say nothing; the ticks are read and looked at."""
    with parquet.open_file(archived) as file:
        column = file.metadata.row_group(0).column(0)
        bounds = column.statistics.min, column.statistics.max
    whole = archived.read_bytes()
    path = archived.with_name("bounds.parquet")
    for bound, worse in ((bounds[0], b"\xff\xfe.00005"), (bounds[1], b"\xff\xfe.09988"), (bounds[0], b"HK.99999")):
        start = footer_start(whole)
        assert whole.count(bound.encode(), start) >= 1
        path.write_bytes(whole[:start] + whole[start:].replace(bound.encode(), worse))
        assert parquet.read_symbols(path, SYMBOLS).num_rows == 300 * len(SYMBOLS)


def test_the_whole_file_is_read(archived: Path) -> None:
    """What the tests above damage is worth reading."""
    for read in READERS:
        read(archived)
    assert sum(batch.num_rows for batch in parquet.read_batches(archived)) == 300 * len(SYMBOLS)
