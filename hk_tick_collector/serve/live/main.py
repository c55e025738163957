"""``hk-tick-live``: recorded ticks as they come. Exit codes as of ``app.program``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hk_tick_collector.app.program import log_to_stderr
from hk_tick_collector.serve.server import run_app, serve_program
from hk_tick_collector.serve.settings import ServeSettings


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return serve_program("hk-tick-live", "Send ticks as they are recorded (WebSocket, SSE).", _run, argv)


def _run(settings: ServeSettings) -> int:
    from hk_tick_collector.serve.live.app import create_app  # noqa: PLC0415 - after --help and --check-config

    log_to_stderr(settings.log_level)
    return run_app("hk-tick-live", create_app(settings), settings, settings.live_port)


if __name__ == "__main__":
    sys.exit(main())
