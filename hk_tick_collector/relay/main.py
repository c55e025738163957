"""``hk-tick-redis``: fill Redis with the ticks that the recorder stores. Exit codes as of ``app.program``."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hk_tick_collector.app.program import log_to_stderr, program, stop_on_signals
from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.core.extras import extra_with, how_to_install, missing_library
from hk_tick_collector.core.logline import event
from hk_tick_collector.core.text import cut, printable
from hk_tick_collector.relay.settings import RelaySettings, load_relay_settings

if TYPE_CHECKING:
    from hk_tick_collector.relay.counts import RelayCounts
    from hk_tick_collector.relay.metrics import MetricsServer

NAME = "hk-tick-redis"

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return program(NAME, "Fill Redis with ticks and snapshots as they are stored.", "redis", _load, _check, _run, argv)


def _load(env_file: Path | None) -> RelaySettings:
    return load_relay_settings(env_file, os.environ)


def _check(settings: RelaySettings) -> str:
    from hk_tick_collector.relay.redis_sink import address_of  # noqa: PLC0415 - after --help

    return f"{_roots_words(settings)} to {address_of(settings.redis_url)}"


def _roots_words(settings: RelaySettings) -> str:
    roots = [root for root, _ in settings.roots]
    left = [root for root in dict.fromkeys(settings.data_roots) if root not in roots]
    note = f" ({', '.join(map(str, left))} hold another market: a relay of their own, with DATA_ROOT)" if left else ""
    return f"{', '.join(map(str, roots))}{note}"


def _run(settings: RelaySettings) -> int:
    from hk_tick_collector.relay.counts import RelayCounts  # noqa: PLC0415 - after --help and --check-config
    from hk_tick_collector.relay.kinds import SNAPSHOT_RELAY  # noqa: PLC0415
    from hk_tick_collector.relay.loop import run  # noqa: PLC0415
    from hk_tick_collector.relay.redis_sink import RedisSink  # noqa: PLC0415
    from hk_tick_collector.relay.signals import relay_signals  # noqa: PLC0415
    from hk_tick_collector.relay.snapshots import relay_snapshots  # noqa: PLC0415

    log_to_stderr(settings.log_level)
    stop = stop_on_signals()
    counts = RelayCounts()
    of_snapshots = RelayCounts(relayed=SNAPSHOT_RELAY)
    metrics = _metrics(settings.redis_metrics_port, counts, of_snapshots) if settings.redis_metrics_port else None
    print(printable(f"{NAME}: {_check(settings)}"), flush=True)
    beside_ticks: list[_Beside] = []
    if settings.redis_snapshots:
        make_sink = partial(RedisSink, settings, relayed=SNAPSHOT_RELAY)
        of_roots = partial(relay_snapshots, settings.roots, make_sink, stop, of_snapshots)
        beside_ticks.append(_Beside("snapshots", of_roots, stop))
    if settings.hooks_dir is not None and settings.redis_signals:
        of_hooks = partial(relay_signals, settings.hooks_dir, RedisSink(settings), stop, counts=counts)
        beside_ticks.append(_Beside("signals", of_hooks, stop))
    for thread in beside_ticks:
        thread.start()
    (root, archive_root), *beside = settings.roots
    try:
        run(root, RedisSink(settings), stop=stop, archive_root=archive_root, counts=counts, beside=beside)
    finally:
        stop.set()
        for thread in beside_ticks:
            thread.join()
        if metrics is not None:
            metrics.close()
    return 1 if any(thread.has_failed for thread in beside_ticks) else 0


class _Beside(threading.Thread):
    """What is relayed beside the ticks. A fault of it ends the relay, as one of the ticks does: whoever watches the
    service sees it, and the next start goes on where Redis stands."""

    def __init__(self, name: str, work: Callable[[], None], stop: threading.Event) -> None:
        super().__init__(name=name)
        self.has_failed = False
        self._work = work
        self._stop_all = stop

    def run(self) -> None:
        try:
            self._work()
        except Exception as exc:
            self.has_failed = True
            error = f"{type(exc).__name__}: {cut(str(exc), 200)}"
            log.error(event("relay_failed", what=self.name, error=error, action="ending; report it"), exc_info=True)
            self._stop_all.set()


def _metrics(port: int, counts: RelayCounts, of_snapshots: RelayCounts) -> MetricsServer:
    try:
        from hk_tick_collector.relay.metrics import MetricsServer  # noqa: PLC0415 - its package may be missing
    except ModuleNotFoundError as exc:
        library = missing_library(exc)
        raise ConfigError(
            f"REDIS_METRICS_PORT needs the package {library}: {how_to_install(extra_with(library))}; or set it to 0"
        ) from exc
    return MetricsServer(counts, port, of_snapshots)


if __name__ == "__main__":
    sys.exit(main())
