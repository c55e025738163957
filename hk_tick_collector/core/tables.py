"""Rows as lines of text that fit the width of a terminal, folded by what they mean and never in the middle of a word.

Where a table is too wide, in this order: its long text goes on lines of its own under each row; the columns that matter
least are left out and named; each row becomes a card, a line for each column. Without a width every row is one line.

Texts come in printable: nothing here escapes. Cells of Chinese, Japanese and Korean names count as two.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

BETWEEN = "  "
_TEXT_CELLS = 24  # less room than this, and a long text stands under its row
_LEAST_CELLS = 20  # of any terminal
_WIDE = ("W", "F")

Style = Callable[[str, str], str]  # (name of the column, text of the cell, padded) -> with colours


@dataclass(frozen=True, slots=True)
class Column:
    """``spare``: 0 for a column that says what the row is about; of others the highest goes first when there is no
    room. ``is_text``: sentences, in the last column alone."""

    name: str
    is_number: bool = False
    spare: int = 0
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """How rows are set. ``shown``: numbers of the columns; ``text``: of the one with sentences, -1 for none;
    ``is_under``: it stands under the rest of its row."""

    columns: tuple[Column, ...]
    widths: tuple[int, ...]
    shown: tuple[int, ...]
    width: int | None
    text: int = -1
    is_under: bool = False
    is_cards: bool = False

    @property
    def left_out(self) -> list[str]:
        """Names of the columns for which there was no room."""
        return [] if self.is_cards else [column.name for n, column in enumerate(self.columns) if n not in self.shown]

    def head(self, style: Style | None = None) -> Iterator[str]:
        """The line above the rows; none above cards."""
        if self.is_cards or not self.columns:
            return
        shown = [n for n in self.shown if not (self.is_under and n == self.text)]
        line = BETWEEN.join(self._set(n, self.columns[n].name) for n in shown).rstrip()
        yield style("", line) if style else line

    def row(self, cells: Sequence[str], style: Style | None = None) -> Iterator[str]:
        """The lines of one row."""
        yield from self._card(cells, style) if self.is_cards else self._line(cells, style)

    def _line(self, cells: Sequence[str], style: Style | None) -> Iterator[str]:
        plain = [n for n in self.shown if n != self.text]
        set_cells = [self._set(n, cells[n]) for n in plain]
        if style:
            set_cells = [style(self.columns[n].name, cell) for n, cell in zip(plain, set_cells, strict=True)]
        line = BETWEEN.join(set_cells)
        if self.text < 0:
            yield line.rstrip()
            return
        if self.is_under:
            yield line.rstrip()
            if cells[self.text] not in ("", "-"):
                yield from (f"{BETWEEN}{part}" for part in folded(cells[self.text], self._room(len(BETWEEN))))
            return
        before = sum(self.widths[n] + len(BETWEEN) for n in plain)
        first, *more = folded(cells[self.text], self._room(before)) or [""]
        yield f"{line}{BETWEEN if plain else ''}{first}".rstrip()
        yield from (" " * before + part for part in more)

    def _card(self, cells: Sequence[str], style: Style | None) -> Iterator[str]:
        widest = max((cells_of(column.name) for column in self.columns), default=0)
        for column, cell in zip(self.columns, cells, strict=True):
            first, *more = folded(cell.strip(), self._room(widest + len(BETWEEN))) or [""]
            shown = style(column.name, first) if style else first
            yield f"{padded(column.name, widest)}{BETWEEN}{shown}".rstrip()
            yield from (" " * (widest + len(BETWEEN)) + part for part in more)
        yield ""

    def _room(self, taken: int) -> int | None:
        return None if self.width is None else max(self.width - taken, _LEAST_CELLS // 2)

    def _set(self, n: int, text: str) -> str:
        return padded(text, self.widths[n], to_the_right=self.columns[n].is_number)


def layout(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None) -> Layout:
    """The layout in which these rows fit ``width`` cells; None: as wide as they are."""
    widths = tuple(
        max([cells_of(column.name), *(cells_of(row[n]) for row in rows)]) for n, column in enumerate(columns)
    )
    return layout_of(columns, widths, width)


def layout_of(columns: Sequence[Column], widths: Sequence[int], width: int | None) -> Layout:
    """As ``layout``, by the width of each column's widest cell."""
    every = tuple(range(len(columns)))
    text = next((n for n in every if columns[n].is_text), -1)
    made = Layout(tuple(columns), tuple(widths), every, width, text)
    if width is None:
        return made
    width = max(width, _LEAST_CELLS)
    beside_text = _taken(widths, [n for n in every if n != text])
    if beside_text + (min(widths[text], _TEXT_CELLS) + len(BETWEEN) if text >= 0 else 0) <= width:
        return made
    shown = list(every)
    spare = sorted((n for n in every if columns[n].spare), key=lambda n: columns[n].spare, reverse=True)
    while _taken(widths, [n for n in shown if n != text]) > width and spare:
        shown.remove(spare.pop(0))
    is_cards = _taken(widths, [n for n in shown if n != text]) > width
    return Layout(tuple(columns), tuple(widths), tuple(shown), width, text, is_under=True, is_cards=is_cards)


def _taken(widths: Sequence[int], numbers: Sequence[int]) -> int:
    return sum(widths[n] for n in numbers) + len(BETWEEN) * max(0, len(numbers) - 1)


def folded(text: str, width: int | None) -> list[str]:
    """``text`` in lines of ``width`` cells at most, broken at blanks; a word that is wider is cut. None: one line."""
    if width is None or cells_of(text) <= width:
        return [text] if text else []
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        longer = f"{line} {word}" if line else word
        if cells_of(longer) <= width:
            line = longer
            continue
        if line:
            lines.append(line)
        *full, line = _cut(word, width)
        lines += full
    return [*lines, line] if line else lines


def _cut(word: str, width: int) -> list[str]:
    parts, part = [], ""
    for sign in word:
        if part and cells_of(part + sign) > width:
            parts.append(part)
            part = ""
        part += sign
    return [*parts, part]


def cells_of(text: str) -> int:
    """How many places of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(sign) else 1 + (unicodedata.east_asian_width(sign) in _WIDE) for sign in text)


def padded(text: str, width: int, *, to_the_right: bool = False) -> str:
    """``text`` with blanks up to ``width`` cells."""
    blanks = " " * (width - cells_of(text))
    return blanks + text if to_the_right else text + blanks


def aligned(numbers: Sequence[str]) -> list[str]:
    """Numbers whose decimal points stand under each other: those with fewer decimals get blanks behind."""
    behind = [len(text) - text.index(".") if "." in text else 0 for text in numbers]
    most = max(behind, default=0)
    return [text + " " * (most - decimals) for text, decimals in zip(numbers, behind, strict=True)]
