"""Nothing that a recorder adds to a file beside the ticks while it is compared with its archive is deleted with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.archive import books, snapshots
from hk_tick_collector.archive.atomic import Refused
from hk_tick_collector.archive.pack import archive_day
from hk_tick_collector.days.manifest import PARQUET, load_manifest
from hk_tick_collector.store.book_file import BOOK_KIND, BROKER_KIND, StateKind
from hk_tick_collector.store.layout import archive_dir, snapshot_file
from hk_tick_collector.store.snapshot_reader import freshness
from tests.books import DAY, record_books
from tests.brokers import record_brokers
from tests.snapshots import DAY as SNAPSHOT_DAY
from tests.snapshots import SPX, record, snapshot
from tests.ticks import make_ticks
from tests.unit.client.days import store

NOW_MS = 1_900_000_000_000


def _written_behind(monkeypatch: pytest.MonkeyPatch, module: Any, path: Path, write: Callable[[], object]) -> None:
    """A writer comes and goes just after the file was read to its end."""
    digest_of = module.digest_of

    def digest(read: Path) -> tuple[int, str]:
        digest_there: tuple[int, str] = digest_of(read)
        if read == path:
            write()
        return digest_there

    monkeypatch.setattr(module, "digest_of", digest)


def test_a_snapshot_that_comes_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(tmp_path, [snapshot(SPX, 0)])
    path, archive_root = snapshot_file(tmp_path, SNAPSHOT_DAY), archive_dir(tmp_path)
    snapshots.put_away(tmp_path, archive_root, SNAPSHOT_DAY, NOW_MS)
    with monkeypatch.context() as patch:
        _written_behind(patch, snapshots, path, lambda: record(tmp_path, [snapshot(SPX, 1)]))
        with pytest.raises(Refused, match="was written to while it was compared"):
            snapshots.leave_to_archive(tmp_path, archive_root, SNAPSHOT_DAY, dry_run=False)
    assert freshness(path).rows == 2
    snapshots.put_away(tmp_path, archive_root, SNAPSHOT_DAY, NOW_MS)
    snapshots.leave_to_archive(tmp_path, archive_root, SNAPSHOT_DAY, dry_run=False)
    assert not path.exists()


@pytest.mark.parametrize(("kind", "write"), [(BOOK_KIND, record_books), (BROKER_KIND, record_brokers)])
def test_a_push_that_comes_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: StateKind, write: Callable[..., object]
) -> None:
    store(tmp_path, make_ticks(1, 3))
    write(tmp_path, DAY)
    path, archive_root = kind.file_of(tmp_path, DAY), archive_dir(tmp_path)

    def archived() -> None:
        archive_day(tmp_path, archive_root, DAY, [PARQUET], made_at_ms=NOW_MS)

    archived()
    manifest = load_manifest(archive_root, DAY)
    assert manifest is not None
    with monkeypatch.context() as patch:
        _written_behind(patch, books, path, lambda: write(tmp_path, DAY))
        books.leave_to_archive(tmp_path, manifest)
    assert path.exists()
    archived()
    manifest = load_manifest(archive_root, DAY)
    assert manifest is not None
    books.leave_to_archive(tmp_path, manifest)
    assert not path.exists()
