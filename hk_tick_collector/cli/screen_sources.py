"""Where ``hk-tickctl screen`` looks: at the files here, or at a server's answers. Both give the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.core.regular import read_named

if TYPE_CHECKING:
    from hk_tick_collector.cli.common import App
    from hk_tick_collector.watch.snapshot_series import SeriesLooks

Facts = dict[str, Any]
ASK_SEC = 10.0


class ScreenSource(Protocol):
    """What the screen shows. Each answer is as ``/v1/status``, ``/v1/days/last/...`` and ``/v1/ticks/latest`` have it::

        source = LocalSource(app)
        source.status()["verdict"]                    # "fine"
        source.symbols()[0]["symbol"]                 # "HK.00700"
        source.tape("HK.00700", 20)[-1]["price"]      # 612.5

    RecorderError when there is no answer now; the screen says so and asks again.
    """

    name: str  # what is looked at
    zone: Any  # tzinfo of the market

    def status(self) -> Facts:
        """The verdict, and what the recorder says."""
        ...

    def symbols(self) -> list[Facts]:
        """Each symbol of the newest day, with its state."""
        ...

    def gaps(self) -> list[Facts]:
        """Open gaps of the newest day."""
        ...

    def tape(self, symbol: str, rows: int) -> list[Facts]:
        """The newest ticks of a symbol, oldest first."""
        ...

    def snapshot_series(self) -> list[Facts] | None:
        """Each series of the newest day of snapshots, with ``held`` and ``missed`` seconds; None where there are
        ticks, or nothing yet."""
        ...


class LocalSource:
    """The data root on this machine."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._looks: SeriesLooks | None = None
        self.name = str(app.data_root)
        self.zone = app.market.zone.tzinfo

    def status(self) -> Facts:
        """As ``hk-tickctl status --json``."""
        from hk_tick_collector.watch.condition import look  # noqa: PLC0415

        return look(self._app.data_root, self._app.calendar, self._app.now_ms).as_json()

    def symbols(self) -> list[Facts]:
        """Out of the certificate, without reading a row."""
        from hk_tick_collector.quality.certificate import make_certificate  # noqa: PLC0415

        day = self._newest()
        if day is None:
            return []
        made = make_certificate(self._app.catalog.day(day), self._app.calendar, self._app.now_ms, read=False)
        return [asdict(symbol) for symbol in made.symbols]

    def gaps(self) -> list[Facts]:
        """Open ones."""
        day = self._newest()
        if day is None:
            return []
        from hk_tick_collector.quality.gap_list import gap_lines  # noqa: PLC0415

        return [asdict(gap) for gap in gap_lines(self._app.catalog.day(day)) if gap.state == "open"]

    def tape(self, symbol: str, rows: int) -> list[Facts]:
        """By the index: microseconds."""
        from hk_tick_collector.store import layout  # noqa: PLC0415
        from hk_tick_collector.watch.newest import newest_ticks  # noqa: PLC0415

        day = self._newest()
        if day is None:
            return []
        newest = newest_ticks(layout.day_file(self._app.data_root, day), [symbol], rows)
        return [tick._asdict() for tick in newest.get(symbol, [])]

    def snapshot_series(self) -> list[Facts] | None:
        """What is new since the last question is all that is read."""
        from hk_tick_collector.watch.snapshot_series import SeriesLooks  # noqa: PLC0415

        if self._newest() is not None:
            return None
        if self._looks is None:
            self._looks = SeriesLooks(self._app.data_root, self._app.calendar)
        now_ms = self._app.now_ms
        return [_shown(snapshot.as_json(now_ms)) for snapshot in self._looks.newest(now_ms)] or None

    def _newest(self) -> str | None:
        from hk_tick_collector.store import layout  # noqa: PLC0415

        today = self._app.market.trading_day(self._app.now_ms)
        files = layout.recent_day_files(self._app.data_root, 1, today)
        return layout.parse_day(files[0]) if files else None


class _NotThere(RecorderError):
    """The server knows no such address, or no such data."""


class RemoteSource:
    """A server (``hk-tick-api``, ``hk-tickctl serve``). ``key``: None where nobody needs one."""

    def __init__(self, url: str, key: str | None) -> None:
        from hk_tick_collector.core.paced import paced_client  # noqa: PLC0415 - httpx is an extra

        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = paced_client(base_url=url.rstrip("/"), headers=headers, timeout=ASK_SEC, follow_redirects=False)
        self.name = url
        from hk_tick_collector.market.registry import market_of  # noqa: PLC0415

        root = self.status()
        self.zone = market_of(str(root.get("market", "HK"))).zone.tzinfo

    def status(self) -> Facts:
        """Of the first data root."""
        roots: list[Facts] = self._ask("/v1/status")["roots"]
        return roots[0]

    def symbols(self) -> list[Facts]:
        """Of the newest day."""
        return self._data("/v1/days/last/coverage")

    def gaps(self) -> list[Facts]:
        """Open ones."""
        return self._data("/v1/days/last/gaps")

    def tape(self, symbol: str, rows: int) -> list[Facts]:
        """The newest."""
        return self._data("/v1/ticks/latest", symbols=symbol, n=rows)

    def snapshot_series(self) -> list[Facts] | None:
        """Of the first data root, where it has no ticks; None, too, of a server of before this question."""
        try:
            answer = self._ask("/v1/snapshots/series")
        except _NotThere:
            return None
        if 0 in answer["unreadable"]:
            raise RecorderError(f"{self.name} cannot read the snapshots of its first data root")
        return [_shown(row) for row in answer["data"] if row["root"] == 0] or None

    def _data(self, path: str, **asked: Any) -> list[Facts]:
        rows: list[Facts] = self._ask(path, **asked)["data"]
        return rows

    def _ask(self, path: str, **asked: Any) -> Facts:
        import httpx  # noqa: PLC0415

        try:
            answer = self._client.get(path, params=asked)
            body: Facts = answer.json()
        except (httpx.HTTPError, ValueError) as exc:
            raise RecorderError(f"{self.name} does not answer ({type(exc).__name__})") from None
        if answer.status_code != 200:
            kind = _NotThere if answer.status_code == 404 else RecorderError
            raise kind(f"{self.name} refuses: {body.get('detail', answer.status_code)}")
        return body


def _shown(snapshot: Facts) -> Facts:
    """A series as a row of the screen, which sorts and filters it as it does a symbol."""
    name = f"{snapshot['package']}/{snapshot['category']}"
    state = "missing" if snapshot["missed"] else "held"
    return {
        **snapshot, "series": f"{snapshot['symbol']}/{name}", "name": name, "state": state,
        "stored_ticks": snapshot["held"],
    }  # fmt: skip


_MAX_KEY_BYTES = 16_384


def read_key(path: Path | None) -> str | None:
    """A key out of a file, so that it is on no command line. RecorderError when it cannot be read."""
    if path is None:
        return None
    try:
        return read_named(path, _MAX_KEY_BYTES).decode("utf-8").strip() or None
    except (OSError, UnicodeDecodeError) as exc:
        reason = (exc.strerror or exc) if isinstance(exc, OSError) else "not UTF-8 text"
        raise RecorderError(f"the key in {path} cannot be read: {reason}; give a file with the key alone") from exc


ORDERS: tuple[tuple[str, Any], ...] = (
    ("worst first", lambda row: ({"missing": 0, "unproven": 1}.get(row["state"], 2), -row["stored_ticks"])),
    ("most ticks", lambda row: -row["stored_ticks"]),
    ("by symbol", lambda row: row["symbol"]),
    ("newest first", lambda row: -(row.get("last_ts_ms") or 0)),
)


def arranged(rows: Sequence[Facts], text: str, order: int) -> list[Facts]:
    """Symbols with ``text`` in their code or name, in one of ORDERS."""
    wanted = text.strip().upper()
    shown = (row for row in rows if wanted in row["symbol"] or wanted in (row.get("name") or "").upper())
    return sorted(shown, key=ORDERS[order][1])
