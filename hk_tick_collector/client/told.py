"""The errors of the boxes below as those of the Python API, each with what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hk_tick_collector.client.errors import BadQuestion, Busy, Damaged, NoData, RecordingsError, Unreadable
from hk_tick_collector.core import errors as core
from hk_tick_collector.core.disk import told
from hk_tick_collector.core.extras import extra_with, how_to_install, missing_library
from hk_tick_collector.watch.access import CLOSED_ADVICE, DAMAGED_ADVICE, closed_to_us

_KINDS: tuple[tuple[type[Exception], type[RecordingsError], str], ...] = (
    (core.NoData, NoData, "hk.days() lists what is recorded"),
    (core.InputError, BadQuestion, ""),
    (core.ConfigError, BadQuestion, "docs/configuration.md lists the settings"),
    (core.StoreBusy, Busy, "ask again in a moment"),
    (core.StoreUnavailable, Unreadable, ""),
    (core.StoreCorrupt, Damaged, DAMAGED_ADVICE),
    (core.CopiesUnavailable, Unreadable, ""),
    (core.RecorderError, RecordingsError, ""),
    (OSError, Unreadable, ""),
)
UNTRANSLATED = (core.RecorderError, OSError, ModuleNotFoundError)  # what boxes below raise that a user can meet


@contextmanager
def translated() -> Iterator[None]:
    """Errors of reading become ``RecordingsError``."""
    try:
        yield
    except RecordingsError:
        raise
    except UNTRANSLATED as exc:
        raise as_ours(exc) from exc


def as_ours(exc: BaseException) -> RecordingsError:
    """One error of the Python API that says the same."""
    if isinstance(exc, ModuleNotFoundError):
        library = missing_library(exc)
        return RecordingsError(f"the package {library} is missing", how_to_install(extra_with(library)))
    if closed_to_us(exc):
        return Unreadable(f"{closed_to_us(exc)}".removesuffix(f": {CLOSED_ADVICE}"), CLOSED_ADVICE)
    text = told(exc) if isinstance(exc, OSError) else str(exc)
    return next(ours(text, hint) for kind, ours, hint in _KINDS if isinstance(exc, kind))
