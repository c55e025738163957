"""Rewrites the assertions of all test modules before pytest does: once, not by each of its processes. And imports the
libraries that test modules import, where what pip installed was never compiled: that is done by who imports it first.
pytest rewrites its plugins, too, of which Hypothesis is the large one.

``python -I tests/rewritten.py``, on all cores. pytest's own code does it and looks for what is left beside its own
(``__pycache__``), also where PYTHONDONTWRITEBYTECODE keeps it from leaving any. Three processes at once would each take
as long for it as for all imports.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace

from _pytest.assertion import rewrite

TESTS = Path(__file__).parent
PLUGIN = "hypothesis"


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
    """Of the tests, what pytest rewrites."""
    return [*directory.rglob("test_*.py"), *directory.rglob("conftest.py")]


def plugin_modules() -> list[Path]:
    """Of Hypothesis, what tests import; found without importing it."""
    spec = importlib.util.find_spec(PLUGIN)
    package = Path(str(spec and spec.origin)).parent
    return [path for path in package.rglob("*.py") if "extra" not in path.relative_to(package).parts]


def libraries(paths: Iterable[Path]) -> set[str]:
    """Modules that these import when they are imported: neither ours nor Python's own."""
    told = [
        re.findall(r"^(?:from|import) (\w[\w.]*)", path.read_text(encoding="utf-8"), re.MULTILINE) for path in paths
    ]
    ours = {"tests", "benchmarks", "hk_tick_collector", *sys.stdlib_module_names}
    return {name for names in told for name in names if name.partition(".")[0] not in ours}


def compile_libraries(names: Iterable[str]) -> None:
    """Import those of which nothing is compiled. What cannot be imported is for the test that wants it to say."""
    for name in sorted(names):
        with contextlib.suppress(Exception):
            spec = importlib.util.find_spec(name.partition(".")[0])
            if spec is not None and spec.origin and not Path(importlib.util.cache_from_source(spec.origin)).exists():
                importlib.import_module(name)


def prepare(directory: Path) -> bool:
    """Both, of the test modules below a directory: is all of it written? BrokenProcessPool where a library ends the
    process that imports it, instead of waiting for it for ever."""
    paths = modules(directory)
    with ProcessPoolExecutor() as pool:
        compiling = pool.submit(compile_libraries, libraries(paths))
        longest_first = sorted([*paths, *plugin_modules()], key=lambda path: -path.stat().st_size)
        written = all(pool.map(write, longest_first))
        compiling.result()
        return written


if __name__ == "__main__":
    raise SystemExit(not prepare(TESTS))
