"""``core.pieces``: an answer in pieces of any size is read as one file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hk_tick_collector.core.pieces import Pieces

WHOLE = bytes(range(200))


def in_pieces(*lengths: int) -> Iterator[bytes]:
    start = 0
    for length in lengths:
        yield WHOLE[start : start + length]
        start += length


@pytest.mark.parametrize("lengths", [(200,), (1,) * 200, (0, 150, 0, 50), (7, 93, 100)])
@pytest.mark.parametrize("size", [1, 7, 64, 200, 1000])
def test_reads_of_any_size_give_the_whole_and_are_short_only_at_the_end(lengths: tuple[int, ...], size: int) -> None:
    file = Pieces(in_pieces(*lengths))
    reads = list(iter(lambda: file.read(size), b""))
    assert b"".join(reads) == WHOLE
    assert {len(read) for read in reads[:-1]} <= {size}


def test_all_that_is_left_is_read_at_once() -> None:
    file = Pieces(in_pieces(120, 80))
    assert (file.read(10), file.read(), file.read()) == (WHOLE[:10], WHOLE[10:], b"")


def test_what_the_far_side_raises_is_raised_where_it_is_read() -> None:
    def torn() -> Iterator[bytes]:
        yield WHOLE
        raise ConnectionError("torn")

    file = Pieces(torn())
    assert file.read(200) == WHOLE
    with pytest.raises(ConnectionError):
        file.read(1)
