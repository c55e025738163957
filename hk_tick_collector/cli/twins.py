"""What ``hk-tickctl compare`` and ``hk-tickctl merge`` share: several data roots of one market, and their days."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from hk_tick_collector.cli.common import App
from hk_tick_collector.core.errors import ConfigError, NoData
from hk_tick_collector.store.layout import no_directory


def apps_of(app: App, roots: Sequence[Path]) -> dict[str, App]:
    """An ``App`` for each data root, by what the person called it. UsageError for one that is named twice, ConfigError
    when they hold days of different markets, NoData for one that is no directory."""
    if app.data_root_given is not None or app.archive_root_given is not None:
        option = "--archive-root" if app.data_root_given is None else "--data-root"
        raise click.UsageError(f"{option} has no meaning here: the data roots are the arguments, each with its archive")
    apps: dict[str, App] = {}
    for root in roots:
        if not root.is_dir():
            raise NoData(f"{no_directory(root)}: give the data roots of the recorders")
        for name, other in apps.items():
            if root.samefile(other.data_root):
                raise click.UsageError(f"{root} and {name} are the same data root: name each recording once")
        apps[str(root)] = App(app.env_file, root, None, app.as_json)
    markets = {name: source_app.market.code for name, source_app in apps.items() if source_app.catalog.days()}
    if len(set(markets.values())) > 1:
        raise ConfigError(
            "one market at a time: "
            + ", ".join(f"{name} holds days of market {market}" for name, market in markets.items())
        )
    return apps
