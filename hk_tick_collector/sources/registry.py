"""Every source there is. A new one is a line here."""

from __future__ import annotations

from hk_tick_collector.sources.futu import spec as futu
from hk_tick_collector.sources.source import SourceSpec

OFFERED: tuple[SourceSpec, ...] = (*futu.SPECS,)
PROVIDERS: tuple[str, ...] = tuple(dict.fromkeys(spec.provider for spec in OFFERED))
