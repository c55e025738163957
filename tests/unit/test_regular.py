"""A pipe or a device where a file is wanted: nobody waits for it, nobody reads it for ever."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

import pytest

from hk_tick_collector.app.config import load_settings
from hk_tick_collector.app.config_sources import ConfigErrors
from hk_tick_collector.cli.screen_sources import read_key
from hk_tick_collector.core import regular
from hk_tick_collector.core.errors import InputError, RecorderError, StoreCorrupt
from hk_tick_collector.core.regular import open_named, open_regular, read_named
from hk_tick_collector.health.statusfile import read_status
from hk_tick_collector.market.registry import MARKETS
from hk_tick_collector.quality.missing_ranges import read_ranges
from hk_tick_collector.quality.report_file import read_head, report_file
from hk_tick_collector.store import layout, reader
from hk_tick_collector.watch import shards
from hk_tick_collector.watch.recorder import lock_holder
from tests.harness import BIN
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


def test_what_somebody_names_is_not_waited_for(odd: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--env-file``, OpenD's key, a list of ranges, a universe's plan, ``--key-file``: each is a sentence by name."""
    monkeypatch.setattr(regular.read_named, "__kwdefaults__", {"pipe_sec": 0.05})
    with pytest.raises(ConfigErrors, match=rf"{odd} cannot be read: .*; give an existing text file with --env-file"):
        load_settings(odd, {})
    with pytest.raises(ConfigErrors, match=r"FUTU_RSA_KEY_FILE .*the key file cannot be read \(.* a file"):
        load_settings(None, {"FUTU_SYMBOLS": "HK.00700", "FUTU_RSA_KEY_FILE": str(odd)})
    with pytest.raises(InputError, match=rf"{odd} cannot be read: .*: is it a list of missing ranges"):
        read_ranges(odd, MARKETS["HK"])
    plan = shards.plan_path(tmp_path / "list.txt")
    plan.symlink_to(odd)
    with pytest.raises(InputError, match=rf"{plan} cannot be read: "):
        shards.read(tmp_path / "list.txt")
    with pytest.raises(RecorderError, match=rf"the key in {odd} cannot be read: .*; give a file with the key alone"):
        read_key(odd)


def test_more_than_is_wanted_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(b"x" * 101)
    assert len(read_named(path, 101)) == 101
    with pytest.raises(OSError, match="larger than 100 bytes"):
        read_named(path, 100)
    path.write_bytes(b"x" * ((1 << 20) + 1))
    with pytest.raises(OSError, match="larger than 1 MiB"):
        read_named(path, 1 << 20)


def test_a_pipe_is_read_to_its_end_whenever_somebody_writes(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def write() -> None:  # opening it waits for the reader
        with path.open("wb", buffering=0) as file:
            file.write(b"one ")
            os.sched_yield()
            file.write(b"two")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert read_named(path, 100) == b"one two"
    finally:
        writer.join()
    with pytest.raises(OSError, match=r"a pipe that nobody wrote to its end within 0\.05 seconds"):
        read_named(path, 100, pipe_sec=0.05)
    with pytest.raises(OSError, match="neither a file nor a pipe that ends"):
        open_named(path)


@pytest.mark.parametrize(("script", "told"), [("printf abc", b"abc"), ("sleep 0.2; printf abc", b"abc")])
def test_a_shells_substitution_is_read(script: str, told: bytes) -> None:
    with subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        path = Path(f"/dev/fd/{process.stdout.fileno()}")
        assert read_named(path, 100) == told


@pytest.mark.parametrize("odd", ["device"], indirect=True)
def test_a_log_without_end_is_refused(odd: Path) -> None:
    done = subprocess.run(
        [BIN / "hk-tickctl", "logs", "--file", odd], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert f"{odd}: neither a file nor a pipe that ends" in done.stderr
