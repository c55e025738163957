"""The project as a package: built, and installed with what it declares alone, without asking a package index twice."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement


def runtime_closure(project: importlib.metadata.Distribution, extras: list[str]) -> set[str]:
    """Distributions that ``pip install PROJECT[extras]`` brings, the project itself left out."""
    packages: set[str] = set()
    waiting = [(project, extra) for extra in extras or [""]]
    while waiting:
        distribution, wanted = waiting.pop()
        for text in distribution.requires or []:
            need = Requirement(text)
            if need.marker is not None and not need.marker.evaluate({"extra": wanted}):
                continue
            if need.name.lower() not in packages:
                packages.add(need.name.lower())
                waiting.append((importlib.metadata.distribution(need.name), ""))
    return packages


def can_build_wheels() -> bool:
    """setuptools does it alone from 70.1 on, with the package ``wheel`` before."""
    try:
        major, minor = importlib.metadata.version("setuptools").split(".")[:2]
    except importlib.metadata.PackageNotFoundError:
        return False
    return (int(major), int(minor)) >= (70, 1) or importlib.util.find_spec("wheel") is not None


def lend(distribution: importlib.metadata.Distribution, site: Path) -> None:
    for part in {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}:
        source, target = Path(str(distribution.locate_file(part))), site / part
        if source.exists() and not target.exists():
            target.symlink_to(source)
        elif source.is_dir() and target.is_symlink():  # one directory, two distributions: they lie in the same place
            assert target.resolve() == source.resolve()


def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done


def build_wheel(source: Path, wheels: Path) -> Path:
    """The wheel of a source tree or an sdist."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), str(source)]
    if can_build_wheels():  # then no package index is needed
        build.append("--no-build-isolation")
    run(build)
    (wheel,) = wheels.glob("hk_tick_collector-*.whl")
    return wheel


def install_wheel(wheel: Path, env: Path, extras: list[str]) -> Path:
    """A new virtual environment with the wheel and its declared dependencies alone; returns its ``bin``."""
    venv.create(env, with_pip=False, symlinks=True)
    site = next((env / "lib").glob("python3*/site-packages"))
    # pip of this environment; what it would download is lent file by file from here.
    run(
        [sys.executable, "-m", "pip", "--python", str(env / "bin" / "python"), "install", "-q", "--no-deps", str(wheel)]
    )
    (metadata,) = site.glob("hk_tick_collector-*.dist-info")
    for name in runtime_closure(importlib.metadata.PathDistribution(metadata), extras):
        lend(importlib.metadata.distribution(name), site)
    return env / "bin"
