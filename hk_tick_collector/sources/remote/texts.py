"""JSON texts as they come, thousands of values a second: by orjson where it is installed, at a quarter of the CPU.

What orjson refuses (NaN, a number beyond a double, half a surrogate, a byte order mark) the standard library reads, as
it does where there is no orjson. One difference is left: an integer of more than 64 bits is a float. No field of ours
has one, and every mapper looks at the kind of a value.
"""

from __future__ import annotations

import json
from typing import Any

try:
    import orjson
except ModuleNotFoundError:  # of an extra; only the CPU differs
    orjson = None  # type: ignore[assignment]


def value_of(text: str | bytes) -> Any:
    """ValueError or RecursionError for what is no JSON."""
    if orjson is not None:
        try:
            return orjson.loads(text)
        except ValueError:
            pass
    return json.loads(text)
