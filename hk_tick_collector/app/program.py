"""The command line of a program that reads behind the recorder: its options, its log lines, and honest exit codes.

Exit codes: 0 stopped as asked, 1 failed (a package is missing, what it needs is in use), 2 usage, 78 the configuration
is wrong and nothing was started.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hk_tick_collector import __version__
from hk_tick_collector.app.start import may_heal
from hk_tick_collector.core.errors import ConfigError, RecorderError
from hk_tick_collector.core.extras import how_to_install, missing_library
from hk_tick_collector.core.text import printable
from hk_tick_collector.core.unused import without_unused

EXIT_FAILED, EXIT_CONFIG = 1, 78
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def program(
    name: str,
    about: str,
    extra: str,
    load: Callable[[Path | None], Any],
    check: Callable[[Any], str],
    run: Callable[[Any], int],
    argv: Sequence[str] | None = None,
    *,
    page: str = "docs/configuration.md",
) -> int:
    """Read the settings with ``load(env_file)``, ``check`` them, then ``run`` with them; the exit code.

    ``check`` gives the words that follow "configuration ok" and raises ConfigError for what can be known beforehand;
    ``extra`` brings the packages that the program needs. What is heavy is imported inside these functions, so that
    ``--help`` does not wait for it::

        def main(argv=None):
            return program("hk-tick-csv", "Write ticks as CSV.", "tools", load_settings, _check, _run, argv)
    """
    parser = argparse.ArgumentParser(prog=name, description=about, epilog=f"Settings: {page}.")
    parser.add_argument("--env-file", type=Path, help="settings file (default: .env in the working directory)")
    parser.add_argument("--check-config", action="store_true", help="check the settings and exit: 0 fine, 78 wrong")
    parser.add_argument("--version", action="version", version=f"{name} {__version__}")
    args = parser.parse_args(argv)
    try:
        settings = load(args.env_file)
        checked = check(settings)
        if args.check_config:
            print(printable(f"configuration ok: {checked}"))
            return 0
        with without_unused():
            return run(settings)
    except ConfigError as exc:
        if may_heal(exc):
            print(
                printable(f"{name}: the machine does not let the configuration be read\n{exc}", "\n"), file=sys.stderr
            )
            return EXIT_FAILED
        print(printable(f"{name}: the configuration is wrong, nothing was started\n{exc}", "\n"), file=sys.stderr)
        return EXIT_CONFIG
    except RecorderError as exc:
        print(printable(f"{name}: {exc}", "\n"), file=sys.stderr)
        return EXIT_FAILED
    except ModuleNotFoundError as exc:
        print(f"{name}: the package {missing_library(exc)} is missing: {how_to_install(extra)}", file=sys.stderr)
        return EXIT_FAILED


def log_to_stderr(level: str) -> None:
    """Log lines with time and level, to standard error."""
    logging.basicConfig(level=level, format=LOG_FORMAT, stream=sys.stderr)


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set: the program ends in order."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
