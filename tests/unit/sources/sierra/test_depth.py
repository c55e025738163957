"""Depth files: what they must look like, kept once and unchanged, put away and verified; hostile ones."""

from __future__ import annotations

import gzip
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from hk_tick_collector.archive.pack import archive_day, is_archived
from hk_tick_collector.archive.restore import restore_day
from hk_tick_collector.archive.retain import retain_day
from hk_tick_collector.archive.verify import check_day
from hk_tick_collector.core.errors import InputError, NoData
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.imports import sierra
from hk_tick_collector.imports.depth import DepthKeeper, import_depth
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.cme import CME
from hk_tick_collector.quality.certificate import make_certificate
from hk_tick_collector.sources.sierra.depth import parse_depth_name
from hk_tick_collector.sources.sierra.depthfiles import BACK_DAYS, DepthFiles
from hk_tick_collector.sources.sierra.naming import parse_name
from hk_tick_collector.store import data_root as roots
from hk_tick_collector.store import kept
from hk_tick_collector.store.kept import kept_files, problems_of
from hk_tick_collector.store.layout import depth_dir
from tests.clock import ManualClock
from tests.scid_files import run_of, write_scid

NAME = "ESZ26_FUT_CME.2026-11-20.depth"
DAY = "20261120"
NOON_US = 1_795_176_000_000_000
NOW_MS = NOON_US // 1000 + 2 * 86_400_000
SIERRA_US = 2_209_161_600_000_000
HEAD = struct.pack("<4sIII48x", b"SCDD", 64, 24, 1)


def record(number: int, command: int = 2, time_us: int = NOON_US) -> bytes:
    return struct.pack("<qBBHfII", time_us + SIERRA_US + number, command, 1, 3, 4200.25, 10 + number, 0)


def depth_bytes(records: int = 50) -> bytes:
    return HEAD + b"".join(record(number, 1 if not number else 2 + number % 6) for number in range(records))


def write_depth(path: Path, data: bytes | None = None, *, mtime_ns: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(depth_bytes() if data is None else data)
    os.utime(path, ns=(mtime_ns, mtime_ns))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    return root


def test_a_file_is_kept_as_it_is_once_and_again_when_it_changed(tmp_path: Path, root: Path) -> None:
    path = write_depth(tmp_path / NAME)
    first = import_depth(path, root, NOW_MS)
    assert (first.symbol, first.trading_day, first.clean, first.already_there) == ("CME.ESZ26", DAY, True, False)
    directory = depth_dir(root, DAY)
    (entry,) = kept_files(root, DAY)
    assert (entry.records, entry.torn_bytes, entry.size_bytes) == (50, 0, 64 + 50 * 24)
    assert gzip.decompress((directory / entry.packed_name).read_bytes()) == path.read_bytes()
    assert {oct(file.stat().st_mode & 0o777) for file in directory.iterdir()} <= {"0o640", "0o600"}
    assert import_depth(path, root, NOW_MS).already_there
    write_depth(path, depth_bytes(51) + b"torn", mtime_ns=2)
    again = import_depth(path, root, NOW_MS)
    assert again.kept is not None
    assert (again.kept.records, again.kept.torn_bytes) == (51, 4)
    assert sorted(file.name for file in directory.iterdir()) == sorted([f"{NAME}.json", again.kept.packed_name])
    assert problems_of(directory, again.kept) == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not written wholly"),
        (b"SCDD" + b"\0" * 10, "not written wholly"),
        (b"SCID" + depth_bytes()[4:], "does not begin with SCDD"),
        (struct.pack("<4sIII48x", b"SCDD", 64, 24, 9) + record(1), "version 9"),
        (struct.pack("<4sIII48x", b"SCDD", 2**31, 24, 1) + record(1), "claims 2147483648 bytes"),
        (struct.pack("<4sIII48x", b"SCDD", 64, 0, 1) + record(1), "0 for a record"),
        (HEAD, "no record"),
        (HEAD + b"\0" * 23, "no record"),
        (HEAD + record(1, command=0), "command 0"),
        (HEAD + record(0) + record(1, time_us=-(10**18)), "record 2"),
    ],
)
def test_what_is_none_is_not_kept_and_says_why(tmp_path: Path, root: Path, data: bytes, words: str) -> None:
    result = import_depth(write_depth(tmp_path / NAME, data), root, NOW_MS)
    assert result.error is not None
    assert words in result.error
    assert kept_files(root, DAY) == []
    assert not list(root.rglob("*.gz"))


@pytest.mark.parametrize(
    "name",
    [
        "ESZ26_FUT_CME.2026-13-20.depth", "ESZ26_FUT_EUREX.2026-11-20.depth", "../ESZ26_FUT_CME.2026-11-20.depth",
        "ESZ26_FUT_CME.depth", "\x1b[2JESZ26_FUT_CME.2026-11-20.depth", "ESZ26_FUT_CME.2026-11-20.depth\n",
    ],
)  # fmt: skip
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="named like"):
        parse_depth_name(name)


def test_a_pipe_or_a_file_that_grows_meanwhile_is_not_kept(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = tmp_path / "pipe" / NAME
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    assert "regular file" in str(import_depth(pipe, root, NOW_MS).error)
    path = write_depth(tmp_path / NAME)
    packed = kept._pack

    def grow(source: object, part: Path) -> tuple[int, str]:
        packed_entry = packed(source, part)  # type: ignore[arg-type]
        with path.open("ab") as file:
            file.write(record(99))
        return packed_entry

    monkeypatch.setattr(kept, "_pack", grow)
    assert "changed while it was read" in str(import_depth(path, root, NOW_MS).error)
    assert not list(root.rglob("*.gz"))
    assert not list(root.rglob(".packing"))


def archived(tmp_path: Path, root: Path) -> Path:
    """A day with trades and a depth file, put away."""
    roots.claim(root, "CME")
    scid = write_scid(tmp_path / "ESZ26_FUT_CME.scid", run_of(NOON_US, 20))
    writer = sierra.new_writer(root)
    sierra.SierraImport(scid, parse_name(scid.name), writer, NOW_MS).run()
    writer.close()
    import_depth(write_depth(tmp_path / NAME), root, NOW_MS)
    archive = tmp_path / "archive"
    archive_day(root, archive, DAY, ("parquet",), made_at_ms=NOW_MS)
    return archive


def test_it_goes_into_the_archive_and_is_verified_there(tmp_path: Path, root: Path) -> None:
    archive, db = archived(tmp_path, root), root / f"{DAY}.db"
    (entry,) = kept_files(root, DAY)
    check = check_day(archive, DAY, db)
    assert (check.problems, check.depth_files) == ((), 1)
    write_depth(tmp_path / NAME, depth_bytes(80), mtime_ns=5)
    import_depth(tmp_path / NAME, root, NOW_MS)
    assert not is_archived(root, archive, DAY)
    assert "not in its archive as it is" in "".join(check_day(archive, DAY, db).problems)
    assert check_day(archive, DAY, None).fine, "what the manifest lists is still there"
    archive_day(root, archive, DAY, ("parquet",), made_at_ms=NOW_MS)
    assert check_day(archive, DAY, db).fine
    assert [path.name for path in (archive / "depth" / DAY).iterdir()] != [entry.packed_name]
    assert len(list((archive / "depth" / DAY).iterdir())) == 1


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def _bomb(path: Path) -> None:
    path.write_bytes(gzip.compress(b"\0" * 10_000_000))


@pytest.mark.parametrize("harm", [_cut, _bomb, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_copy_is_found_and_made_anew(tmp_path: Path, root: Path, harm: Callable[[Path], object]) -> None:
    archive = archived(tmp_path, root)
    (copy,) = (archive / "depth" / DAY).iterdir()
    harm(copy)
    assert copy.name in "".join(check_day(archive, DAY, None).problems)
    archive_day(root, archive, DAY, ("parquet",), made_at_ms=NOW_MS)
    assert check_day(archive, DAY, root / f"{DAY}.db").fine


def test_a_day_that_has_depth_files_alone_says_where_they_stay(tmp_path: Path, root: Path) -> None:
    import_depth(write_depth(tmp_path / NAME), root, NOW_MS)
    with pytest.raises(NoData, match=f"only depth files of {DAY}: they stay in {depth_dir(root, DAY)}"):
        archive_day(root, tmp_path / "archive", DAY, ("parquet",), made_at_ms=NOW_MS)
    assert len(kept_files(root, DAY)) == 1
    assert not (tmp_path / "archive").exists()


def test_what_retention_left_to_the_archive_is_neither_lost_nor_kept_again(tmp_path: Path, root: Path) -> None:
    archive, db = archived(tmp_path, root), root / f"{DAY}.db"
    (entry,) = kept_files(root, DAY)
    later_ms = NOW_MS + 5 * 86_400_000
    verdict = retain_day(root, archive, DAY, TradingCalendar(CME), later_ms, dry_run=True)
    assert verdict.action == "would delete"
    assert (depth_dir(root, DAY) / entry.packed_name).exists()
    assert retain_day(root, archive, DAY, TradingCalendar(CME), later_ms).action == "deleted"
    assert not (depth_dir(root, DAY) / entry.packed_name).exists()
    assert DepthKeeper(root).is_kept(tmp_path / NAME), "a live source leaves it alone"
    restore_day(archive, DAY, root, now_ms=later_ms)
    assert check_day(archive, DAY, db).fine
    write_scid(tmp_path / "ESZ26_FUT_CME.scid", run_of(NOON_US, 21))
    writer = sierra.new_writer(root)
    sierra.SierraImport(tmp_path / "ESZ26_FUT_CME.scid", parse_name("ESZ26_FUT_CME.scid"), writer, later_ms).run()
    writer.close()
    assert archive_day(root, archive, DAY, ("parquet",), made_at_ms=later_ms).action == "replaced"
    assert check_day(archive, DAY, db).fine
    assert problems_of(archive / "depth" / DAY, entry) == []


def test_a_forged_list_leads_nowhere_else(tmp_path: Path, root: Path) -> None:
    archive = archived(tmp_path, root)
    manifest = archive / "manifests" / f"{DAY}.json"
    content = json.loads(manifest.read_text())
    for name in ("../../etc/passwd", "a/b", "", ".."):
        content["depth"][0]["name"] = name
        manifest.write_text(json.dumps(content))
        assert "not a name of a kept file" in "".join(check_day(archive, DAY, None).problems)


def test_a_live_source_keeps_what_is_over_and_wanted(tmp_path: Path, root: Path) -> None:
    charts = tmp_path / "charts"
    clock = ManualClock(NOW_MS)
    wanted = ["CME.ESZ26"]
    files = DepthFiles(charts, DepthKeeper(root), clock, lambda: wanted)
    assert files.look() == 0, "nobody records depth"
    directory = charts / "MarketDepthData"
    write_depth(directory / NAME)
    write_depth(directory / "NQZ26_FUT_CME.2026-11-20.depth")
    write_depth(directory / "ESZ26_FUT_CME.2026-11-22.depth")  # today
    write_depth(directory / "ESZ26_FUT_CME.2026-11-19.depth", b"SCDDtorn")
    assert (files.look(), files.look()) == (1, 0)
    assert [entry.name for entry in kept_files(root, DAY)] == [NAME]
    write_depth(directory / NAME, depth_bytes(60), mtime_ns=7)
    write_depth(directory / "ESZ26_FUT_CME.2026-11-19.depth", depth_bytes(3), mtime_ns=7)
    assert files.look() == 2
    clock.advance((BACK_DAYS - 1) * 86_400)
    write_depth(directory / NAME, depth_bytes(61), mtime_ns=8)
    assert files.look() == 1, "the one of the 22nd: what is older is left alone"


def test_a_broken_list_costs_the_ticks_nothing_and_says_what_to_do(tmp_path: Path, root: Path) -> None:
    archived(tmp_path, root)
    (depth_dir(root, DAY) / f"{NAME}.json").write_text("{")
    certificate = make_certificate(Catalog(root, tmp_path / "archive").day(DAY), TradingCalendar(CME), NOW_MS)
    assert certificate.error is None
    assert certificate.stored_ticks == 20
    assert any("import the file again" in note for note in certificate.notes)
    assert "import the file again" in str(import_depth(tmp_path / NAME, root, NOW_MS).error)
