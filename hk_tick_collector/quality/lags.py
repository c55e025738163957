"""How late ticks are: quantiles by stretch of a day, out of counts in bins of 6.5 %, so that memory does not grow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_EDGES_MS = np.geomspace(1.0, 1e7, 256)

_Ints = npt.NDArray[np.int64]


class Lags:
    """Counts of lags by ``slots`` stretches of a day."""

    def __init__(self, slots: int) -> None:
        self._counts = np.zeros((slots, len(_EDGES_MS) + 1), np.int64)

    def add(self, slots: _Ints, lags_ms: _Ints) -> None:
        """Lags, each in its slot."""
        width = self._counts.shape[1]
        bins = np.searchsorted(_EDGES_MS, lags_ms)
        counted = np.bincount(slots * width + bins, minlength=self._counts.size)
        self._counts += counted.reshape(self._counts.shape)

    @property
    def ticks(self) -> list[int]:
        """How many there are, by slot."""
        counts: list[int] = self._counts.sum(axis=1).tolist()
        return counts

    def quantile_ms(self, share: float) -> list[float | None]:
        """By slot, the upper edge of the bin that holds it; None where there is no lag."""
        upto = np.cumsum(self._counts, axis=1)
        total = upto[:, -1]
        edges = np.append(_EDGES_MS, _EDGES_MS[-1])
        at = np.argmax(upto >= np.maximum(np.ceil(share * total), 1)[:, None], axis=1)
        return [round(float(edges[n]), 1) if ticks else None for n, ticks in zip(at, total, strict=True)]
