"""A pipe or a device where a file is wanted: nobody waits for it, nobody reads it for ever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.health.statusfile import read_status
from hk_tick_collector.quality.report_file import read_head, report_file
from hk_tick_collector.store import layout, reader
from hk_tick_collector.watch.recorder import lock_holder
from tests.ticks import DAY


@pytest.fixture(params=["fifo", "device", "directory", "link to a device"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / "odd"
    if request.param == "fifo":
        os.mkfifo(path)
    elif request.param == "directory":
        path.mkdir()
    elif request.param == "device":
        path = Path("/dev/zero")
    else:
        path.symlink_to("/dev/zero")
    return path


def test_only_files_are_opened(odd: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreCorrupt, match=f"{odd} is not a regular file"):
        open_regular(odd)
    plain = tmp_path / "plain"
    plain.write_bytes(b"x")
    with open_regular(plain) as file:
        assert file.read() == b"x"
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "absent")


def test_what_stands_in_a_data_root_is_not_waited_for(odd: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    (root / "_reports").mkdir(parents=True)
    for path in (layout.lock_file(root), layout.status_file(root), report_file(root, DAY), layout.day_file(root, DAY)):
        path.symlink_to(odd)
    assert lock_holder(root) is None
    assert read_status(layout.status_file(root)) is None
    assert read_head(report_file(root, DAY)) is None
    with pytest.raises(StoreCorrupt, match="is not a file"):
        reader.coverage(layout.day_file(root, DAY))
