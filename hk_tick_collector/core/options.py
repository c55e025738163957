"""Each box says in its own options which settings it takes; this is the one rule by which it gets them.

An option is filled by the setting of its own name, or by the one that ``from_setting`` names. So a box can be read
without the settings, and a new option is one line in it::

    @dataclass(frozen=True, slots=True)
    class PumpOptions:
        max_rows: int
        wait_sec: float = from_setting("max_wait_ms", factor=0.001)

    options_of(PumpOptions, settings)
"""

from __future__ import annotations

from dataclasses import MISSING, field, fields
from typing import Any, TypeVar

_T = TypeVar("_T")


def from_setting(name: str, factor: float | None = None) -> Any:
    """An option that has another name than its setting, and perhaps another unit."""
    return field(default=MISSING, metadata={"setting": name, "factor": factor})


def options_of(options: type[_T], settings: object) -> _T:
    """The options of a box, from the attributes of ``settings``. AttributeError for one that is not there."""
    values: dict[str, Any] = {}
    for option in fields(options):  # type: ignore[arg-type]
        value = getattr(settings, option.metadata.get("setting", option.name))
        factor = option.metadata.get("factor")
        values[option.name] = value if factor is None else value * factor
    return options(**values)
