"""Programs that do without pandas, also where it is installed.

Arrow looks for pandas whenever it is given a list or an array: importing it takes a third of a second and 85 MiB, more
than most answers. The SDK may have it: it does without (``sources.futu.later``) until something of it is used.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


class _NoPandas:
    """A finder of modules by its shape alone: the base class would be an import of its own."""

    def find_spec(self, name: str, _path: object, _target: object = None) -> None:
        if name == "pandas" and "futu" not in sys.modules:
            raise ModuleNotFoundError("this program does without pandas", name=name)


@contextlib.contextmanager
def without_pandas() -> Iterator[None]:
    """Nobody in this process imports pandas meanwhile: for a whole program, as nobody tries a second time. What is
    imported already stays."""
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
