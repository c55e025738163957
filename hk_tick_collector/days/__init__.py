"""A recorded day as Arrow, wherever it lies: its day file or its archive.

Called, the package is the Python API's ``hk.days()``: Python puts every package into the one around it under its own
name, so that ``hk_tick_collector.days`` can be nothing else.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Days(ModuleType):
    def __call__(self) -> Any:
        """The recorded days, oldest first, as ``client.coverage.DayInfo``."""
        return import_module("hk_tick_collector.client.default").days()


sys.modules[__name__].__class__ = _Days
