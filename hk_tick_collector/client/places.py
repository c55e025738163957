"""Where the recordings on this machine are: as ``hk-tickctl`` finds them, or where the caller says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from hk_tick_collector.app.config_sources import ENVIRONMENT_SOURCE, given_settings
from hk_tick_collector.client.errors import BadQuestion, NoData
from hk_tick_collector.client.told import translated
from hk_tick_collector.store.layout import archive_dir, no_directory
from hk_tick_collector.watch.access import check_open

DEFAULT_DATA_ROOT = Path("/data/sqlite/HK")  # the setting's own default
_KEYS = ("DATA_ROOT", "ARCHIVE_ROOT", "DATA_ROOTS")
_HINT = "set DATA_ROOT to the recorder's, or use hk.local(DIRECTORY)"

Roots = list[tuple[Path, Path]]  # each data root with its archive


def listed_roots(env_file: Path | None, environ: Mapping[str, str]) -> Roots:
    """Those of the setting DATA_ROOTS, whether they are there or not; none where it is not given."""
    return _of_list(_paths(env_file, environ))


def find_roots(
    data_root: str | Path | Sequence[str | Path] | None = None,
    archive_root: str | Path | None = None,
    env_file: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Roots:
    """As ``hk.local`` says."""
    with translated():
        if data_root is None:
            roots = _of_settings(None if env_file is None else Path(env_file), environ or os.environ)
        else:
            given = [data_root] if isinstance(data_root, (str, Path)) else list(data_root)
            roots = [(path := Path(root).expanduser().absolute(), archive_dir(path)) for root in given]
        if archive_root is not None:
            if len(roots) != 1:
                raise BadQuestion("archive_root is given for several data roots", "each has its own, _archive/")
            roots = [(roots[0][0], Path(archive_root).expanduser().absolute())]
        for root, _ in roots:
            if not root.is_dir():
                raise NoData(no_directory(root), _HINT)
            check_open(root)
    return roots


def find_hooks_dir(given: str | Path | None, environ: Mapping[str, str] | None = None) -> Path:
    """The directory of signals: as given, else the setting HOOKS_DIR. BadQuestion when neither says."""
    if given is not None:
        return Path(given).expanduser().absolute()
    settings, _ = given_settings(None, environ or os.environ, ("HOOKS_DIR",))
    setting = settings.get("HOOKS_DIR")
    if setting is None or not setting.text.strip():
        raise BadQuestion("no directory of signals is named", "set HOOKS_DIR to the API's, or give hooks_dir=DIRECTORY")
    base = Path.cwd() if setting.source == ENVIRONMENT_SOURCE else setting.base_dir
    return base / Path(setting.text.strip()).expanduser()


def _of_settings(env_file: Path | None, environ: Mapping[str, str]) -> Roots:
    paths = _paths(env_file, environ)
    root = paths.get("DATA_ROOT", [DEFAULT_DATA_ROOT])[0]
    own = (root, paths["ARCHIVE_ROOT"][0] if "ARCHIVE_ROOT" in paths else archive_dir(root))
    return _of_list(paths) or [own]


def _of_list(paths: Mapping[str, list[Path]]) -> Roots:
    return [(root, archive_dir(root)) for root in paths.get("DATA_ROOTS", [])]


def _paths(env_file: Path | None, environ: Mapping[str, str]) -> dict[str, list[Path]]:
    """What the keys name. Other settings may be wrong: who reads files needs none of them."""
    given, _ = given_settings(env_file, environ, _KEYS)
    paths: dict[str, list[Path]] = {}
    for key, setting in given.items():
        words = setting.text.split(",") if key == "DATA_ROOTS" else [setting.text]
        base = Path.cwd() if setting.source == ENVIRONMENT_SOURCE else setting.base_dir
        paths[key] = [base / Path(word.strip()).expanduser() for word in words if word.strip()]
    return paths
