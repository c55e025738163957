"""What the settings of every program that reads beside the recorder have in common: where the days are, and how they
are found in the recorder's ``.env`` file, in which each program leaves the others' keys alone.

::

    class RelaySettings(ReaderSettings):
        redis_url: str = setting("Serving: Redis", "REDIS_URL", "redis://127.0.0.1:6379/0")

    settings = load_reader_settings(RelaySettings, RELAY_PREFIXES, None, os.environ)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, ValidationInfo

from hk_tick_collector.app.config import LogLevel, setting_table
from hk_tick_collector.app.config_model import (
    Directory,
    OptionalDirectory,
    SettingInfo,
    SettingsModel,
    base_dir,
    directory,
    read_model,
    setting,
    table_of,
    text_error,
    upper,
)
from hk_tick_collector.app.config_sources import OWN_PREFIXES, READERS_PREFIXES, Claims, ConfigErrors
from hk_tick_collector.clickhouse.address import parse_address
from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.store.layout import archive_dir

_ReaderT = TypeVar("_ReaderT", bound="ReaderSettings")


class ReaderSettings(SettingsModel):
    """The recorder's settings that every reader needs."""

    data_root: Directory = setting("What is recorded, and where", "DATA_ROOT", Path("/data/sqlite/HK"), "a directory")
    """The recorder's."""
    archive_root: OptionalDirectory = setting(
        "What is recorded, and where", "ARCHIVE_ROOT", None, "empty, or a directory"
    )
    """The recorder's; counts for `DATA_ROOT` alone."""
    log_level: Annotated[LogLevel, BeforeValidator(upper)] = setting("Logs", "LOG_LEVEL", "INFO")
    """Least severe level that is logged."""

    @property
    def archive(self) -> Path:
        """Where days of ``data_root`` are put away."""
        return self.archive_root or archive_dir(self.data_root)


def _directories(value: object, info: ValidationInfo) -> object:
    """Directories separated by commas; a relative one starts where the setting stands."""
    if not isinstance(value, str):
        return value
    return tuple(base_dir(info) / Path(part.strip()).expanduser() for part in value.split(",") if part.strip())


def _roots(paths: tuple[Path, ...]) -> tuple[Path, ...]:
    for path in paths:
        directory(path)
    return paths


DataRoots = Annotated[tuple[Path, ...], BeforeValidator(_directories), AfterValidator(_roots)]


def data_roots_setting() -> Any:
    """The field of ``DATA_ROOTS`` (``DataRoots``) in a program that reads several as one."""
    return setting("Serving: what is served", "DATA_ROOTS", (), "empty, or directories separated by commas")


def _clickhouse_address(text: str) -> str:
    if text:
        try:
            parse_address(text)
        except ConfigError as exc:
            raise text_error(str(exc)) from None
    return text


ClickHouseUrl = Annotated[str, AfterValidator(_clickhouse_address)]  # empty: none


def hooks_dir_setting() -> Any:
    """The field of ``HOOKS_DIR`` in a program that reads what the API received."""
    return setting("Serving: signals", "HOOKS_DIR", None, "empty, or a directory")


def own_settings(model: type[ReaderSettings], prefixes: tuple[str, ...]) -> list[SettingInfo]:
    """The settings that one program alone has, whose keys begin with ``prefixes``, in the order of the documents."""
    return [info for info in table_of(model) if info.key.startswith(prefixes)]


def load_reader_settings(
    model: type[_ReaderT], prefixes: tuple[str, ...], env_file: Path | None, environ: Mapping[str, str]
) -> _ReaderT:
    """The settings of the program whose keys begin with ``prefixes``, from ``environ`` over ``env_file`` over defaults.

    ConfigErrors names all that is wrong.
    """
    recorders = tuple(info.key for info in setting_table())
    others = (name for name in READERS_PREFIXES if name not in prefixes)
    read = read_model(model, env_file, environ, Claims(prefixes, (*OWN_PREFIXES, *others, *recorders)))
    if read.problems or read.settings is None:
        raise ConfigErrors(read.problems)
    return read.settings


def with_state_dirs(
    settings: _ReaderT, environ: Mapping[str, str], places: Mapping[str, Callable[[Mapping[str, str]], Path | None]]
) -> _ReaderT:
    """``settings`` with each directory that nobody named, by attribute, where systemd's state directory has it."""
    missing = {name: place(environ) for name, place in places.items() if getattr(settings, name) is None}
    return settings.model_copy(update=missing)
