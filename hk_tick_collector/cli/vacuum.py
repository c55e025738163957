"""``hk-tickctl vacuum``: a closed day file made as small as it can be."""

from __future__ import annotations

from pathlib import Path

from hk_tick_collector.cli.common import App, be_gentle, progress, say, tickctl_command
from hk_tick_collector.cli.ending import clean_ending
from hk_tick_collector.cli.options import day_argument
from hk_tick_collector.cli.terminal import show_text
from hk_tick_collector.core.errors import NoData, RecorderError
from hk_tick_collector.store.compact import compact, refuse_if_open
from hk_tick_collector.store.inuse import pending_spill
from hk_tick_collector.store.layout import day_file, spill_dir
from hk_tick_collector.watch.when import one_day


class NotClosed(RecorderError):
    """The day is not over yet."""


@tickctl_command(
    "vacuum",
    help="""Make a closed day file as small as possible.

    DAY is YYYYMMDD or last. The file is copied without its free space, the copy is compared with it, and takes its
    place only when it holds exactly the same and is smaller. Refused for today, for a day whose file another process
    has open, and while rows of the day wait in the spill. Needs as much free disk space as the file is large.""",
)
@day_argument(is_required=True)
def command(app: App, day: str) -> int | None:
    """Run it."""
    trading_day = one_day(app, day)
    db = day_file(app.data_root, trading_day)
    if not db.exists():
        app.catalog.day(trading_day)  # raises NoData where it is not recorded at all
        raise NoData(f"{trading_day} has no day file, only an archive, and that is compressed already")
    _check_closed(app, trading_day, db)
    be_gentle()
    with clean_ending(), progress(f"vacuum {trading_day}"):
        done = compact(db, _content)
    result = {
        "trading_day": trading_day, "file": db, "changed": done.is_changed,
        "before_bytes": done.before_bytes, "after_bytes": done.after_bytes,
    }  # fmt: skip
    saved = done.before_bytes - done.after_bytes
    text = f"{done.before_bytes:,} bytes before, {done.after_bytes:,} after: {saved:,} saved"
    if not done.is_changed:
        text = f"{done.before_bytes:,} bytes, as small as it can be; left as it is"
    app.emit(result, lambda: show_text(f"{db}: {text}"))
    return None


def _check_closed(app: App, day: str, db: Path) -> None:
    if day >= app.market.trading_day(app.now_ms):
        raise NotClosed(f"{day} is today {app.market.where}: its file is vacuumed tomorrow at the earliest")
    if pending_spill(app.data_root, day):
        raise NotClosed(
            f"rows of {day} wait in {spill_dir(app.data_root)}: let the recorder store them first "
            "(spill in its health line falls to 0)"
        )
    caveat = refuse_if_open(db)
    if caveat:
        say(f"{db}: {caveat}; the file is exchanged all the same, unless SQLite finds it in use")


def _content(db: Path) -> object:
    from hk_tick_collector.days.content import content_of  # noqa: PLC0415 - Arrow takes its time
    from hk_tick_collector.days.scan import scan_day_file  # noqa: PLC0415

    content = content_of(scan_day_file(db))
    return content.rows, content.content_hash
