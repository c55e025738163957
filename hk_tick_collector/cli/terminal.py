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
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO, cast

from hk_tick_collector.core.text import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

KEPT = "\n\t"
PIPE_COLUMNS = 400


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
