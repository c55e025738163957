"""What goes to a terminal is printable: the one gate for everything that ``hk-tickctl`` prints.

Symbols, OpenD's words, file names and log lines may hold escape sequences, and a terminal obeys them. ``guarded``
stands between ``sys.stdout`` and ``sys.stderr`` and whoever prints. Colours are ours: they go through ``raw``, with
texts that passed ``printable`` on their own. Bytes (``sys.stdout.buffer``) pass untouched into pipes and files, where
they are data, and through ``guarded_bytes`` on a terminal.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

from hk_tick_collector.core.tables import folded
from hk_tick_collector.core.text import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

KEPT = "\n\t"
PIPE_COLUMNS = 400
GREEN, YELLOW, RED, BOLD, GREY = "32", "33", "31", "1", "90"
NO_COLOR = "NO_COLOR"  # whoever sets it wants none, in any program: no-color.org
USUAL_COLUMNS = 80  # of a terminal that does not tell
_LEAST_COLUMNS = 10  # of a text, however narrow the terminal is


class _Guarded:
    """A text stream that escapes what a terminal would obey; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(printable(text, KEPT))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _GuardedBytes(io.RawIOBase):
    """The same for UTF-8 in bytes, which may be cut anywhere."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        text = self._decoder.decode(bytes(data))
        self._stream.write(printable(text, KEPT + "\r").replace("\r", "").encode())
        return len(data)

    def flush(self) -> None:
        self._stream.flush()


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """While a command runs."""
    with (
        contextlib.redirect_stdout(cast(TextIO, _Guarded(sys.stdout))),
        contextlib.redirect_stderr(cast(TextIO, _Guarded(sys.stderr))),
    ):
        yield


def raw(stream: TextIO) -> TextIO:
    """The stream behind the gate, for colours."""
    return stream.stream if isinstance(stream, _Guarded) else stream


def guarded_bytes(stream: BinaryIO) -> BinaryIO:
    """Where text in bytes goes when a person looks at it."""
    return cast(BinaryIO, _GuardedBytes(stream))


def width() -> int | None:
    """The cells of a line of the terminal that standard output is; None for a pipe or a file, where lines are as long
    as they are, for grep and awk."""
    if not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size((USUAL_COLUMNS, 0)).columns


def coloured(text: str, colour: str) -> str:
    """``text`` in a colour where standard output shows any: not in a pipe, with NO_COLOR set or on a dumb terminal."""
    if not colour or not text or os.environ.get(NO_COLOR) or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{colour}m{text}\x1b[0m" if sys.stdout.isatty() else text


def show_lines(lines: Iterable[str]) -> None:
    """Lines on standard output whose texts are printable and whose colours are ours."""
    raw(sys.stdout).write("".join(f"{line}\n" for line in lines))


def show_text(text: str, head: str = "", colour: str = "") -> None:
    """Sentences on standard output, broken between words where a terminal ends, behind ``head`` in a column of their
    own."""
    first, *more = set_beside(text, len(head), colour)
    show_lines([f"{printable(head)}{first}", *more])


def set_beside(text: str, indent: int, colour: str = "") -> list[str]:
    """The lines of a text behind ``indent`` cells that the caller fills in the first of them."""
    columns = width()
    room = None if columns is None else max(columns - indent, _LEAST_COLUMNS)
    lines = [line for paragraph in printable(text, KEPT).split("\n") for line in (folded(paragraph, room) or [""])]
    return [f"{' ' * indent if n else ''}{coloured(line, colour)}" for n, line in enumerate(lines)]


def console(*, stderr: bool = False) -> Console:
    """rich's way out. Into a pipe or a file: as wide as the table is, for grep and awk. Whoever puts text into it makes
    it printable."""
    from rich.console import Console  # noqa: PLC0415

    stream = sys.stderr if stderr else sys.stdout
    if stream.isatty():
        return Console(file=raw(stream))
    return Console(file=raw(stream), width=PIPE_COLUMNS, no_color=True)


def show(table: RenderableType) -> None:
    """A table of rich's on standard output."""
    out = console()
    with out.capture() as text:  # printed by ourselves: rich would end the program when nobody reads it
        out.print(table)
    raw(sys.stdout).write(text.get())


def json_text(data: object, indent: int | None = None) -> str:
    """JSON whose texts are readable in any script and whose every sign is printable; no reader sees a difference."""
    text = json.dumps(data, ensure_ascii=False, indent=indent, default=str)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign == "\n" else json.dumps(sign)[1:-1] for sign in text)
