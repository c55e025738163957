"""The console script ``hk-tickctl``, which imports the rest: Ctrl-C meanwhile ends the process without a traceback."""

from __future__ import annotations

import signal
from typing import Any


def main() -> Any:
    """Run it; its exit code."""
    is_ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else whoever started us chose otherwise
    if is_ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from hk_tick_collector.cli.main import main as run  # noqa: PLC0415 - see above

    if is_ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()
