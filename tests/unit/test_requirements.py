"""The lock files against pyproject.toml, for each Python that the project works with."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = [version for text in PROJECT["classifiers"] if (version := text.rpartition(" ")[2]).startswith("3.")]
EXTRAS = PROJECT["optional-dependencies"]
SERVICE = ("alert", "metrics", "redis", "screen", "serve", "ship", "tools")
WANTED = {
    "build": ["setuptools>=68"],
    "service": [*PROJECT["dependencies"], *(text for name in SERVICE for text in EXTRAS[name])],
    "quick": [*PROJECT["dependencies"], *(text for name in (*SERVICE, "quick") for text in EXTRAS[name])],
    "dev": [*PROJECT["dependencies"], *(text for name in (*SERVICE, "docs", "dev") for text in EXTRAS[name])],
}


def _text(name: str) -> str:
    return (ROOT / f"requirements/{name}.txt").read_text()


def _locked(name: str, python: str) -> dict[str, str]:
    """Package and version, of the lines that count for a Python on Linux."""
    versions: dict[str, str] = {}
    environment = {
        "python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux",
        "platform_system": "Linux", "platform_machine": "x86_64", "implementation_name": "cpython",
        "platform_python_implementation": "CPython", "os_name": "posix",
    }  # fmt: skip
    for line in re.findall(r"^(\w[^\\\n]*)", _text(name), re.MULTILINE):
        requirement = Requirement(line)
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", line
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.name not in versions, f"{requirement.name} is there twice for Python {python}"
            versions[requirement.name] = specifier.version
    return versions


def test_pythons_are_those_that_the_project_names() -> None:
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    assert len(PYTHONS) >= 3


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", WANTED)
def test_all_that_is_wanted_is_locked(name: str, python: str) -> None:
    """When this fails after a change of pyproject.toml: bash scripts/lock_requirements.sh."""
    locked = _locked(name, python)
    for text in WANTED[name]:
        wanted = Requirement(text)
        if wanted.name != PROJECT["name"]:
            key = wanted.name.lower().replace("_", "-")
            assert wanted.specifier.contains(locked[key]), f"{text}: {locked[key]} is locked for Python {python}"


@pytest.mark.parametrize("name", [*WANTED, "backtest", "shioaji"])
def test_each_version_has_hashes_and_no_place(name: str) -> None:
    """Where packages come from is pip's own setting; what they are is ours."""
    blocks = re.split(r"\n(?=\w)", re.sub(r"(?m)^#.*\n", "", "\n" + _text(name)))[1:]
    assert blocks
    for block in blocks:
        head, *hashes = [line.strip(" \\") for line in block.strip().splitlines()]
        assert hashes, head
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes), head
    assert "://" not in _text(name)
    assert not re.search(r"^\s*-(?!-hash)", _text(name), re.MULTILINE)


@pytest.mark.parametrize("python", PYTHONS)
def test_tests_of_a_release_run_on_what_it_will_run_on(python: str) -> None:
    assert _locked("service", python).items() <= _locked("quick", python).items() <= _locked("dev", python).items()


def test_what_npm_installs_for_tests_is_locked_by_hash() -> None:
    wanted = json.loads((ROOT / "requirements/dxlink/package.json").read_text())["dependencies"]
    packages = json.loads((ROOT / "requirements/dxlink/package-lock.json").read_text())["packages"]
    assert packages.pop("")["dependencies"] == wanted
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    for name, locked in packages.items():
        assert locked["integrity"].startswith("sha512-"), name
        assert "resolved" not in locked, f"{name}: where packages come from is npm's own setting"
