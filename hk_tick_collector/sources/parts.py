"""Trades of a part of a share, or of shares and a part: no whole number is their volume.

One rule for every source of a market that has them: ``volume`` is NULL, and ``turnover``, which is price x size, by the
price is the size. So nothing is rounded, and whoever sums volumes counts whole shares alone.
"""

from __future__ import annotations

from typing import Any


def is_part(size: Any, most: float) -> bool:
    """Is it a size up to ``most`` that is no whole number? NaN and infinity are none."""
    return type(size) is float and 0.0 < size <= most and not size.is_integer()


def turnover_of(price: float, size: Any, most: float) -> float | None:
    """What tells a part (``is_part``); None of any other size, and at a price that makes it nothing: that trade is
    rejected for its size, for nothing that is stored would tell it."""
    return (price * size or None) if is_part(size, most) else None
