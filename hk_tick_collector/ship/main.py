"""``hk-tick-ship``: bring recorded days to ClickHouse, and prove each copy. Exit codes as of ``app.program``."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hk_tick_collector.app.program import log_to_stderr, program, stop_on_signals
from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.core.extras import extra_with, how_to_install, missing_library
from hk_tick_collector.core.text import printable
from hk_tick_collector.ship.settings import ShipSettings, load_ship_settings

if TYPE_CHECKING:
    from hk_tick_collector.ship.counts import ShipCounts
    from hk_tick_collector.ship.metrics import MetricsServer

NAME = "hk-tick-ship"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return program(NAME, "Bring recorded days to ClickHouse.", "ship", _load, _check, _run, argv)


def _load(env_file: Path | None) -> ShipSettings:
    return load_ship_settings(env_file, os.environ)


def _check(settings: ShipSettings) -> str:
    settings.password()
    return f"{settings.data_root} to {settings.address.shown} as {settings.recorder}"


def _run(settings: ShipSettings) -> int:
    from hk_tick_collector.ship import shipper  # noqa: PLC0415 - after --help and --check-config
    from hk_tick_collector.ship.counts import ShipCounts  # noqa: PLC0415

    log_to_stderr(settings.log_level)
    for library in ("httpx", "httpcore"):
        logging.getLogger(library).setLevel(logging.WARNING)  # each request is a line of theirs, statement and all
    stop, counts = stop_on_signals(), ShipCounts()
    metrics = _metrics(settings, counts) if settings.ship_metrics_port else None
    print(printable(f"{NAME}: {_check(settings)}"), flush=True)
    try:
        shipper.run(settings, stop, counts)
    finally:
        if metrics is not None:
            metrics.close()
    return 0


def _metrics(settings: ShipSettings, counts: ShipCounts) -> MetricsServer:
    try:
        from hk_tick_collector.ship.metrics import MetricsServer  # noqa: PLC0415 - its package may be missing
    except ModuleNotFoundError as exc:
        library = missing_library(exc)
        raise ConfigError(
            f"SHIP_METRICS_PORT needs the package {library}: {how_to_install(extra_with(library))}; or set it to 0"
        ) from exc
    return MetricsServer(counts, settings.ship_dir, settings.ship_metrics_port)


if __name__ == "__main__":
    sys.exit(main())
