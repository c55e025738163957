"""Days of snapshots in a real S3-compatible server, by the built hk-tickctl: sent, proven, deleted, brought back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from hk_tick_collector.archive import places, snapshot_copies
from hk_tick_collector.store.layout import snapshot_archive, snapshot_file
from tests.s3_server import BUCKET, WEED, S3Server, s3_server
from tests.snapshots import DAY, SPX, copied, filled, record, snapshot
from tests.tickctl import tickctl, tickctl_json

BEFORE = "20261125"
SECONDS = range(600)

pytestmark = pytest.mark.skipif(not WEED.exists(), reason="SeaweedFS is not installed")
numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as s3:
        yield s3


@pytest.fixture
def place(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/gexbot-{next(numbers)}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    directory = record(tmp_path / "US", filled(SPX, SECONDS), [copied(SPX, SECONDS)])
    return record(directory, [snapshot(SPX, second - 2 * 86_400) for second in range(5)])


def actions(rows: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(row["trading_day"], row["action"]) for row in rows]


def test_days_are_sent_proven_deleted_here_and_brought_back_elsewhere(root: Path, place: str, tmp_path: Path) -> None:
    bytes_before = snapshot_file(root, BEFORE).read_bytes()
    sent = tickctl_json("archive", "--to", place, data_root=root)
    assert actions(sent) == [(BEFORE, "archived"), (DAY, "archived")]
    assert tickctl_json("archive", "--to", place, data_root=root) == []
    assert actions(tickctl_json("verify", "--from", place, data_root=root)) == [(BEFORE, "fine"), (DAY, "fine")]
    # What is here is deleted on the word of the copy alone, read at that moment.
    snapshot_archive(root / "_archive", BEFORE).rename(tmp_path / "away")
    (kept,) = tickctl_json("retain", "--keep-days", 1, data_root=root, code=1)
    assert (kept["action"], snapshot_file(root, BEFORE).exists()) == ("failed", True)
    (gone,) = tickctl_json("retain", "--keep-days", 1, "--from", place, data_root=root)
    assert (gone["action"], snapshot_file(root, BEFORE).exists()) == ("deleted", False)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    tickctl_json("restore", BEFORE, "--kind", "snapshot", "--from", place, data_root=elsewhere)
    assert snapshot_file(elsewhere, BEFORE).read_bytes() == bytes_before
    told = tickctl("restore", "20261124", "--kind", "snapshot", "--from", place, data_root=elsewhere)
    assert (told.returncode, "no snapshots of 20261124 are in s3://" in told.stderr) == (3, True), told.stderr


def test_a_copy_that_holds_more_is_never_replaced_and_one_that_grew_is(root: Path, place: str, tmp_path: Path) -> None:
    tickctl_json("archive", "--to", place, data_root=root)
    fewer = record(tmp_path / "fewer", filled(SPX, SECONDS[:-7]))
    (row,) = tickctl_json("archive", "--to", place, data_root=fewer, code=1)
    assert "holds 7 snapshots that this archive lacks" in row["details"]
    record(root, [snapshot(SPX, 700)])
    assert actions(tickctl_json("archive", "--to", place, data_root=root)) == [(DAY, "replaced")]
    assert actions(tickctl_json("verify", DAY, "--from", place, data_root=root)) == [(DAY, "fine")]


def test_a_copy_whose_bytes_changed_is_told_deletes_nothing_and_is_sent_again(
    root: Path, place: str, tmp_path: Path
) -> None:
    tickctl_json("archive", "--to", place, data_root=root)
    store = places.open_store(place)
    (name,) = [name for name in store.names(f"snapshot/{BEFORE}/") if name.endswith(".gz")]
    held = store.stat(name)
    assert held is not None
    bad = tmp_path / "bad"
    bad.write_bytes(b"x" * held.size_bytes)
    store.write(bad, name, snapshot_copies.digest_of(bad)[1], held.version)
    (row,) = tickctl_json("verify", BEFORE, "--from", place, data_root=root, code=1)
    assert (row["action"], "is not what was packed" in row["details"]) == ("failed", True)
    (kept,) = tickctl_json("retain", "--keep-days", 1, "--from", place, data_root=root, code=1)
    assert (kept["action"], snapshot_file(root, BEFORE).exists()) == ("failed", True)
    assert actions(tickctl_json("archive", BEFORE, "--to", place, data_root=root)) == [(BEFORE, "replaced")]
    assert actions(tickctl_json("verify", BEFORE, "--from", place, data_root=root)) == [(BEFORE, "fine")]
