"""Rewrites the assertions of all test modules before pytest does: once, not by each of its processes.

``python -I tests/rewritten.py``, on all cores. pytest's own code does it and looks for what is left beside its own
(``__pycache__``), also where PYTHONDONTWRITEBYTECODE keeps it from leaving any. Three processes at once would each take
as long for it as for all imports.
"""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from types import SimpleNamespace

from _pytest.assertion import rewrite

TESTS = Path(__file__).parent


def cache_of(path: Path) -> Path:
    """Where pytest looks for the module's code."""
    return Path(rewrite.get_cache_dir(path)) / f"{path.stem}{rewrite.PYC_TAIL}"


def write(path: Path) -> bool:
    """Is the module's code there? Left alone where it is still right."""
    cache = cache_of(path)
    if rewrite._read_pyc(path, cache) is not None:
        return True
    cache.parent.mkdir(parents=True, exist_ok=True)
    source_mark, code = rewrite._rewrite_test(path, None)  # type: ignore[arg-type]
    return rewrite._write_pyc(SimpleNamespace(trace=print), code, source_mark, cache)  # type: ignore[arg-type]


def modules(directory: Path) -> list[Path]:
    """What pytest rewrites, the longest first."""
    paths = [*directory.rglob("test_*.py"), *directory.rglob("conftest.py")]
    return sorted(paths, key=lambda path: -path.stat().st_size)


if __name__ == "__main__":
    with multiprocessing.Pool() as pool:
        raise SystemExit(not all(pool.imap_unordered(write, modules(TESTS))))
