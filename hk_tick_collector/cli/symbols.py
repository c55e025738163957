"""``hk-tickctl symbols``: what is wanted, what OpenD has subscribed, and what each symbol did last."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hk_tick_collector.cli.asking import REQUEST_TIMEOUT_SEC, NotFromOpenD, with_connection
from hk_tick_collector.cli.common import EXIT_FINE, EXIT_PROBLEM, App, print_table, say, tickctl_command
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.core.errors import FeedError, NoData, StoreError
from hk_tick_collector.core.text import counted
from hk_tick_collector.health.statusfile import read_status
from hk_tick_collector.market.market import Market
from hk_tick_collector.store import layout, reader
from hk_tick_collector.store.reader import SymbolRow
from hk_tick_collector.watch.newest import newest_ticks
from hk_tick_collector.watch.recorder import lock_holder

if TYPE_CHECKING:
    from pathlib import Path

    from hk_tick_collector.sources.futu.answers import Snapshot, SubscriptionInfo, SymbolInfo, UserInfo
    from hk_tick_collector.sources.futu.markets import FutuMarket
    from hk_tick_collector.sources.futu.sdk import Connection

RECENT_DAYS = 5  # day files in which a symbol's last tick is looked for


@dataclass(slots=True)
class Row:
    """One symbol. None: not known."""

    symbol: str
    wanted: bool
    subscribed: bool | None = None
    note: str | None = None  # why it is not subscribed, or what is odd about it
    name: str | None = None
    board_lot: int | None = None
    kind: str | None = None
    unit: str | None = None  # what volume counts; this and what follows as the newest day file has it
    currency: str | None = None
    tick_size: float | None = None
    described_at_ms: int | None = None  # since when the source says so
    last_price: float | None = None
    last_price_at_ms: int | None = None
    stored_day: str | None = None  # the newest day with a tick of it
    stored_ticks: int | None = None  # of that day
    last_stored_at_ms: int | None = None
    last_stored_price: float | None = None


@dataclass(frozen=True, slots=True)
class OpenDSays:
    """All that OpenD was asked."""

    user: UserInfo
    subscriptions: SubscriptionInfo
    static: dict[str, SymbolInfo]
    snapshots: dict[str, Snapshot]
    refused: dict[str, str]
    market: FutuMarket

    @property
    def rights(self) -> str:
        """``HK quote right Level2``"""
        rights = self.user.quote_rights
        return f"{self.market.market.code} quote right {self.market.rights_text(rights)}"

    def cannot_subscribe(self, symbol: str) -> bool:
        """By the right for its place."""
        return symbol.partition(".")[0] in self.market.cannot_subscribe(self.user.quote_rights)


@tickctl_command(
    "symbols",
    help="""Wanted symbols (FUTU_SYMBOLS), which of them OpenD has subscribed, over all its connections, and why others
    are not; name, board lot and last trade from OpenD; the newest stored tick; the subscription quota. What the source
    told the recorder of each (unit, currency, tick size, since when) is in --json.

    Costs no quota and works while the recorder runs. When OpenD cannot be reached, or SOURCE names another source,
    the wanted and the stored symbols are shown all the same. Exits with 0 when every wanted symbol is subscribed, else
    1.""",
)
def command(app: App) -> int | None:
    """See the help text."""
    wanted = list(app.settings.symbols)
    says: OpenDSays | None = None
    error: str | None = None
    unknown = "OpenD does not answer, what it has subscribed is not known"
    try:
        says = with_connection(app, lambda connection: _ask(connection, wanted))
    except FeedError as exc:
        error = str(exc)
    except NotFromOpenD as exc:
        error, unknown = str(exc), "what is subscribed is not known"
    rows = _rows(wanted, says)
    recorders_words: dict[str, str] | None = None
    try:
        recorders_words = _recorders_words(app.data_root)
        _add_stored(rows, app.data_root)
    except NoData as exc:
        say(f"hk-tickctl: {exc}")
    if says is not None:
        _add_notes(rows, says, recorders_words)
    elif recorders_words:
        for row in rows:
            row.note = f"refused: {recorders_words[row.symbol]}" if row.symbol in recorders_words else row.note
    app.emit(_as_json(rows, says, error), lambda: _show(rows, says or unknown, app.market))
    if error is not None:
        say(f"hk-tickctl: {error}")
    return EXIT_FINE if all(row.subscribed for row in rows if row.wanted) else EXIT_PROBLEM


async def _ask(connection: Connection, wanted: Sequence[str]) -> OpenDSays:
    from hk_tick_collector.sources.futu.reference import Reference  # noqa: PLC0415 - futu-api takes its time

    reference = Reference(connection)
    subscriptions = await connection.subscriptions(REQUEST_TIMEOUT_SEC, all_connections=True)
    user = await connection.user_info(REQUEST_TIMEOUT_SEC)
    symbols = sorted({*wanted, *subscriptions.ticker_codes})
    static = await reference.static_info(symbols)
    known = [symbol for symbol in symbols if symbol in static.given and not static.given[symbol].delisted]
    snapshots = await reference.snapshots(known)
    refused = {**static.refused, **snapshots.refused}
    return OpenDSays(user, subscriptions, static.given, snapshots.given, refused, connection.market)


def _rows(wanted: Sequence[str], says: OpenDSays | None) -> list[Row]:
    """Wanted ones in the order of the settings, then what else is subscribed."""
    rows = [Row(symbol, wanted=True) for symbol in wanted]
    if says is None:
        return rows
    others = sorted(says.subscriptions.ticker_codes.difference(wanted))
    rows += [Row(symbol, wanted=False, note="not in FUTU_SYMBOLS") for symbol in others]
    for row in rows:
        row.subscribed = row.symbol in says.subscriptions.ticker_codes
        static, snapshot = says.static.get(row.symbol), says.snapshots.get(row.symbol)
        if static is not None and not static.delisted:
            row.name, row.board_lot, row.kind = static.name, static.lot_size, static.kind
        if snapshot is not None:
            row.last_price, row.last_price_at_ms = snapshot.last_price, snapshot.updated_at_ms or None
            if snapshot.suspended:
                row.note = "trading is suspended"
    return rows


def _add_notes(rows: Sequence[Row], says: OpenDSays, recorders_words: dict[str, str] | None) -> None:
    """Why a wanted symbol is not subscribed, as far as can be told without trying."""
    for row in rows:
        if not row.wanted or row.subscribed:
            continue
        static = says.static.get(row.symbol)
        if static is None or static.delisted:
            row.note = says.refused.get(row.symbol, "OpenD does not know this code, or it is delisted")
        elif recorders_words is None:
            row.note = "no recorder runs on this data root"
        elif row.symbol in recorders_words:
            row.note = f"refused: {recorders_words[row.symbol]}"
        elif says.cannot_subscribe(row.symbol):
            place = row.symbol.partition(".")[0]
            row.note = f"the account's {place} quote right is {says.user.quote_rights[place]}, which cannot subscribe"
        elif not says.subscriptions.remain_quota:
            row.note = "no subscription quota is left"
        else:
            row.note = "not subscribed (yet); the recorder reads FUTU_SYMBOLS at start and on SIGHUP"


def _recorders_words(data_root: Path) -> dict[str, str] | None:
    """Which symbols OpenD refused to the recorder, and with what words; None when none runs."""
    if lock_holder(data_root) is None:
        return None
    with contextlib.suppress(OSError):
        status = read_status(layout.status_file(data_root))
        if status is not None:
            return dict(status.refused_symbols)
    return {}


def _add_stored(rows: Sequence[Row], data_root: Path) -> None:
    """The newest stored tick of each symbol."""
    waiting = {row.symbol: row for row in rows}
    for db in layout.recent_day_files(data_root, RECENT_DAYS):
        try:
            stored = {
                coverage.symbol: coverage.stored_ticks for coverage in reader.coverage(db) if coverage.symbol in waiting
            }
            described = reader.symbol_rows(db)
            newest = newest_ticks(db, list(waiting), 1)
        except StoreError as exc:
            say(f"hk-tickctl: {exc}")
            continue
        _describe(rows, described)
        for symbol, ticks in newest.items():
            row = waiting.pop(symbol)
            row.stored_day, row.stored_ticks = layout.parse_day(db), stored.get(symbol)
            row.last_stored_at_ms, row.last_stored_price = ticks[-1].ts_ms, ticks[-1].price
        if not waiting:
            return


def _describe(rows: Sequence[Row], described: Sequence[SymbolRow]) -> None:
    """As the source told the recorder; OpenD's word of now comes first."""
    told = {detail.symbol: detail for detail in described}
    for row in rows:
        detail = told.get(row.symbol)
        if detail is not None and row.described_at_ms is None:
            row.name, row.board_lot = row.name or detail.name, row.board_lot or detail.lot_size
            row.unit, row.currency, row.tick_size = detail.unit, detail.currency, detail.tick_size
            row.described_at_ms = detail.noted_at_ms


def _as_json(rows: Sequence[Row], says: OpenDSays | None, error: str | None) -> dict[str, Any]:
    wanted = [row for row in rows if row.wanted]
    opend: dict[str, Any] = {"reachable": says is not None, "error": error}
    if says is not None:
        opend.update(
            hk_quote_right=says.user.quote_rights.get("HK"),
            quote_rights=dict(says.user.quote_rights),
            account_quota=says.user.sub_quota,
            used_quota=says.subscriptions.used_quota,
            remain_quota=says.subscriptions.remain_quota,
        )
    return {
        "opend": opend,
        "wanted_symbols": len(wanted),
        "subscribed_symbols": None if says is None else sum(bool(row.subscribed) for row in wanted),
        "symbols": [asdict(row) for row in rows],
    }


def _show(rows: Sequence[Row], says: OpenDSays | str, market: Market) -> None:
    at = market.zone.date_and_clock_if
    traded, stored = f"last at ({market.time_word})", f"stored at ({market.time_word})"
    columns = [
        "symbol",
        "subscribed",
        "name",
        "lot",
        "last",
        traded,
        "stored ticks",
        "last stored",
        stored,
        "note",
    ]
    print_table(
        columns,
        [
            (
                row.symbol, row.subscribed, row.name, row.board_lot, row.last_price, at(row.last_price_at_ms),
                row.stored_ticks, row.last_stored_price, at(row.last_stored_at_ms), row.note or "",
            )
            for row in rows
        ],
        numbers=("lot", "last", "stored ticks", "last stored"),
        spare=(traded, "lot", "last stored", stored, "last"),
        text="note",
    )  # fmt: skip
    wanted = [row for row in rows if row.wanted]
    if isinstance(says, str):
        show_text(f"wanted: {counted(len(wanted), 'symbol')}; {says}")
        return
    quota = says.subscriptions
    show_text(
        f"{sum(bool(row.subscribed) for row in wanted)} of {len(wanted)} wanted symbols are subscribed; quota "
        f"{quota.used_quota} used, {quota.remain_quota} left; {says.rights}"
    )
