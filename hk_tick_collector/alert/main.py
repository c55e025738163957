"""``hk-tick-alert``: look at the recorder, and call somebody when something is wrong.

Exit codes as of ``app.program``; 1 also when another one works on the same outbox.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hk_tick_collector.app.program import log_to_stderr, program, stop_on_signals
from hk_tick_collector.core.errors import ConfigError, RecorderError
from hk_tick_collector.core.text import printable

if TYPE_CHECKING:
    import threading

    from hk_tick_collector.alert.settings import AlertSettings
    from hk_tick_collector.alert.targets import TargetsFile
    from hk_tick_collector.alert.telegram import TelegramBot

NAME = "hk-tick-alert"
LOCK_FILE = "alert.lock"
WELL_LOOKS = 3  # the last look may be so many intervals old, or nobody knows whether all is well
STOP_SEC = 20.0


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    about = "Call somebody when something is wrong with the recorder."
    return program(NAME, about, "alert", _load, _check, _run, argv, page="docs/alerts.md")


def _load(env_file: Path | None) -> tuple[AlertSettings, TargetsFile]:
    from hk_tick_collector.alert.settings import load_alert_settings  # noqa: PLC0415 - after --help
    from hk_tick_collector.alert.targets import read_targets  # noqa: PLC0415

    settings = load_alert_settings(env_file, os.environ)
    if settings.alert_file is None:
        raise ConfigError("ALERT_FILE is not set: it names the file that says whom to alert (docs/alerts.md shows one)")
    file = read_targets(settings.alert_file)
    if settings.alert_dir is None:
        raise ConfigError("ALERT_DIR is not set: it names the directory for what has to be told")
    if settings.hooks_dir is None and (file.hooks or any(target.signals for target in file.targets)):
        raise ConfigError("HOOKS_DIR is not set: it names the directory of the signals of hooks")
    return settings, file


def _check(given: tuple[AlertSettings, TargetsFile]) -> str:
    from hk_tick_collector.alert.targets import check_ways  # noqa: PLC0415 - after --help

    _, file = given
    check_ways(file)
    return ", ".join(target.name for target in file.targets)


def _run(given: tuple[AlertSettings, TargetsFile]) -> int:
    settings, file = given
    log_to_stderr(settings.log_level)
    for library in ("httpx", "httpcore", "apprise", "urllib3", "requests"):
        logging.getLogger(library).setLevel(logging.CRITICAL)  # they write addresses, in which tokens are
    assert settings.alert_dir is not None
    with _alone(settings.alert_dir):
        _work(settings, file)
    return 0


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One program for each outbox: two would tell everything twice."""
    from hk_tick_collector.store.atomic import open_lock_file  # noqa: PLC0415
    from hk_tick_collector.store.layout import make_dir  # noqa: PLC0415

    make_dir(directory)
    descriptor = open_lock_file(directory / LOCK_FILE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise RecorderError(
            f"another {NAME} works in {directory}: stop it, or give this one another ALERT_DIR"
        ) from None
    try:
        yield
    finally:
        os.close(descriptor)


def _work(settings: AlertSettings, file: TargetsFile) -> None:
    from hk_tick_collector.alert.desk import LOOK_SEC, Desk  # noqa: PLC0415
    from hk_tick_collector.alert.outbox import Outbox  # noqa: PLC0415
    from hk_tick_collector.alert.post import DeadManPing, Postman  # noqa: PLC0415
    from hk_tick_collector.alert.ways import target_of  # noqa: PLC0415
    from hk_tick_collector.core.clock import SystemClock  # noqa: PLC0415

    stop, clock = stop_on_signals(), SystemClock()
    assert settings.alert_dir is not None
    outbox = Outbox(settings.alert_dir)
    postmen: dict[str, Postman] = {}
    desk = Desk(
        settings.data_root, settings.archive, file, outbox, clock,
        lambda target, level, lines: postmen[target].send_at_once(level, lines), settings.hooks_dir, settings.ship_dir,
    )  # fmt: skip
    for target in file.targets:
        postmen[target.name] = Postman(
            target.name, target_of(target), settings.alert_dir, desk.market, lambda: desk.steady_ms, stop,
            target.room_chars,
        )  # fmt: skip
    looked_sec = clock.monotonic()

    def is_well() -> bool:
        return desk.is_well and clock.monotonic() - looked_sec < WELL_LOOKS * LOOK_SEC

    senders: list[Postman | DeadManPing | TelegramBot] = [*postmen.values(), *_bots(settings, file, stop)]
    if file.deadman is not None:
        senders.append(DeadManPing(file.deadman, is_well, stop))
    for sender in senders:
        sender.thread.start()
    print(printable(f"{NAME}: {settings.data_root} to {', '.join(target.name for target in file.targets)}"), flush=True)
    while not stop.is_set():
        desk.step()
        looked_sec = clock.monotonic()
        stop.wait(LOOK_SEC)
    for sender in senders:
        if isinstance(sender, Postman):  # a bot may be waiting for a question; it has nothing to lose
            sender.thread.join(STOP_SEC)
    outbox.close()


def _bots(settings: AlertSettings, file: TargetsFile, stop: threading.Event) -> list[TelegramBot]:
    """One for each Telegram target that answers somebody."""
    from hk_tick_collector.alert.answers import Answers  # noqa: PLC0415
    from hk_tick_collector.alert.telegram import TelegramBot  # noqa: PLC0415
    from hk_tick_collector.core.clock import SystemClock  # noqa: PLC0415

    assert settings.alert_dir is not None
    answers = Answers(settings.data_root, settings.archive, settings.alert_dir, SystemClock())
    told = ((target.name, target.telegram) for target in file.targets)
    return [TelegramBot(name, bot, answers.answer, stop) for name, bot in told if bot is not None and bot.users]


if __name__ == "__main__":
    sys.exit(main())
