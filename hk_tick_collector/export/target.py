"""Where an export goes: names made from a pattern, nothing overwritten unasked, nothing half done left behind.

``--output`` is a directory, or a file name in which ``{day}`` and ``{symbol}`` may stand.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hk_tick_collector.core.disk import unwritable
from hk_tick_collector.core.errors import RecorderError, StoreUnavailable
from hk_tick_collector.market.symbols import file_name
from hk_tick_collector.store.atomic import replacing

_FIELD = re.compile(r"\{([^{}]*)\}")
_EXISTING_SHOWN = 5


class TargetExists(RecorderError):
    """A file stands where the export would go."""


class BadPattern(ValueError):
    """An output name that cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """File names of an export."""

    text: str

    @property
    def has_day(self) -> bool:
        """Does each day get a file of its own?"""
        return "{day}" in self.text

    @property
    def has_symbol(self) -> bool:
        """Does each symbol get a file of its own?"""
        return "{symbol}" in self.text

    def path(self, day: str, symbol: str = "") -> Path:
        """The file of a day and, where the name has one, of a symbol."""
        return Path(self.text.replace("{day}", day).replace("{symbol}", file_name(symbol)))


def pattern_of(output: str, suffixes: tuple[str, ...], *, split_symbols: bool = False) -> Pattern:
    """The names that ``output`` asks for. ``suffixes``: endings of file names, the first one for files in a directory.

    Anything that does not end in one of them is a directory. BadPattern for unknown fields in braces, and when the
    symbols are to be split but the name leaves no room for them, or the other way round.
    """
    is_file = output.endswith(suffixes) and not Path(output).is_dir()
    inside = "{day}/{symbol}" if split_symbols else "{day}"
    text = output if is_file else str(Path(output) / f"{inside}{suffixes[0]}")
    unknown = [name for name in _FIELD.findall(text) if name not in ("day", "symbol")]
    if unknown:
        raise BadPattern(f"{{{unknown[0]}}} in {output!r} means nothing: only {{day}} and {{symbol}} do")
    pattern = Pattern(text)
    if split_symbols and not pattern.has_symbol:
        raise BadPattern(f"{output!r} is one name for many symbols: put {{symbol}} into it or name a directory")
    if pattern.has_symbol and not split_symbols:
        raise BadPattern(f"{{symbol}} in {output!r} needs --split-symbols")
    return pattern


def check_free(paths: Iterable[Path], *, force: bool) -> None:
    """Before any work: TargetExists when files are in the way and ``force`` does not allow to replace them,
    StoreUnavailable when something that is no file is."""
    taken = [path for path in paths if path.exists() or path.is_symlink()]
    for path in taken:
        if not path.is_file() and not path.is_symlink():
            raise StoreUnavailable(f"{path} is there already and is not a file: name another output")
    if taken and not force:
        names = ", ".join(map(str, taken[:_EXISTING_SHOWN])) + (", ..." if len(taken) > _EXISTING_SHOWN else "")
        state = "exists already" if len(taken) == 1 else f"exist already ({len(taken)} files)"
        raise TargetExists(f"{names} {state}; replace with --force, or name another output")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Path]:
    """The name to write to; it becomes ``path`` when the block ends well. Else ``path`` stays as it was, and
    directories that were made for it are gone again. StoreUnavailable when the disk refuses."""
    made = _make_parents(path)
    try:
        with replacing(path) as temporary:
            yield temporary
    except BaseException:
        for directory in made:
            with contextlib.suppress(OSError):  # not empty: other files of the export are in it
                directory.rmdir()
        raise


def _make_parents(path: Path) -> list[Path]:
    """Make the directories of a file; those that were not there, innermost first."""
    missing = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise unwritable(path.parent, exc) from exc
    return missing
