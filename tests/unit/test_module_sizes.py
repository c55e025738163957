"""No module of the package is longer than what a reader takes in at one sitting."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "hk_tick_collector"
MOST_LINES = 500


def test_no_module_is_too_long() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert len(lines) > 500
    too_long = {str(path.relative_to(PACKAGE)): count for path, count in lines.items() if count > MOST_LINES}
    assert not too_long, f"give these parts: {too_long}"
