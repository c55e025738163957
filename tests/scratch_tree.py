"""A copy of the project with a ``.venv`` that counts as installed, so that its scripts run without a package index."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".*cache", ".hypothesis", "__pycache__", "*.egg-info", "build", "dist"
)
_COMMANDS = {
    "hk-tick-collector": "hk_tick_collector.main",
    "hk-opend-sim": "hk_tick_collector.opend_sim.cli",
    "hk-dxlink-sim": "hk_tick_collector.dxlink_sim.cli",
    "hk-gexbot-sim": "hk_tick_collector.gexbot_sim.cli",
    "hk-schwab-sim": "hk_tick_collector.schwab_sim.cli",
    "hk-shioaji-sim": "hk_tick_collector.shioaji_sim.cli",
    "hk-tickctl": "hk_tick_collector.cli.main",
}


def copy_tree(target: Path) -> Path:
    """The sources alone, without ``.venv``; returns ``target``."""
    shutil.copytree(ROOT, target, ignore=_LEFT_OUT)
    return target


def copy_scripts(target: Path) -> Path:
    """What the scripts need to make an environment, a hundredth of the sources; returns ``target``."""
    for name in ("scripts", "requirements"):
        shutil.copytree(ROOT / name, target / name, ignore=_LEFT_OUT)
    shutil.copy(ROOT / "pyproject.toml", target)
    return target


def make_venv(tree: Path) -> None:
    """What ``ensure_venv`` would leave behind: the packages of this environment, the project from ``tree``. What is
    compiled here is so there: else each process compiles it anew where PYTHONDONTWRITEBYTECODE is set. Python looks
    whether it still fits its source."""
    directory = tree / ".venv"
    venv.create(directory, with_pip=False, symlinks=True)
    package = tree / "hk_tick_collector"
    for compiled in (ROOT / package.name).rglob("__pycache__") if package.exists() else ():
        shutil.copytree(compiled, tree / compiled.relative_to(ROOT), dirs_exist_ok=True)
    packages = next((directory / "lib").glob("python3*/site-packages"))
    lent = [path for path in [*site.getsitepackages(), *sys.path] if path.endswith("-packages")]
    # The tree first: this environment may have the project installed from another directory.
    packages.joinpath("lent.pth").write_text("\n".join([str(tree), *dict.fromkeys(lent)]) + "\n")
    for name, module in _COMMANDS.items():
        command = directory / "bin" / name
        command.write_text(f"#!{directory}/bin/python\nimport sys\nfrom {module} import main\nsys.exit(main())\n")
        command.chmod(0o755)
    subprocess.run(
        ["bash", "-euc", ". scripts/lib_venv.sh; fingerprint >.venv/.fingerprint-run"],
        cwd=tree, env={**os.environ, "PYTHON": sys.executable}, check=True, timeout=30,
    )  # fmt: skip
