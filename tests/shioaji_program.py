"""Makes ticks with SinoPac's own package, in an environment of its own, of bytes as its line to the market brings them.

    python shioaji_program.py < [["TickSTKv1", [VALUE, ...]], ...]

Prints what each says of itself raw, which is what its gateway sends but for the exchange: a list of JSON objects. Asks
nobody: no login, no ``Shioaji()``. The package writes a log into the working directory.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import msgpack
import shioaji


def told(name: str, values: list[Any]) -> dict[str, Any]:
    """Of a tick of this class."""
    tick = getattr(shioaji, name).from_msgpack(msgpack.packb(values))
    return {field: value for field, value in tick.to_dict(raw=True).items() if field != "exchange"}


json.dump([told(name, values) for name, values in json.load(sys.stdin)], sys.stdout)
