"""``hk-tick-collector``: read the configuration, take the data root's lock, run the daemon, return its exit code.

Until the daemon takes signals itself, SIGINT and SIGTERM simply end the process: nothing is recorded yet. What is heavy
is imported after that is settled, so that a Ctrl-C in the first second is no traceback.
"""

from __future__ import annotations

import argparse
import errno
import faulthandler
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hk_tick_collector import __version__
from hk_tick_collector.health import stacks

if TYPE_CHECKING:
    from hk_tick_collector.app.config import Settings
    from hk_tick_collector.store.layout import DataRootLock

EXIT_FAILED = 1
_SHOWN_CHARS = 200
# Cycles are looked for less often: ticks make none, and imports few, yet every 700 new objects would start a walk over
# what is alive. At full load those walks took 11 % of the CPU, and 1 % with this; at the start a tenth.
GC_THRESHOLD_OBJECTS = 50_000
OUT_OF_MEMORY = ("failed to map segment", "can't start new thread", "out of memory")
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h; the service manager does not restart on it


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Exit codes: 0 stopped as asked, 1 gave up, 2 usage, 78 configuration; a signal in the first
    second ends the process by that signal."""
    args = _parser().parse_args(argv)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    stacks.hold_requests()
    gc.set_threshold(GC_THRESHOLD_OBJECTS, 20, 20)
    try:
        return _record(args.env_file, check_only=args.check_config)
    except (MemoryError, ImportError, OSError, RuntimeError, TypeError) as exc:  # protobuf's is a TypeError
        if not _is_out_of_memory(exc):
            raise
        why = " ".join(str(exc).split())[-_SHOWN_CHARS:] or type(exc).__name__
        print(
            f"hk-tick-collector: there is not enough memory ({why}); give it more: ulimit -v, MemoryMax= of its unit",
            file=sys.stderr,
            flush=True,
        )
        os._exit(EXIT_FAILED)  # threads of libraries that came up half would be waited for, for ever


def _record(env_file: Path | None, *, check_only: bool) -> int:
    import asyncio  # noqa: PLC0415 - see above: after the signals

    from hk_tick_collector.app.config import load_settings  # noqa: PLC0415
    from hk_tick_collector.app.config_sources import set_twice  # noqa: PLC0415
    from hk_tick_collector.app.logs import configure_logging  # noqa: PLC0415
    from hk_tick_collector.app.start import until_it_works  # noqa: PLC0415
    from hk_tick_collector.core.errors import ConfigError  # noqa: PLC0415
    from hk_tick_collector.core.text import counted, printable  # noqa: PLC0415

    def settings_now() -> Settings:
        return load_settings(env_file, os.environ)

    try:
        settings = settings_now() if check_only else until_it_works(settings_now)
    except ConfigError as exc:
        text = f"hk-tick-collector: the configuration is wrong, nothing was started\n{exc}"
        print(printable(text, "\n"), file=sys.stderr)
        return EXIT_CONFIG
    if check_only:
        print(f"configuration ok: {counted(len(settings.symbols), 'symbol')}, data root {settings.data_root}")
        for told in set_twice(env_file):
            print(f"note: {printable(told)}", file=sys.stderr)
        if not _can_be_written(settings.data_root):
            print(
                f"note: uid {os.geteuid()} cannot write to {settings.data_root} now, and the recorder would wait "
                "for it: hk-tickctl doctor --offline says what to do",
                file=sys.stderr,
            )
        return 0
    configure_logging(settings.log_level)
    faulthandler.enable(all_threads=True)
    stacks.answer_requests()
    try:
        with until_it_works(lambda: _take(settings.data_root, settings.market)):
            return asyncio.run(_run(settings, settings_now))
    except ConfigError as exc:
        print(printable(f"hk-tick-collector: {exc}", "\n"), file=sys.stderr)
        return EXIT_CONFIG


def _can_be_written(data_root: Path) -> bool:
    """May this user write there, or make it where it is to be?"""
    there = next(path for path in (data_root, *data_root.parents) if path.exists())
    return os.access(there, os.W_OK | os.X_OK)


def _is_out_of_memory(exc: Exception) -> bool:
    """Python, the loader of libraries, protobuf and the starting of a thread each say it in their own way."""
    if isinstance(exc, OSError):
        return exc.errno == errno.ENOMEM
    return isinstance(exc, MemoryError) or any(words in str(exc) for words in OUT_OF_MEMORY)


def _take(data_root: Path, market: str) -> DataRootLock:
    """The data root, made if need be, ours alone, and of no other market."""
    from hk_tick_collector.core.errors import ConfigError  # noqa: PLC0415
    from hk_tick_collector.store import layout  # noqa: PLC0415
    from hk_tick_collector.store.data_root import claim  # noqa: PLC0415

    layout.prepare_data_root(data_root)
    lock = layout.DataRootLock(data_root)
    lock.acquire()
    try:
        claim(data_root, market)
    except ConfigError:
        lock.release()
        raise
    return lock


async def _run(settings: Settings, reload_settings: Callable[[], Settings]) -> int:
    # Imported here: the SDK behind it takes a second and a log file, which --help and --check-config need not pay.
    from hk_tick_collector.app.daemon import Daemon  # noqa: PLC0415

    daemon = Daemon(settings, reload_settings)
    _calm_gc()
    return await daemon.run()


def _calm_gc() -> None:
    """What is imported by now stays for good and is left out of later walks."""
    gc.collect()
    gc.freeze()


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
