"""A piece that is read between two questions is the one that the next question would have got, or it is not given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hk_tick_collector.serve.live.choice import Wish
from hk_tick_collector.serve.live.files import Files, Piece, Root, Roots
from hk_tick_collector.store.position import DayChanged, Position, Stand
from hk_tick_collector.store.writer import DayFileWriter
from tests.unit.store_ticks import DAY, ticks

ALL = Wish(None, frozenset(("all",)), "array", ("*",))
OF_ONE = ALL._replace(symbols=frozenset(("HK.00005",)))
PIECE_ROWS = {"ticks": 10, "books": 10}


class Watched(Files):
    """Counts how often the files are read for a piece."""

    reads = 0

    def _read(self, roots: Roots, position: Stand, wish: Wish) -> Piece | None:
        self.reads += 1
        return super()._read(roots, position, wish)


@pytest.fixture
def files() -> Iterator[Watched]:
    with closing(Watched(days_look_sec=0, piece_rows=PIECE_ROWS)) as files:
        yield files


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[DayFileWriter]:
    with closing(DayFileWriter(tmp_path)) as writer:
        writer.write(ticks(35))
        yield writer


def all_pieces(files: Files, roots: Roots, wish: Wish, *, ahead: bool) -> list[Piece]:
    pieces: list[Piece] = []
    position: Stand = Position.at_start_of(DAY)
    while (piece := files.piece(roots, position, wish)) is not None:
        pieces.append(piece)
        position = piece.after
        if ahead:
            files.read_ahead()
    return pieces


def test_the_next_question_is_answered_by_what_was_read_before_it(
    files: Watched, writer: DayFileWriter, tmp_path: Path
) -> None:
    roots = Roots((Root(tmp_path, tmp_path / "archive"),))
    plain = all_pieces(files, roots, ALL, ahead=False)
    assert [piece.rows for piece in plain] == [10, 10, 10, 5]
    assert all_pieces(files, roots, ALL, ahead=True) == plain
    first = files.piece(roots, Position.at_start_of(DAY), ALL)
    assert first is not None
    files.read_ahead()
    reads = files.reads
    assert files.piece(roots, first.after, ALL) == plain[1]
    assert files.reads == reads, "it was there"


def test_rows_that_come_meanwhile_are_in_the_piece_that_was_not_full(
    files: Watched, writer: DayFileWriter, tmp_path: Path
) -> None:
    roots = Roots((Root(tmp_path, tmp_path / "archive"),))
    third = all_pieces(files, roots, ALL, ahead=True)[2]
    assert files.piece(roots, third.after, ALL)
    third_again = files.piece(roots, all_pieces(files, roots, ALL, ahead=False)[1].after, ALL)
    assert third_again == third
    files.read_ahead()  # five rows
    writer.write(ticks(2, 36))
    rest = files.piece(roots, third.after, ALL)
    assert rest is not None
    assert rest.rows == 7


def test_another_question_is_answered_by_itself(files: Watched, writer: DayFileWriter, tmp_path: Path) -> None:
    roots = Roots((Root(tmp_path, tmp_path / "archive"),))
    start = Position.at_start_of(DAY)
    first = files.piece(roots, start, ALL)
    assert first is not None
    files.read_ahead()
    of_one = files.piece(roots, first.after, OF_ONE)
    assert of_one is not None
    assert of_one.rows == 0
    files.read_ahead()
    assert files.piece(roots, start, ALL) == first


def test_what_went_wrong_between_questions_is_told_to_who_asks(
    files: Watched, writer: DayFileWriter, tmp_path: Path
) -> None:
    roots = Roots((Root(tmp_path, tmp_path / "archive"),))
    first = files.piece(roots, Position.at_start_of(DAY), ALL)
    assert first is not None
    writer.close()
    (tmp_path / f"{DAY}.db").unlink()
    with closing(DayFileWriter(tmp_path)) as other:
        other.write(ticks(40, 1000))
    files.read_ahead()
    with pytest.raises(DayChanged):
        files.piece(roots, first.after, ALL)
