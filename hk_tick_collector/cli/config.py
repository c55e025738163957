"""``hk-tickctl config``: the settings in effect and where each comes from."""

from __future__ import annotations

import os
from typing import Any

import click

from hk_tick_collector.app.config import ConfigErrors, load_settings_and_sources, setting_table, shown_value
from hk_tick_collector.app.config_sources import set_twice
from hk_tick_collector.cli.common import EXIT_FINE, EXIT_USAGE, App, print_table, say, tickctl_command, write_json


@tickctl_command(
    "config",
    help="""The settings in effect and where each comes from.

    A value comes from the environment, else from the file (--env-file, else .env in the working directory), else it is
    the default. Secrets are hidden. When something is wrong, every problem is reported and the exit code is 2.

    The service has its own environment and file: ask with --env-file for what it will read.
    """,
)
@click.option("--changed", is_flag=True, help="Only settings that differ from their default.")
def command(app: App, changed: bool) -> int:
    try:
        rows = _rows(app)
    except ConfigErrors as exc:
        if not app.as_json:
            raise
        write_json({"problems": [{"key": problem.key, "text": problem.text} for problem in exc.problems]})
        say("hk-tickctl: the configuration is wrong")
        return EXIT_USAGE
    for told in set_twice(app.env_file):
        say(f"note: {told}")
    shown = [row for row in rows if not changed or row["value"] != row["default"]]
    columns = ("setting", "value", "source", "default")
    app.emit(
        {"settings": shown, "problems": []},
        lambda: print_table(
            columns, ([row[column] or "-" for column in columns] for row in shown), spare=columns[:1:-1]
        ),
    )
    return EXIT_FINE


def _rows(app: App) -> list[dict[str, Any]]:
    settings, sources = load_settings_and_sources(app.env_file, os.environ)
    given = {
        "DATA_ROOT": (app.data_root_given, "--data-root"),
        "ARCHIVE_ROOT": (app.archive_root_given, "--archive-root"),
    }
    rows = []
    for info in setting_table():
        value, source = shown_value(settings, info), sources[info.key]
        path, option = given.get(info.key, (None, ""))
        if path is not None:
            value, source = str(path.absolute()), f"the option {option}"
        rows.append(
            {"setting": info.key, "value": value, "source": source, "default": info.default, "group": info.group}
        )
    return rows
