"""Programs without what libraries bring along and nothing here uses: pandas, and numpy's threads for linear algebra.

Arrow looks for pandas whenever it is given a list or an array: importing it takes a third of a second and 85 MiB, more
than most answers. The SDK may have it: it does without (``sources.futu.later``) until something of it is used.

numpy comes with OpenBLAS, which starts a thread for each further core when it is loaded, and each of them looks for
work for a tenth of a second before it sleeps: cores that the recorder beside it wants for its ticks.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

THREADS = "OPENBLAS_NUM_THREADS"  # read once, when numpy is loaded


class _NoPandas:
    """A finder of modules by its shape alone: the base class would be an import of its own."""

    def find_spec(self, name: str, _path: object, _target: object = None) -> None:
        if name == "pandas" and "futu" not in sys.modules:
            raise ModuleNotFoundError("this program does without pandas", name=name)


@contextlib.contextmanager
def without_unused() -> Iterator[None]:
    """For a whole program, as nobody tries a second time: nobody in this process imports pandas meanwhile, and numpy,
    here or in a process that it starts, has no threads. What is imported already stays, and so does a number of threads
    that the user has set."""
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    threads = os.environ.get(THREADS)
    os.environ.setdefault(THREADS, "1")
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        if threads is None:
            os.environ.pop(THREADS, None)
