"""The protobuf classes that Futu ships with futu-api, loaded without the SDK around them.

``import futu`` opens a log file under ``$HOME``, pulls in pandas and fails without ``HOME``; the message classes in
``futu/common/pb`` need none of that. They import one another by bare name, so their folder goes to the end of
``sys.path``, as the SDK itself does it; both can live in one process.

``load("Qot_Sub")`` gives the module with ``Request`` and ``Response``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from hk_tick_collector.core.errors import ConfigError


def _folder() -> str:
    spec = importlib.util.find_spec("futu")
    if spec is None or spec.origin is None:
        raise ConfigError("futu-api is not installed: its protobuf classes are needed; pip install futu-api")
    return str(Path(spec.origin).parent / "common" / "pb")


def load(name: str) -> ModuleType:
    """The module of one ``.proto`` file, for example ``Qot_Common``. ConfigError when futu-api is not there."""
    folder = _folder()
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(f"{name}_pb2")


common = load("Common")
qot_common = load("Qot_Common")
