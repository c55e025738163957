"""Trades of a part of a share, or of shares and a part: no whole number is their volume.

One rule for every source of a market that has them: ``volume`` is NULL, and ``turnover``, which is price x size, by the
price is the size. So nothing is rounded, and whoever sums volumes counts whole shares alone.
"""

from __future__ import annotations

from typing import Any


def is_part(size: Any, most: float) -> bool:
    """Is it a size up to ``most`` that is no whole number? NaN and infinity are none."""
    return type(size) is float and 0.0 < size <= most and not size.is_integer()
