"""What is said when a file or directory refuses: the cause, and a cure that fits it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from hk_tick_collector.core.disk import told, unavailable, unwritable
from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.export.target import writing
from hk_tick_collector.store.atomic import replacing


def _refusal(number: int, path: Path | str | None = "/there/file") -> OSError:
    return OSError(number, os.strerror(number), None if path is None else str(path))


@pytest.mark.parametrize(
    ("number", "cure"),
    [
        (errno.ENOSPC, "free disk space"),
        (errno.EDQUOT, "raise the disk quota"),
        (errno.EROFS, "remount the file system read-write, or name another place"),
        (errno.EACCES, f"give uid {os.geteuid()} write permission, or name another place"),
        (errno.ENOTDIR, "check the name"),
        (errno.ENAMETOOLONG, "name a shorter one"),
        (errno.EIO, "check the disk and the kernel log"),
    ],
)
def test_each_refusal_has_its_cure(number: int, cure: str) -> None:
    sentence = f"/there/file: {os.strerror(number)}; {cure}"
    assert str(unavailable(Path("/there/file"), _refusal(number))) == sentence
    assert told(_refusal(number)) == sentence


def test_a_sentence_of_its_own_and_what_is_of_no_file_have_no_cure() -> None:
    assert told(OSError(errno.EFBIG, "larger than 4 MiB", "x")) == "x: larger than 4 MiB"
    assert told(_refusal(errno.ECONNREFUSED, None)) == "Connection refused"


def test_a_place_that_takes_no_files_and_one_that_is_not_there(tmp_path: Path) -> None:
    away = tmp_path / "away"
    for path, words in (
        (Path("/proc/x.csv"), "/proc takes no new files; name another place"),
        (away / "x.csv", f"{away} does not exist; make it, or name another place"),
    ):
        with pytest.raises(StoreUnavailable) as told_of, replacing(path):
            pass
        assert str(told_of.value) == f"{path}: {words}"
    with (
        pytest.raises(StoreUnavailable, match=r"^/proc/x/y: /proc takes no new files"),
        writing(Path("/proc/x/y/z.csv")),
    ):
        pass
    assert "free disk space" in str(unwritable(away, _refusal(errno.ENOSPC)))
