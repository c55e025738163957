"""Record Hong Kong stock ticks from Futu OpenD into per-day SQLite files, and read them.

``import hk_tick_collector as hk`` is the Python API (docs/python.md)::

    table = hk.load("700", "20261127")

Nothing of it is loaded before the first use of a name: the recorder, which imports this package too, has no use for it.
``__init__.pyi`` names it all for type checkers.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_API = "hk_tick_collector.client"
_FROM = {
    "default": ("bars", "certificate", "connect", "coverage", "iter_batches", "live", "load", "local"),
    "api": ("Recordings",),
    "coverage": ("Coverage", "DayInfo", "SymbolCoverage"),
    "errors": (
        "BadQuestion",
        "Busy",
        "Damaged",
        "DayPacked",
        "IncompleteData",
        "NoData",
        "NotProven",
        "RecordingsError",
        "ServerError",
        "UnknownSymbol",
        "Unreadable",
    ),
}
_MODULE_OF = {name: f"{_API}.{module}" for module, names in _FROM.items() for name in names}
# ``days`` is the package of that name, which can be called (``_Face``).
__all__ = ["__version__", "days", *_MODULE_OF]  # noqa: PLE0604 - texts, all of them


def __getattr__(name: str) -> Any:
    if name == "days":
        return import_module(f"{__name__}.days")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Days(ModuleType):
    def __call__(self) -> Any:
        """The recorded days, oldest first, as ``client.coverage.DayInfo``."""
        return import_module(f"{_API}.default").days()


class _Face(ModuleType):
    """Python puts the package ``days`` into this one under its own name when it is imported, so ``hk.days`` can be
    nothing else. That it can be called is known here alone: the package is below ``client``."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "days" and isinstance(value, ModuleType):
            value.__class__ = _Days
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
