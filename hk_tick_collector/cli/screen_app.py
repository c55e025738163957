"""The live terminal of ``hk-tickctl screen``, with Textual: it shows, and a thread asks."""

from __future__ import annotations

import select
import sys
from collections import deque
from collections.abc import Iterable
from datetime import datetime
from typing import Any, ClassVar

from rich.text import Text
from textual import work
from textual.app import App as TextualApp
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Footer, Input, Sparkline, Static

from hk_tick_collector.cli.screen_log import ScreenLog
from hk_tick_collector.cli.screen_sources import ORDERS, Facts, ScreenSource, arranged
from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.core.text import printable

STATUS_SEC, LOG_SEC, DAY_SEC = 1.0, 3.0, 10.0
LOG_ROWS, LOG_SHOWN = 50, 7  # asked for: some are parts of others; and shown
KEPT = 120  # values of a sparkline
TAPE_ROWS = 40
WIDE = 100  # columns from which on the tape has room for milliseconds, and other times for seconds
MAX_SYMBOLS = 500  # rows of the table: more than somebody scrolls through
STYLES = {"proven": "green", "missing": "bold red", "unproven": "yellow", "fine": "green", "problem": "bold red"}
SIGNS = {"proven": "✓", "missing": "✕", "unproven": "?"}
LEVELS = {"alert": "bold red", "warn": "yellow"}
LOG_STYLES = {"WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red"}


class Screen(TextualApp[None]):
    """One data root, looked at every second."""

    TITLE = "hk-tick-collector"
    ENABLE_COMMAND_PALETTE = False  # its place at the bottom is the keys'
    CSS = """
    #note { display: none; height: 1; padding: 0 1; text-style: bold; }
    #note.said { display: block; }
    #verdict { height: auto; max-height: 6; padding: 0 1; }
    #numbers { height: 1; padding: 0 1; }
    #lines { height: 2; }
    #lines Sparkline { width: 1fr; margin: 0 1; }
    #filter { display: none; height: 3; }
    #filter.asked { display: block; }
    #main { height: 1fr; }
    #symbols { width: 7fr; height: 100%; }
    #side { width: 5fr; }
    #tape { height: 2fr; }
    #gaps { height: 1fr; }
    #log { height: auto; max-height: 8; padding: 0 1; border-top: solid $primary; overflow: hidden hidden;
           text-wrap: nowrap; text-overflow: ellipsis; }
    .low #lines, .low #numbers, .low #log, .unlogged #log { display: none; }
    .narrow #side, .snapshots #side, .snapshots #lines { display: none; }
    DataTable { scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("s", "sort", "sort"),
        Binding("slash", "filter", "filter"),
        Binding("l", "log", "log"),
        Binding("escape", "unfilter", "all", show=False),
    ]

    def __init__(self, source: ScreenSource, log: ScreenLog | None = None) -> None:
        super().__init__()
        self._source, self._log_lines = source, log
        self._rates: deque[float] = deque(maxlen=KEPT)
        self._lags: deque[float] = deque(maxlen=KEPT)
        self._rows: list[Facts] = []
        self._order, self._filter = 0, ""
        self._symbol: str | None = None
        self._has_snapshots = False  # snapshots, and no ticks

    def compose(self) -> ComposeResult:
        """The parts."""
        yield Static("", id="note", markup=False)
        yield Static("…", id="verdict", markup=False)
        yield Static("", id="numbers", markup=False)
        with Horizontal(id="lines"):
            yield Sparkline([], id="rates")
            yield Sparkline([], id="lags")
        yield Input(placeholder="part of a symbol or a name", id="filter")
        with Horizontal(id="main"):
            yield DataTable(id="symbols", cursor_type="row", zebra_stripes=True)
            with Vertical(id="side"):
                yield DataTable(id="tape", cursor_type="none")
                yield DataTable(id="gaps", cursor_type="none")
        yield Static("", id="log", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Columns, and the first questions."""
        self._table("symbols").add_columns(*_tick_columns())
        self._table("tape").add_columns("time", _right("price"), _right("volume"), "side")
        self._table("gaps").add_columns("gap", "from", "to", _right("missing"))
        self._table("symbols").focus()
        self.set_interval(STATUS_SEC, self._ask_status)
        self._every_day_sec = self.set_interval(DAY_SEC, self._ask_day)
        self.screen.set_class(self._log_lines is None, "unlogged")
        if self._log_lines is not None:
            self.set_interval(LOG_SEC, self._ask_log)
            self._ask_log()
        self.set_interval(STATUS_SEC, self._end_without_terminal)
        self._ask_status()
        self._ask_day()

    def _end_without_terminal(self) -> None:
        """Whoever closed it sees nothing more; SIGHUP may be ignored."""
        stdin = sys.__stdin__
        if self.is_headless or stdin is None:
            return
        looked = select.poll()
        looked.register(stdin.fileno(), 0)  # hang-ups are always told
        if looked.poll(0):
            self.exit()

    def say(self, words: str) -> None:
        """A line at the top, of whoever shows this screen."""
        note = self.query_one("#note", Static)
        note.update(words)
        note.add_class("said")

    def on_resize(self, event: Any) -> None:
        """What fits."""
        self.screen.set_class(event.size.width < 70, "narrow")
        self.screen.set_class(event.size.height < 16, "low")

    def _table(self, name: str) -> DataTable[Any]:
        return self.query_one(f"#{name}", DataTable)

    # Asking, in threads: a disk or a server that hangs must not hold the keys up

    @work(thread=True, exclusive=True, group="status", exit_on_error=False)
    def _ask_status(self) -> None:
        try:
            status = self._source.status()
            tape = [] if self._symbol is None else self._source.tape(self._symbol, TAPE_ROWS)
        except RecorderError as exc:
            self.call_from_thread(self._show_failure, str(exc))
            return
        self.call_from_thread(self._show_status, status, tape)

    @work(thread=True, exclusive=True, group="day", exit_on_error=False)
    def _ask_day(self) -> None:
        try:
            snapshots = self._source.snapshot_series()
            symbols, gaps = (self._source.symbols(), self._source.gaps()) if snapshots is None else (snapshots, [])
        except RecorderError as exc:
            self.call_from_thread(self._show_failure, str(exc))
            return
        self.call_from_thread(self._show_kind, snapshots is not None)
        self.call_from_thread(self._show_day, symbols, gaps)

    @work(thread=True, exclusive=True, group="log", exit_on_error=False)
    def _ask_log(self) -> None:
        if self._log_lines is None or not self.query_one("#log", Static).display:
            return
        try:
            text = Text(no_wrap=True, overflow="ellipsis")
            for record in self._log_lines.newest(LOG_ROWS)[-LOG_SHOWN:]:
                _, level, words = record.parts
                text.append("" if record.at_ms is None else f"{self._clock(record.at_ms)} ", style="dim")
                text.append(f"{printable(words.splitlines()[0] if words else '')}\n", style=LOG_STYLES.get(level, ""))
        except RecorderError as exc:
            text = Text(printable(str(exc)), style="dim")
        self.call_from_thread(self.query_one("#log", Static).update, text)

    # Showing

    def _show_failure(self, text: str) -> None:
        self.query_one("#verdict", Static).update(Text(printable(text), style="bold red"))

    def _show_status(self, status: Facts, tape: list[Facts]) -> None:
        recorder = status.get("recorder") or {}
        self._rates.append(float(recorder.get("rows_per_sec") or 0))
        self._lags.append(float(recorder.get("lag_sec") or 0))
        self.query_one("#rates", Sparkline).data = list(self._rates)
        self.query_one("#lags", Sparkline).data = list(self._lags)
        self.query_one("#verdict", Static).update(self._verdict(status))
        self.query_one("#numbers", Static).update(_numbers(status, recorder))
        table = self._table("tape")
        table.clear()
        for tick in reversed(tape):
            table.add_row(
                self._clock(tick["ts_ms"], with_ms=self.size.width >= WIDE), _right(_number(tick["price"])),
                _right(_number(tick["volume"])),
                printable(str(tick["direction"] or "")),
            )  # fmt: skip

    def _verdict(self, status: Facts) -> Text:
        words = {"fine": "all is well", "problem": "something is wrong", "no_data": "nothing is recorded here yet"}
        text = Text()  # no style of its own, which what follows would take on
        text.append(words.get(status["verdict"], str(status["verdict"])), style=STYLES.get(status["verdict"], "yellow"))
        text.append(f"  {self._clock(status['at_ms'])}  {status['phase']}  {printable(self._source.name)}", style="dim")
        for complaint in status["complaints"][:4]:
            text.append(f"\n{printable(complaint['sentence'])}", style=LEVELS.get(str(complaint["level"]), ""))
        return text

    def _show_kind(self, has_snapshots: bool) -> None:
        """The columns of snapshots, or those of ticks. Of snapshots every second counts, and is cheap to ask for."""
        if has_snapshots == self._has_snapshots:
            return
        self._has_snapshots = has_snapshots
        self.screen.set_class(has_snapshots, "snapshots")
        table = self._table("symbols")
        table.clear(columns=True)
        table.add_columns(*(_snapshot_columns() if has_snapshots else _tick_columns()))
        self._every_day_sec.stop()
        self._every_day_sec = self.set_interval(STATUS_SEC if has_snapshots else DAY_SEC, self._ask_day)

    def _show_day(self, symbols: list[Facts], gaps: list[Facts]) -> None:
        self._rows = symbols
        self._fill()
        table = self._table("gaps")
        table.clear()
        for gap in gaps[:100]:
            table.add_row(
                printable(gap["symbol"]), self._moment(gap["start_ts_ms"]), self._moment(gap["end_ts_ms"]),
                _right("?" if gap.get("missing_ticks") is None else _number(gap["missing_ticks"])),
            )  # fmt: skip

    def _fill(self) -> None:
        table = self._table("symbols")
        place, shown = table.cursor_row, arranged(self._rows, self._filter, self._order)[:MAX_SYMBOLS]
        table.clear()
        if self._has_snapshots:
            for row in shown:
                table.add_row(*self._snapshot_cells(row), key=row["series"])
            if shown:
                table.move_cursor(row=min(place, len(shown) - 1), scroll=False)
            self.sub_title = ORDERS[self._order][0]
            return
        for row in shown:
            state = Text(f"{SIGNS.get(row['state'], ' ')} {row['state']}", style=STYLES.get(row["state"], ""))
            table.add_row(
                printable(row["symbol"]), state, _right(_number(row["stored_ticks"])), _right(_missing(row)),
                self._moment(row.get("last_ts_ms")), printable(row.get("name") or ""), key=row["symbol"],
            )  # fmt: skip
        if shown:
            table.move_cursor(row=min(place, len(shown) - 1), scroll=False)
            self._symbol = self._symbol if self._symbol in {row["symbol"] for row in shown} else shown[0]["symbol"]
        self.sub_title = ORDERS[self._order][0]

    def _snapshot_cells(self, row: Facts) -> tuple[Text | str, ...]:
        missed = Text(_number(row["missed"]), justify="right", style=STYLES["missing"] if row["missed"] else "")
        age_sec = row["age_sec"]
        return (
            printable(row["symbol"]), printable(row["name"]), _right(_number(row["held"])), missed,
            self._clock(row["last_ts_ms"]), _right("-" if age_sec is None else f"{_number(age_sec)} s"),
        )  # fmt: skip

    def _clock(self, ts_ms: int | None, *, with_ms: bool = False) -> str:
        if ts_ms is None:
            return "-"
        text = f"{datetime.fromtimestamp(ts_ms / 1000, self._source.zone):%H:%M:%S.%f}"
        return text[:-3] if with_ms else text[:8]

    def _moment(self, ts_ms: int | None) -> str:
        """As long as there is room for."""
        return self._clock(ts_ms) if self.size.width >= WIDE else self._clock(ts_ms)[:5]

    # Keys

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """The tape is of the symbol under the cursor."""
        if event.data_table.id == "symbols" and event.row_key.value is not None:
            self._symbol = event.row_key.value

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        self._filter = event.value
        self._fill()

    def on_input_submitted(self, _: Input.Submitted) -> None:
        """Back to the table."""
        self._table("symbols").focus()

    def action_sort(self) -> None:
        """The next order."""
        self._order = (self._order + 1) % len(ORDERS)
        self._fill()

    def action_filter(self) -> None:
        """Ask for a part of a symbol."""
        asked = self.query_one("#filter", Input)
        asked.add_class("asked")
        asked.focus()

    def action_log(self) -> None:
        """The log, or more room for the table."""
        if self._log_lines is not None:
            self.screen.toggle_class("unlogged")
            self._ask_log()

    def action_unfilter(self) -> None:
        """All symbols again."""
        asked = self.query_one("#filter", Input)
        asked.value = ""
        asked.remove_class("asked")
        self._table("symbols").focus()


def _numbers(status: Facts, recorder: Facts) -> str:
    day = status.get("day") or {}
    counts: Iterable[str] = (
        f"{_number(recorder.get('rows_per_sec') or 0)} rows/s",
        f"delay {(recorder.get('lag_sec') or 0) * 1000:,.0f} ms",
        f"{_number(day.get('rows') or 0)} ticks",
        f"{recorder.get('symbols_subscribed', 0)}/{recorder.get('symbols_wanted', 0)} symbols",
        f"{recorder.get('queue_rows', 0) + recorder.get('spill_rows', 0)} waiting",
    )
    return "  ".join(counts) if recorder else "no recorder runs"


def _tick_columns() -> tuple[Text | str, ...]:
    return "symbol", "state", _right("ticks"), _right("missing"), "last", "name"


def _snapshot_columns() -> tuple[Text | str, ...]:
    return "symbol", "series", _right("held"), _right("missed"), "last", _right("age")


def _right(text: str) -> Text:
    """A number, or what stands above numbers."""
    return Text(text, justify="right")


def _missing(row: Facts) -> str:
    if row.get("missing_ticks"):
        return _number(row["missing_ticks"])
    return "?" if row["state"] == "missing" else "0"


def _number(value: float) -> str:
    return f"{value:,.3f}".rstrip("0").rstrip(".")
