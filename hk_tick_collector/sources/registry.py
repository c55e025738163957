"""Every source there is. A new one is a line in each of the two tables here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.sources.futu import spec as futu
from hk_tick_collector.sources.source import Source, SourceSpec

OFFERED: tuple[SourceSpec, ...] = (*futu.SPECS,)
PROVIDERS: tuple[str, ...] = tuple(dict.fromkeys(spec.provider for spec in OFFERED))


class SourceSettings(Protocol):
    """What the sources take from the settings, by the names that they have there."""

    @property
    def spec(self) -> SourceSpec:
        """Which of them, on which market."""

    futu_host: str
    futu_port: int
    futu_rsa_key_file: Path | None


def _futu(settings: SourceSettings, clock: Clock) -> Source:
    # Imported here: the SDK behind it takes a second and a log file, which nobody else need pay.
    from hk_tick_collector.sources.futu.link import FutuSource  # noqa: PLC0415

    return FutuSource(settings.spec, settings.futu_host, settings.futu_port, settings.futu_rsa_key_file, clock)


_MAKERS: dict[str, Callable[[SourceSettings, Clock], Source]] = {futu.PROVIDER: _futu}


def open_source(settings: SourceSettings, clock: Clock) -> Source:
    """The source that SOURCE and MARKET name. Made on the loop; it connects to nothing yet."""
    return _MAKERS[settings.spec.provider](settings, clock)
