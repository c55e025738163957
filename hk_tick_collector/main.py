"""``hk-tick-collector``: read the configuration, take the data root's lock, run the daemon, return its exit code."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hk_tick_collector import __version__
from hk_tick_collector.app.config import Settings, load_settings
from hk_tick_collector.app.logs import configure_logging
from hk_tick_collector.app.start import until_it_works
from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.store import layout

GC_THRESHOLD_OBJECTS = 50_000
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h; the service manager does not restart on it


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Exit codes: 0 stopped as asked, 1 gave up, 2 usage, 78 configuration."""
    args = _parser().parse_args(argv)

    def settings_now() -> Settings:
        return load_settings(args.env_file, os.environ)

    try:
        settings = settings_now() if args.check_config else until_it_works(settings_now)
    except ConfigError as exc:
        print(f"hk-tick-collector: the configuration is wrong, nothing was started\n{exc}", file=sys.stderr)
        return EXIT_CONFIG
    if args.check_config:
        print(f"configuration ok: {len(settings.futu_symbols)} symbols, data root {settings.data_root}")
        return 0
    configure_logging(settings.log_level)
    faulthandler.enable(all_threads=True)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    try:
        with until_it_works(lambda: _take(settings.data_root)):
            return asyncio.run(_run(settings, settings_now))
    except ConfigError as exc:
        print(f"hk-tick-collector: {exc}", file=sys.stderr)
        return EXIT_CONFIG


def _take(data_root: Path) -> layout.DataRootLock:
    """The data root, made if need be and ours alone."""
    layout.prepare_data_root(data_root)
    lock = layout.DataRootLock(data_root)
    lock.acquire()
    return lock


async def _run(settings: Settings, reload_settings: Callable[[], Settings]) -> int:
    # Imported here: the SDK behind it takes a second and a log file, which --help and --check-config need not pay.
    from hk_tick_collector.app.daemon import Daemon  # noqa: PLC0415

    daemon = Daemon(settings, reload_settings)
    _calm_gc()
    return await daemon.run()


def _calm_gc() -> None:
    """Look for cycles less often: ticks make none, yet every 700 new tuples would start a walk over what is alive.

    At full load those walks took 11 % of the CPU, and 1 % with this. What is imported by now stays for good and is left
    out of later walks.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD_OBJECTS, 20, 20)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hk-tick-collector",
        description="Record Hong Kong stock ticks from Futu OpenD into per-day SQLite files.",
        epilog="Settings come from the environment and a .env file; see docs/configuration.md.",
    )
    parser.add_argument("--env-file", type=Path, help="settings file (default: .env in the working directory)")
    parser.add_argument("--check-config", action="store_true", help="check the settings and exit: 0 fine, 78 wrong")
    parser.add_argument("--version", action="version", version=f"hk-tick-collector {__version__}")
    return parser


if __name__ == "__main__":
    sys.exit(main())
