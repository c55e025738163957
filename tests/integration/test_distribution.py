"""What is published installs and records: the wheel, and the sdist that distributions build from."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.built_package import build_wheel, install_wheel, run
from tests.harness import Process, clean_env, ended, stored_rows, wait_until
from tests.scratch_tree import copy_tree

BUILD_SDIST = "import setuptools.build_meta as backend; backend.build_sdist({target!r})"


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two wheels: built from the tree, and from the sdist of the tree."""
    directory = tmp_path_factory.mktemp("dist")
    tree = copy_tree(directory / "tree")
    from_tree = build_wheel(tree, directory / "wheel")
    run([sys.executable, "-c", BUILD_SDIST.format(target=str(directory))], cwd=tree)
    (sdist,) = directory.glob("*.tar.gz")
    (directory / "unpacked").mkdir()
    run(["tar", "-xf", str(sdist)], cwd=directory / "unpacked")
    (source,) = (directory / "unpacked").iterdir()
    return from_tree, build_wheel(source, directory / "wheel-of-sdist")


@pytest.fixture(scope="module")
def base(wheels: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``bin`` of an environment with the sdist's wheel and the base dependencies, no extra."""
    return install_wheel(wheels[1], tmp_path_factory.mktemp("base") / "venv", [])


def contents(wheel: Path) -> dict[str, int]:
    """Names and check sums of the package's files."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist() if ".dist-info/" not in info.filename}


def test_tree_and_sdist_make_the_same_wheel(wheels: tuple[Path, Path]) -> None:
    from_tree, from_sdist = map(contents, wheels)
    assert from_tree == from_sdist
    tracked = {str(path) for path in package_files()}
    assert tracked <= from_tree.keys()


def package_files() -> list[Path]:
    """Everything under the package that is no Python cache: code, SQL, style sheets, the typing mark."""
    root = Path(__file__).resolve().parents[2]
    files = (root / "hk_tick_collector").rglob("*")
    return [path.relative_to(root) for path in files if path.is_file() and "__pycache__" not in path.parts]


def test_the_base_install_records(base: Path, tmp_path: Path) -> None:
    env = clean_env(tmp_path / "home")
    simulator = Process([base / "hk-opend-sim", "run", "--port", "0"], env)
    with ended(simulator):
        port = simulator.wait_for(r"opend_sim_ready .*port=(\d+)").group(1)
        env |= {"FUTU_HOST": "127.0.0.1", "FUTU_PORT": port, "FUTU_SYMBOLS": "HK.00700,HK.00005"}
        env |= {"DATA_ROOT": str(tmp_path / "data")}
        recorder = Process([base / "hk-tick-collector"], env)
        with ended(recorder):
            recorder.wait_for("backfill_done ")
            wait_until(lambda: stored_rows(tmp_path / "data") > 5, "rows")
            status = subprocess.run(
                [base / "hk-tickctl", "status", "--json"],
                env=env,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert json.loads(status.stdout)
            assert recorder.stop() == 0


def test_a_command_that_wants_an_extra_says_which(base: Path, tmp_path: Path) -> None:
    env = clean_env(tmp_path / "home", DATA_ROOT=tmp_path)
    done = subprocess.run(
        [base / "hk-tickctl", "export", "parquet", "--output", tmp_path / "out", "--data-root", tmp_path],
        env=env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "[tools]" in done.stderr
    assert "Traceback" not in done.stderr
