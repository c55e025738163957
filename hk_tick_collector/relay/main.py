"""``hk-tick-redis``: fill Redis with the ticks that the recorder stores. Exit codes as of ``app.program``."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hk_tick_collector.app.program import log_to_stderr, program, stop_on_signals
from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.core.extras import extra_with, how_to_install, missing_library
from hk_tick_collector.core.text import printable
from hk_tick_collector.relay.settings import RelaySettings, load_relay_settings

if TYPE_CHECKING:
    from hk_tick_collector.relay.counts import RelayCounts
    from hk_tick_collector.relay.metrics import MetricsServer

NAME = "hk-tick-redis"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return program(NAME, "Fill Redis with ticks as they are stored.", "redis", _load, _check, _run, argv)


def _load(env_file: Path | None) -> RelaySettings:
    return load_relay_settings(env_file, os.environ)


def _check(settings: RelaySettings) -> str:
    from hk_tick_collector.relay.redis_sink import address_of  # noqa: PLC0415 - after --help

    return f"{_what(settings)} to {address_of(settings.redis_url)}"


def _what(settings: RelaySettings) -> str:
    roots = [root for root, _ in settings.roots]
    left = [root for root in dict.fromkeys(settings.data_roots) if root not in roots]
    note = f" ({', '.join(map(str, left))} hold another market: a relay of their own, with DATA_ROOT)" if left else ""
    return f"{', '.join(map(str, roots))}{note}"


def _run(settings: RelaySettings) -> int:
    from hk_tick_collector.relay.counts import RelayCounts  # noqa: PLC0415 - after --help and --check-config
    from hk_tick_collector.relay.loop import run  # noqa: PLC0415
    from hk_tick_collector.relay.redis_sink import RedisSink  # noqa: PLC0415
    from hk_tick_collector.relay.signals import relay_signals  # noqa: PLC0415

    log_to_stderr(settings.log_level)
    stop = stop_on_signals()
    counts = RelayCounts()
    metrics = _metrics(settings.redis_metrics_port, counts) if settings.redis_metrics_port else None
    print(printable(f"{NAME}: {_check(settings)}"), flush=True)
    signals = None
    if settings.hooks_dir is not None and settings.redis_signals:
        signals = threading.Thread(
            target=relay_signals,
            args=(settings.hooks_dir, RedisSink(settings), stop),
            kwargs={"counts": counts},
            name="signals",
        )
        signals.start()
    (root, archive_root), *beside = settings.roots
    run(root, RedisSink(settings), stop=stop, archive_root=archive_root, counts=counts, beside=beside)
    if signals is not None:
        signals.join()
    if metrics is not None:
        metrics.close()
    return 0


def _metrics(port: int, counts: RelayCounts) -> MetricsServer:
    try:
        from hk_tick_collector.relay.metrics import MetricsServer  # noqa: PLC0415 - its package may be missing
    except ModuleNotFoundError as exc:
        library = missing_library(exc)
        raise ConfigError(
            f"REDIS_METRICS_PORT needs the package {library}: {how_to_install(extra_with(library))}; or set it to 0"
        ) from exc
    return MetricsServer(counts, port)


if __name__ == "__main__":
    sys.exit(main())
