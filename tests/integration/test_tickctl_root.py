"""hk-tickctl as root in the data root of another user, who planted links at every name that root would write to.

Needs root, as CI has it: only root can take another user's rights.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hk_tick_collector import __file__ as package
from tests import tickctl as built
from tests.tickctl import BUILT, record_day

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another user's rights")

NOBODY = 65534
DAY, NEXT = "20251117", "20251120"
SECRET = "root:secret\n"
# In a mount namespace of its own: a directory with nothing in it but the one that holds Python, open to everybody.
OPENED = """
set -e
held=$(mktemp -d)
mount --rbind "$2" "$held"
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir -p "$2"
mount --rbind "$held" "$2"
umount -l "$held"
rmdir "$held"
shift 2
exec "$@"
"""


@functools.cache
def opener() -> tuple[str, ...]:
    """The command that lets other users read Python, where root's home holds it."""
    python = Path(sys.base_prefix).resolve()
    closed = [path for path in reversed(python.parents) if not path.stat().st_mode & 0o001]
    if not all(path.stat().st_mode & 0o001 for path in Path(package).resolve().parents):
        pytest.skip("other users cannot read this checkout")
    if not closed:
        return ()
    command = ("unshare", "--mount", "sh", "-c", OPENED, "sh", str(closed[0]), str(python))
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip(f"other users cannot read Python ({closed[0]} is closed), and a mount cannot show it to them")
    return command


def tickctl(*arguments: object, data_root: Path | None = None) -> subprocess.CompletedProcess[str]:
    return built.tickctl(*arguments, data_root=data_root, under=opener())


@dataclass(frozen=True)
class Place:
    """A data root of nobody's, and beside it what is root's alone."""

    data: Path
    outside: Path

    @property
    def target(self) -> Path:
        """A file like /etc/shadow."""
        return self.outside / "shadow"

    def give_away(self) -> None:
        """All of the data root to its owner, links themselves and not what they lead to."""
        for path in (self.data, *self.data.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)

    def seen_outside(self) -> list[tuple[object, ...]]:
        """Everything that could have been done to what is root's."""
        return [
            (path.name, status.st_uid, status.st_gid, status.st_mode, status.st_mtime_ns, status.st_ctime_ns,
             path.read_text() if path.is_file() else None)
            for path in sorted((self.outside, *self.outside.rglob("*")))
            for status in [path.lstat()]
        ]  # fmt: skip

    def plant(self, *names: str, target: Path) -> None:
        """Links to ``target`` at names under the data root."""
        for name in names:
            path = self.data / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(target)
        self.give_away()


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory() as name:  # pytest's own directories are closed to other users
        root = Path(name)
        root.chmod(0o755)
        place_made = Place(root / "data", root / "outside")
        place_made.data.mkdir(mode=0o750)
        place_made.outside.mkdir(mode=0o700)
        place_made.target.write_text(SECRET)
        place_made.target.chmod(0o600)
        for day in (DAY, NEXT):
            record_day(place_made.data, day, count=20)
        place_made.give_away()
        yield place_made


LOCKS = ("_archive/.archive.lock", ".restore.lock", "_reports/.end-of-day.lock")
PARTS = (
    "_reports/index.html",
    *(
        name.format(day=day)
        for day in (DAY, NEXT)
        for name in (
            "_archive/manifests/.{day}.json.part",
            "_archive/manifests/.{day}.json.pending",
            "_archive/manifests/{day}.json",
            "_archive/ticks/market=HK/day={day}/.ticks.parquet.part",
            "_archive/ticks/market=HK/day={day}/ticks.parquet",
            "_archive/sqlite/.{day}.db.zst.part",
            "_archive/sqlite/.{day}.db.part",
            ".{day}.db.part",
            "_reports/{day}.json",
            "_reports/{day}.html",
        )
    ),
)
MERGED = [f"merged/{name}" for name in (".merge.lock", f".{DAY}.db.part", f"{NEXT}.db", ".market")]
COMMANDS = {
    "archive": ("archive", "--format", "both"),
    "retain": ("retain", "--keep-days", "1"),
    "restore": ("restore", DAY),
    "eod": ("eod", "--format", "both"),
    "vacuum": ("vacuum", DAY),
    "migrate": ("migrate",),
    "day": ("day", DAY, "--html"),
    "verify": ("verify",),
    "doctor": ("doctor", "--offline"),
    "export": ("export", "csv", "--days", DAY, "--output", "{data}/out", "--force"),
    "ticks": ("ticks", "700", "--day", DAY, "--output", "{data}/ticks.csv", "--force"),
    "salvage": ("salvage", "{data}/20251117.db.corrupt-20251118T000000.000Z"),
    "merge": ("merge", "{data}", "{data}/twin", "--into", "{data}/merged"),
    "gaps": ("gaps", "--day", DAY, "--output", "{data}/missing.json", "--force"),
    "facts": ("facts", DAY, "--output", "{data}/facts.txt"),
}
FINE = {"doctor": range(4), "gaps": range(2)}  # what they find is told by their exit codes


def run(place: Place, command: str) -> tuple[int, str]:
    arguments = [text.format(data=place.data) for text in COMMANDS[command]]
    done = tickctl(*arguments, data_root=None if command in ("salvage", "merge") else place.data)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


def prepare(place: Place, command: str) -> None:
    """What a command works on, made by the owner."""
    if command in ("restore", "verify", "retain"):
        assert tickctl("archive", data_root=place.data).returncode == 0
    if command == "restore":
        (place.data / f"{DAY}.db").unlink()
    if command == "salvage":
        (place.data / f"{DAY}.db").rename(place.data / f"{DAY}.db.corrupt-20251118T000000.000Z")
    if command == "merge":
        for name in ("twin", "merged"):
            (place.data / name).mkdir()
        for path in place.data.glob("*.db"):
            shutil.copy(path, place.data / "twin")
        place.give_away()


@pytest.mark.parametrize("command", COMMANDS)
def test_what_root_does_is_the_owners(place: Place, command: str) -> None:
    prepare(place, command)
    before = place.seen_outside()
    code, output = run(place, command)
    assert code in FINE.get(command, (0,)), output
    assert {path.lstat().st_uid for path in (place.data, *place.data.rglob("*"))} == {NOBODY}
    assert place.seen_outside() == before


@pytest.mark.parametrize("command", COMMANDS)
def test_no_link_to_a_file_leads_root_out(place: Place, command: str) -> None:
    prepare(place, command)
    names = [*LOCKS, *PARTS, "out/20251117.csv", "ticks.csv", "missing.json", "facts.txt", *MERGED]
    if command == "salvage":
        names += [f"{DAY}.db", f"{DAY}.db-wal", f"{DAY}.db-shm", f"{DAY}.db-journal"]
    place.plant(*(name for name in names if not os.path.lexists(place.data / name)), target=place.target)
    before = place.seen_outside()
    run(place, command)
    assert place.seen_outside() == before


@pytest.mark.parametrize("command", COMMANDS)
def test_no_link_to_a_directory_leads_root_out(place: Place, command: str) -> None:
    prepare(place, command)
    names = ["_archive", "_reports", "out", "_spill", "_quarantine"]
    place.plant(*(name for name in names if not os.path.lexists(place.data / name)), target=place.outside)
    before = place.seen_outside()
    run(place, command)
    assert place.seen_outside() == before


def test_the_script_itself_goes_on_as_the_owner(place: Place) -> None:
    """What it imports later, the owner can read."""
    before = place.seen_outside()
    for command in (("eod", "--format", "both"), ("day", DAY, "--html")):
        done = built.tickctl(*command, data_root=place.data, under=(*BUILT, *opener()))
        assert done.returncode == 0, done.stdout + done.stderr
    assert {path.lstat().st_uid for path in (place.data, *place.data.rglob("*"))} == {NOBODY}
    assert place.seen_outside() == before


def test_settings_for_roots_eyes_only_are_read_before(place: Place) -> None:
    settings = place.outside / ".env"
    settings.write_text(f"FUTU_SYMBOLS=HK.00700\nDATA_ROOT={place.data}\nARCHIVE_FORMAT=sqlite\n")
    settings.chmod(0o600)
    done = tickctl("archive", DAY, "--env-file", settings)
    assert done.returncode == 0, done.stderr
    assert (place.data / "_archive" / "sqlite" / f"{DAY}.db.zst").exists()


def test_where_the_owner_may_not_write_root_is_told_why(place: Place) -> None:
    for command in (
        ("ticks", "700", "--day", DAY, "--output", place.outside / "ticks.csv"),
        ("export", "csv", "--days", DAY, "--output", place.outside / "out"),
        ("restore", DAY, "--into", place.outside / "data"),
    ):
        if command[0] == "restore":
            assert tickctl("archive", DAY, data_root=place.data).returncode == 0
        done = tickctl(*command, data_root=place.data)
        assert done.returncode == 1
        assert "as root, hk-tickctl works with the rights of" in done.stderr, done.stderr
        assert str(place.data) in done.stderr
    assert [path.name for path in place.outside.iterdir()] == ["shadow"]


def test_an_archive_of_somebody_else_beside_roots_own_days(place: Place) -> None:
    """Root stays root where the data root is root's: then no file is made through a link."""
    archive = place.data.parent / "archive"
    archive.mkdir()
    for path in (place.data, *place.data.rglob("*")):
        os.chown(path, 0, 0)
    (archive / ".archive.lock").symlink_to(place.target)
    os.chown(archive, NOBODY, NOBODY)
    before = place.seen_outside()
    done = tickctl("archive", "--archive-root", archive, data_root=place.data)
    assert (done.returncode, "Too many levels of symbolic links" in done.stderr) == (1, True), done.stderr
    assert place.seen_outside() == before
    (archive / ".archive.lock").unlink()
    assert tickctl("archive", "--archive-root", archive, data_root=place.data).returncode == 0
    assert {path.lstat().st_uid for path in archive.rglob("*")} == {NOBODY}


def test_what_root_mutes_the_alerts_program_can_write_again(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as held:
        directory = Path(held)
        os.chown(directory, NOBODY, NOBODY)
        directory.chmod(0o750)
        done = built.tickctl("alert", "mute", "ticks_late", under=opener(), ALERT_DIR=directory, DATA_ROOT=tmp_path)
        assert done.returncode == 0, done.stderr
        assert (directory / "outbox.db").stat().st_uid == NOBODY
