"""Names under DATA_ROOT, directory rights, and the lock that lets one recorder in."""

from __future__ import annotations

import ast
import errno
import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hk_tick_collector.core.errors import ConfigError, RecorderError, StoreUnavailable
from hk_tick_collector.store import layout
from tests.unit.store_ticks import without_root

PACKAGE = Path(layout.__file__).parents[1]


@pytest.fixture
def public_dir():
    """A directory that another user can reach (pytest's own are closed to others)."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


@pytest.mark.parametrize("day", ["20261120", "20240229", "19991231"])
def test_day_file_and_back(tmp_path, day):
    path = layout.day_file(tmp_path, day)
    assert path == tmp_path / f"{day}.db"
    assert layout.parse_day(path) == day


@pytest.mark.parametrize(
    "day",
    [
        "",
        "2026112",
        "20261301",
        "20230229",
        "../../etc",
        "2026-1-1",
        "\uff12\uff10\uff12\uff16\uff11\uff11\uff12\uff10",
        None,
        20261120,
    ],
)
def test_what_is_no_date_never_becomes_a_path(tmp_path, day):
    with pytest.raises(ValueError, match="YYYYMMDD"):
        layout.day_file(tmp_path, day)


@pytest.mark.parametrize(
    "name",
    ["20261120.db-wal", "20261120.db.corrupt-x", "x20261120.db", "20261320.db", "20261120.sqlite", "20261120.db\n"],
)
def test_other_names_are_no_day_files(name):
    assert layout.parse_day(Path(name)) is None


def test_recent_day_files_are_the_newest_first(tmp_path):
    for name in ("20261118.db", "20261120.db", "20261119.db", "20261120.db-wal", "20261121.db.corrupt-x", "notes.db"):
        (tmp_path / name).touch()
    assert [p.name for p in layout.recent_day_files(tmp_path, 2)] == ["20261120.db", "20261119.db"]
    assert [p.name for p in layout.recent_day_files(tmp_path, 9)] == ["20261120.db", "20261119.db", "20261118.db"]
    assert layout.recent_day_files(tmp_path, 0) == []
    assert layout.recent_day_files(tmp_path / "absent", 3) == []


def test_utc_stamp_and_set_aside_names(tmp_path):
    assert layout.utc_stamp(1_795_138_200_007) == "20261120T013000.007Z"
    path = tmp_path / "20261120.db"
    first = layout.set_aside_path(path, 1_795_138_200_007)
    assert first.name == "20261120.db.corrupt-20261120T013000.007Z"
    first.touch()
    second = layout.set_aside_path(path, 1_795_138_200_007)
    assert second != first
    assert layout.set_aside_day(first) == layout.set_aside_day(second) == "20261120"
    assert layout.set_aside_day(path) is None


def test_prepare_makes_closed_directories(tmp_path):
    root = layout.prepare_data_root(tmp_path / "a" / "b")
    for path in (root.parent, root, layout.spill_dir(root), layout.quarantine_dir(root)):
        assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0
    assert sorted(p.name for p in root.iterdir()) == ["_quarantine", "_spill"]
    assert layout.prepare_data_root(root) == root


def test_prepare_says_that_a_file_is_in_the_way(tmp_path):
    (tmp_path / "data").write_text("x")
    with pytest.raises(ConfigError, match=r"data cannot be a directory.*move that file") as caught:
        layout.prepare_data_root(tmp_path / "data")
    assert str(tmp_path / "data") in str(caught.value)
    with pytest.raises(ConfigError, match="file is in its path"):
        layout.prepare_data_root(tmp_path / "data" / "below")


def test_prepare_says_that_the_directory_is_not_writable(public_dir):
    (public_dir / "root").mkdir(mode=0o755)
    (public_dir / "root").chmod(0o555)
    with without_root(), pytest.raises(StoreUnavailable, match=r"root is not writable.*chown"):
        layout.prepare_data_root(public_dir / "root")


def test_prepare_says_that_it_cannot_create(public_dir):
    (public_dir / "root").mkdir()
    (public_dir / "root").chmod(0o555)
    with (
        without_root(),
        pytest.raises(StoreUnavailable, match=r"root/data does not exist and cannot be cr.*mkdir"),
    ):
        layout.prepare_data_root(public_dir / "root" / "data")


def test_prepare_lets_a_full_disk_pass(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(layout, "probe_write", full)
    assert layout.prepare_data_root(tmp_path) == tmp_path


def test_a_lock_under_our_own_number_is_of_another_container(tmp_path, monkeypatch):
    """Each counts its processes by itself: the first of two that share a volume has number 1 in both."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with layout.DataRootLock(tmp_path), pytest.raises(ConfigError, match=rf"recorder \(pid {os.getpid()}\) already"):
        layout.DataRootLock(tmp_path).acquire()


def test_second_lock_in_the_same_process_is_refused(tmp_path):
    with layout.DataRootLock(tmp_path) as first:
        assert first.path.read_text() == f"{os.getpid()}\n"
        with pytest.raises(ConfigError, match=rf"pid {os.getpid()}\b"):
            layout.DataRootLock(tmp_path).acquire()
        first.acquire()  # held already
    with layout.DataRootLock(tmp_path):
        pass


def test_lock_of_another_process_is_named_and_ends_with_kill_9(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from hk_tick_collector.store.layout import DataRootLock\n"
        f"DataRootLock(Path({str(tmp_path)!r})).acquire(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(ConfigError, match=rf"another recorder \(pid {holder.pid}\).*stop it"):
                layout.DataRootLock(tmp_path).acquire()
        finally:
            holder.send_signal(signal.SIGKILL)
    with layout.DataRootLock(tmp_path) as lock:
        assert lock.path.read_text() == f"{os.getpid()}\n"


def test_lock_file_that_may_not_be_opened(public_dir):
    public_dir.chmod(0o555)  # not for its owner either: the tests may run as an ordinary user
    with without_root(), pytest.raises(StoreUnavailable, match=r"lock file .* cannot be opened.*write permission"):
        layout.DataRootLock(public_dir).acquire()
    public_dir.chmod(0o755)


def test_a_read_only_mount_is_not_told_to_give_permission(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(layout.os, "open", refuse)
    with pytest.raises(RecorderError, match=r"Read-only file system\); mount its file system for writing"):
        layout.DataRootLock(tmp_path).acquire()


@pytest.mark.parametrize("number", [errno.EIO, errno.EROFS, errno.ESTALE, errno.EMFILE, errno.ENOENT, errno.EACCES])
def test_what_may_heal_is_no_configuration_error(tmp_path, monkeypatch, number):
    def refuses(*_, **__):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(layout, "probe_write", refuses)
        with pytest.raises(StoreUnavailable, match=f"DATA_ROOT: .*{os.strerror(number)}"):
            layout.prepare_data_root(tmp_path)
    for call in ("open", "flock"):
        with monkeypatch.context() as patch:
            patch.setattr(layout.os if call == "open" else layout.fcntl, call, refuses)
            with pytest.raises(StoreUnavailable, match=os.strerror(number)):
                layout.DataRootLock(tmp_path).acquire()


def made_elsewhere(source: str) -> list[str]:
    """Texts in code, docstrings left out, that are names under the data root."""
    names = {layout.SPILL_DIR, layout.QUARANTINE_DIR, layout.REPORTS_DIR, layout.ARCHIVE_DIR, layout.LOCK_FILE,
             layout.STATUS_FILE}  # fmt: skip
    if not any(name in source for name in (*names, layout.DAY_FILE_GLOB)):
        return []
    module = ast.parse(source)
    texts = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}  # docstrings
    return [
        node.value
        for node in ast.walk(module)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts
        if node.value in names or layout.DAY_FILE_GLOB in node.value
    ]


def test_names_under_the_data_root_are_made_in_one_place():
    sources = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "layout.py"]
    assert len(sources) > 500
    assert {path: texts for path in sources if (texts := made_elsewhere(path.read_text()))} == {}
    assert made_elsewhere(f'"""{layout.SPILL_DIR}"""\na = "{layout.LOCK_FILE}"') == [layout.LOCK_FILE]


def test_day_files_are_the_oldest_first(tmp_path):
    for name in ("20261120.db", "20261118.db", "20261399.db", "20261119.db.corrupt-x", "20261119.db-wal"):
        (tmp_path / name).touch()
    assert [path.name for path in layout.day_files(tmp_path)] == ["20261118.db", "20261120.db"]
    assert layout.day_files(tmp_path / "absent") == []
