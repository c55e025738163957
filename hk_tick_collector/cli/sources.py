"""``hk-tickctl sources``: every recorder of this machine, one line each.

A recorder is a settings file: ``.env`` and each ``NAME.env`` beside it, as installed by ``--instance``.
Data roots that are served here without a recorder's settings (``DATA_ROOTS``) are listed as well.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hk_tick_collector.cli.common import EXIT_FINE, EXIT_NO_DATA, EXIT_PROBLEM, App, print_table, say, tickctl_command
from hk_tick_collector.core.errors import ConfigError, NoData, RecorderError
from hk_tick_collector.core.text import counted
from hk_tick_collector.store.layout import no_directory
from hk_tick_collector.watch.condition import FINE, NO_DATA, PROBLEM, Condition, look
from hk_tick_collector.watch.recorder import INSTANCE, Service, service, unit_of

PLAIN = ".env"
MAX_RECORDERS = 100
_COLUMNS = ("recorder", "state", "source", "market", "newest", "lag sec", "a second", "complaint")


@dataclass(slots=True)
class Recorder:
    """One of them, before it was looked at. ``unit``: None for a data root that only is served here."""

    name: str
    unit: str | None
    env_file: Path | None
    data_root: Path | None = None
    market: str | None = None
    source: str | None = None
    error: str | None = None  # why it cannot be looked at
    service: Service | None = None
    condition: Condition | None = field(default=None, repr=False)

    @property
    def verdict(self) -> str:
        """As ``status`` has it; one that cannot be looked at is a problem."""
        return PROBLEM if self.error is not None or self.condition is None else self.condition.verdict

    @property
    def complaint(self) -> str | None:
        """The gravest of what is to be said of it."""
        if self.condition is None:
            return self.error
        complaints = [*self.condition.problems, *self.condition.notes]
        return complaints[0] if complaints else None

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        condition = self.condition
        status = condition.status if condition is not None and condition.is_fresh else None
        return {
            "name": self.name,
            "unit": self.unit,
            "env_file": None if self.env_file is None else str(self.env_file),
            "data_root": None if self.data_root is None else str(self.data_root),
            "market": self.market,
            "source": self.source,
            "verdict": self.verdict,
            "error": self.error,
            "running": condition is not None and condition.is_running,
            "phase": None if condition is None else condition.phase,
            "link_state": None if status is None else status.link_state,
            "symbols_wanted": None if status is None else status.symbols_wanted,
            "symbols_subscribed": None if status is None else status.symbols_subscribed,
            "newest_ts_ms": _newest_ms(condition),
            "lag_sec": None if status is None else status.lag_sec,
            "rows_per_sec": None if status is None else status.rows_per_sec,
            "problems": [] if condition is None else condition.problems,
            "notes": [] if condition is None else condition.notes,
        }


@tickctl_command(
    "sources",
    help="""Every recorder of this machine: verdict, source, market and phase, newest tick and lag, rate, and its most
    serious complaint.

    A recorder is a settings file: .env, and each NAME.env beside it (hk-tick-collector@NAME). A faulty one is listed
    with its first mistake. For everything about one recorder: hk-tickctl status --env-file NAME.env.

    \b
    sudo systemctl restart hk-tick.target          all recorders and servers
    sudo systemctl restart hk-tick-collector@NAME  one

    Exits with 0 when all are fine, 1 when one has a problem, 3 when nothing is recorded and nothing runs.
    """,
)
def command(app: App) -> int:
    recorders = _all(app)
    _look_at(app, recorders)
    verdict = _worst(recorders)
    data = {"verdict": verdict, "at_ms": app.now_ms, "sources": [recorder.as_json() for recorder in recorders]}
    app.emit(data, lambda: _print(recorders))
    return {FINE: EXIT_FINE, PROBLEM: EXIT_PROBLEM, NO_DATA: EXIT_NO_DATA}[verdict]


def _all(app: App) -> list[Recorder]:
    """All that this machine has settings of. Read before root takes the rights of a data root's owner."""
    if app.data_root_given is not None:
        return [Recorder(app.data_root_given.name, None, None, app.data_root_given.absolute())]
    plain = app.env_file or Path(PLAIN)
    configured = [_of_settings(plain.parent, path) for path in _settings_files(plain)]
    known = {recorder.data_root for recorder in configured}
    return configured + [Recorder(root.name, None, None, root) for root in _served(plain) if root not in known]


def _settings_files(plain: Path) -> Iterator[Path]:
    """The plain recorder's first: None of it when there is no such file and the environment says nothing either."""
    others = sorted(path for path in plain.absolute().parent.glob("*.env") if INSTANCE.fullmatch(path.stem))
    if plain.exists() or not others:
        yield plain
    yield from (path for path in others[:MAX_RECORDERS] if path != plain.absolute())


def _of_settings(directory: Path, path: Path) -> Recorder:
    """What a settings file says of its recorder. The environment counts for the plain one alone, as everywhere."""
    from hk_tick_collector.app.config import load_settings  # noqa: PLC0415 - pydantic takes its time

    is_plain = path.parent == directory and not INSTANCE.fullmatch(path.stem)
    name, unit = "plain" if is_plain else path.stem, unit_of(path)
    recorder = Recorder(name, unit, path.absolute() if path.exists() else None, service=service(unit))
    try:
        settings = load_settings(path if path.exists() else None, os.environ if is_plain else {})
    except (ConfigError, OSError) as exc:
        first = str(exc).partition("\n")[0]
        recorder.error = f"{first}; all of it: hk-tickctl config --env-file {path}"
        return recorder
    recorder.data_root, recorder.market, recorder.source = settings.data_root, settings.market, settings.spec.title
    return recorder


def _served(plain: Path) -> Sequence[Path]:
    """DATA_ROOTS, where the settings of what serves are right: if they are not, ``doctor`` says so."""
    from hk_tick_collector.serve.settings import load_serve_settings  # noqa: PLC0415

    with suppress(ConfigError, OSError):
        return load_serve_settings(plain if plain.exists() else None, os.environ).data_roots
    return ()


def _look_at(app: App, recorders: Sequence[Recorder]) -> None:
    from hk_tick_collector.market.calendar import TradingCalendar  # noqa: PLC0415
    from hk_tick_collector.market.registry import market_of  # noqa: PLC0415
    from hk_tick_collector.store.data_root import market_of as recorded_market_of  # noqa: PLC0415

    for recorder in recorders:
        root = recorder.data_root
        if root is None:
            continue
        try:
            if not root.is_dir():
                raise NoData(f"{no_directory(root)}: it was never made, or its disk is not mounted")
            app.work_as_owner(root)
            market = market_of(recorded_market_of(root) or recorder.market)
            recorder.market = market.code
            recorder.condition = look(root, TradingCalendar(market), app.now_ms, recorder.service)
        except (RecorderError, OSError) as exc:
            recorder.error = str(exc)
        else:
            status = recorder.condition.status
            recorder.source = recorder.source or (None if status is None else status.source)


def _worst(recorders: Sequence[Recorder]) -> str:
    verdicts = {recorder.verdict for recorder in recorders}
    if PROBLEM in verdicts:
        return PROBLEM
    return FINE if FINE in verdicts else NO_DATA


def _newest_ms(condition: Condition | None) -> int | None:
    """The newest tick's time: as the recorder says, else as the newest day file has it."""
    if condition is None:
        return None
    if condition.is_fresh and condition.status is not None and condition.status.newest_ts_ms is not None:
        return condition.status.newest_ts_ms
    return None if condition.day is None else condition.day.newest_ts_ms


def _print(recorders: Sequence[Recorder]) -> None:
    rows = [_row(recorder) for recorder in recorders]
    print_table(_COLUMNS, rows, numbers=("lag sec", "a second"), spare=("source", "market"), text="complaint")
    bad = sum(recorder.verdict == PROBLEM for recorder in recorders)
    say(counted(len(recorders), "recorder") + (f", {bad} with a problem" if bad else ""))


def _row(recorder: Recorder) -> tuple[object, ...]:
    told, condition = recorder.as_json(), recorder.condition
    stamp = market = None
    if condition is not None:
        market = f"{recorder.market}, {condition.phase.replace('_', ' ')}"
        stamp = None if told["newest_ts_ms"] is None else condition.market.stamp(told["newest_ts_ms"])
    state, complaint = recorder.verdict.replace("_", " "), recorder.complaint or ""
    rates = told["lag_sec"], told["rows_per_sec"]
    return (recorder.name, state, recorder.source, market or recorder.market, stamp, *rates, complaint)
