"""Temporary directories: removed when their process is gone, and only then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.core.scratch import PREFIX, Scratch, remove_abandoned

_HOLDER = """
import sys
from pathlib import Path
from hk_tick_collector.core.scratch import Scratch
held = Scratch("test", None if len(sys.argv) < 2 else Path(sys.argv[1]))
(held.path / "part").write_text("half of a sort")
print(held.path, flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(temporary: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A process that has a directory."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, *words],
        env={**os.environ, "TMPDIR": str(temporary)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.parametrize("is_beside", [False, True])
def test_the_next_one_removes_what_a_killed_process_left(tmp_path: Path, *, is_beside: bool) -> None:
    with holder(tmp_path, *([str(tmp_path)] if is_beside else [])) as (process, left):
        assert left.name.startswith("." if is_beside else PREFIX)
        remove_abandoned(tmp_path)
        assert (left / "part").exists(), "its process lives"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert (left / "part").exists()
        with Scratch("other", tmp_path) as path:
            assert not left.exists()
            assert path.parent == tmp_path
        assert not list(tmp_path.iterdir())


def test_a_child_that_was_given_the_lock_keeps_the_directory(tmp_path: Path) -> None:
    held = Scratch("test", tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE, pass_fds=held.lock
    )
    try:
        os.close(held.lock.pop())  # as if this process had been killed
        remove_abandoned(tmp_path)
        assert held.path.exists()
    finally:
        child.communicate(b"")
    remove_abandoned(tmp_path)
    assert not held.path.exists()


def _link(path: Path) -> None:
    target = path.with_name("target")
    target.mkdir()
    path.symlink_to(target)


def _of_another_user(path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    path.mkdir()
    os.chown(path, 65534, 65534)


@pytest.mark.parametrize("make", [_link, _of_another_user, Path.touch], ids=["link", "another user", "file"])
def test_nothing_else_is_touched(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / f"{PREFIX}test-1")
    (tmp_path / "hk-tick-demo.1").mkdir()
    before = sorted(tmp_path.iterdir())
    remove_abandoned(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_what_ends_with_its_object(tmp_path: Path) -> None:
    held = Scratch("test", tmp_path)
    with held as path:
        (path / "deep").mkdir()
    assert not path.exists()
    held.remove()
    held = Scratch("test", tmp_path)
    path = held.path
    del held
    assert not path.exists()


def test_one_that_is_taken_away_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may look for abandoned ones between making and locking."""
    make, left = Path.mkdir, [3]

    def taken(path: Path, mode: int = 0o777) -> None:
        make(path, mode)
        if left[0]:
            left[0] -= 1
            path.rmdir()

    monkeypatch.setattr(Path, "mkdir", taken)
    with Scratch("test", tmp_path) as path:
        assert path.is_dir()
        assert left == [0]
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("temporary", "words"),
    [("none", "set TMPDIR to a directory that can be written to"), (None, "check the name")],
)  # fmt: skip
def test_no_place_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: str | None, words: str) -> None:
    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/tmp']")

    if temporary:
        monkeypatch.setattr("tempfile.gettempdir", nowhere)
    with pytest.raises(StoreUnavailable, match=words):
        Scratch("test", None if temporary else tmp_path / "away")
