"""Hong Kong's codes: ``HK.`` and five digits.

A number of at most five digits can only mean a Hong Kong code here and is filled up with zeros, alone or with HK before
or behind it, as people and other vendors write it: ``700``, ``0700.HK``, ``HK.700``, ``hk700``.

Limits: a five-digit code says nothing about whether it is listed or a warrant, which only OpenD can tell.
"""

from __future__ import annotations

import re

_WRITTEN = re.compile(r"(?:HK\.?)?([0-9]{1,5})\Z|([0-9]{1,5})\.HK\Z", re.IGNORECASE | re.ASCII)
_INDEX = re.compile(r"(?:HK\.)?(800[0-9]{3})\Z", re.IGNORECASE)
_HK_DERIVATIVE = re.compile(r"HK\.\S*[A-Za-z]", re.IGNORECASE)
_OTHER_MARKET = re.compile(r"([A-Za-z]{2,10})\.\S+\Z")


class HongKongSymbols:
    """``HK.00700``; see ``SymbolGrammar``."""

    example = "HK.00700"
    noun = "HK stock"

    def symbol(self, word: str) -> str | None:
        """``HK.00700``, ``700``, ``0700.HK``, ``hk700`` -> ``HK.00700``; None for what is none of these."""
        match = _WRITTEN.match(word)
        number = int(match[1] or match[2]) if match else 0
        return f"HK.{number:05d}" if number else None

    def why_not(self, word: str) -> str:
        """The reason a word is refused, and what to write instead where that is clear."""
        other = _OTHER_MARKET.match(word)
        reason = "not an HK stock code; HK. and five digits are expected, for example HK.00700"
        if _INDEX.match(word):
            reason = "an index has no trades of its own; only HK stocks are recorded"
        elif _HK_DERIVATIVE.match(word):
            reason = "futures, options and index codes are not recorded; only HK stocks (HK. and five digits)"
        elif other is not None and other.group(1).upper() != "HK":
            reason = f"market {other.group(1).upper()} is not recorded; only HK stocks (HK. and five digits)"
        elif word.startswith("@"):
            reason = "a symbols file cannot name another file"
        return reason
