"""Every source there is. A new one is a line in each of the two tables here."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.sources.dxlink import spec as dxlink
from hk_tick_collector.sources.futu import spec as futu
from hk_tick_collector.sources.gexbot import spec as gexbot
from hk_tick_collector.sources.schwab import spec as schwab
from hk_tick_collector.sources.shioaji import spec as shioaji
from hk_tick_collector.sources.sierra import spec as sierra
from hk_tick_collector.sources.source import Source, SourceSpec

if TYPE_CHECKING:
    from hk_tick_collector.records.book import BookPush, BrokerPush, RawPush
    from hk_tick_collector.records.snapshot import Series
    from hk_tick_collector.sources.books import BookSink
    from hk_tick_collector.sources.dxlink.symbols import Venue
    from hk_tick_collector.sources.gexbot.series import SeriesName
    from hk_tick_collector.sources.sierra.depthfiles import DepthKeeper
    from hk_tick_collector.sources.sierra.naming import Rule
    from hk_tick_collector.sources.stored import StoredDays

OFFERED: tuple[SourceSpec, ...] = (
    *futu.SPECS,
    *sierra.SPECS,
    *dxlink.SPECS,
    *gexbot.SPECS,
    *schwab.SPECS,
    *shioaji.SPECS,
)
TRADE_TYPES: tuple[str, ...] = tuple(dict.fromkeys(name for spec in OFFERED for name in spec.trade_types.values()))
PROVIDERS: tuple[str, ...] = tuple(dict.fromkeys(spec.provider for spec in OFFERED))


class SourceSettings(Protocol):
    """What the sources take from the settings, by the names that they have there."""

    @property
    def spec(self) -> SourceSpec:
        """Which of them, on which market."""

    futu_host: str
    futu_port: int
    futu_rsa_key_file: Path | None
    sierra_dir: Path | None
    sierra_multiplier: tuple[Rule, ...]
    sierra_tick_size: tuple[Rule, ...]
    dxlink_api: str
    dxlink_url: str | None
    dxlink_secrets_file: Path | None
    dxlink_venues: tuple[Venue, ...]
    dxlink_history: bool
    gexbot_api: str
    gexbot_key_file: Path | None
    gexbot_series: tuple[SeriesName, ...]
    gexbot_copy_days: int
    gexbot_copies_per_hour: int
    futu_poll_trading_only: bool
    schwab_api: str
    schwab_secrets_file: Path | None
    schwab_token_file: Path | None
    shioaji_url: str
    shioaji_secrets_file: Path | None
    max_queue_rows: int


class Surroundings(NamedTuple):
    """What a source may be given besides its settings."""

    clock: Clock
    stored: StoredDays  # for one that finds its place by what is stored
    depth: Callable[[], DepthKeeper] | None = None  # for one whose depth files are kept beside the day
    books: BookSink | None = None  # for one that has order books, when they are wanted
    brokers: BookSink | None = None  # likewise of broker queues
    copied: Callable[[str], Collection[Series]] = lambda _day: ()  # of which series a whole day's copy is stored


def _futu(settings: SourceSettings, around: Surroundings) -> Source:
    # Imported here: the SDK behind it takes a second and a log file, which nobody else need pay.
    from hk_tick_collector.sources.futu.link import FutuSource  # noqa: PLC0415

    return FutuSource(
        settings.spec,
        settings.futu_host,
        settings.futu_port,
        settings.futu_rsa_key_file,
        around.clock,
        around.books,
        around.brokers,
    )


def _sierra(settings: SourceSettings, around: Surroundings) -> Source:
    from hk_tick_collector.sources.sierra.live import SierraSource  # noqa: PLC0415 - as above

    assert settings.sierra_dir is not None  # the settings ask for it
    return SierraSource(
        settings.spec,
        settings.sierra_dir,
        (settings.sierra_multiplier, settings.sierra_tick_size),
        market_of(settings.spec.market),
        around.stored,
        settings.max_queue_rows,
        around.clock,
        around.depth() if around.depth is not None else None,
    )


def _dxlink(settings: SourceSettings, around: Surroundings) -> Source:
    from hk_tick_collector.sources.dxlink.link import DxLinkSource  # noqa: PLC0415 - as above

    return DxLinkSource(
        settings.spec,
        settings.dxlink_api,
        settings.dxlink_url,
        settings.dxlink_secrets_file,
        settings.dxlink_venues,
        around.clock,
        history=settings.dxlink_history,
    )


def _gexbot(settings: SourceSettings, around: Surroundings) -> Source:
    from hk_tick_collector.sources.gexbot.copies import CopyOptions  # noqa: PLC0415 - as above
    from hk_tick_collector.sources.gexbot.link import GexbotSource  # noqa: PLC0415

    assert settings.gexbot_key_file is not None  # the settings ask for it
    return GexbotSource(
        settings.spec,
        settings.gexbot_api,
        settings.gexbot_key_file,
        settings.gexbot_series,
        CopyOptions(settings.gexbot_copy_days, settings.gexbot_copies_per_hour),
        around.copied,
        around.clock,
        any_time=not settings.futu_poll_trading_only,
    )


def _schwab(settings: SourceSettings, around: Surroundings) -> Source:
    from hk_tick_collector.sources.schwab.link import SchwabSource  # noqa: PLC0415 - as above

    assert settings.schwab_secrets_file is not None  # the settings ask for both
    assert settings.schwab_token_file is not None
    return SchwabSource(
        settings.spec,
        settings.schwab_api,
        settings.schwab_secrets_file,
        settings.schwab_token_file,
        around.clock,
        around.books,
    )


def _shioaji(settings: SourceSettings, around: Surroundings) -> Source:
    from hk_tick_collector.sources.shioaji.link import ShioajiSource  # noqa: PLC0415 - as above

    return ShioajiSource(
        settings.spec, settings.shioaji_url, settings.shioaji_secrets_file, around.stored, around.clock
    )


def spec_to_ask(market: str) -> SourceSpec | None:
    """The source that can be asked for ticks of a market; None where there is only one that is read."""
    return next((spec for spec in OFFERED if spec.market == market and spec.pull.newest_rows), None)


_MAKERS: dict[str, Callable[[SourceSettings, Surroundings], Source]] = {
    futu.PROVIDER: _futu,
    sierra.PROVIDER: _sierra,
    dxlink.PROVIDER: _dxlink,
    gexbot.PROVIDER: _gexbot,
    schwab.PROVIDER: _schwab,
    shioaji.PROVIDER: _shioaji,
}


def open_source(settings: SourceSettings, around: Surroundings) -> Source:
    """The source that SOURCE and MARKET name. Made on the loop; it connects to nothing yet."""
    return _MAKERS[settings.spec.provider](settings, around)


def book_reader(spec: SourceSpec, word: str = "books") -> Callable[[RawPush], BookPush | BrokerPush]:
    """How pushes of a source are read, of order ``books`` or of ``brokers``; the settings let only a source that has
    them be asked for."""
    if spec.provider == schwab.PROVIDER:
        from hk_tick_collector.sources.schwab import books  # noqa: PLC0415 - as above

        return books.read_book
    assert spec.provider == futu.PROVIDER
    from hk_tick_collector.sources.futu.books import read_book, read_brokers  # noqa: PLC0415 - as above

    return read_book if word == "books" else read_brokers
