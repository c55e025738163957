"""Importing the SDK without what it needs only for things that we never ask for, or seldom.

``import futu`` imports pandas, for DataFrames, and pandas imports numpy and, where it is there, pyarrow: 85 MiB and
0.35 s of CPU in a process that uses none of it. It also imports ciphers, 0.08 s, which only an OpenD with a key speaks.
Within ``imported_later`` such an import gives a stand-in that becomes the module when something of it is used;
everybody who imports it afterwards gets the real one.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

MODULES = ("pandas",)
PACKAGES = ("Crypto.Cipher", "Crypto.PublicKey")  # of which only modules are wanted


class _Later(ModuleType):
    """Stands for a module until something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system looks for these; they are no use of the module
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


class _ModulesLater(ModuleType):
    """Stands for a package; what is taken of it stands for a module."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Later(f"{self.__name__}.{name}")


@contextmanager
def imported_later() -> Iterator[None]:
    """Let ``import pandas`` and its like inside the block cost nothing. What is there already is left alone."""
    stand_ins: dict[str, ModuleType] = {name: _Later(name) for name in MODULES if name not in sys.modules}
    stand_ins |= {name: _ModulesLater(name) for name in PACKAGES if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


def import_ciphers() -> None:
    """What an encrypted connection uses: before there is a loop that would wait for it."""
    for name in ("AES", "PKCS1_v1_5"):
        importlib.import_module(f"Crypto.Cipher.{name}")
