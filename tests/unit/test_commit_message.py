"""``scripts/commit_message.py``, as the hook and CI run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.scratch_tree import ROOT

SCRIPT = ROOT / "scripts/commit_message.py"


def check(*arguments: object, where: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *map(str, arguments)], cwd=where, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("x" * 72 + "\n\nBody.\n# a comment of git's that may be as long as it likes " + "x" * 80, ""),
        ("# only this\nShort\n", ""),
        ("x" * 73, "the first line has 73 characters, 72 are allowed"),
        ("A sentence.\n", "ends with a full stop"),
        ("Subject\nbody at once\n", "the second line has to be blank"),
        ("\n# nothing\n", "the first line is empty"),
    ],
)
def test_one_message(message: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "COMMIT_EDITMSG"
    file.write_text(message)
    done = check(file)
    assert (done.returncode, told in done.stderr) == (1 if told else 0, True)


def test_a_range_of_commits(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q")
    for subject in ("x" * 100, "Fine", "Too long " + "y" * 70):
        git("commit", "-q", "--allow-empty", "-m", subject, "-m", "Body.")
    assert check("--commits", "HEAD~2..HEAD~1", where=tmp_path).returncode == 0
    done = check("--commits", "HEAD~2..HEAD", where=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "79 characters" in done.stderr


def test_the_hook_and_ci_run_it() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert "commit-msg" in config["default_install_hook_types"]
    (hook,) = [hook for repo in config["repos"] for hook in repo["hooks"] if "commit_message" in hook["entry"]]
    assert hook["stages"] == ["commit-msg"]
    assert "scripts/commit_message.py --commits" in (ROOT / ".github/workflows/ci.yml").read_text()
