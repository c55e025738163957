"""Snapshots put away, read back, deleted and brought back, by the commands; and the end-of-day job of their root."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import hk_tick_collector as hk
from hk_tick_collector.store.layout import snapshot_archive, snapshot_file
from tests.snapshots import DAY, SPX, copied, filled, record, snapshot
from tests.tickctl import tickctl, tickctl_json

KIND = ("--kind", "snapshot")
BEFORE = "20261125"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    seconds = range(12_600)
    directory = record(tmp_path / "US", filled(SPX, seconds), [copied(SPX, seconds)])
    return record(directory, [snapshot(SPX, second - 2 * 86_400) for second in range(5)])


def test_a_day_is_put_away_deleted_and_brought_back_byte_for_byte(root: Path) -> None:
    before = snapshot_file(root, BEFORE).read_bytes()
    rows = tickctl_json("archive", *KIND, data_root=root)
    assert [(row["trading_day"], row["action"]) for row in rows] == [(BEFORE, "archived"), (DAY, "archived")]
    assert tickctl_json("archive", *KIND, data_root=root) == []
    assert [row["action"] for row in tickctl_json("verify", *KIND, data_root=root)] == ["fine", "fine"]
    tickctl_json("retain", *KIND, "--keep-days", 1, "--dry-run", data_root=root)
    assert snapshot_file(root, BEFORE).exists()
    (row,) = tickctl_json("retain", *KIND, "--keep-days", 1, data_root=root)
    assert (row["trading_day"], row["action"]) == (BEFORE, "deleted")
    assert not snapshot_file(root, BEFORE).exists()
    back = f"those of {BEFORE} are archived: hk-tickctl restore {BEFORE} --kind snapshot brings them back"
    for words in (
        ("snapshots", "--days", BEFORE),
        ("export", "csv", *KIND, "--days", BEFORE, "--output", root / "out"),
    ):
        told = tickctl(*words, data_root=root)
        assert (told.returncode, back in told.stderr) == (3, True), told.stderr
    with pytest.raises(hk.NoData, match=back):
        hk.local(root).load("US.SPX", BEFORE, kind="snapshot")
    tickctl_json("restore", BEFORE, *KIND, data_root=root)
    assert snapshot_file(root, BEFORE).read_bytes() == before
    there = tickctl("restore", BEFORE, *KIND, data_root=root)
    assert (there.returncode, "never replaced" in there.stderr) == (1, True)


def test_a_damaged_copy_deletes_nothing_and_is_told(root: Path) -> None:
    tickctl_json("archive", *KIND, data_root=root)
    (packed,) = snapshot_archive(root / "_archive", BEFORE).glob("*.gz")
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 1
    packed.write_bytes(content)
    rows = tickctl_json("retain", *KIND, "--keep-days", 1, data_root=root, code=1)
    assert (rows[0]["action"], snapshot_file(root, BEFORE).exists()) == ("failed", True)
    rows = tickctl_json("verify", BEFORE, *KIND, data_root=root, code=1)
    assert "checksum" in rows[0]["details"]
    shutil.rmtree(snapshot_file(root, BEFORE).parent)
    lost = tickctl("restore", BEFORE, *KIND, data_root=root)
    assert (lost.returncode, snapshot_file(root, BEFORE).exists()) == (1, False)


def test_what_the_copy_filled_since_is_archived_again(root: Path) -> None:
    tickctl_json("archive", DAY, *KIND, data_root=root)
    record(root, [snapshot(SPX, 12_700)])
    rows = tickctl_json("verify", DAY, *KIND, data_root=root, code=1)
    assert "is another one now" in rows[0]["details"]
    tickctl_json("archive", *KIND, data_root=root)
    assert tickctl_json("verify", DAY, *KIND, data_root=root)[0]["details"].startswith("12,601 snapshots")


def test_the_end_of_the_day_reports_and_archives(root: Path) -> None:
    done = tickctl("eod", "--keep-days", 1, data_root=root)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((root / "_reports" / f"{DAY}.snapshots.json").read_text())
    assert (report["state"], report["series"][0]["seen"]) == ("proven", 12_600)
    assert not snapshot_file(root, BEFORE).exists()
    assert snapshot_archive(root / "_archive", DAY).is_dir()


def test_what_is_for_ticks_is_refused(root: Path, tmp_path: Path) -> None:
    (signers := tmp_path / "signers").write_text("")
    for words in (("archive", "--format", "parquet"), ("archive", "--sign", "key"),
                  ("verify", "--signers", signers), ("restore", BEFORE, "--signers", signers)):  # fmt: skip
        done = tickctl(*words, *KIND, data_root=root)
        assert (done.returncode, "for ticks" in done.stderr) == (2, True), (words, done.stderr)


def test_who_names_no_kind_works_on_what_the_data_root_holds(root: Path, tmp_path: Path) -> None:
    rows = tickctl_json("archive", data_root=root)
    assert [(row["trading_day"], row["action"]) for row in rows] == [(BEFORE, "archived"), (DAY, "archived")]
    assert [row["action"] for row in tickctl_json("verify", data_root=root)] == ["fine", "fine"]
    (row,) = tickctl_json("retain", "--keep-days", 1, data_root=root)
    assert (row["trading_day"], row["action"]) == (BEFORE, "deleted")
    tickctl_json("restore", BEFORE, data_root=root)
    assert snapshot_file(root, BEFORE).exists()
    told = tickctl("export", "csv", "--output", tmp_path / "out", data_root=root)
    assert (told.returncode, "12,605 snapshots in 2 files" in told.stdout) == (0, True), told.stderr
    assert tickctl_json("day", data_root=root)["state"] == "proven"
    assert tickctl("day", BEFORE, data_root=root).returncode == 1  # it is over, and nothing proves it
    for words in (("gaps",), ("top",), ("ticks", "US.SPX"), ("verify", "--kind", "tick")):
        told = tickctl(*words, data_root=root)
        assert (told.returncode, "holds snapshots" in told.stderr) == (3, True), (words, told.stderr)
