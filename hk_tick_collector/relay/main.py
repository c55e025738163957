"""``hk-tick-redis``: fill Redis with the ticks that the recorder stores.

Exit codes: 0 stopped as asked, 1 failed (a package is missing), 78 the configuration is wrong.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hk_tick_collector import __version__
from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.core.extras import extra_with, how_to_install, missing_library
from hk_tick_collector.core.text import printable
from hk_tick_collector.relay.settings import RelaySettings, load_relay_settings

if TYPE_CHECKING:
    from hk_tick_collector.relay.counts import RelayCounts
    from hk_tick_collector.relay.metrics import MetricsServer

NAME = "hk-tick-redis"
EXIT_FAILED, EXIT_CONFIG = 1, 78


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog=NAME, description="Fill Redis with ticks as they are stored.", epilog="Settings: docs/configuration.md."
    )
    parser.add_argument("--env-file", type=Path, help="settings file (default: .env in the working directory)")
    parser.add_argument("--check-config", action="store_true", help="check the settings and exit: 0 fine, 78 wrong")
    parser.add_argument("--version", action="version", version=f"{NAME} {__version__}")
    args = parser.parse_args(argv)
    try:
        settings = load_relay_settings(args.env_file, os.environ)
        return _check(settings) if args.check_config else _run(settings)
    except ConfigError as exc:
        print(printable(f"{NAME}: the configuration is wrong, nothing was started\n{exc}", "\n"), file=sys.stderr)
        return EXIT_CONFIG
    except ModuleNotFoundError as exc:
        print(f"{NAME}: the package {missing_library(exc)} is missing: {how_to_install('redis')}", file=sys.stderr)
        return EXIT_FAILED


def _check(settings: RelaySettings) -> int:
    from hk_tick_collector.relay.redis_sink import address_of  # noqa: PLC0415 - after --help

    print(printable(f"configuration ok: {settings.data_root} to {address_of(settings.redis_url)}"))
    return 0


def _run(settings: RelaySettings) -> int:
    from hk_tick_collector.relay.counts import RelayCounts  # noqa: PLC0415 - after --help and --check-config
    from hk_tick_collector.relay.loop import run  # noqa: PLC0415
    from hk_tick_collector.relay.redis_sink import RedisSink, address_of  # noqa: PLC0415
    from hk_tick_collector.relay.signals import relay_signals  # noqa: PLC0415

    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    counts = RelayCounts()
    metrics = _metrics(settings.redis_metrics_port, counts) if settings.redis_metrics_port else None
    print(printable(f"{NAME}: {settings.data_root} to {address_of(settings.redis_url)}"), flush=True)
    signals = None
    if settings.hooks_dir is not None and settings.redis_signals:
        signals = threading.Thread(
            target=relay_signals,
            args=(settings.hooks_dir, RedisSink(settings), stop),
            kwargs={"counts": counts},
            name="signals",
        )
        signals.start()
    run(settings.data_root, RedisSink(settings), stop=stop, archive_root=settings.archive_root, counts=counts)
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
