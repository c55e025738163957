"""Importing the SDK without a HOME that can be written to, as a service or a container may have none.

``import futu`` opens a log file under HOME, and raises when it cannot. Within ``lent_home`` there is one in any case.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from hk_tick_collector.core.scratch import Scratch


@contextmanager
def lent_home() -> Iterator[bool]:
    """True when a private directory is HOME inside the block: it is gone behind it, whatever kept files open there."""
    home = os.environ.get("HOME")
    if home and os.access(home, os.W_OK):
        yield False
        return
    with Scratch("home") as stand_in:
        os.environ["HOME"] = str(stand_in)
        try:
            yield True
        finally:
            del os.environ["HOME"]
            if home is not None:
                os.environ["HOME"] = home
