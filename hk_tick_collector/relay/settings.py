"""Settings of ``hk-tick-redis``. They stand in the recorder's ``.env`` file and are found in the same way."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from hk_tick_collector.app.config_model import (
    OptionalDirectory,
    setting,
    text_error,
)
from hk_tick_collector.app.config_readers import (
    DataRoots,
    ReaderSettings,
    data_roots_setting,
    hooks_dir_setting,
    load_reader_settings,
    with_state_dirs,
)
from hk_tick_collector.app.config_sources import RELAY_PREFIXES
from hk_tick_collector.store.data_root import by_market
from hk_tick_collector.store.layout import archive_dir
from hk_tick_collector.store.signals import hooks_dir_of

_URL = re.compile(r"(rediss?://[^\s/]+|unix:///)\S*")
_FIELD = re.compile(r"\{[^{}]*\}")

_SERIES_FIELDS = ("{symbol}", "{package}", "{category}")

_redis = partial(setting, "Serving: Redis")


def _url(url: str) -> str:
    if not _URL.fullmatch(url):
        raise text_error(
            "is not an address of Redis; write for example redis://127.0.0.1:6379/0, or unix:///run/redis.sock"
        )
    return url


def _key(wanted: str | None) -> AfterValidator:
    """A check of a key's name, in which ``wanted`` has to stand, and nothing else in braces."""

    def check(name: str) -> str:
        fields = _FIELD.findall(name)
        allowed = [wanted] if wanted else []
        if set(fields) - {*allowed, *_SERIES_FIELDS} or "{" in _FIELD.sub("", name) or "}" in _FIELD.sub("", name):
            raise text_error(f"{name!r:.100} has other words in braces than {wanted or '{symbol}'}")
        if wanted and name and wanted not in fields:
            raise text_error(f"{name!r:.100} needs {wanted} in it")
        if not name.isprintable() or len(name) > 200:
            raise text_error("a key has at most 200 printable characters")
        return name

    return AfterValidator(check)


class RelaySettings(ReaderSettings):
    """The settings of the relay, checked and frozen. Made by ``load_relay_settings``; tests may give attributes by
    name."""

    redis_url: Annotated[str, AfterValidator(_url)] = _redis(
        "REDIS_URL", "redis://127.0.0.1:6379/0", "redis://, rediss:// or unix://, with user and password if needed",
        repr=False,
    )  # fmt: skip
    """The Redis server that `hk-tick-redis` fills."""
    redis_stream: Annotated[str, _key("{day}")] = _redis("REDIS_STREAM", "hk:ticks:{day}", "a key with {day} in it")
    """The stream of a day. A second recorder needs another one."""
    redis_current: Annotated[str, _key(None)] = _redis("REDIS_CURRENT", "hk:ticks:current", "a key")
    """The hash that names the stream in use of each day, and the columns of a tick."""
    redis_last: Annotated[str, _key("{symbol}")] = _redis(
        "REDIS_LAST", "hk:last:{symbol}", "empty, or a key with {symbol} in it"
    )
    """The hash of a symbol's last tick. Empty: none."""
    redis_channel: Annotated[str, _key(None)] = _redis(
        "REDIS_CHANNEL", "", "empty, or a channel, such as hk:ticks:{symbol}"
    )
    """The channel on which each tick is published as a JSON object. Empty: none. Subscribers miss what is published
    while they are away."""
    redis_max_frames: int = _redis("REDIS_MAX_FRAMES", 100_000, "frames of up to 100 ticks", ge=100, le=100_000_000)
    """About how much of a day's stream is kept."""
    redis_keep_days: int = _redis("REDIS_KEEP_DAYS", 2, "days", ge=2, le=100)
    """Streams of older days are removed."""
    redis_signals: Annotated[str, _key(None)] = _redis("REDIS_SIGNALS", "hk:signals", "empty, or a key")
    """The stream of the signals that hooks received, if `HOOKS_DIR` has any. Empty: none."""

    redis_signals_last: Annotated[str, _key(None)] = _redis("REDIS_SIGNALS_LAST", "", "empty, or a key")
    """The key that holds the newest signal as a JSON object. Empty: none."""
    redis_signals_channel: Annotated[str, _key(None)] = _redis("REDIS_SIGNALS_CHANNEL", "", "empty, or a channel")
    """The channel on which each signal is published as a JSON object. Empty: none. Subscribers miss what is published
    while they are away."""
    redis_snapshots: Annotated[str, _key("{day}")] = _redis(
        "REDIS_SNAPSHOTS", "hk:snapshots:{day}", "empty, or a key with {day} in it"
    )
    """The stream of a day's snapshots, where the data root has some (docs/gexbot.md). Empty: none are relayed."""
    redis_snapshots_current: Annotated[str, _key(None)] = _redis(
        "REDIS_SNAPSHOTS_CURRENT", "hk:snapshots:current", "a key"
    )
    """The hash that names the stream in use of each day, and the columns of a snapshot."""
    redis_snapshots_last: Annotated[str, _key("{symbol}")] = _redis(
        "REDIS_SNAPSHOTS_LAST", "hk:snapshot:{symbol}:{package}:{category}", "empty, or a key with {symbol} in it"
    )
    """The hash of the newest snapshot of a series. Empty: none."""
    redis_snapshots_channel: Annotated[str, _key(None)] = _redis(
        "REDIS_SNAPSHOTS_CHANNEL", "", "empty, or a channel, such as hk:snapshots:{symbol}"
    )
    """The channel on which each snapshot is published as a JSON object. Empty: none. Subscribers miss what is published
    while they are away."""
    redis_snapshot_frames: int = _redis("REDIS_SNAPSHOT_FRAMES", 1000, "frames", ge=100, le=100_000_000)
    """About how much of a day's stream of snapshots is kept. A frame has the snapshots stored since the previous frame,
    at most 4 MB of them and one more of each data root."""
    redis_metrics_port: int = _redis("REDIS_METRICS_PORT", 0, ge=0, le=65535)
    """Port of the Prometheus endpoint `/metrics` of `hk-tick-redis`, on 127.0.0.1; 0: none. It needs the extra
    `metrics`."""

    hooks_dir: OptionalDirectory = hooks_dir_setting()
    """Where the API stores what hooks receive."""
    data_roots: DataRoots = data_roots_setting()
    """Those of them that hold one market are relayed as one."""

    @property
    def roots(self) -> list[tuple[Path, Path]]:
        """The data roots that are relayed as one, each with its archive: those of DATA_ROOTS that hold the market of
        DATA_ROOT, where that is one of them, else of the first; without DATA_ROOTS that one alone."""
        if not self.data_roots:
            return [(self.data_root, self.archive)]
        listed = list(dict.fromkeys(self.data_roots))
        own = listed.index(self.data_root) if self.data_root in listed else 0
        places = next(places for places in by_market(listed) if own in places)
        return [(listed[at], archive_dir(listed[at])) for at in places]


def load_relay_settings(env_file: Path | None, environ: Mapping[str, str]) -> RelaySettings:
    """The settings from ``environ`` over ``env_file`` over defaults. ConfigErrors names all that is wrong."""
    settings = load_reader_settings(RelaySettings, RELAY_PREFIXES, env_file, environ)
    return with_state_dirs(settings, environ, {"hooks_dir": hooks_dir_of})
