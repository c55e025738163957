"""What ``hk-tickctl`` says to a user who may not read the recorder's files: which one, and what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from hk_tick_collector.cli import main
from tests.nights import by_day
from tests.tickctl import BUILT, record_day, tickctl
from tests.ticks import DAY

COMMANDS = ("day", "gaps", "top", "ticks 700", "bars 700", "status", "export csv -o .", "verify")
CLOSED = {0o000: "closed", 0o300: "no look inside", 0o400: "only its names"}
ADVICE = "cannot be read (Permission denied): use sudo, or join the group that the recorder's files belong to"
# Root reads everything, unless it goes without these two.
UNDER = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()

pytestmark = pytest.mark.skipif(bool(UNDER) and shutil.which("setpriv") is None, reason="root needs setpriv for it")


@pytest.fixture
def data_root(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "data"
    record_day(root, count=20)
    yield root
    for path in (root, root / "_archive"):  # pytest removes it
        if path.exists():
            path.chmod(0o700)


def run(command: str, *more: object, under: Sequence[str] = UNDER) -> subprocess.CompletedProcess[str]:
    return tickctl(*command.split(), *more, under=under)


@pytest.mark.parametrize("command", COMMANDS)
def test_settings_that_are_closed(tmp_path: Path, data_root: Path, command: str) -> None:
    settings = tmp_path / "recorder.env"
    settings.write_text(f"DATA_ROOT={data_root}\nFUTU_SYMBOLS=HK.00700\n")
    settings.chmod(0)
    done = run(command, "--env-file", settings)
    assert (done.returncode, done.stderr) == (1, f"hk-tickctl: {settings} {ADVICE}\n")


@pytest.mark.parametrize(
    ("mode", "command"),
    by_day(
        [(mode, command) for mode in CLOSED for command in COMMANDS],
        lambda pair: pair[0] == 0o000 or pair[1] in ("top", "status"),  # one by the list of days, one by the newest
    ),
    ids=CLOSED.get,
)
def test_a_data_root_that_is_closed(data_root: Path, mode: int, command: str) -> None:
    """Never as if no day were recorded."""
    data_root.chmod(mode)
    done = run(command, "--data-root", data_root)
    assert (done.returncode, done.stderr) == (1, f"hk-tickctl: {data_root} {ADVICE}\n")


def test_a_data_root_below_a_closed_directory(tmp_path: Path, data_root: Path) -> None:
    (tmp_path / "closed").mkdir()
    below = data_root.rename(tmp_path / "closed" / "data")
    (tmp_path / "closed").chmod(0)
    done = run("gaps", "--data-root", below)
    (tmp_path / "closed").chmod(0o700)
    assert (done.returncode, done.stderr) == (1, f"hk-tickctl: {tmp_path / 'closed'} {ADVICE}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_day_file_that_is_closed(data_root: Path, command: str) -> None:
    db = data_root / f"{DAY}.db"
    db.chmod(0)
    done = run(command, "--data-root", data_root)
    if command == "status":
        assert done.returncode == 1
        assert f"the newest day file cannot be read: {db} {ADVICE}" in done.stdout
    elif command == "verify":
        assert done.returncode == 3, "nothing is archived, and of that it is sure"
    else:
        assert (done.returncode, done.stderr) == (1, f"hk-tickctl: {db} {ADVICE}\n")
        assert done.stdout == "", "no grade is given to a file that nobody looked at"
    assert not (data_root / "_reports").exists()


def test_an_archive_that_is_closed(data_root: Path) -> None:
    assert tickctl("archive", DAY, data_root=data_root).returncode == 0
    (data_root / "_archive").chmod(0)
    done = run("gaps", "--data-root", data_root)
    assert (done.returncode, done.stderr) == (1, f"hk-tickctl: {data_root / '_archive'} {ADVICE}\n")


def test_doctor_says_what_is_closed_and_goes_on(tmp_path: Path, data_root: Path) -> None:
    settings = tmp_path / "recorder.env"
    settings.write_text(f"DATA_ROOT={data_root}\nFUTU_SYMBOLS=HK.00700\n")
    settings.chmod(0)
    data_root.chmod(0)
    done = run("doctor --offline", "--env-file", settings, "--data-root", data_root)
    assert done.returncode == 1
    assert f"{settings} is closed to this user" in done.stdout
    assert f"{data_root} is closed to this user" in done.stdout
    assert done.stdout.count("use sudo, or join the group that the recorder's files belong to") == 2


def test_a_target_that_is_closed_is_no_file_of_the_recorder(tmp_path: Path, data_root: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    target.chmod(0o500)
    done = run("export csv", "--data-root", data_root, "-o", target)
    target.chmod(0o700)
    assert done.returncode == 1
    assert ADVICE not in done.stderr
    assert "name another output" in done.stderr or "write permission" in done.stderr


def test_who_may_read_is_not_disturbed(data_root: Path) -> None:
    assert run("gaps", "--data-root", data_root).returncode == 0


def test_the_script_itself_says_so_too(data_root: Path) -> None:
    script = (*BUILT, *UNDER)
    assert run("gaps", "--data-root", data_root, under=script).returncode == 0
    data_root.chmod(0)
    done = run("gaps", "--data-root", data_root, under=script)
    assert (done.returncode, done.stderr) == (1, f"hk-tickctl: {data_root} {ADVICE}\n")


@pytest.fixture
def readable(data_root: Path) -> Iterator[Path]:
    """A data root with an archive that its group may read and not write, as the systemd page invites people into."""
    assert tickctl("archive", DAY, data_root=data_root).returncode == 0
    closed = [data_root, *data_root.rglob("*")]
    for path in closed:
        path.chmod(0o550 if path.is_dir() else 0o440)
    yield data_root
    for path in closed:
        path.chmod(0o750 if path.is_dir() else 0o640)


def test_a_reader_gets_the_certificate_and_not_its_file(readable: Path) -> None:
    for command in ("day", "day --html"):
        done = run(command, "--data-root", readable)
        assert (done.returncode, "is complete" in done.stdout) == (0, True), done.stderr
        assert "the report is not written" in done.stderr


def test_a_reader_restores_into_a_place_of_his_own(readable: Path, tmp_path: Path) -> None:
    done = run(f"restore {DAY}", "--into", tmp_path / "mine", "--data-root", readable)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine" / f"{DAY}.db").exists()
    assert tickctl("ticks", "700", "--last", 1, data_root=tmp_path / "mine").returncode == 0


def test_who_reads_files_is_told_nothing_of_symbols(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    done = tickctl("gaps", DATA_ROOT=file)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"DATA_ROOT (from the environment): {file} is not a directory" in done.stderr
    assert "FUTU_SYMBOLS" not in done.stderr


def test_a_module_of_python_itself_is_in_no_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacking(**_: object) -> None:
        raise ModuleNotFoundError("No module named 'pickle'", name="pickle")

    monkeypatch.setattr(main.tickctl, "main", lacking)
    assert main.main([]) == 1
    told = f"Python's own module pickle cannot be loaded: let this user read {Path(os.__file__).parent}"
    assert told in capsys.readouterr().err
