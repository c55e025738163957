"""``scripts/take_over.py``: a release that shares files with the one in use, beside one that pip made alone.

Real environments, and pip with packages of a few lines. The whole, an update of the installed service, is tested in
``tests/systemd``.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.integration.test_deploy_parts import elsewhere

ROOT = Path(__file__).resolve().parents[2]
MODULE = (
    "import sys\n\nVERSION = {version!r}\n\n\ndef main():\n    print(VERSION, main.__code__.co_filename, sys.prefix)\n"
)
OTHER_FILE_SYSTEM = Path("/dev/shm")


def _wheel(place: Path, name: str, version: str, *, has_program: bool = False) -> str:
    """Puts a wheel into a directory; its line of a lock file."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": MODULE.format(version=version),
        f"{name}/inner/table.txt": f"{name} {version}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if has_program:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{name} = {name}:main\n"
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        rows.append(f"{path},sha256={digest},{len(text)}\n")
    files[f"{info}/RECORD"] = "".join([*rows, f"{info}/RECORD,,\n"])
    wheel = place / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


@dataclass(frozen=True)
class Releases:
    """One that is built, and what the next one is to hold."""

    place: Path
    built: Path
    new: Path
    lock: Path
    entries: dict[str, str]  # of lock files, by "name version"

    def want(self, *packages: str) -> None:
        self.lock.write_text("# made by hand\n" + "".join(self.entries[package] for package in packages))

    def pip(self, release: Path, *packages: str) -> None:
        """As a deployment has it install; nothing comes from anywhere else."""
        command = [sys.executable, "-I", "-m", "pip", "--python", release / "bin/python", "--isolated", "install"]
        options = "--quiet --disable-pip-version-check --no-input --no-index --no-cache-dir --no-compile"
        wanted = [package.replace(" ", "==") for package in packages]
        subprocess.run([*command, *options.split(), "--find-links", self.place, *wanted], check=True, timeout=60)
        subprocess.run(
            [release / "bin/python", "-I", "-m", "compileall", "-q", release / "lib"], check=True, timeout=60
        )

    def take_over(self, new: Path | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", ROOT / "scripts/take_over.py", self.built, new or self.new, self.lock]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def left_to_pip(self) -> set[str]:
        """What is taken over is in the new release whole, and the rest not at all."""
        done = self.take_over()
        assert done.returncode == 0, done.stderr
        left = {name for name, entry in self.entries.items() if entry in done.stdout}
        assert done.stdout.count("==") == len(left)
        wanted = {name for name, entry in self.entries.items() if entry in self.lock.read_text()}
        assert {path.name for path in _packages(self.new).glob("*.dist-info")} == {
            f"{name.replace(' ', '-')}.dist-info" for name in wanted - left
        }
        return left


def _packages(release: Path) -> Path:
    return next(release.glob("lib/python3*/site-packages"))


def _empty(release: Path) -> Path:
    venv.create(release, symlinks=True)
    return release


def _files(release: Path, *, but: Iterable[str] = ()) -> dict[str, tuple[bytes, int]]:
    """Content and mode of all of it."""
    return {
        str(path.relative_to(release)): (path.read_bytes(), path.stat().st_mode)
        for path in release.rglob("*")
        if path.is_file() and not path.is_symlink() and path.suffix not in but
    }


def _state(release: Path) -> dict[str, tuple[bytes, int, int, int]]:
    """What nobody may change in a release that runs."""
    state = {}
    for path in [release, *release.rglob("*")]:
        facts = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        state[str(path)] = (content, facts.st_mode, facts.st_mtime_ns, facts.st_ino)
    return state


@pytest.fixture(scope="module")
def as_built(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    """pip runs once for all tests; each finds a copy in the place that the programs name."""
    place = tmp_path_factory.mktemp("releases")
    entries = {
        f"{name} {version}": _wheel(place, name, version, has_program=name == "beta")
        for name, version in (("alpha", "1.0"), ("beta", "1.0"), ("gamma", "1.0"), ("gamma", "2.0"), ("delta", "1.0"))
    }
    made = Releases(place, _empty(place / "in-use"), place / "new", place / "lock.txt", entries)
    made.want("alpha 1.0", "beta 1.0", "gamma 1.0")
    made.pip(made.built, "alpha 1.0", "beta 1.0", "gamma 1.0")
    shutil.copy(made.lock, made.built / ".locked")
    made.built.rename(place / "kept")
    return made


@pytest.fixture
def releases(as_built: Releases) -> Iterator[Releases]:
    made = replace(as_built, entries=dict(as_built.entries))
    shutil.copytree(made.place / "kept", made.built, symlinks=True)
    _empty(made.new)
    made.want("alpha 1.0", "beta 1.0", "gamma 2.0", "delta 1.0")
    yield made
    shutil.rmtree(made.built)
    shutil.rmtree(made.new, ignore_errors=True)


def test_what_both_name_is_shared_and_the_new_release_is_as_pip_alone_would_make_it(releases: Releases) -> None:
    before = _state(releases.built)
    assert releases.left_to_pip() == {"gamma 2.0", "delta 1.0"}
    for name in ("alpha/__init__.py", "alpha/inner/table.txt", "alpha-1.0.dist-info/RECORD", "beta/__init__.py"):
        assert _packages(releases.new).joinpath(name).samefile(_packages(releases.built) / name)
    compiled = next(_packages(releases.built).glob("alpha/__pycache__/*.pyc")).relative_to(releases.built)
    assert releases.new.joinpath(compiled).samefile(releases.built / compiled)

    packages = ("alpha 1.0", "beta 1.0", "gamma 2.0", "delta 1.0")
    releases.pip(releases.new, "gamma 2.0", "delta 1.0")
    assert releases.new.joinpath(compiled).samefile(releases.built / compiled), "it is not compiled once more"
    shared = _files(releases.new, but=[".pyc"])
    releases.new.rename(releases.place / "aside")
    releases.pip(_empty(releases.new), *packages)
    assert shared == _files(releases.new, but=[".pyc"])
    assert _state(releases.built) == before


def test_a_linked_program_and_its_traces_are_the_new_release_s(releases: Releases) -> None:
    assert "beta 1.0" not in releases.left_to_pip()
    said = subprocess.run([releases.new / "bin/beta"], capture_output=True, text=True, timeout=60, check=True).stdout
    module = _packages(releases.new) / "beta/__init__.py"
    assert said.split() == ["1.0", str(module), str(releases.new)]


def test_pip_that_replaces_what_is_linked_leaves_the_release_in_use_as_it_is(releases: Releases) -> None:
    """Also by hand, later: it never writes into a file that is there."""
    before = _state(releases.built)
    releases.left_to_pip()
    _wheel(releases.place, "alpha", "2.0", has_program=True)
    releases.pip(releases.new, "alpha 2.0")
    command = [sys.executable, "-I", "-m", "pip", "--python", releases.new / "bin/python"]
    options = ["install", "--quiet", "--no-index", "--force-reinstall", "--find-links"]
    subprocess.run([*command, *options, releases.place, "beta==1.0"], check=True, timeout=60)
    subprocess.run([*command, "uninstall", "--quiet", "--yes", "alpha"], check=True, timeout=60)
    subprocess.run(
        [releases.new / "bin/python", "-I", "-m", "compileall", "-qf", releases.new / "lib"], check=True, timeout=60
    )
    assert _state(releases.built) == before
    shutil.rmtree(releases.new)
    assert _state(releases.built) == before


@pytest.mark.parametrize("change", ["edited", "gone", "program", "other hash", "other version"])
def test_a_package_that_is_not_as_it_was_locked_is_left_to_pip(releases: Releases, change: str) -> None:
    packages = _packages(releases.built)
    if change == "edited":
        packages.joinpath("beta/inner/table.txt").write_text("edited by hand\n")
    elif change == "gone":
        packages.joinpath("beta/inner/table.txt").unlink()
    elif change == "program":
        program = releases.built / "bin/beta"
        program.write_text(program.read_text() + "# edited by hand\n")
    elif change == "other hash":
        text = releases.lock.read_text()
        digest = releases.entries["beta 1.0"].split("sha256:")[1].strip()
        releases.lock.write_text(text.replace(digest, "0" * 64))
        releases.entries["beta 1.0"] = releases.entries["beta 1.0"].replace(digest, "0" * 64)
    else:
        packages.joinpath("beta-1.0.dist-info").rename(packages / "beta-1.1.dist-info")
    before = _state(releases.built)
    assert releases.left_to_pip() == {"beta 1.0", "gamma 2.0", "delta 1.0"}
    assert not releases.new.joinpath("bin/beta").exists()
    assert _state(releases.built) == before


@pytest.mark.parametrize("reason", ["of before lock files were kept", "another interpreter"])
def test_nothing_is_taken_from_a_release_that_may_not_fit(releases: Releases, reason: str) -> None:
    if reason == "another interpreter":
        config = releases.built / "pyvenv.cfg"
        version = sys.version.split()[0]
        assert f"version = {version}\n" in config.read_text()
        config.write_text(config.read_text().replace(f"version = {version}\n", f"version = {version}1\n"))
    else:
        releases.built.joinpath(".locked").unlink()
    assert releases.left_to_pip() == {"alpha 1.0", "beta 1.0", "gamma 2.0", "delta 1.0"}


def test_a_full_disk_is_told(releases: Releases) -> None:
    limited = f'ulimit -f 0; exec "$@" {releases.built} {releases.new} {releases.lock}'
    command = ["bash", "-c", limited, "full", sys.executable, "-I", str(ROOT / "scripts/take_over.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not OTHER_FILE_SYSTEM.is_dir(), reason="no second file system")
def test_an_environment_that_could_not_be_linked_is_made_anew(releases: Releases, tmp_path: Path) -> None:
    script, prefix = elsewhere(tmp_path), tmp_path / "opt/futu_tick_downloader"
    in_use, release = prefix / "releases/in-use", prefix / "releases/new"
    if OTHER_FILE_SYSTEM.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("everything is on one file system here")
    in_use.parent.mkdir(parents=True)
    prefix.joinpath("venv").symlink_to("releases/in-use")
    lines = [
        f". {script}",
        f'make_venv() {{ "{sys.executable}" -I -m venv --without-pip "$@"; }}',
        f"scratch={tmp_path} wanted=all",
        f"begin_release {release} {releases.lock}",
        'echo "wanted=$wanted"',
    ]

    def begun() -> list[str]:
        done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    shutil.copytree(releases.built, in_use, symlinks=True)  # what its programs name is another release
    said, wanted = begun()
    assert said.endswith("1 of 4 packages are linked from the release in use")
    assert wanted == f"wanted={tmp_path}/missing.txt"
    assert _packages(release).joinpath("alpha").exists()

    other = Path(tempfile.mkdtemp(prefix="hk-take-over-", dir=OTHER_FILE_SYSTEM))
    try:
        in_use.rename(in_use.with_name("former"))
        in_use.symlink_to(other / "in-use")
        shutil.copytree(releases.built, other / "in-use", symlinks=True)
        said, wanted = begun()
    finally:
        shutil.rmtree(other)
    assert "could not be linked from" in said
    assert wanted == "wanted=all"
    assert [*_packages(release).iterdir()] == []
