"""Days that have no file here any more, from the ClickHouse that ``API_CLICKHOUSE_URL`` names.

The server's reading processes ask it, and nothing else of the server does. They are told where it is, and read the
password themselves: it stands on no command line.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hk_tick_collector.clickhouse.address import parse_address
from hk_tick_collector.clickhouse.password import password_of

if TYPE_CHECKING:
    from hk_tick_collector.clickhouse.connection import ClickHouse
    from hk_tick_collector.clickhouse.older import Older
    from hk_tick_collector.serve.settings import ServeSettings

CREDENTIAL = "api-clickhouse-password"
PASSWORD_FILE = "API_CLICKHOUSE_PASSWORD_FILE"  # noqa: S105 - the name of a setting
TIMEOUT_SEC = 20.0
MAX_FILES, MAX_BYTES = 100, 1 << 30  # of days that one question has made anew in temporary files


class OlderAt(NamedTuple):
    """Where they are."""

    url: str
    password_file: str | None
    recorder: str

    @classmethod
    def of(cls, settings: ServeSettings) -> OlderAt | None:
        """What is set; None without."""
        file = settings.api_clickhouse_password_file
        if not settings.api_clickhouse_url:
            return None
        return cls(settings.api_clickhouse_url, None if file is None else str(file), settings.api_clickhouse_recorder)

    def connect(self) -> ClickHouse:
        """A connection. ConfigError when the password cannot be read or sent."""
        from hk_tick_collector.clickhouse.connection import REST_SEC, ClickHouse  # noqa: PLC0415 - with httpx

        return ClickHouse(parse_address(self.url), self.password(), timeout_sec=TIMEOUT_SEC, rest_sec=REST_SEC)

    def password(self) -> str:
        """The user's. ConfigError when its file cannot be used."""
        path = None if self.password_file is None else Path(self.password_file)
        return password_of(path, os.environ, PASSWORD_FILE, CREDENTIAL)

    def open(self) -> Older:
        """For one reading process."""
        from hk_tick_collector.clickhouse.making import Making  # noqa: PLC0415 - with its HTTP library
        from hk_tick_collector.clickhouse.older import Older  # noqa: PLC0415

        return Older(self.connect, self.recorder, making=Making(MAX_FILES, MAX_BYTES))
