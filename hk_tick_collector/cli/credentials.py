"""What ``hk-tickctl doctor`` says of a source's file of secrets, whichever the source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hk_tick_collector.cli.checkup import Outcome, fail, ok
from hk_tick_collector.core.errors import InputError
from hk_tick_collector.sources.secrets import find, read_secrets


def secrets_file(path: Path, choices: Sequence[Sequence[str]], page: str) -> Outcome:
    """Is there all that is needed? ``choices`` as of ``read_secrets``; which of several names are there is told, and no
    value. ``page``: the document that says what is in it."""
    try:
        names = read_secrets(find(path), choices)
    except InputError as exc:
        return fail(str(exc), f"{page} says what is in it; what root alone may read takes sudo")
    may_be_several = sum(map(len, choices)) > 1
    return ok(f"{path}: {', '.join(sorted(names))}" if may_be_several else str(path))
