"""All that ``.env`` may hold: the settings of the recorder, of the programs that serve, of the relay,
of the shipper, and of the program that calls somebody."""

from __future__ import annotations

from hk_tick_collector.alert.settings import AlertSettings
from hk_tick_collector.app.config import setting_table
from hk_tick_collector.app.config_model import SettingInfo
from hk_tick_collector.app.config_readers import own_settings
from hk_tick_collector.app.config_sources import ALERT_PREFIXES, RELAY_PREFIXES, SERVE_PREFIXES, SHIP_PREFIXES
from hk_tick_collector.relay.settings import RelaySettings
from hk_tick_collector.serve.settings import ServeSettings
from hk_tick_collector.ship.settings import ShipSettings

_READERS = (
    (ServeSettings, SERVE_PREFIXES),
    (RelaySettings, RELAY_PREFIXES),
    (ShipSettings, SHIP_PREFIXES),
    (AlertSettings, ALERT_PREFIXES),
)


def all_settings_table() -> list[SettingInfo]:
    """One entry a key, in the order of the documents."""
    return [*setting_table(), *(info for model, prefixes in _READERS for info in own_settings(model, prefixes))]
