"""All that ``.env`` may hold: the settings of the recorder, of the programs that serve, of the relay,
of the shipper, and of the program that calls somebody."""

from __future__ import annotations

from hk_tick_collector.alert.settings import alert_setting_table
from hk_tick_collector.app.config import setting_table
from hk_tick_collector.app.config_model import SettingInfo
from hk_tick_collector.relay.settings import relay_setting_table
from hk_tick_collector.serve.settings import serve_setting_table
from hk_tick_collector.ship.settings import ship_setting_table


def all_settings_table() -> list[SettingInfo]:
    """One entry a key, in the order of the documents."""
    return [
        *setting_table(),
        *serve_setting_table(),
        *relay_setting_table(),
        *ship_setting_table(),
        *alert_setting_table(),
    ]
