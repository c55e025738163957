"""What the nights run is there: each file and module that a command of the nightly workflow names."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.episodes.test_episodes import EPISODES, LONG
from tests.scratch_tree import ROOT

WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/nightly.yml").read_text())
COMMANDS = [run["command"] for run in WORKFLOW["jobs"]["random"]["strategy"]["matrix"]["run"]]
MODULES = [f"benchmarks.{run['module']}" for run in WORKFLOW["jobs"]["long"]["strategy"]["matrix"]["run"]]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_names_is_there(command: str) -> None:
    named = re.findall(r"(?:tests|scripts)/[\w/.]+", command)
    named += [f"{module.replace('.', '/')}/__main__.py" for module in re.findall(r"-m (tests[\w.]+)", command)]
    assert named
    for path in named:
        assert (ROOT / path).exists(), path
    for variable in set(re.findall(r"\b([A-Z_]+)=", command)):
        files = [
            file for path in named for file in ([ROOT / path] if path.endswith(".py") else (ROOT / path).glob("*.py"))
        ]
        assert any(f'"{variable}"' in file.read_text() for file in files), f"nobody reads {variable}"


@pytest.mark.parametrize("module", MODULES)
def test_the_long_runs_are_there(module: str) -> None:
    assert (ROOT / f"{module.replace('.', '/')}.py").exists()


def test_an_episode_that_the_check_leaves_out_is_run_every_night() -> None:
    named = [re.search(r"tests\.episodes --seed ([\d ]+)", command) for command in COMMANDS]
    nightly = {int(seed) for found in named if found is not None for seed in found[1].split()}
    assert {*range(60)} <= nightly | {*EPISODES}
    assert nightly == LONG
